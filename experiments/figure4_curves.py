"""AUROC on the test set while training: the paper's Figures 4 and 8, on MNIST.

  itae run experiments/figure4_curves.py --set data.root=DIR --classes 7

All classes (leave out --classes) are Figure 8; with --set data.name=fashion_mnist they are Figure 9. As in
the paper the test set is scored after every 5 epochs; nothing is chosen by it. More seeds (--seeds 0,1,2)
give a band. Table 1's own run gives the same curve with --set evaluate.every_epochs=5. The paper's curves,
whose values are not printed, are said to end high and steady for ITAE, and less so for the plain
autoencoder and GANomaly.

Reduced, for a CPU: python experiments/reduced.py figure4

Measured:
  mnist, width 16, 20 epochs, data.limit_train=2000, evaluate.every_epochs=2, reduced: AE 76.4 (1 class), ITAE
    96.7 (1 class); 11 min a training on 1 x AMD EPYC
"""

from itae_jax.config import DataConfig, EvaluateConfig, Experiment, TransformConfig


def get_configs() -> dict[str, Experiment]:
    return {
        variant: Experiment(
            name="figure4_curves",
            paper_table="table1",
            data=DataConfig(name="mnist"),
            transform=TransformConfig(name=transform),
            evaluate=EvaluateConfig(every_epochs=5),
        )
        for variant, transform in {"AE": "identity", "ITAE": "rotate"}.items()
    }
