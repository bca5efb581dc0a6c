"""What is erased decides: the ablation of the paper's Table 4, on CIFAR-10.

  itae run table4_transforms --set data.root=DIR --reuse runs/table1_cifar10

Five variants: the plain autoencoder (AE), and scaling (S), graying (G), rotation (R), graying and rotation; the
last is Table 1's, which --reuse takes from there. The paper prints averages of 59.3, 57.8, 65.6, 82.2 and 86.6.
It does not say whether scaled images are enlarged again; here they are.
"""

from itae_jax.config import DataConfig, TrainConfig
from itae_jax.experiment import Experiment
from itae_jax.methods.itae import ITAEConfig

VARIANTS = {"AE": "identity", "AE+S": "scale", "AE+G": "gray", "AE+R": "rotate", "AE+G+R": "gray+rotate"}


def get_configs() -> dict[str, Experiment]:
    return {
        variant: Experiment(
            name="table4_transforms",
            paper_table="table4",
            data=DataConfig(name="cifar10"),
            method=ITAEConfig(transform=transform),
            train=TrainConfig(augment="flip+shift"),
        )
        for variant, transform in VARIANTS.items()
    }
