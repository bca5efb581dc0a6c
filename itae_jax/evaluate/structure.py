"""Structural similarity of images: SSIM, and the multi-scale gradient magnitude similarity (MSGMS).

Both are errors here: 0 for the same image, up to 1 (MSGMS) or 2 (SSIM). Images are B x H x W x C in [-1, 1].
"""

import functools
import operator

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

_SSIM_SIDE, _SSIM_SIGMA = 11, 1.5
_RANGE = 2.0  # of the pixels
_C1, _C2 = (0.01 * _RANGE) ** 2, (0.03 * _RANGE) ** 2
# Xue et al. give c = 0.0026 for pixels in [0, 1], where gradients are half as large as in [-1, 1].
_GMS_C = 4 * 0.0026
_LEAST_SIDE = 16  # of the coarsest scale
_SCALES = 4  # at most


def ssim_error(restored_BxHxWxC: jax.Array, originals_BxHxWxC: jax.Array) -> jax.Array:
    """1 - SSIM at every pixel and channel: B x H x W x C.

    SSIM (Wang et al., "Image quality assessment", IEEE TIP 2004, Eq. 13) with a Gaussian window of 11 x 11
    and sigma 1.5, the biased covariance, K1 = 0.01, K2 = 0.03; edges are mirrored.
    """
    offsets = np.arange(_SSIM_SIDE) - _SSIM_SIDE // 2
    weights = np.exp(-(offsets**2) / (2 * _SSIM_SIGMA**2))
    weights /= weights.sum()

    def mean(images):
        return _filtered(images, weights, weights)

    x, y = restored_BxHxWxC, originals_BxHxWxC
    mean_x, mean_y = mean(x), mean(y)
    var_x, var_y = mean(x * x) - mean_x**2, mean(y * y) - mean_y**2
    covariance = mean(x * y) - mean_x * mean_y
    similarity = (2 * mean_x * mean_y + _C1) * (2 * covariance + _C2)
    return 1 - similarity / ((mean_x**2 + mean_y**2 + _C1) * (var_x + var_y + _C2))


def msgms_error(restored_BxHxWxC: jax.Array, originals_BxHxWxC: jax.Array) -> jax.Array:
    """1 - MSGMS at every pixel: B x H x W x 1, on the mean over the channels.

    Gradient magnitude similarity (Xue et al., "Gradient magnitude similarity deviation", IEEE TIP 2014,
    Eq. 4), (2 g h + c) / (g^2 + h^2 + c) with Prewitt gradients g and h of the two images, averaged over
    scales as in RIAD (Zavrtanik et al., Pattern Recognition 2021, Eq. 4): the image's own and halved ones,
    four in all where the shorter side stays at 16 or more.
    """
    x, y = (images.mean(-1, keepdims=True) for images in (restored_BxHxWxC, originals_BxHxWxC))
    size = height, width = x.shape[1:3]
    scales = sum(min(height, width) >> scale >= _LEAST_SIDE for scale in range(_SCALES)) or 1
    total = jnp.zeros_like(x)
    for scale in range(scales):
        if scale:
            x, y = _halved(x), _halved(y)
        g, h = _gradient_squared(x), _gradient_squared(y)
        product = jnp.sqrt(g * h + 1e-14)  # the gradient of a root is infinite at 0
        error = 1 - (2 * product + _GMS_C) / (g + h + _GMS_C)
        total += jax.image.resize(error, (x.shape[0], *size, 1), "linear")
    return total / scales


def _gradient_squared(images: jax.Array) -> jax.Array:
    """The squared magnitude of the Prewitt gradient."""
    smooth, difference = np.full(3, 1 / 3), np.array([1.0, 0.0, -1.0])
    return _filtered(images, smooth, difference) ** 2 + _filtered(images, difference, smooth) ** 2


def _filtered(images: jax.Array, of_rows: np.ndarray, of_columns: np.ndarray) -> jax.Array:
    """Correlates by a separable filter; edges are mirrored."""
    for axis, weights in ((1, of_rows), (2, of_columns)):
        reach = len(weights) // 2
        pad = [(0, 0)] * 4
        pad[axis] = reach, reach
        padded, length = jnp.pad(images, pad, mode="symmetric"), images.shape[axis]
        shifted = [lax.slice_in_dim(padded, i, i + length, axis=axis) for i in range(len(weights))]
        weighted = (float(weight) * part for weight, part in zip(weights, shifted, strict=True))
        images = functools.reduce(operator.add, weighted)
    return images


def _halved(images: jax.Array) -> jax.Array:
    """Averages 2 x 2 pixels; drops an odd row or column."""
    batch, height, width, channels = images.shape
    even = images[:, : height // 2 * 2, : width // 2 * 2]
    return even.reshape(batch, height // 2, 2, width // 2, 2, channels).mean((2, 4))
