"""Which loss trains and which scores: the paper's Table 5, on the first four classes of CIFAR-10.

  itae run table5_losses --set data.root=DIR --reuse runs/table1_cifar10

Two trainings of each class, by l1 and by l2; each is scored by both errors, which gives the four columns. The
paper's cells average 79.00 (l1 to l1), 78.45 (l1 to l2), 81.45 (l2 to l2) and 82.95 (l2 to l1, its choice).
"""

from itae_jax.config import DataConfig, TrainConfig
from itae_jax.experiment import Experiment
from itae_jax.methods.itae import ITAEConfig


def get_configs() -> dict[str, Experiment]:
    return {
        loss: Experiment(
            name="table5_losses",
            paper_table="table5",
            classes="0,1,2,3",
            data=DataConfig(name="cifar10"),
            method=ITAEConfig(loss=loss),
            train=TrainConfig(augment="flip+shift"),
        )
        for loss in ("l1", "l2")
    }
