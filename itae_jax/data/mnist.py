"""MNIST and Fashion-MNIST, 28x28, padded with black to 32x32."""

import functools

from itae_jax.config import DataConfig
from itae_jax.data import tfds
from itae_jax.data.dataset import Dataset, Spec


def _spec(name: str, about: str, size: str, licence: str) -> Spec:
    def load(config: DataConfig) -> Dataset:
        return tfds.load(config, name, fit="pad", size=32, channels=1)

    there = functools.partial(tfds.there, name)
    return Spec(name, about, size, licence, tfds.HOW_TO_GET.format(name), load, there, preparable=True)


_DIGITS, _CLOTHES = "handwritten digits, 28x28, grey, 10 classes", "clothes, 28x28, grey, 10 classes"
MNIST = _spec("mnist", _DIGITS, "60,000 + 10,000 images, 12 MB", "CC BY-SA 3.0")
FASHION_MNIST = _spec("fashion_mnist", _CLOTHES, "60,000 + 10,000 images, 31 MB", "MIT")
