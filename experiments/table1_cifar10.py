"""CIFAR-10, each class in turn the normal one: the paper's Table 1.

  itae data prepare cifar10 --root DIR
  itae run experiments/table1_cifar10.py --set data.root=DIR

DIR may also be a folder tree {train,test}/<class>/. The paper's average over the ten classes is 86.6.
The number of steps at the high rate decides: a shorter run should not squeeze the halvings in.

Reduced, for a CPU: python experiments/reduced.py table1_cifar10 table1_cifar10_ae

Measured:
  width 16, 60 epochs, train.augment=flip, reduced: ITAE 78.4 (1 class); 53 min a training on 1 x AMD EPYC
  width 16, 60 epochs, train.augment=flip+shift, reduced: ITAE 68.9 (4 classes), AE 57.4 (4 classes); 58 min a
    training on 1 x AMD EPYC
  width 64, 500 epochs, bfloat16, train.augment=flip: ITAE 84.7 (1 class); 3 min a training on 1 x NVIDIA H200
  width 64, 500 epochs, bfloat16, train.augment=flip+shift: ITAE 80.6 (2 classes); 3 min a training on 1 x
    NVIDIA H200
"""

from itae_jax.config import DataConfig, Experiment, TrainConfig


def get_config() -> Experiment:
    return Experiment(
        name="table1_cifar10",
        paper_table="table1",
        data=DataConfig(name="cifar10"),
        train=TrainConfig(augment="flip+shift"),
    )
