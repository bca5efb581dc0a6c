"""The 3x3 convolution and the halving by maxima, tuned for XLA's CPU backend.

On a GPU or TPU each is one XLA operation. On the CPU backend some cases of it are slow and are computed by
matrix products or comparisons instead: maps of up to 8 pixels or with a side of 1, few channels on larger
maps, the gradient of the maxima. The gradient of the weights is a convolution that sums over the images.
bfloat16 always uses XLA's convolution: with jax 0.11 and later the products give NaN.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

_SMALL_MAP_PIXELS = 8
_MANY = 32  # channels; XLA's convolution from or to fewer is slow
_COLOURS = 3  # channels of images
LAYOUT = ("NHWC", "HWIO", "NHWC")  # of images, kernel and result

# A user context is part of the keys of JAX's caches: what is traced for one platform serves no other.
_platforms = jax.make_user_context(())


def traced_for(*platforms: str) -> AbstractContextManager:
    """Returns a context in which functions are traced for these platforms, not for the present backend."""
    return _platforms(platforms)


def conv3x3(x_BxHxWxC: jax.Array, kernel_3x3xCxF: jax.Array) -> jax.Array:
    """Computes the 3x3 cross-correlation of stride 1, zero padding 1: B x H x W x C to B x H x W x F."""
    on_cpu = _apart if x_BxHxWxC.dtype == jnp.bfloat16 else _on_cpu
    return _by_platform(on_cpu, _convolve, x_BxHxWxC, kernel_3x3xCxF)


def _by_platform(on_cpu: Callable, elsewhere: Callable, *arrays: jax.Array) -> jax.Array:
    platforms = _platforms.value or (jax.default_backend(),)
    if "cpu" not in platforms:
        return elsewhere(*arrays)
    if platforms == ("cpu",):
        return on_cpu(*arrays)
    return lax.platform_dependent(*arrays, cpu=on_cpu, default=elsewhere)


def _convolve(x, kernel):
    return lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=LAYOUT)


def _apart(x, kernel):
    """Keeps XLA from fusing the convolution with what follows, which gives NaN in bfloat16 since jax 0.11."""
    return lax.optimization_barrier(_convolve(x, kernel))


def _as_patches(x, kernel):
    height, width, channels = x.shape[1:]
    # Leaves out the offsets at which no pixel of the map has a neighbour: they only multiply zeros.
    rows = [dy for dy in range(3) if abs(dy - 1) < height]
    columns = [dx for dx in range(3) if abs(dx - 1) < width]
    matrix = kernel[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    shifted = [padded[:, dy : dy + height, dx : dx + width] for dy in rows for dx in columns]
    return jnp.concatenate(shifted, axis=-1) @ matrix.reshape(len(shifted) * channels, -1)


@jax.custom_vjp
def _on_cpu(x, kernel):
    channels, features = kernel.shape[2:]
    if x.shape[1] * x.shape[2] <= _SMALL_MAP_PIXELS or 1 in x.shape[1:3]:
        return _as_patches(x, kernel)
    if 1 < channels <= _COLOURS and features < _MANY:
        return _as_row_products(x, kernel)
    if features <= _COLOURS and channels < _MANY:
        return _as_shifted_product(x, kernel)
    return _convolve(x, kernel)


def _backward(saved, gradient):
    x, kernel = saved
    channels, features = kernel.shape[2:]
    if features < min(channels, _MANY):
        of_kernel = _turned(_weight_gradient(gradient, x))
    else:
        of_kernel = _weight_gradient(x, gradient)
    return _on_cpu(gradient, _turned(kernel)), of_kernel


_on_cpu.defvjp(lambda x, kernel: (_on_cpu(x, kernel), (x, kernel)), _backward)


def _turned(kernel):
    """Returns the kernel of the transposed convolution."""
    return kernel[::-1, ::-1].transpose(0, 1, 3, 2)


def _weight_gradient(x, gradient):
    """Convolves x by the gradient; images take the place of channels, as in JAX's own gradient."""
    layout = ("CHWN", "IHWO", "HWNC")
    return lax.conv_general_dilated(x, gradient, (1, 1), ((1, 1), (1, 1)), dimension_numbers=layout)


def _as_row_products(x, kernel):
    """Multiplies, for each row offset of the kernel, the pixels at all three column offsets by a matrix."""
    height, width, channels = x.shape[1:]
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    columns = jnp.concatenate([padded[:, :, dx : dx + width] for dx in range(3)], axis=-1)
    return sum(columns[:, dy : dy + height] @ kernel[dy].reshape(3 * channels, -1) for dy in range(3))


def _as_shifted_product(x, kernel):
    """Computes what each pixel adds to its nine neighbours as one product, then shifts and adds."""
    height, width, channels = x.shape[1:]
    features = kernel.shape[-1]
    shares = x @ kernel.transpose(2, 0, 1, 3).reshape(channels, -1)
    shares = jnp.pad(shares, ((0, 0), (1, 1), (1, 1), (0, 0))).reshape(-1, height + 2, width + 2, 9, features)
    return sum(shares[:, dy : dy + height, dx : dx + width, 3 * dy + dx] for dy in range(3) for dx in range(3))


def halve(x_BxHxWxC: jax.Array) -> jax.Array:
    """Returns the maximum of each 2x2 window: B x H x W x C to B x H//2 x W//2 x C."""
    return _by_platform(_maxima_on_cpu, _maxima, x_BxHxWxC)


def _maxima(x):
    return nn.max_pool(x, window_shape=(2, 2), strides=(2, 2))


@jax.custom_vjp
def _maxima_on_cpu(x):
    return _maxima(x)


def _maxima_forward(x):
    maxima = _maxima(x)
    return maxima, (x, maxima)


def _maxima_backward(saved, gradient):
    """Gives the gradient to the first pixel of each window, row by row, that is its maximum."""
    x, maxima = saved
    batch, height, width, channels = x.shape
    taken = jnp.zeros(maxima.shape, bool)
    places = []
    for row, column in ((0, 0), (0, 1), (1, 0), (1, 1)):
        first = (x[:, row : height // 2 * 2 : 2, column : width // 2 * 2 : 2] == maxima) & ~taken
        taken |= first
        places.append(jnp.where(first, gradient, jnp.zeros_like(gradient)))
    rows = [jnp.stack(places[start : start + 2], axis=3) for start in (0, 2)]
    whole = jnp.stack(rows, axis=2).reshape(batch, height // 2 * 2, width // 2 * 2, channels)
    return (jnp.pad(whole, ((0, 0), (0, height % 2), (0, width % 2), (0, 0))),)


_maxima_on_cpu.defvjp(_maxima_forward, _maxima_backward)
