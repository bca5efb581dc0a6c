"""CIFAR-100, each of its 20 coarse classes in turn the normal one: the paper's Table 1.

  itae data prepare cifar100 --root DIR
  itae run experiments/table1_cifar100.py --set data.root=DIR

The paper's average over the twenty classes is 78.8.

Reduced, for a CPU: python experiments/reduced.py table1_cifar100

Measured: nothing yet.
"""

from itae_jax.config import DataConfig, Experiment, TrainConfig


def get_config() -> Experiment:
    return Experiment(
        name="table1_cifar100",
        paper_table="table1",
        data=DataConfig(name="cifar100"),
        train=TrainConfig(augment="flip+shift"),
    )
