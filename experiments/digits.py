"""scikit-learn's handwritten digits, each in turn the normal class. Needs no download.

  itae run experiments/digits.py

Takes about two minutes on two CPU cores; gives the first row of docs/results.md. The library has no
partition: every third image is for testing, so one writer's digits may be on both sides.
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
