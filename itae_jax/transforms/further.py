"""Transforms beyond the paper's, for anomalies that colour and orientation do not reveal.

Each meets the two conditions of the paper's section 3.2: it erases information, and what it erases
distinguishes normal from anomalous images of some kind. All take any height and width from 4 up; their
sizes are fractions of the image, so that a name means the same at every resolution.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from itae_jax.transforms.transform import Transform

_MASK_GRID, _MASK_GRIDS, _SHUFFLE_GRID, _SHUFFLE_SEED = 8, (4, 8, 16), 4, 0
_BLUR_SHARE = 1 / 16  # of the shorter side: the standard deviation of the Gaussian


def _parity(length: int, grid: int) -> np.ndarray:
    """Cuts a side into `grid` parts, and returns 0 or 1 for each pixel: whether its part is odd."""
    parts = min(grid, length)
    return np.arange(length, dtype=np.int32) * parts // length % 2


def _mask(image, index, grid=_MASK_GRID):
    """Every fourth patch of an 8 x 8 grid becomes mid grey; the four members cover the image.

    The network infers a patch from its surroundings, so it restores a defect as a normal part. After RIAD
    (Zavrtanik, Kristan and Skocaj, "Reconstruction by inpainting for visual anomaly detection", Pattern
    Recognition 2021), whose masks are drawn at random.
    """
    height, width, _ = image.shape
    member_HxW = 2 * _parity(height, grid)[:, None] + _parity(width, grid)[None]
    return jnp.where((member_HxW == index)[..., None], jnp.zeros((), image.dtype), image)


def _masks(image, index):
    """`_mask` with grids of 4 x 4, 8 x 8 and 16 x 16, for defects of several sizes, as RIAD has them."""
    by_grid = [functools.partial(_mask, grid=grid) for grid in _MASK_GRIDS]
    return jax.lax.switch(index // 4, by_grid, image, index % 4)


def _shuffle(image, index):
    """The 4 x 4 patches in one of four fixed orders; remaining rows and columns stay where they are.

    Erases where the parts belong and keeps each part, for parts that are missing, swapped or misplaced.
    After Noroozi and Favaro, "Unsupervised learning of visual representations by solving jigsaw puzzles",
    ECCV 2016.
    """
    height, width, channels = image.shape
    # A gather, because XLA's CPU backend (jaxlib 0.10.2) overwrites patches that are moved by slices and
    # `.at[].set` while it still reads them.
    sources_TxP = jnp.asarray(_shuffled_places(height, width))
    return image.reshape(height * width, channels)[sources_TxP[index]].reshape(image.shape)


def _shuffled_places(height: int, width: int) -> np.ndarray:
    """Returns T x (height * width): for each pixel of the result, the index of its pixel in the image."""
    rows, columns = min(_SHUFFLE_GRID, height), min(_SHUFFLE_GRID, width)
    high, wide = height // rows, width // columns
    numbers = np.arange(height * width, dtype=np.int32).reshape(height, width)
    inner = numbers[: rows * high, : columns * wide].reshape(rows, high, columns, wide)
    patches = inner.swapaxes(1, 2).reshape(rows * columns, high, wide)
    # RandomState is NumPy's only generator that promises the same numbers in every version.
    draw = np.random.RandomState(_SHUFFLE_SEED)
    members = []
    for _ in range(4):
        moved = patches[draw.permutation(rows * columns)].reshape(rows, columns, high, wide)
        member = numbers.copy()
        member[: rows * high, : columns * wide] = moved.swapaxes(1, 2).reshape(rows * high, columns * wide)
        members.append(member.ravel())
    return np.stack(members)


def _blur(image, index):
    """A Gaussian blur with a standard deviation of 1/16 of the shorter side; edges are repeated.

    Erases texture and fine structure and keeps coarse shape and colour, for scratches, cracks and wrong
    textures. This is the idea of the paper's scaling, at a strength in proportion to the image.
    """
    from scipy.ndimage import gaussian_filter1d

    del index
    wide = image.dtype if jnp.finfo(image.dtype).bits >= 32 else jnp.float32
    sigma = min(image.shape[:2]) * _BLUR_SHARE
    kernels = (gaussian_filter1d(np.eye(side), sigma, axis=0, mode="nearest") for side in image.shape[:2])
    across, along = (jnp.asarray(kernel, wide) for kernel in kernels)
    blurred = jnp.einsum("Hh,hwc->Hwc", across, image.astype(wide), precision="highest")
    blurred = jnp.einsum("Ww,hwc->hWc", along, blurred, precision="highest")
    return blurred.clip(-1, 1).astype(image.dtype)


def _drop_channel(image, index):
    """Red, green or blue becomes mid grey; grey images are refused.

    Erases one third of the colour and keeps the shapes in the other channels, for wrong colours on right
    shapes. After Zhang, Isola and Efros, "Split-brain autoencoders", CVPR 2017, which predict some channels
    from the others.
    """
    dropped = jnp.arange(3, dtype=jnp.int32) == index
    return jnp.where(dropped.reshape(1, 1, -1), jnp.zeros((), image.dtype), image)


def _flip(image, index):
    """Unchanged, mirrored left to right, upside down, or both.

    Erases orientation, and takes images of any shape, where `rotate` needs square ones. Flips are among the
    transforms of GeoTrans (Golan and El-Yaniv, "Deep anomaly detection using geometric transformations",
    NeurIPS 2018).
    """
    ways = [lambda x: x, lambda x: x[:, ::-1], lambda x: x[::-1], lambda x: x[::-1, ::-1]]
    return jax.lax.switch(index, ways, image)


MASK = Transform("mask", 4, _mask, erases="a quarter of the patches of an 8x8 grid, each quarter in turn")
MASKS = Transform("masks", 12, _masks, erases="a quarter of the patches of a 4x4, an 8x8 or a 16x16 grid")
SHUFFLE = Transform("shuffle", 4, _shuffle, erases="the order of 4x4 patches (four fixed orders)")
BLUR = Transform("blur", 1, _blur, erases="detail finer than an eighth of the shorter side")
DROP_CHANNEL = Transform(
    "drop_channel", 3, _drop_channel, colour_only=True, erases="red, green or blue; needs colour images"
)
FLIP = Transform("flip", 4, _flip, erases="left and right, up and down")
