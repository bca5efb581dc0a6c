"""CIFAR-10, each class in turn the normal one: the paper's Table 1.

  itae data prepare cifar10 --root DIR
  itae run table1_cifar10 --set data.root=DIR

DIR may also be a folder tree {train,test}/<class>/. The paper prints an average of 86.6.
"""

from itae_jax.config import DataConfig, TrainConfig
from itae_jax.experiment import Experiment


def get_config() -> Experiment:
    return Experiment(
        name="table1_cifar10",
        paper_table="table1",
        data=DataConfig(name="cifar10"),
        train=TrainConfig(augment="flip+shift"),
    )
