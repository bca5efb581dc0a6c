"""N images of one shape, in memory or read when they are needed.

Training and scoring ask for `batches` in an order of theirs and never care which of the two it is.
"""

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from itae_jax.errors import RequestError

Batch = tuple[np.ndarray, np.ndarray]  # positions B, images B x H x W x C


class UnreadableImageError(Exception):
    """An image that cannot be read: `name` says which, `reason` why."""

    def __init__(self, name: str, reason: str):
        super().__init__(f"{name}: {reason}")
        self.name, self.reason = name, reason


@dataclasses.dataclass(frozen=True)
class ArrayImages:
    """Images in memory.

    Attributes:
      array: N x H x W x C uint8.
      missing: the positions that could not be read, whose pixels mean nothing.
    """

    array: np.ndarray
    missing: frozenset[int] = frozenset()

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(height, width, channels)."""
        return self.array.shape[1:]

    def __len__(self) -> int:
        return len(self.array)

    def select(self, positions: np.ndarray) -> "ArrayImages":
        """The images at these positions."""
        positions = np.asarray(positions)
        missing = (new for new, old in enumerate(positions) if int(old) in self.missing)
        return ArrayImages(self.array[positions], frozenset(missing) if self.missing else frozenset())

    def in_memory(self) -> "ArrayImages":
        """Itself."""
        return self

    def batches(self, batch_size: int, order: np.ndarray | None = None) -> Iterator[Batch]:
        """(positions, images) of the readable ones in this order, `batch_size` at a time but the last."""
        order = np.arange(len(self)) if order is None else np.asarray(order)
        if self.missing:
            order = order[[int(position) not in self.missing for position in order]]
        for start in range(0, len(order), batch_size):
            positions = order[start : start + batch_size]
            yield positions, self.array[positions]


@dataclasses.dataclass(frozen=True)
class LazyImages:
    """Images that are read when they are asked for.

    Attributes:
      read: key -> H x W x C uint8; raises UnreadableImageError. Called from several threads.
      keys: what `read` takes, one for each image.
      image_shape: (height, width, channels).
      unreadable: where reasons go by the image's name; shared by all that is selected from this.
      on_corrupt: "skip" what cannot be read, or "error".
      workers: threads that read; 0: one a core.
      memory_bytes: up to this size `in_memory` reads everything at once.
    """

    read: Callable[[object], np.ndarray]
    keys: tuple
    image_shape: tuple[int, int, int]
    unreadable: dict[str, str] = dataclasses.field(default_factory=dict)
    on_corrupt: str = "skip"
    workers: int = 0
    memory_bytes: float = 4 * 2**30

    def __len__(self) -> int:
        return len(self.keys)

    def select(self, positions: np.ndarray) -> "LazyImages":
        """The images at these positions."""
        return dataclasses.replace(self, keys=tuple(self.keys[int(position)] for position in positions))

    def in_memory(self) -> "ArrayImages | LazyImages":
        """All images read into memory, or itself if they are too many for `memory_bytes`."""
        if len(self) * np.prod(self.image_shape, dtype=float) > self.memory_bytes:
            return self
        from concurrent.futures import ThreadPoolExecutor

        array = np.zeros((len(self), *self.image_shape), np.uint8)
        missing = set()
        with ThreadPoolExecutor(_threads(self.workers)) as pool:
            for position, image in enumerate(pool.map(self._read_or_none, self.keys)):
                if image is None:
                    missing.add(position)
                else:
                    array[position] = image
        return ArrayImages(array, frozenset(missing))

    def batches(self, batch_size: int, order: np.ndarray | None = None) -> Iterator[Batch]:
        """As `ArrayImages.batches`: Grain's threads read ahead, and the order stays as given."""
        try:
            import grain
        except ModuleNotFoundError:
            raise RequestError(
                "these images do not fit into data.memory_gib and reading them as they are needed takes the "
                "package grain; pip install grain, or raise data.memory_gib"
            ) from None

        def load(position):
            image = self._read_or_none(self.keys[int(position)])
            return None if image is None else (position, image)  # Grain leaves out None

        threads = _threads(self.workers)
        order = np.arange(len(self)) if order is None else np.asarray(order)
        options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=2 * batch_size)
        loaded = grain.MapDataset.source(order).map(load).to_iter_dataset(options)
        yield from loaded.batch(batch_size, drop_remainder=False)

    def _read_or_none(self, key) -> np.ndarray | None:
        try:
            image = self.read(key)
        except UnreadableImageError as error:
            if self.on_corrupt == "error":
                raise RequestError(
                    f"{error.name}: {error.reason}; mend or remove it, or set data.on_corrupt=skip"
                ) from None
            self.unreadable[error.name] = error.reason
            return None
        if image.shape != self.image_shape:
            raise RequestError(
                f"{key}: is {image.shape[0]}x{image.shape[1]}, others are {self.image_shape[0]}x"
                f"{self.image_shape[1]}; set data.image_size to bring all to one size"
            )
        return image


Images = ArrayImages | LazyImages


def as_images(images: np.ndarray | Images) -> Images:
    """The images as something that has `batches`.

    Raises:
      TypeError: an array that is not N x H x W x C uint8.
    """
    if not isinstance(images, np.ndarray):
        return images
    if images.dtype != np.uint8 or images.ndim != 4:
        raise TypeError(
            f"expected N x H x W x C uint8 images, got {images.dtype} of shape {images.shape}; "
            "convert floats in [0, 1] by (255 * x).round().astype('uint8')"
        )
    return ArrayImages(images)


def check_shape(images: Images, image_shape: tuple[int, int, int]) -> None:
    """Raises RequestError unless the images are of this shape, (height, width, channels)."""
    if tuple(images.image_shape) != tuple(image_shape):
        there, expected = ("x".join(map(str, shape)) for shape in (images.image_shape, image_shape))
        raise RequestError(f"images of {there}: expected {expected}, height x width x channels; convert them")


def _threads(workers: int) -> int:
    from itae_jax.environment import cpu_cores

    return workers or cpu_cores()


def files(paths: list[Path], reader, image_shape, **options) -> LazyImages:
    """Image files, read by a `decode.Reader`."""
    return LazyImages(reader.read, tuple(paths), image_shape, **options)
