"""N images of one shape, in memory (`ArrayImages`) or read when they are needed (`LazyImages`).

Both classes provide `batches(batch_size, order)`, so callers need not know where the images are.
"""

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from itae_jax.config import DataConfig
from itae_jax.environment import cpu_cores
from itae_jax.errors import RequestError

Shape = tuple[int, int, int]  # height, width, channels
_ELEMENT = 8  # images
_BEYOND = 0.01  # of the range, as rounding and interpolation exceed it
Batch = tuple[np.ndarray, np.ndarray]  # positions B, images B x H x W x C


class UnreadableImageError(Exception):
    """An image that cannot be read: `name` says which, `reason` why."""

    def __init__(self, name: str, reason: str):
        super().__init__(f"{name}: {reason}")
        self.name, self.reason = name, reason


@dataclasses.dataclass(frozen=True)
class ArrayImages:
    """Images in memory, N x H x W x C uint8."""

    array: np.ndarray
    missing: frozenset[int] = frozenset()  # positions that could not be read, whose pixels mean nothing

    @property
    def image_shape(self) -> Shape:
        """(height, width, channels)."""
        return self.array.shape[1:]

    def __len__(self) -> int:
        return len(self.array)

    def select(self, positions: np.ndarray) -> "ArrayImages":
        """Returns the images at these positions."""
        missing = [new for new, old in enumerate(positions) if int(old) in self.missing] if self.missing else ()
        return ArrayImages(self.array[positions], frozenset(missing))

    def in_memory(self) -> "ArrayImages":
        """Returns itself."""
        return self

    def batches(self, batch_size: int, order: np.ndarray | None = None) -> Iterator[Batch]:
        """Yields (positions, images) of the readable images in this order; the last batch may be smaller."""
        order = np.arange(len(self)) if order is None else np.asarray(order)
        if self.missing:
            order = order[[int(position) not in self.missing for position in order]]
        for start in range(0, len(order), batch_size):
            positions = order[start : start + batch_size]
            yield positions, self.array[positions]


@dataclasses.dataclass(frozen=True)
class LazyImages:
    """Images that are read when they are needed.

    `read` makes H x W x C uint8 of a key or raises UnreadableImageError; several threads call it. `unreadable`
    has name -> reason of the images that could not be read, and is shared with every selection.
    """

    read: Callable[[Any], np.ndarray]
    keys: Sequence[Any]
    image_shape: Shape
    unreadable: dict[str, str] = dataclasses.field(default_factory=dict)
    on_corrupt: str = "skip"  # images that cannot be read, or "error"
    workers: int = 0  # threads that read; 0: one per core
    memory_bytes: float = 4 * 2**30  # `in_memory` reads images that together take at most this

    def __len__(self) -> int:
        return len(self.keys)

    def select(self, positions: np.ndarray) -> "LazyImages":
        """Returns the images at these positions."""
        return dataclasses.replace(self, keys=tuple(self.keys[int(position)] for position in positions))

    def in_memory(self) -> "ArrayImages | LazyImages":
        """Reads all images into memory, or returns itself if they take more than `memory_bytes`."""
        if len(self) * np.prod(self.image_shape, dtype=float) > self.memory_bytes:
            return self
        array = np.zeros((len(self), *self.image_shape), np.uint8)
        missing = set()
        with ThreadPoolExecutor(self.workers or cpu_cores()) as pool:
            for position, image in enumerate(pool.map(self._read_or_none, self.keys)):
                if image is None:
                    missing.add(position)
                else:
                    array[position] = image
        return ArrayImages(array, frozenset(missing))

    def batches(self, batch_size: int, order: np.ndarray | None = None) -> Iterator[Batch]:
        """Does what `ArrayImages.batches` does; Grain's threads read ahead if there is more than one batch."""

        def load(position):
            return position, self._read_or_none(self.keys[int(position)])

        order = np.arange(len(self)) if order is None else np.asarray(order)
        threads = self.workers or cpu_cores()
        if len(order) <= batch_size:  # starting Grain takes longer than reading
            with ThreadPoolExecutor(threads) as pool:
                yield from _batched(pool.map(load, order), batch_size)
            return
        try:
            import grain
        except ModuleNotFoundError:
            what = "the images do not fit into data.memory_gib, and reading in batches needs the package grain"
            raise RequestError(f"{what}; pip install grain, or raise data.memory_gib") from None

        # Grain takes as long for an element as decoding a small file takes, so each is several images.
        some = [order[start : start + _ELEMENT] for start in range(0, len(order), _ELEMENT)]
        elements = grain.MapDataset.source(some).map(lambda positions: [*map(load, positions)])
        ahead = max(threads, 2 * batch_size // _ELEMENT) + 1
        options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=ahead)
        yield from _batched(itertools.chain.from_iterable(elements.to_iter_dataset(options)), batch_size)

    def _read_or_none(self, key: Any) -> np.ndarray | None:
        try:
            image = self.read(key)
        except UnreadableImageError as error:
            if self.on_corrupt == "error":
                raise RequestError(f"{error}; mend or remove it, or set data.on_corrupt=skip") from None
            self.unreadable[error.name] = error.reason
            return None
        if image.shape != self.image_shape:
            size, others = ("x".join(map(str, shape[:2])) for shape in (image.shape, self.image_shape))
            remedy = "set data.image_size to bring all to one size"
            raise RequestError(f"{key}: is {size}, others are {others}; {remedy}")
        return image


