"""Which erasing transform suits scikit-learn's handwritten digits: each alone, and after rotation.

  for t in rotate identity mask shuffle blur flip rotate+mask rotate+shuffle rotate+blur rotate+flip; do
    itae run experiments/digits_transforms.py --set transform.name=$t --out runs/transforms/$t
  done

The digits of `digits.py`, with its network and its training, so that only the transform differs.
`drop_channel` is not among them: the images are grey. Measured so far: `mask` alone, an average AUROC of
96.9 (experiments/results/digits_transforms.csv; the seconds there are of two CPU cores busy with other
work too), and `rotate` alone by `digits.py`, 99.0. The paper has no number for this data set.
"""

from itae_jax.config import DataConfig, Experiment, ModelConfig, TrainConfig, TransformConfig


def get_config() -> Experiment:
    return Experiment(
        name="digits_transforms",
        data=DataConfig(name="digits", image_size=16),
        transform=TransformConfig(name="rotate"),
        model=ModelConfig(width=16),
        train=TrainConfig(epochs=50),
    )
