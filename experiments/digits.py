"""scikit-learn's handwritten digits, each in turn the normal class. Needs no download.

  itae run digits

The library has no partition: every third image is for testing, so one writer's digits may be on both sides. The
paper has no number for this data set.
"""

from itae_jax.config import DataConfig, TrainConfig
from itae_jax.experiment import Experiment
from itae_jax.methods.itae import ITAEConfig


def get_config() -> Experiment:
    return Experiment(
        name="digits",
        data=DataConfig(name="digits", image_size=16),
        method=ITAEConfig(transform="rotate", width=16),
        train=TrainConfig(epochs=50),
    )
