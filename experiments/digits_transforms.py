"""Which erasing transform suits scikit-learn's handwritten digits: each alone, and after rotation.

  itae run digits_transforms

Trains as `digits` does. The images are grey, so `drop_channel` is left out. The paper has no number for this
data set.
"""

from itae_jax.config import DataConfig, TrainConfig
from itae_jax.experiment import Experiment
from itae_jax.methods.itae import ITAEConfig

ALONE = ["rotate", "identity", "mask", "shuffle", "blur", "flip"]
TRANSFORMS = [*ALONE, *(f"rotate+{name}" for name in ("mask", "shuffle", "blur", "flip"))]


def get_configs() -> dict[str, Experiment]:
    return {
        transform: Experiment(
            name="digits_transforms",
            data=DataConfig(name="digits", image_size=16),
            method=ITAEConfig(transform=transform, width=16),
            train=TrainConfig(epochs=50),
        )
        for transform in TRANSFORMS
    }
