"""scikit-learn's handwritten digits, each in turn the normal class. Needs no download.

  itae run experiments/digits.py

Takes about 90 seconds on two CPU cores.
The paper has no number for this data set.
"""

from itae_jax.config import DataConfig, Experiment, ModelConfig, TrainConfig, TransformConfig


def get_config() -> Experiment:
    return Experiment(
        name="digits",
        data=DataConfig(name="digits", image_size=16),
        transform=TransformConfig(name="rotate"),
        model=ModelConfig(width=16),
        train=TrainConfig(epochs=50),
    )
