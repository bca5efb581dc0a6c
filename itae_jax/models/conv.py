"""The 3x3 convolution, and what makes it fast on XLA's CPU backend.

On a GPU or TPU it is one call of XLA's. On the CPU backend two of its cases are slow there and are
computed as matrix products. Measured on one core of an AMD EPYC with AVX2, float32, 16 images:

  maps of 4x4 and smaller   XLA's convolution falls to 2 GFLOP/s on 2x2; as patches times matrix 45
  weight gradient           XLA's 16 to 32 GFLOP/s; as three products of rows 24 to 61
"""

from contextlib import AbstractContextManager

import jax
import jax.numpy as jnp
from jax import lax

_SMALL_MAP_PIXELS = 16
_FEW_FEATURES = 32  # below, the products are too narrow to gain anything

# Part of the keys of JAX's caches, so that nothing traced for one platform is used for another.
_platforms = jax.make_user_context(())


def traced_for(*platforms: str) -> AbstractContextManager:
    """What is traced inside will run on these platforms, not on the present backend alone."""
    return _platforms(platforms)


def conv3x3(x_BxHxWxC: jax.Array, kernel_3x3xCxF: jax.Array) -> jax.Array:
    """3x3 cross-correlation, stride 1, zero padding 1: B x H x W x C to B x H x W x F."""
    platforms = _platforms.value or (jax.default_backend(),)
    if "cpu" not in platforms:
        return _convolve(x_BxHxWxC, kernel_3x3xCxF)
    if platforms == ("cpu",):
        return _on_cpu(x_BxHxWxC, kernel_3x3xCxF)
    return lax.platform_dependent(x_BxHxWxC, kernel_3x3xCxF, cpu=_on_cpu, default=_convolve)


def _on_cpu(x, kernel):
    height, width = x.shape[1:3]
    if height * width <= _SMALL_MAP_PIXELS:
        return _as_patches(x, kernel)
    if kernel.shape[-1] < _FEW_FEATURES:
        return _convolve(x, kernel)
    return _with_row_products(x, kernel)


def _convolve(x, kernel):
    return lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


def _as_patches(x, kernel):
    height, width, channels = x.shape[1:]
    # Offsets at which no pixel of the map has a neighbour only multiply zeros.
    rows = [dy for dy in range(3) if abs(dy - 1) < height]
    columns = [dx for dx in range(3) if abs(dx - 1) < width]
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    patches = jnp.concatenate(
        [padded[:, dy : dy + height, dx : dx + width] for dy in rows for dx in columns], axis=-1
    )
    matrix = kernel[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return patches @ matrix.reshape(len(rows) * len(columns) * channels, -1)


@jax.custom_vjp
def _with_row_products(x, kernel):
    """`_convolve` with the weight gradient as three matrix products."""
    return _convolve(x, kernel)


def _forward(x, kernel):
    return _convolve(x, kernel), (x, kernel)


def _backward(saved, gradient):
    x, kernel = saved
    _, input_vjp = jax.vjp(lambda x: _convolve(x, kernel), x)
    return *input_vjp(gradient), _weight_gradient(x, gradient)


def _weight_gradient(x, gradient):
    """For each row offset of the kernel, x times the gradient at all three column offsets at once."""
    height, width, channels = x.shape[1:]
    features = gradient.shape[-1]
    padded = jnp.pad(gradient, ((0, 0), (0, 0), (1, 1), (0, 0)))
    shifted = jnp.concatenate([padded[:, :, 2 - dx : 2 - dx + width] for dx in range(3)], axis=-1)
    shifted = shifted.reshape(-1, 3 * features)
    rows = jnp.pad(x, ((0, 0), (1, 1), (0, 0), (0, 0)))
    products = [rows[:, dy : dy + height].reshape(-1, channels).T @ shifted for dy in range(3)]
    return jnp.stack(products).reshape(3, channels, 3, features).transpose(0, 2, 1, 3)


_with_row_products.defvjp(_forward, _backward)