def _batched(loaded: Iterable[tuple[int, np.ndarray | None]], batch_size: int) -> Iterator[Batch]:
    """Stacks what was loaded, without the images that could not be read."""
    readable = ((position, image) for position, image in loaded if image is not None)
    while batch := list(itertools.islice(readable, batch_size)):
        positions, images = zip(*batch, strict=True)
        yield np.stack(positions), np.stack(images)


Images = ArrayImages | LazyImages


def lazy(
    config: DataConfig, read: Callable, keys: Sequence, image_shape: Shape, unreadable: dict[str, str]
) -> LazyImages:
    """Returns `LazyImages` with the options of a config."""
    options = config.on_corrupt, config.workers, config.memory_gib * 2**30
    return LazyImages(read, keys, image_shape, unreadable, *options)


def as_images(images: np.ndarray | Images) -> Images:
    """Returns `ArrayImages` of an array, and other images as they are; TypeError unless uint8 N x H x W x C."""
    if not isinstance(images, np.ndarray):
        return images
    if images.dtype != np.uint8 or images.ndim != 4:
        got = f"{images.dtype} of shape {images.shape}"
        raise TypeError(f"expected N x H x W x C uint8 images, got {got}{to_uint8(images)}")
    return ArrayImages(images)


def to_uint8(array: np.ndarray) -> str:
    """How to convert an array x of another type, by its values, as `; convert it by ...`; empty if unknown."""
    if array.dtype == np.uint8 or array.dtype.kind not in "biuf" or not array.size:
        return ""
    low, high, is_whole = float(array.min()), float(array.max()), array.dtype.kind in "iu"
    if array.dtype.kind == "b" or (is_whole and low >= 0 and high <= 1):
        how = "255 * x.astype('uint8')"
    elif is_whole and low >= 0 and high <= 255:
        how = "x.astype('uint8')"
    elif low >= -_BEYOND and high <= 1 + _BEYOND:
        how = "(255 * x.clip(0, 1)).round().astype('uint8')"
    elif low >= -1 - _BEYOND and high <= 1 + _BEYOND:
        how = "(127.5 * (x.clip(-1, 1) + 1)).round().astype('uint8')"
    elif low >= -255 * _BEYOND and high <= 255 * (1 + _BEYOND):
        how = "x.clip(0, 255).round().astype('uint8')"
    elif low >= 0 and high <= 65535:
        bits = next(bits for bits in (10, 12, 14, 16) if high < 2**bits)
        return (
            f"; if it holds {bits} bits, convert it by (x / {(2**bits - 1) / 255:.8g}).round().astype('uint8')"
        )
    else:
        return "; scale it to whole numbers from 0 to 255"
    return f"; convert it by {how}"


def check_shape(images: Images, image_shape: Shape) -> None:
    """Raises RequestError if the images have another shape."""
    if tuple(images.image_shape) != tuple(image_shape):
        there, expected = ("x".join(map(str, shape)) for shape in (images.image_shape, image_shape))
        raise RequestError(f"images of {there}: expected {expected}, height x width x channels; convert them")
