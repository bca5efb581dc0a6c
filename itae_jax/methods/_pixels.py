"""What methods share that learn from the pixels themselves, in one pass: scikit-learn fits them to rows."""

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from itae_jax.config import MethodConfig, setting
from itae_jax.methods.method import State

_ROWS = 256


@dataclasses.dataclass(frozen=True)
class PixelsConfig(MethodConfig):
    """Settings of every method of pixels; of TRAIN only the batch size matters."""

    ONE_PASS: ClassVar[bool] = True
    TRAIN: ClassVar[dict[str, Any]] = dict(epochs=1, batch_size=32, learning_rate=1.0, halve_every_epochs=1)

    side: int = setting(64, "larger images are reduced to this longer side", least=1, most=16_384)


class Pixels:
    """Base of the methods of pixels: nothing is learned by steps, and measured are the pixels, N x D.

    D is the number of pixels and channels of an image whose longer side is at most `side`.
    """

    components: tuple[str, ...] = ()

    def __init__(self, config: Any, image_shape: tuple[int, int, int], dtype: str):
        self._config, self._sides, self._channels = config, image_shape[:2], image_shape[2]
        scale = min(1.0, config.side / max(self._sides))
        self._small = tuple(max(1, round(scale * side)) for side in self._sides)

    def init(self, key: jax.Array) -> State:
        return State({}, ())

    def update(
        self, state: State, keys_B: jax.Array, rate: jax.Array, images_BxHxWxC: jax.Array
    ) -> tuple[State, dict[str, jax.Array]]:
        """Changes nothing; `calibrate` fits."""
        return state, {"loss": jnp.zeros((), images_BxHxWxC.dtype)}

    def measure(self, variables: Any, images_BxHxWxC: jax.Array) -> dict[str, jax.Array]:
        small = resized(images_BxHxWxC, self._small)
        return {"pixels": small.reshape(small.shape[0], -1)}

    def columns(self, measured: dict[str, Any], calibration: dict[str, np.ndarray]) -> dict[str, Any]:
        return {}


def resized(images_BxHxWxC: jax.Array, sides: tuple[int, ...]) -> jax.Array:
    """The images in another height and width; averages where it reduces, interpolates where it enlarges."""
    if images_BxHxWxC.shape[1:3] == sides:
        return images_BxHxWxC
    shape = *sides, images_BxHxWxC.shape[3]
    return jax.vmap(lambda image: jax.image.resize(image, shape, "linear"))(images_BxHxWxC)


def in_batches(compute: Callable[[jax.Array], Any], pixels_NxD: Any) -> Any:
    """What `compute` returns, a tree of arrays with a row for each image.

    NumPy's pixels go through batches of one size, which bounds the memory; an image's bits do not depend on
    the others.
    """
    if isinstance(pixels_NxD, jax.Array):
        return compute(pixels_NxD)
    parts = []
    for start in range(0, max(1, len(pixels_NxD)), _ROWS):
        rows = pixels_NxD[start : start + _ROWS]
        padding = np.zeros((_ROWS - len(rows), rows.shape[1]), rows.dtype)
        found = compute(jnp.asarray(np.concatenate([rows, padding])))
        parts.append(jax.tree.map(np.asarray, found))
    return jax.tree.map(lambda *of_parts: np.concatenate(of_parts)[: len(pixels_NxD)], *parts)
