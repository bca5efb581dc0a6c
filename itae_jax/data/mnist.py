"""MNIST and Fashion-MNIST, 28x28, padded with black to 32x32."""

from itae_jax.config import DataConfig
from itae_jax.data import tfds
from itae_jax.data.dataset import Dataset, Spec


def _spec(name: str, about: str, size: str, licence: str) -> Spec:
    def load(config: DataConfig) -> Dataset:
        return tfds.load(config, name, fit="pad", size=32, channels=1)

    def there(root: str) -> str:
        return tfds.there(name, root)

    return Spec(name, about, size, licence, tfds.HOW_TO_GET.format(name), load, there, preparable=True)


MNIST = _spec(
    name="mnist",
    about="handwritten digits, 28x28, grey, 10 classes",
    size="60,000 + 10,000 images, 12 MB",
    licence="CC BY-SA 3.0",
)
FASHION_MNIST = _spec(
    name="fashion_mnist",
    about="clothes, 28x28, grey, 10 classes",
    size="60,000 + 10,000 images, 31 MB",
    licence="MIT",
)
