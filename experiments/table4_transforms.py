"""What is erased decides: the ablation of the paper's Table 4, on CIFAR-10.

  itae run experiments/table4_transforms.py --set data.root=DIR

Five variants, one network each for every class: the plain autoencoder (AE), and with scaling (S),
graying (G), rotation (R), graying and rotation. AE+G+R is Table 1's ITAE: --reuse DIR takes it from a
run of table1_cifar10.py, and AE from one with --set transform.name=identity. On several machines:
--variants AE,AE+S on one, the others on another, then itae report DIR1 DIR2.
The paper's averages are 59.3, 57.8, 65.6, 82.2 and 86.6; its cells of AE average 59.0, those of AE+G
65.9, and its text says 58.8 for scaling. It does not say whether scaled images are brought back to
their size; here they are.

Reduced, for a CPU: python experiments/reduced.py table4

Measured:
  cifar10, width 16, 60 epochs, train.augment=flip+shift, reduced: AE 44.3 (1 class), AE+S 31.4 (1 class),
    AE+G 58.7 (1 class), AE+R 74.3 (1 class), AE+G+R 76.4 (1 class); 53 min a training on 1 x AMD EPYC
"""

from itae_jax.config import DataConfig, Experiment, TrainConfig, TransformConfig

VARIANTS = {"AE": "identity", "AE+S": "scale", "AE+G": "gray", "AE+R": "rotate", "AE+G+R": "gray+rotate"}


def get_configs() -> dict[str, Experiment]:
    return {
        variant: Experiment(
            name="table4_transforms",
            paper_table="table4",
            data=DataConfig(name="cifar10"),
            transform=TransformConfig(name=transform),
            train=TrainConfig(augment="flip+shift"),
        )
        for variant, transform in VARIANTS.items()
    }
