"""CIFAR-100, each of its 20 coarse classes in turn the normal one: the paper's Table 1.

  itae data prepare cifar100 --root DIR
  itae run table1_cifar100 --set data.root=DIR

The paper prints an average of 78.8.
"""

from itae_jax.config import DataConfig, TrainConfig
from itae_jax.experiment import Experiment


def get_config() -> Experiment:
    return Experiment(
        name="table1_cifar100",
        paper_table="table1",
        data=DataConfig(name="cifar100"),
        train=TrainConfig(augment="flip+shift"),
    )
