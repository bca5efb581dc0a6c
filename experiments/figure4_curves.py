"""AUROC on the test set while training: the paper's Figures 4 and 8, on MNIST.

  itae run figure4_curves --set data.root=DIR --classes 7

All classes are Figure 8; with --set data.name=fashion_mnist they are Figure 9. As in the paper the test set is
scored after every 5 epochs; nothing is chosen by it. The paper prints no values.
"""

from itae_jax.config import DataConfig, EvaluateConfig
from itae_jax.experiment import Experiment
from itae_jax.methods.ganomaly import GANomalyConfig
from itae_jax.methods.itae import ITAEConfig

METHODS = {
    "AE": ITAEConfig(transform="identity"),
    "ITAE": ITAEConfig(transform="rotate"),
    "GANomaly": GANomalyConfig(),
}


def get_configs() -> dict[str, Experiment]:
    return {
        variant: Experiment(
            name="figure4_curves",
            paper_table="table1",
            data=DataConfig(name="mnist"),
            method=method,
            evaluate=EvaluateConfig(every_epochs=5),
        )
        for variant, method in METHODS.items()
    }
