"""Scoring: restoration errors, normalised for each transform, averaged (Eq. 3), and AUROC."""

import functools
from collections.abc import Callable, Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from itae_jax import parallel
from itae_jax.data.images import Images, as_images
from itae_jax.train import to_float
from itae_jax.transforms import Transform


def pixel_errors(
    restore: Callable[[jax.Array], jax.Array],
    images_uint8: jax.Array,
    transform: Transform,
    error: str,
    dtype: str,
) -> jax.Array:
    """|M(f_i(x)) - x|, or its square for "l2", of a batch in one call of `restore`: T x B x H x W x C."""
    originals = to_float(images_uint8, jnp.dtype(dtype))
    inputs_TxB = transform.apply_all(originals)
    restored = restore(inputs_TxB.reshape(-1, *inputs_TxB.shape[2:]))
    difference = restored.reshape(transform.count, *originals.shape) - originals[None]
    return jnp.abs(difference) if error == "l1" else jnp.square(difference)


@functools.cache
def _batch_errors(
    transform: Transform, error: str, dtype: str, devices: tuple[jax.Device, ...], maps: bool
) -> Callable:
    """(restore, images uint8) -> errors B x T, with `maps` B x T x H x W too, over the devices.

    Compiled once for all parameters.
    """

    def errors(restore, images_uint8):
        per_pixel = pixel_errors(restore, images_uint8, transform, error, dtype)
        errors_BxT = per_pixel.mean((2, 3, 4)).T
        return (errors_BxT, per_pixel.mean(4).swapaxes(0, 1)) if maps else (errors_BxT,)

    return parallel.split_batch(errors, devices, replicated_result=False)


def batch_errors(
    restore: Callable[[jax.Array], jax.Array],
    images: np.ndarray | Images,
    transform: Transform,
    error: str = "l1",
    *,
    batch_size: int = 128,
    devices: Sequence[jax.Device] | None = None,
    dtype: str = "float32",
    maps: bool = False,
) -> Iterator[tuple[np.ndarray, ...]]:
    """Errors of restoring, a batch at a time and in the order of the images.

    Takes what `restoration_errors` takes. What cannot be read is left out.

    Yields:
      (positions B, errors B x T), and with `maps` the errors of each pixel, means over channels
      alone, B x T x H x W, as a third.
    """
    images = as_images(images)
    if error not in ("l1", "l2"):
        raise ValueError(f"error {error!r}: choose l1 or l2")
    transform.check_size(*images.image_shape)
    devices = tuple(jax.local_devices() if devices is None else devices)
    batch_size = -(-batch_size // len(devices)) * len(devices)
    compute = _batch_errors(transform, error, dtype, devices, maps)
    restore = restore if isinstance(restore, Partial) else Partial(restore)
    pending: list[tuple[np.ndarray, tuple[jax.Array, ...]]] = []

    def collect():
        positions, results = pending.pop(0)
        return positions, *(np.asarray(result)[: len(positions)] for result in results)

    for positions, batch in images.batches(batch_size):
        padding = np.zeros((batch_size - len(batch), *images.image_shape), np.uint8)
        pending.append((positions, compute(restore, np.concatenate([batch, padding]))))
        if len(pending) > 1:  # the device computes while the next batch is read
            yield collect()
    while pending:
        yield collect()


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
    images = as_images(images)
    errors_NxT = np.full((len(images), transform.count), np.nan, dtype)
    options = {"batch_size": batch_size, "devices": devices, "dtype": dtype}
    for positions, errors_BxT in batch_errors(restore, images, transform, error, **options):
        errors_NxT[positions] = errors_BxT
    return errors_NxT


def normal_errors(errors_NxT: np.ndarray) -> np.ndarray:
    """The normaliser n_i of Eq. 3: mean error over the training normals, for each of T members.

    Rows of NaN, images that cannot be read, do not count.
    """
    readable = ~np.isnan(errors_NxT).all(axis=1)
    return errors_NxT[readable].mean(axis=0, dtype=np.float64)


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


def normalised_maps(maps_NxTxHxW: np.ndarray, normal_errors_T: np.ndarray) -> np.ndarray:
    """Eq. 3 at every pixel: the mean over the T members of error / normal error, N x H x W.

    The mean of such a map over its pixels is the image's score.
    """
    weights_T = np.float32(1 / (normal_errors_T * len(normal_errors_T)))
    return np.einsum("nthw,t->nhw", maps_NxTxHxW, weights_T)


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
