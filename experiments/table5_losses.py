"""Which loss trains and which scores: the paper's Table 5, on the first four classes of CIFAR-10.

  itae run experiments/table5_losses.py --set data.root=DIR

Two trainings of each class, by l1 and by l2; each is scored by both errors in one pass, which gives the
table's four columns. Those by l2 are Table 1's: --reuse DIR takes them from a run of table1_cifar10.py. The
paper's cells average 79.00 (l1 to l1), 78.45 (l1 to l2), 81.45 (l2 to l2) and 82.95 (l2 to l1, its choice).

Reduced, for a CPU: python experiments/reduced.py table5

Measured:
  cifar10, width 16, 60 epochs, train.augment=flip+shift, reduced: l1 → l1 78.4 (1 class), l1 → l2 76.3 (1
    class), l2 → l1 76.4 (1 class), l2 → l2 74.8 (1 class); 66 min a training on 1 x AMD EPYC
"""

from itae_jax.config import DataConfig, Experiment, TrainConfig


def get_configs() -> dict[str, Experiment]:
    return {
        loss: Experiment(
            name="table5_losses",
            paper_table="table5",
            classes="0,1,2,3",
            data=DataConfig(name="cifar10"),
            train=TrainConfig(augment="flip+shift", loss=loss),
        )
        for loss in ("l1", "l2")
    }
