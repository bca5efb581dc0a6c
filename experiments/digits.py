"""scikit-learn's handwritten digits, each in turn the normal class. Needs no download.

  itae run experiments/digits.py

The library has no partition: every third image is for testing, so one writer's digits may be on both
sides. The paper has no number for this data set.

Measured:
  width 16, 20 epochs, data.image_size=16: rotate 98.5 ± 0.1 (10 classes); 6 s a training on 2 x AMD EPYC
  width 16, 20 epochs, bfloat16, data.image_size=16: rotate 98.5 ± 0.1 (10 classes); 6 s a training on 2 x AMD
    EPYC
  width 16, 50 epochs, data.image_size=16: rotate 99.0 (10 classes), AE 94.8 (10 classes); 10 s a training on
    2 x AMD EPYC
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
