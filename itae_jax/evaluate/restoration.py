"""Scoring: restoration errors, normalised for each transform, averaged (Eq. 3), and AUROC."""

import functools
from collections.abc import Callable, Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from itae_jax import parallel
from itae_jax.data.images import Images, as_images
from itae_jax.transforms import Transform, to_float

ERRORS = ("l1", "l2")


def _batches_on_devices(compute, restore, images: Images, batch_size: int, devices) -> Iterator:
    """(positions, result for the images there) of every batch; the last is padded, its padding dropped.

    `compute` takes (restore, images uint8), mapped over the devices.
    """
    batch_size = _shared_evenly(batch_size, devices)
    pending: list[tuple[np.ndarray, jax.Array]] = []

    def collect():
        positions, result = pending.pop(0)
        return positions, jax.tree.map(lambda rows: np.asarray(rows)[: len(positions)], result)

    for positions, batch in images.batches(batch_size):
        padding = np.zeros((batch_size - len(batch), *images.image_shape), np.uint8)
        pending.append((positions, compute(restore, np.concatenate([batch, padding]))))
        if len(pending) > 1:  # the device computes while the next batch is read
            yield collect()
    while pending:
        yield collect()


def _shared_evenly(batch_size: int, devices) -> int:
    return -(-batch_size // len(devices)) * len(devices)


def pixel_errors(restored_TxBxHxWxC: jax.Array, originals_BxHxWxC: jax.Array) -> dict[str, jax.Array]:
    """The restoration error of every pixel and channel, T x B x H x W x C, of each kind."""
    difference = restored_TxBxHxWxC - originals_BxHxWxC[None]
    return {"l1": jnp.abs(difference), "l2": jnp.square(difference)}


def maps_of(errors_TxBxHxWxC: jax.Array, normal_errors_T: jax.Array) -> jax.Array:
    """Eq. 3 for each pixel, B x H x W: the mean over a map is the image's anomaly score."""
    return (errors_TxBxHxWxC.mean(-1) / normal_errors_T[:, None, None, None]).mean(0)


def restored_errors(
    restore: Callable[[jax.Array], jax.Array], images_uint8: jax.Array, transform: Transform, dtype: str
) -> dict[str, jax.Array]:
    """`pixel_errors` of images B x H x W x C restored from all T members in one call of `restore`."""
    originals = to_float(images_uint8, jnp.dtype(dtype))
    inputs_TxB = transform.apply_all(originals)
    restored = restore(inputs_TxB.reshape(-1, *inputs_TxB.shape[2:]))
    return pixel_errors(restored.reshape(transform.count, *originals.shape), originals)


@functools.cache
def _batch_errors(transform: Transform, dtype: str, devices: tuple[jax.Device, ...]) -> Callable:
    """(restore, images uint8) -> errors B x T by kind over the devices; compiled once for all parameters."""

    def errors(restore, images_uint8):
        of_pixels = restored_errors(restore, images_uint8, transform, dtype)
        return {kind: values.mean((2, 3, 4)).T for kind, values in of_pixels.items()}

    return parallel.split_batch(errors, devices, replicated_result=False)


@functools.cache
def _batch_maps(transform: Transform, error: str, dtype: str, devices: tuple[jax.Device, ...]) -> Callable:
    """((restore, normal errors T), images uint8) -> (errors B x T, maps B x H x W) over the devices."""

    def maps(restore_and_normal, images_uint8):
        restore, normal_errors_T = restore_and_normal
        of_pixels = restored_errors(restore, images_uint8, transform, dtype)[error]
        return of_pixels.mean((2, 3, 4)).T, maps_of(of_pixels, normal_errors_T)

    return parallel.split_batch(maps, devices, replicated_result=False)


def _prepared(restore, images, transform: Transform, devices):
    images = as_images(images)
    transform.check_size(*images.image_shape)
    devices = tuple(jax.local_devices() if devices is None else devices)
    return restore if isinstance(restore, Partial) else Partial(restore), images, devices


def batch_errors(
    restore: Callable[[jax.Array], jax.Array],
    images: np.ndarray | Images,
    transform: Transform,
    *,
    batch_size: int = 128,
    devices: Sequence[jax.Device] | None = None,
    dtype: str = "float32",
) -> Iterator[tuple[np.ndarray, dict[str, np.ndarray]]]:
    """Restoration errors a batch at a time, in the order of the images.

    Takes what `restoration_errors` takes. Yields (positions B, {"l1": B x T, "l2": B x T}); what cannot
    be read is left out.
    """
    restore, images, devices = _prepared(restore, images, transform, devices)
    compute = _batch_errors(transform, dtype, devices)
    return _batches_on_devices(compute, restore, images, batch_size, devices)


def all_restoration_errors(
    restore: Callable[[jax.Array], jax.Array],
    images: np.ndarray | Images,
    transform: Transform,
    *,
    dtype: str = "float32",
    **options,
) -> dict[str, np.ndarray]:
    """`restoration_errors` of every kind, "l1" and "l2", in one pass over the images."""
    images = as_images(images)
    result = {kind: np.full((len(images), transform.count), np.nan, dtype) for kind in ERRORS}
    for positions, errors in batch_errors(restore, images, transform, dtype=dtype, **options):
        for kind, errors_BxT in errors.items():
            result[kind][positions] = errors_BxT
    return result


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
    """Error of restoring every image from every member of the transform.

    Args:
      restore: B x H x W x C' floats to B x H x W x C floats, in evaluation mode, each image by
        itself. A `jax.tree_util.Partial` with the parameters as arguments is compiled once,
        whatever their values.
      images: N x H x W x C uint8, in memory or read as they are needed.
      transform: the erasing transform, T members.
      error: "l1", mean absolute error over pixels and channels, or "l2", mean squared error.
      batch_size: images at a time; each is restored T times.
      devices: who shares the work; all local ones if None.
      dtype: type of the pixels before the network.

    Returns:
      N x T array. Every image counts once; padding of the last batch is dropped. A row of NaN
      stands for an image that cannot be read.
    """
    _check_kind(error)
    options = {"batch_size": batch_size, "devices": devices, "dtype": dtype}
    return all_restoration_errors(restore, images, transform, **options)[error]


def memory_bytes(
    restore: Callable[[jax.Array], jax.Array],
    image_shape: tuple[int, int, int],
    transform: Transform,
    *,
    batch_size: int = 128,
    devices: Sequence[jax.Device] | None = None,
    dtype: str = "float32",
) -> int | None:
    """What scoring takes on each device by XLA's account: parameters, a batch and what lies between.

    Costs nothing where the program is compiled already. None if the backend does not tell.
    """
    nothing = np.zeros((0, *image_shape), np.uint8)
    restore, _, devices = _prepared(restore, nothing, transform, devices)
    batch = np.zeros((_shared_evenly(batch_size, devices), *image_shape), np.uint8)
    return _batch_errors(transform, dtype, devices).memory_bytes(restore, batch)


def _check_kind(error: str) -> None:
    if error not in ERRORS:
        raise ValueError(f"error {error!r}: choose {' or '.join(ERRORS)}")


def batch_maps(
    restore: Callable[[jax.Array], jax.Array],
    images: np.ndarray | Images,
    transform: Transform,
    normal_errors_T: np.ndarray,
    error: str = "l1",
    *,
    batch_size: int = 128,
    devices: Sequence[jax.Device] | None = None,
    dtype: str = "float32",
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Where in each image the anomaly is, a batch at a time, in the order of the images.

    In a map the error of each pixel, mean over channels, takes the place of the image's in Eq. 3, so
    that the mean of the map is the image's anomaly score. The arguments are those of
    `restoration_errors`.

    Yields:
      (positions B, errors B x T, maps B x H x W float32); what cannot be read is left out.
    """
    _check_kind(error)
    restore, images, devices = _prepared(restore, images, transform, devices)
    compute = _batch_maps(transform, error, dtype, devices)
    with_normal = restore, np.asarray(normal_errors_T, dtype)
    for positions, (errors, maps) in _batches_on_devices(compute, with_normal, images, batch_size, devices):
        yield positions, errors, np.asarray(maps, np.float32)


LEAST_NORMAL_ERROR = 2.0**-23


def normal_errors(errors_NxT: np.ndarray) -> np.ndarray:
    """The normaliser n_i of Eq. 3: mean error over the training normals, for each of T members.

    Rows of NaN, images that cannot be read, do not count. Where every image is restored exactly, as
    constant ones can be, Eq. 3 would divide by zero; the normaliser is at least float32's resolution
    of pixels instead, 2^-23.
    """
    readable = ~np.isnan(errors_NxT).all(axis=1)
    return np.maximum(errors_NxT[readable].mean(axis=0, dtype=np.float64), LEAST_NORMAL_ERROR)


def anomaly_scores(errors_NxT: np.ndarray, normal_errors_T: np.ndarray) -> np.ndarray:
    """Eq. 3: the mean over the T members of error / normal error. Higher = more anomalous.

    Raises:
      ValueError: shapes that do not match, or a normal error that is not above zero.
    """
    errors_NxT, normal_errors_T = np.asarray(errors_NxT), np.asarray(normal_errors_T)
    if errors_NxT.ndim != 2 or normal_errors_T.shape != errors_NxT.shape[1:]:
        raise ValueError(f"errors {errors_NxT.shape} and normal errors {normal_errors_T.shape} do not match")
    if not (normal_errors_T > 0).all():
        raise ValueError(f"normal errors must be above zero to divide by, got {normal_errors_T}")
    return (errors_NxT / normal_errors_T).mean(axis=1, dtype=np.float64)


def auroc(is_anomaly_N: np.ndarray, scores_N: np.ndarray) -> float:
    """Area under the ROC curve in [0, 1], anomalies being positive, by scikit-learn.

    Raises:
      ValueError: all of one kind, for which it is not defined.
    """
    from sklearn.metrics import roc_auc_score

    is_anomaly_N = np.asarray(is_anomaly_N, bool)
    if is_anomaly_N.all() or not is_anomaly_N.any():
        raise ValueError("AUROC needs both normal and anomalous images")
    return float(roc_auc_score(is_anomaly_N, scores_N))


def frame_normality(scores_N: np.ndarray, video_ids_N: np.ndarray) -> np.ndarray:
    """Eq. 4: 1 - (e - min e) / (max e - min e) within each video; low = anomalous.

    A video whose scores are all equal gets 1 throughout.
    """
    scores_N, video_ids_N = np.asarray(scores_N, np.float64), np.asarray(video_ids_N)
    if scores_N.shape != video_ids_N.shape:
        raise ValueError(f"{scores_N.shape} scores and {video_ids_N.shape} video ids do not match")
    if not np.isfinite(scores_N).all():
        raise ValueError("scores that are not finite have no place in Eq. 4")
    normality = np.ones_like(scores_N)
    for video in np.unique(video_ids_N):
        inside = video_ids_N == video
        low, high = scores_N[inside].min(), scores_N[inside].max()
        if high > low:
            normality[inside] = 1 - (scores_N[inside] - low) / (high - low)
    return normality
