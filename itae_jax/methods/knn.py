"""Nearest neighbours; the score is the mean Euclidean distance to the k nearest training images."""

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from itae_jax.config import setting
from itae_jax.errors import RequestError
from itae_jax.evaluate.restoration import LEAST_NORMAL_ERROR
from itae_jax.methods._pixels import Pixels, PixelsConfig
from itae_jax.methods.method import Spec


@dataclasses.dataclass(frozen=True)
class KNNConfig(PixelsConfig):
    """Settings of the nearest neighbours."""

    NAME: ClassVar[str] = "knn"

    k: int = setting(3, "the number of neighbours", least=1, most=10_000)


class KNN(Pixels):
    """See `Method`. The calibration is the training images, N x D, and their own mean distance.

    For that distance an image is not its own neighbour. So 1 is a new normal image's score, and training
    images score less.
    """

    def calibrate(self, measured: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        pixels, k = measured["pixels"], self._config.k
        if len(pixels) <= k:
            raise RequestError(
                f"method.k={k}: the {len(pixels)} training images have fewer neighbours; lower it"
            )
        distances_N = _distances(pixels, pixels, _neighbours(pixels, None, k))
        normal = distances_N.mean(dtype=np.float64)
        return {"pixels": pixels, "distance": np.maximum(normal, LEAST_NORMAL_ERROR)}

    def score(self, measured: dict[str, Any], calibration: dict[str, np.ndarray]) -> Any:
        pixels: Any = measured["pixels"]
        training: Any = calibration["pixels"]
        nearest: Any
        if isinstance(pixels, jax.Array):
            training = jnp.asarray(training, pixels.dtype)
            nearest = _nearest(training, pixels, self._config.k)
        else:
            nearest = _neighbours(training, pixels, self._config.k)
        distances = _distances(pixels, training, nearest)
        return distances / np.asarray(calibration["distance"], distances.dtype)


def _neighbours(training_NxD: np.ndarray, pixels_BxD: np.ndarray | None, k: int) -> np.ndarray:
    """The positions of the k nearest, B x k; without pixels those of the training images, N x k."""
    from sklearn.neighbors import NearestNeighbors

    search = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(training_NxD)
    return search.kneighbors(pixels_BxD, return_distance=False)


def _nearest(training_NxD: jax.Array, pixels_BxD: jax.Array, k: int) -> jax.Array:
    """The same for JAX's arrays."""
    middle = training_NxD.mean(0)[None]  # around it squares are small, and so is their rounding
    places, queries = training_NxD - middle, pixels_BxD - middle
    products = jnp.matmul(queries, places.T, precision="highest")
    return jax.lax.top_k(2 * products - jnp.square(places).sum(1)[None], k)[1]


def _distances(pixels_BxD: Any, training_NxD: Any, nearest_Bxk: Any) -> Any:
    """The mean distance, B, from differences, so that it is 0 for an equal image."""
    xp: Any = jnp if isinstance(pixels_BxD, jax.Array) else np
    k = nearest_Bxk.shape[1]
    squares = (xp.square(pixels_BxD - training_NxD[nearest_Bxk[:, j]]).sum(1) for j in range(k))
    return sum(xp.sqrt(of_one) for of_one in squares) / k


METHOD = Spec(KNNConfig, KNN)
