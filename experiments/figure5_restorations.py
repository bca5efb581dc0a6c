"""Originals, inputs and restorations: the paper's Figures 5 and 7.

  itae run experiments/figure5_restorations.py --set data.root=DIR
  itae run experiments/figure5_restorations.py --variants cifar10 --set data.root=DIR

Variant mnist: a network of sixes alone (Figure 5); variant cifar10: of horses (Figure 7). The pictures
lie under <variant>/figures/ and in the report: two normal test images and one of every other class. What
the paper shows: normal images come back upright, others do not.

Reduced, for a CPU: python experiments/reduced.py figure5_mnist figure7_cifar10

Measured:
  mnist, width 16, 5 epochs, reduced: mnist 96.5 (1 class); 6 min a training on 1 x AMD EPYC
"""

from itae_jax.config import DataConfig, Experiment, TrainConfig, TransformConfig


def get_configs() -> dict[str, Experiment]:
    common = {"name": "figure5_restorations", "paper_table": "table1"}
    return {
        "mnist": Experiment(
            **common,
            classes="6",
            data=DataConfig(name="mnist"),
            transform=TransformConfig(name="rotate"),
        ),
        "cifar10": Experiment(
            **common,
            classes="horse",
            data=DataConfig(name="cifar10"),
            train=TrainConfig(augment="flip+shift"),
        ),
    }
