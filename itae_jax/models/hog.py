"""Histograms of oriented gradients (Dalal and Triggs, CVPR 2005): they show shapes, and ignore brightness."""

import jax
import jax.numpy as jnp

CELL = 8  # pixels; what is left over at the right and the bottom does not count
_ORIENTATIONS, _BLOCK = 9, 2  # of the gradient, cells
LEAST_SIDE = CELL * _BLOCK
_CLIP, _EPSILON = 0.2, 1e-5


def hog(images_BxHxWxC: jax.Array) -> jax.Array:
    """The histograms of all blocks of 2x2 cells of 8x8 pixels, B x D; sides of at least 16 pixels.

    A pixel adds the magnitude of its steepest channel's gradient, a difference of its neighbours, to one of
    nine orientations between 0 and 180 degrees. A block has length 1, is clipped at 0.2, and scaled again.
    """
    batch, height, width, _ = images_BxHxWxC.shape
    edge = (0, 0)
    down = jnp.pad(images_BxHxWxC[:, 2:] - images_BxHxWxC[:, :-2], (edge, (1, 1), edge, edge))
    right = jnp.pad(images_BxHxWxC[:, :, 2:] - images_BxHxWxC[:, :, :-2], (edge, edge, (1, 1), edge))
    magnitudes = jnp.hypot(down, right)
    steepest = magnitudes.argmax(-1, keepdims=True)
    down, right, magnitude = (
        jnp.take_along_axis(values, steepest, -1)[..., 0] for values in (down, right, magnitudes)
    )
    turn = jnp.arctan2(down, right) / jnp.pi % 1
    orientation = (turn * _ORIENTATIONS).astype("int32") % _ORIENTATIONS
    shares = jax.nn.one_hot(orientation, _ORIENTATIONS, dtype=magnitude.dtype) * magnitude[..., None]
    rows, columns = height // CELL, width // CELL
    shares = shares[:, : rows * CELL, : columns * CELL]
    cells = shares.reshape(batch, rows, CELL, columns, CELL, _ORIENTATIONS).mean((2, 4))
    corners = [(row, column) for row in range(_BLOCK) for column in range(_BLOCK)]
    blocks = jnp.concatenate(
        [cells[:, y : rows - _BLOCK + 1 + y, x : columns - _BLOCK + 1 + x] for y, x in corners], -1
    )
    return _normalised(_normalised(blocks).clip(max=_CLIP)).reshape(batch, -1)


def _normalised(blocks: jax.Array) -> jax.Array:
    return blocks / jnp.sqrt(jnp.square(blocks).sum(-1, keepdims=True) + _EPSILON**2)
