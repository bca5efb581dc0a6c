"""Turns what a detector gets, arrays of images or rows of numbers, into uint8 images."""

import math
from collections.abc import Iterable
from numbers import Integral

import numpy as np

from itae_jax.data.images import to_uint8
from itae_jax.errors import RequestError


def as_pictures(array) -> np.ndarray:
    """Returns N x H x W (x C) uint8 images as N x H x W x C with 1 or 3 channels; refuses all else."""
    try:
        array = np.asarray(array)
    except ValueError:
        raise RequestError("the images have different shapes; bring them to one") from None
    if array.ndim not in (3, 4):
        raise RequestError(
            f"an array of shape {array.shape}: expected N x H x W or N x H x W x C images; "
            "for rows of numbers set image_shape"
        )
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise RequestError("the images hold NaN or infinity; leave such images out")
    if array.dtype != np.uint8:
        raise RequestError(f"{array.dtype} images: expected uint8{to_uint8(array)}")
    if array.ndim == 3:
        array = array[..., None]
    if array.shape[3] not in (1, 3):
        hint = "; channels come last" if array.shape[1] in (1, 3) else ""
        raise RequestError(f"images of {by(array.shape[1:])}: expected 1 or 3 channels{hint}")
    if 0 in array.shape:
        raise RequestError(f"an array of shape {array.shape} holds no images")
    return array


def row_shape(image_shape, num_features: int) -> tuple[int, int, int]:
    """Returns (height, width, channels) of the image that a row of so many numbers becomes."""
    if isinstance(image_shape, str):
        if image_shape != "square":
            raise RequestError(f"image_shape={image_shape!r}: expected (H, W), (H, W, C) or 'square'")
        side = math.isqrt(num_features - 1) + 1
        return side, side, 1
    given = tuple(image_shape) if isinstance(image_shape, Iterable) else ()
    height, width, channels = (*given, 1)[:3] if len(given) in (2, 3) else (0, 0, 0)
    shape = height, width, channels
    if not all(isinstance(n, Integral) and int(n) > 0 for n in shape) or channels not in (1, 3):
        raise RequestError(f"image_shape={image_shape}: expected (H, W) or (H, W, C), C being 1 or 3")
    if math.prod(shape) != num_features:
        raise RequestError(
            f"rows of {num_features} numbers: image_shape={image_shape} needs rows of {math.prod(shape)}"
        )
    return shape


def pixel_range(rows_NxF: np.ndarray) -> tuple[float, float]:
    """Returns the numbers that become black and white: the least and greatest, or 0 and 255 for uint8."""
    if rows_NxF.dtype == np.uint8:
        return 0.0, 255.0
    return float(rows_NxF.min()), float(rows_NxF.max())


def rows_as_pictures(
    rows_NxF: np.ndarray, black_and_white: tuple[float, float], shape: tuple[int, int, int]
) -> np.ndarray:
    """Returns N x H x W x C uint8; clips numbers beyond black and white, and fills up with black."""
    low, high = black_and_white
    scale = 255 / (high - low) if high > low else 0.0
    pixels_NxF = np.rint(np.clip((rows_NxF.astype(float) - low) * scale, 0, 255)).astype(np.uint8)
    missing = math.prod(shape) - pixels_NxF.shape[1]
    return np.pad(pixels_NxF, ((0, 0), (0, missing))).reshape(-1, *shape)


def by(shape) -> str:
    """Returns a shape as text, such as 16x16x3."""
    return "x".join(map(str, shape))
