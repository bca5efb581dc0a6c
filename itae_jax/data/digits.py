"""scikit-learn's handwritten digits: 1,797 images of 8x8, which come with the library."""

import numpy as np

from itae_jax.config import DataConfig
from itae_jax.data.dataset import Dataset

_SIZE = 16


def load(config: DataConfig) -> Dataset:
    """Digits enlarged bilinearly (16x16 by default); every third image is for testing.

    The library gives no partition: 1,198 images are to train on, 111 to 129 of a class, 599 to test.
    """
    import sklearn
    from PIL import Image
    from sklearn.datasets import load_digits

    raw = load_digits()
    size = config.image_size or _SIZE
    images = np.stack(
        [
            np.asarray(
                Image.fromarray(np.uint8(np.rint(image * (255 / 16)))).resize(
                    (size, size), Image.Resampling.BILINEAR
                )
            )
            for image in raw.images
        ]
    )[..., None]
    labels = raw.target.astype(np.int64)
    is_test = np.arange(len(images)) % 3 == 2
    return Dataset(
        name="digits",
        source=f"scikit-learn {sklearn.__version__} load_digits",
        class_names=tuple(str(digit) for digit in range(10)),
        train_images=images[~is_test],
        train_labels=labels[~is_test],
        test_images=images[is_test],
        test_labels=labels[is_test],
        test_ids=tuple(f"digits/{i}" for i in np.flatnonzero(is_test)),
    )
