"""Whether images show one kind of object in many views, as photographs of horses do.

Their anomalies are other kinds of objects, not defects. Images of parts look alike, so that a few principal
components explain them; textures look the same upside down.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from itae_jax.detection import probe
from itae_jax.models.hog import hog

SIDE, MOST = 32, 300  # pixels, images to look at
_LEAST = 40  # images
_COMPONENTS = 20
_LEAST_UPRIGHT, _MOST_EXPLAINED = 0.65, 0.8


class Variety(NamedTuple):
    """How much images differ.

    Attributes:
      upright: how often a linear probe recognises whether an image is upright or upside down.
      explained: the share of their variance that 20 principal components of other images explain.
    """

    upright: float
    explained: float

    @property
    def of_objects(self) -> bool:
        return self.upright >= _LEAST_UPRIGHT and self.explained <= _MOST_EXPLAINED

    def __str__(self) -> str:
        up, known = 100 * self.upright, 100 * self.explained
        return (
            f"a linear probe tells upright from upside down in {up:.0f} % of cases; "
            f"{_COMPONENTS} principal components explain {known:.0f} % of the variance"
        )


def variety(images_NxHxWx1: np.ndarray) -> Variety | None:
    """Measures grey uint8 images of 32 x 32; None if they are too few."""
    from sklearn.decomposition import PCA

    if len(images_NxHxWx1) < _LEAST:
        return None
    images = np.asarray(images_NxHxWx1, np.float32) / 127.5 - 1
    both = images, np.rot90(images, 2, (1, 2))
    features = np.stack([np.asarray(hog(jnp.asarray(each))) for each in both])
    upright = float(probe.recognised(features).mean())
    rows = images.reshape(len(images), -1)
    fitted, others = rows[::2], rows[1::2]
    pca = PCA(min(_COMPONENTS, len(fitted)), random_state=0).fit(fitted)
    left = np.square(others - pca.inverse_transform(pca.transform(others))).sum()
    return Variety(upright, float(1 - left / np.square(others - pca.mean_).sum()))
