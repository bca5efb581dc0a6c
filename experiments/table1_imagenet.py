"""Ten superclasses of ImageNet (56 classes, the paper's Table 7), each in turn the normal one: Table 1.

  itae run table1_imagenet --set data.root=DIR

DIR holds train/<wnid>/*.JPEG and val/<wnid>/*.JPEG. The paper prints an average of 77.2; it does not print the
size of the images, 128 is our choice.
"""

from itae_jax.config import DataConfig, TrainConfig
from itae_jax.experiment import Experiment


def get_config() -> Experiment:
    return Experiment(
        name="table1_imagenet",
        paper_table="table1",
        data=DataConfig(name="imagenet2012", image_size=128),
        train=TrainConfig(augment="flip+shift"),
    )
