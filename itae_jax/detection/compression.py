"""Whether traces of compression, in place of the content, tell which member of a transform was applied.

A JPEG at its own size keeps the grid of 8x8 blocks and the steps of its quantisation table, which is not
symmetric. Turned or mirrored, they look different, so that a network could restore by them. Resizing an image
removes most of this and leaves the content: what a linear probe tells before, but not after, comes from such
traces.
"""

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from itae_jax import experiment
from itae_jax.data import LazyImages, folders
from itae_jax.data.images import lazy
from itae_jax.data.reader import Reader
from itae_jax.detection import probe
from itae_jax.detection.choose import asked_for, choose, look_at
from itae_jax.errors import RequestError
from itae_jax.transforms import Transform, to_float
from itae_jax.transforms.checks import Finding

_BLOCK, _LEAST_SIDE = 8, 24  # pixels
_LEAST_IMAGES, _MOST_IMAGES, _MOST_ROWS = 40, 1000, 4000  # a row is one member of one image
_SMALL = 2  # of 255 grey levels: coefficients that a quantisation table brings to 0 stay below
_LARGE_DROP = 0.1  # of accuracy, beyond two standard errors; content in fine detail can cost less


def images_of(folder: Path, transform: Transform, assignments: Sequence[str]) -> LazyImages:
    """Finds images below a folder, at most 1,000 evenly spread, to be read as `itae fit` reads them.

    `assignments` are `data.field=value`, instead of what `itae fit` would choose.
    """
    if transform.count == 1:
        raise RequestError(f"transform {transform.name!r} has one member, nothing to tell apart; omit --images")
    base = experiment.override(experiment.Experiment(), assignments)
    if not folder.is_dir():
        raise RequestError(f"--images {folder}: no such folder; name a folder of images")
    paths = folders.find_images(folder)
    if not (looks := look_at(paths, base.data.max_side)):
        raise _too_few(folder, 0)
    asked = asked_for(base, assignments) | ({"data.aspect": 1.0} if transform.square_only else {})
    choices = choose(looks, asked, len(paths), base.method, accelerator=jax.default_backend() != "cpu")
    found = asked | {one.field: one.value for one in choices}
    data = {name.removeprefix("data."): value for name, value in found.items() if name.startswith("data.")}
    reader = folders.make_reader(dataclasses.replace(base.data, **data), fit="stretch")
    if reader.size < _LEAST_SIDE:
        raise RequestError(f"--size {reader.size}: the probe of --images needs {_LEAST_SIDE} pixels or more")
    most = max(_LEAST_IMAGES, min(_MOST_IMAGES, _MOST_ROWS // transform.count))
    return lazy(base.data, reader.read, paths[:: math.ceil(len(paths) / most)], reader.shape, {})


def check(transform: Transform, images: LazyImages, folder: Path) -> Finding:
    """Compares what a probe tells of images that it has not seen, as they are and resized by 3/4 or less."""
    transform.try_on(images.image_shape)
    height, width, channels = images.image_shape
    smaller = Reader(min(height, width) * 3 // 4 // _BLOCK * _BLOCK, channels, "stretch", aspect=width / height)
    as_is, resized = [], []
    for _, batch_BxHxWxC in images.in_memory().batches(32):
        as_is.append(_features(transform, batch_BxHxWxC))
        resized.append(_features(transform, np.stack([smaller.fitted(image) for image in batch_BxHxWxC])))
    if (count := sum(part.shape[1] for part in as_is)) < _LEAST_IMAGES:
        raise _too_few(folder, count)
    before_N, after_N = (probe.recognised(np.concatenate(parts, axis=1)) for parts in (as_is, resized))
    drop_N = before_N - after_N
    warns = bool(drop_N.mean() - 2 * drop_N.std() / math.sqrt(count) > _LARGE_DROP)
    traces = "fine traces such as JPEG's block grid tell it, not content alone; train at a smaller --size"
    accuracies = f"{100 * before_N.mean():.0f} %, after resizing {100 * after_N.mean():.0f} %"
    found = f"a linear probe tells the member in {accuracies}, by chance {100 / transform.count:.0f} %"
    meaning = traces if warns else f"no clear trace of compression in {count} images"
    return Finding("compression", True, f"{found}: {meaning}", warns)


def _too_few(folder: Path, count: int) -> RequestError:
    needed = f"{_LEAST_IMAGES} are needed; endings read: {folders.ENDINGS}"
    return RequestError(f"--images {folder}: {count} images there can be read, {needed}")


def _features(transform: Transform, images_BxHxWxC: np.ndarray) -> np.ndarray:
    """Statistics of the 64 DCT coefficients of the whole, aligned 8x8 blocks, of every member: T x B x D.

    They are, of each channel, the mean, the logarithm of the mean size, and the share of small ones.
    """
    from scipy.fft import dctn

    rows, columns = (side // _BLOCK * _BLOCK for side in images_BxHxWxC.shape[1:3])
    images_BxHxWxC = images_BxHxWxC[:, :rows, :columns]
    erased_TxBxHxWxC = 127.5 * np.asarray(transform.apply_all(to_float(jnp.asarray(images_BxHxWxC))))
    members, batch, height, width, channels = erased_TxBxHxWxC.shape
    tiles = (members, batch, height // _BLOCK, _BLOCK, width // _BLOCK, _BLOCK, channels)
    blocks = dctn(erased_TxBxHxWxC.reshape(tiles), axes=(3, 5), norm="ortho")
    sizes = np.abs(blocks)
    each = blocks.mean((2, 4)), np.log(sizes.mean((2, 4)) + 0.1), (sizes < _SMALL).mean((2, 4))
    return np.concatenate([part.reshape(members, batch, -1) for part in each], axis=-1)
