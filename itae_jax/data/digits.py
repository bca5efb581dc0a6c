"""scikit-learn's handwritten digits: 1,797 images of 8x8, part of the library."""

import numpy as np

from itae_jax.config import DataConfig
from itae_jax.data import folders
from itae_jax.data.dataset import Dataset, Spec
from itae_jax.errors import RequestError

_SIZE = 16


def load(config: DataConfig) -> Dataset:
    """Loads the digits, enlarged bilinearly (to 16x16 by default); every third image is a test image.

    The library gives no partition: 1,198 images are for training, 111 to 129 of a class, 599 for testing.
    """
    import sklearn
    from sklearn.datasets import load_digits

    if config.channels == 3:
        raise RequestError("data.channels=3: the digits are grey; leave it out")
    raw, reader = load_digits(), folders.make_reader(config, fit="stretch", size=_SIZE, channels=1)
    pixels = np.rint(raw.images * (255 / 16)).astype(np.uint8)[..., None]
    images, labels = np.stack([reader.fitted(image) for image in pixels]), raw.target.astype(np.int64)
    is_test = np.arange(len(images)) % 3 == 2
    return Dataset.labelled(
        name="digits",
        source=f"scikit-learn {sklearn.__version__} load_digits",
        class_names=tuple(str(digit) for digit in range(10)),
        train_images=images[~is_test],
        train_labels=labels[~is_test],
        test_images=images[is_test],
        test_labels=labels[is_test],
        test_ids=tuple(f"digits/{i}" for i in np.flatnonzero(is_test)),
    )


SPEC = Spec(
    name="digits",
    about="handwritten digits, 8x8, grey, 10 classes",
    size="1,797 images",
    licence="BSD-3-Clause",
    get="comes with scikit-learn",
    load=load,
    there=lambda root: "with scikit-learn",
)
