"""Nearest neighbours; the score is the mean Euclidean distance to the k nearest training images.

What is compared are the pixels, or histograms of oriented gradients.
"""

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from itae_jax.config import setting
from itae_jax.errors import RequestError
from itae_jax.evaluate.restoration import LEAST_NORMAL_ERROR
from itae_jax.methods._pixels import Pixels, PixelsConfig, resized
from itae_jax.methods.method import Spec
from itae_jax.models.hog import CELL, LEAST_SIDE, hog


@dataclasses.dataclass(frozen=True)
class KNNConfig(PixelsConfig):
    """Settings of the nearest neighbours."""

    NAME: ClassVar[str] = "knn"

    k: int = setting(3, "the number of neighbours", least=1, most=10_000)
    features: str = setting(
        "pixels", "what is compared: pixels, or histograms of oriented gradients", choices=("pixels", "hog")
    )


class KNN(Pixels):
    """See `Method`. The calibration is the features of the training images, N x D, and their mean distance.

    For that distance an image is not its own neighbour. So 1 is a new normal image's score, and training
    images score less.
    """

    def __init__(self, config: KNNConfig, image_shape: tuple[int, int, int], dtype: str):
        super().__init__(config, image_shape, dtype)
        if config.features == "hog":
            self._small = tuple(max(LEAST_SIDE, CELL * round(side / CELL)) for side in self._small)

    def measure(self, variables: Any, images_BxHxWxC: jax.Array) -> dict[str, jax.Array]:
        if self._config.features == "pixels":
            return super().measure(variables, images_BxHxWxC)
        return {"hog": hog(resized(images_BxHxWxC, self._small))}

    def calibrate(self, measured: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        rows, k = measured[self._config.features], self._config.k
        if len(rows) <= k:
            few = f"the {len(rows)} training images have fewer neighbours"
            raise RequestError(f"method.k={k}: {few}; give more images or lower it")
        from sklearn.neighbors import NearestNeighbors

        others_Nxk = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(rows).kneighbors()[1]
        distances_N = _distances(rows, rows, others_Nxk)
        normal = distances_N.mean(dtype=np.float64)
        return {"rows": rows, "distance": np.maximum(normal, LEAST_NORMAL_ERROR)}

    def score(self, measured: dict[str, Any], calibration: dict[str, np.ndarray]) -> Any:
        rows: Any = measured[self._config.features]
        training: Any = calibration["rows"]
        if isinstance(rows, jax.Array):
            training = jnp.asarray(training, rows.dtype)
        nearest = _nearest(training, rows, self._config.k)
        distances = _distances(rows, training, nearest)
        return distances / np.asarray(calibration["distance"], distances.dtype)


def _nearest(training_NxD: Any, rows_BxD: Any, k: int) -> Any:
    """The positions of the k nearest training images, B x k; scikit-learn takes seconds to import."""
    middle = training_NxD.mean(0)[None]  # around it squares are small, and so is their rounding
    places, queries = training_NxD - middle, rows_BxD - middle
    if isinstance(rows_BxD, jax.Array):
        products = jnp.matmul(queries, places.T, precision="highest")
        return jax.lax.top_k(2 * products - jnp.square(places).sum(1)[None], k)[1]
    return np.argpartition(np.square(places).sum(1) - 2 * queries @ places.T, k - 1)[:, :k]


def _distances(rows_BxD: Any, training_NxD: Any, nearest_Bxk: Any) -> Any:
    """The mean distance, B, from differences, so that it is 0 for an equal image."""
    xp: Any = jnp if isinstance(rows_BxD, jax.Array) else np
    k = nearest_Bxk.shape[1]
    squares = (xp.square(rows_BxD - training_NxD[nearest_Bxk[:, j]]).sum(1) for j in range(k))
    return sum(xp.sqrt(of_one) for of_one in squares) / k


METHOD = Spec(KNNConfig, KNN)
