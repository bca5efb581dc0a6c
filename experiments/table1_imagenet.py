"""Ten superclasses of ImageNet (56 classes, the paper's Table 7), each in turn the normal one: Table 1.

  itae run experiments/table1_imagenet.py --set data.root=DIR

DIR holds train/<wnid>/*.JPEG and val/<wnid>/*.JPEG; superclasses without training images there are
left out. The paper's average is 77.2; it does not say at which image size, 128 is our choice.

Reduced, for a CPU: python experiments/reduced.py table1_imagenet table1_imagenet_ae

Measured:
  imagenet2012, width 16, 200 epochs, data.image_size=32, train.augment=flip+shift, reduced: ITAE 49.8 (2
    classes), AE 45.7 (2 classes); 27 min a training on 1 x AMD EPYC
"""

from itae_jax.config import DataConfig, Experiment, TrainConfig


def get_config() -> Experiment:
    return Experiment(
        name="table1_imagenet",
        paper_table="table1",
        data=DataConfig(name="imagenet2012", image_size=128),
        train=TrainConfig(augment="flip+shift"),
    )
