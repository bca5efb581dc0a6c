"""Restoration errors, their normalisation for each transform, and the anomaly score (Eq. 3)."""

import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from itae_jax import parallel
from itae_jax.data.images import Images, as_images
from itae_jax.evaluate.batches import over_batches, shared_evenly
from itae_jax.transforms import Transform, to_float

ERRORS = ("l1", "l2", "relative")
COMBINATIONS = ("mean", "max", "first")
REDUCTIONS = ("mean", "max", "top")
VIEWS = ("one", "flip", "shift", "flip+shift")
_SMOOTHING, _MOST_SMOOTHING = 1 / 64, 2.0  # of the longer side, and pixels: the Gaussian's deviation
LEAST_NORMAL_ERROR = 2.0**-23  # float32's resolution of pixels in [-1, 1]
_LEAST_VARIATION = 2 / 255  # a grey level: images that vary less are flat


def loss(restored: jax.Array, originals: jax.Array, kind: str) -> jax.Array:
    """Mean over images, pixels and channels of the squared ("l2", Eq. 2) or absolute ("l1") error."""
    difference = restored - originals
    return jnp.mean(jnp.square(difference) if kind == "l2" else jnp.abs(difference))


def restore_all(
    restore: Callable[[jax.Array], jax.Array], transform: Transform, originals_BxHxWxC: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Erases by all T members and restores in one call; returns inputs and restorations, T x B x H x W x C."""
    inputs_TxB = transform.apply_all(originals_BxHxWxC)
    restored = restore(inputs_TxB.reshape(-1, *inputs_TxB.shape[2:]))
    return inputs_TxB, restored.reshape(transform.count, *originals_BxHxWxC.shape)


def pixel_errors(restored_TxBxHxWxC: jax.Array, originals_BxHxWxC: jax.Array) -> dict[str, jax.Array]:
    """The restoration error of every pixel and channel, T x B x H x W x C, of each kind in `ERRORS`.

    "l1": absolute, as in Eq. 3. "l2": squared. Busy images are harder to restore than plain ones, normal or
    not: "relative" is squared, over the `total_variation` of the original.
    """
    difference = restored_TxBxHxWxC - originals_BxHxWxC[None]
    squared, variation_B = jnp.square(difference), total_variation(originals_BxHxWxC)
    relative = squared / variation_B[None, :, None, None, None]
    return {"l1": jnp.abs(difference), "l2": squared, "relative": relative}


def total_variation(images_BxHxWxC: jax.Array) -> jax.Array:
    """The absolute differences of neighbours in rows and columns, half their sum over the number of pixels: B.

    At least a grey level, so that it can be divided by. After Rudin, Osher and Fatemi (1992).
    """
    down, right = (jnp.abs(jnp.diff(images_BxHxWxC, axis=axis)).sum((1, 2, 3)) for axis in (1, 2))
    return jnp.maximum((down + right) / (2 * images_BxHxWxC[0].size), _LEAST_VARIATION)


def maps(errors_TxBxHxW: jax.Array, normal_errors_T: jax.Array, combine: str = "mean") -> jax.Array:
    """Eq. 3 at every pixel, B x H x W: the mean of a map is the image's anomaly score of mean errors."""
    return _combined(errors_TxBxHxW / normal_errors_T[:, None, None, None], combine, axis=0)


def _combined(relative: Any, combine: str, axis: int) -> Any:
    """One value from those of the T members on this axis, by a rule of `COMBINATIONS`."""
    if combine == "mean":
        wide = {} if isinstance(relative, jax.Array) else {"dtype": np.float64}
        return relative.mean(axis, **wide)
    return relative.max(axis) if combine == "max" else relative[(slice(None),) * axis + (0,)]


def over_views(
    maps_of: Callable[[jax.Array], dict[str, jax.Array]], images_BxHxWxC: jax.Array, views: str
) -> dict[str, jax.Array]:
    """The maps of the images, T x B x H x W of each kind; the mean over several views, see `VIEWS`.

    The views are the images, mirrored left to right ("flip"), without their first row and column ("shift"),
    and both. Each view's maps are put back in place first. All views are restored at once, in as many times the
    memory of one.
    """
    names = [] if views == "one" else views.split("+")
    chosen = [*itertools.chain(*(itertools.combinations(names, n) for n in range(len(names) + 1)))]

    def placed(array: jax.Array, view: tuple[str, ...], back: bool) -> jax.Array:
        for name in view[::-1] if back else view:
            array = _seen(name, array, 2 if back else 1, back)
        return array

    seen = [placed(images_BxHxWxC, view, back=False) for view in chosen]
    found = {}
    for kind, maps in maps_of(jnp.concatenate(seen)).items():  # in one call: the network is compiled once
        parts = zip(jnp.split(maps, len(chosen), 1), chosen, strict=True)
        found[kind] = jnp.stack([placed(part, view, back=True) for part, view in parts]).mean(0)
    return found


def _seen(view: str, array: jax.Array, rows: int, back: bool = False) -> jax.Array:
    """A view of arrays whose axes `rows` and the next are those of the image; `back` undoes it."""
    if view == "flip":
        return jnp.flip(array, rows + 1)
    for axis in (rows, rows + 1):
        places = np.arange(array.shape[axis]) + (-1 if back else 1)
        array = jnp.take(array, places.clip(0, len(places) - 1), axis)
    return array


def normal_errors(errors_NxT: np.ndarray) -> np.ndarray:
    """The normaliser n_i of Eq. 3: the mean error over the training images, for each of T members.

    Rows of NaN, unreadable images, do not count. The normaliser is at least 2^-23, because Eq. 3 would
    divide by zero where every image is restored exactly, as constant ones can be.
    """
    readable = ~np.isnan(errors_NxT).all(axis=1)
    return np.maximum(errors_NxT[readable].mean(axis=0, dtype=np.float64), LEAST_NORMAL_ERROR)


def reduced(maps_BxHxW: jax.Array, share: float = 0.02) -> dict[str, jax.Array]:
    """A number for each map, by name in `REDUCTIONS`: B each.

    "mean": over the pixels, as in Eq. 3. "max": the greatest value after smoothing (see `smoothed`), as in RIAD
    (Zavrtanik et al., 2021). "top": the mean of the greatest `share` of the smoothed values, at least one.
    """
    smooth_BxN = smoothed(maps_BxHxW).reshape(maps_BxHxW.shape[0], -1)
    count = max(1, round(share * smooth_BxN.shape[1]))
    top_BxK = jax.lax.top_k(smooth_BxN, count)[0]
    return {"mean": maps_BxHxW.mean((1, 2)), "max": top_BxK[:, 0], "top": top_BxK.mean(1)}


def smoothed(maps_BxHxW: jax.Array) -> jax.Array:
    """The maps after a Gaussian of 1/64 of the longer side, 2 pixels at most; edges are repeated.

    Larger images show finer defects, which a wider Gaussian would hide.
    """
    sides = maps_BxHxW.shape[1:]
    across, along = (jnp.asarray(_gaussian(side, deviation(sides)), "float32") for side in sides)
    return jnp.einsum("Hh,bhw,Ww->bHW", across, maps_BxHxW, along, precision="highest")


def deviation(sides: Sequence[int]) -> float:
    """Returns the deviation of `smoothed` in pixels, for maps with these sides."""
    return min(_SMOOTHING * max(sides), _MOST_SMOOTHING)


def _gaussian(side: int, deviation: float) -> np.ndarray:
    """The matrix of a Gaussian filter that is cut at four deviations; importing SciPy's takes longer."""
    radius = int(4 * deviation + 0.5)
    offsets = np.arange(-radius, radius + 1)
    weights = np.exp(-0.5 * np.square(offsets / deviation))
    rows, matrix = np.arange(side)[:, None], np.zeros((side, side))
    np.add.at(matrix, (rows, (rows + offsets).clip(0, side - 1)), weights / weights.sum())
    return matrix


def anomaly_scores(errors_NxT: Any, normal_errors_T: Any, combine: str = "mean") -> Any:
    """Eq. 3: the mean over the T members of error / normal error. Higher = more anomalous.

    Takes NumPy arrays, whose mean it computes in float64, or JAX arrays. ValueError if the shapes do not match,
    or a normal error is not above zero.

    Args:
      combine: instead of the mean "max", the greatest of the T, or "first", that of the first member, which in
        the paper's sets is not turned.
    """
    normal = np.asarray(normal_errors_T)
    errors = errors_NxT if isinstance(errors_NxT, jax.Array) else np.asarray(errors_NxT)
    if errors.ndim != 2 or normal.shape != errors.shape[1:]:
        raise ValueError(f"errors {errors.shape} and normal errors {normal.shape} do not match")
    if not (normal > 0).all():
        raise ValueError(f"normal errors must be above zero to divide by, got {normal}")
    if isinstance(errors, jax.Array) or combine != "mean":
        normal = normal.astype(errors.dtype)
    return _combined(errors / normal[None], combine, axis=1)


@functools.cache
def _batch_errors(transform: Transform, dtype: str, devices: tuple[jax.Device, ...]) -> Callable:
    """(restore, images uint8) -> errors B x T by kind over the devices, compiled once for all parameters."""

    def errors(restore, images_uint8):
        originals = to_float(images_uint8, jnp.dtype(dtype))
        _, restored = restore_all(restore, transform, originals)
        return {kind: values.mean((2, 3, 4)).T for kind, values in pixel_errors(restored, originals).items()}

    return parallel.split_batch(errors, devices, replicated_result=False)


def restoration_errors(
    restore: Callable[[jax.Array], jax.Array],
    images: np.ndarray | Images,
    transform: Transform,
    error: str = "l1",
    *,
    batch_size: int = 128,
    devices: Sequence[jax.Device] | None = None,
    dtype: str = "float32",
) -> np.ndarray:
    """Error of restoring N images, H x W x C uint8, from the T members of a transform: N x T.

    A row of NaN stands for an unreadable image.

    Args:
      restore: B x H x W x C' floats to B x H x W x C floats, in evaluation mode, each image by itself. A
        `jax.tree_util.Partial` with the parameters as arguments is compiled once, whatever their values.
      error: "l1", mean absolute error over pixels and channels, "l2", mean squared error, or "relative", see
        `pixel_errors`; else ValueError.
      batch_size: images at a time; each is restored T times.
      devices: the devices that share the work; None: all local ones.
      dtype: type of the pixels before the network.
    """
    if error not in ERRORS:
        raise ValueError(f"error {error!r}: choose {', '.join(ERRORS)}")
    images = as_images(images)
    transform.check_size(*images.image_shape)
    chosen = tuple(jax.local_devices() if devices is None else devices)
    compute = _batch_errors(transform, dtype, chosen)
    restore = restore if isinstance(restore, Partial) else Partial(restore)
    result = np.full((len(images), transform.count), np.nan, dtype)
    batch_size = shared_evenly(batch_size, len(chosen))
    for positions, errors in over_batches(lambda batch: compute(restore, batch), images, batch_size):
        result[positions] = errors[error]
    return result
