"""The one-class protocol: train on normal images alone, test on normal and anomalous ones."""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path

import numpy as np

from itae_jax.data.images import Images, as_images
from itae_jax.errors import RequestError


@dataclasses.dataclass(frozen=True)
class OneClassSplit:
    """Normal images to train on, and images to test on.

    Attributes:
      test_labels: what each test image shows: a class, a defect.
      test_ids: texts that name the test images, the same in every run.
      normal_label: the label of the normal ones; all others are anomalous.
      test_masks: for each test image the file that marks its defect, or None; empty where the data
        set has no masks.
      video_ids: for each test image the video that it is a frame of; empty for still images.
      read_mask: H x W bool from such a file, in the geometry of the images; None if it cannot be read.
    """

    train_images: Images
    test_images: Images
    test_labels: tuple[str, ...]
    test_ids: tuple[str, ...]
    normal_label: str
    test_masks: tuple[Path | None, ...] = ()
    video_ids: tuple[str, ...] = ()
    read_mask: Callable[[Path], np.ndarray | None] | None = None

    @property
    def is_anomaly(self) -> np.ndarray:
        """N booleans."""
        return np.asarray([label != self.normal_label for label in self.test_labels], bool)

    def masks(self, positions: np.ndarray) -> list[np.ndarray | None]:
        """Where the defect is in these test images: H x W bool, nowhere in a normal one.

        None for a defect that has no mask, or one that is empty: an image with a defect that nobody
        marked, or one too small for the size the images are read at, says nothing of its pixels.
        """
        if not self.test_masks:
            return [None] * len(positions)
        is_anomaly = self.is_anomaly
        nowhere = np.zeros(self.test_images.image_shape[:2], bool)
        return [self._mask(int(i)) if is_anomaly[i] else nowhere for i in positions]

    def _mask(self, position: int) -> np.ndarray | None:
        path = self.test_masks[position]
        mask = None if path is None else self.read_mask(path)
        return None if mask is None or not mask.any() else mask

    def limited(self, limit_train: int, limit_test: int) -> "OneClassSplit":
        """At most so many images of each, as `sample` draws them; 0: all."""
        kept = sample(len(self.test_images), limit_test)

        def of(values):
            return tuple(values[i] for i in kept) if values else ()

        return dataclasses.replace(
            self,
            train_images=self.train_images.select(sample(len(self.train_images), limit_train)),
            test_images=self.test_images.select(kept),
            test_labels=of(self.test_labels),
            test_ids=of(self.test_ids),
            test_masks=of(self.test_masks),
            video_ids=of(self.video_ids),
        )


def sample(count: int, limit: int) -> np.ndarray:
    """`limit` of `count` positions, drawn once and for all; all if the limit is 0 or not below the count.

    Drawn rather than every so-manyth, because classes may follow each other in a rhythm.
    """
    if limit == 0 or limit >= count:
        return np.arange(count)
    return np.sort(np.random.default_rng(0).permutation(count)[:limit])


def _class_index(name: str, class_names: tuple[str, ...], index_or_name: str) -> int:
    if index_or_name in class_names:
        return class_names.index(index_or_name)
    if index_or_name.isdecimal() and int(index_or_name) < len(class_names):
        return int(index_or_name)
    raise RequestError(
        f"--classes: {name} has no class {index_or_name!r}; "
        f"choose from 0 to {len(class_names) - 1} or {', '.join(class_names)}"
    )


@dataclasses.dataclass(frozen=True)
class Dataset:
    """Labelled images: each class in turn is the normal one, and the whole test set is scored.

    Attributes:
      name: as in `data.name`.
      source: which copy of the data this is, for the record of a result.
      train_images, test_images: N x H x W x C uint8, or `LazyImages`.
      train_labels, test_labels: N integers, indices into class_names.
      test_ids: N texts that name the test images, the same in every run.
      unreadable: reasons by name of the images that could not be read so far.
    """

    name: str
    source: str
    class_names: tuple[str, ...]
    train_images: np.ndarray | Images
    train_labels: np.ndarray
    test_images: np.ndarray | Images
    test_labels: np.ndarray
    test_ids: tuple[str, ...]
    unreadable: dict[str, str] = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        for part in ("train", "test"):
            images, labels = as_images(getattr(self, f"{part}_images")), getattr(self, f"{part}_labels")
            object.__setattr__(self, f"{part}_images", images)
            if labels.shape != (len(images),):
                raise ValueError(f"{part}: {len(images)} images and labels of shape {labels.shape}")
        if len(self.test_ids) != len(self.test_images):
            raise ValueError(f"{len(self.test_images)} test images and {len(self.test_ids)} ids")

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(height, width, channels)."""
        return self.train_images.image_shape

    @property
    def trainable(self) -> list[int]:
        """The classes that there are training images of."""
        return np.unique(self.train_labels).tolist()

    def class_index(self, index_or_name: str) -> int:
        """The index of a class given by index or name.

        Raises:
          RequestError: no such class, or no images to train on.
        """
        index = _class_index(self.name, self.class_names, index_or_name)
        if index not in self.trainable:
            raise RequestError(f"--classes: there is no training image of {self.class_names[index]!r}")
        return index

    @functools.cached_property
    def _test_in_memory(self) -> dict[int, Images]:
        return {}

    def split(self, normal_class: int, limit_train: int = 0, limit_test: int = 0) -> OneClassSplit:
        """The normal class's training images, and the test set with all other classes anomalous.

        Of a test set that fits into memory all classes get the same copy.
        """
        kept = sample(len(self.test_images), limit_test)
        if limit_test not in self._test_in_memory:
            self._test_in_memory[limit_test] = self.test_images.select(kept).in_memory()
        train = np.flatnonzero(self.train_labels == normal_class)
        return OneClassSplit(
            train_images=self.train_images.select(train[sample(len(train), limit_train)]),
            test_images=self._test_in_memory[limit_test],
            test_labels=tuple(self.class_names[label] for label in self.test_labels[kept]),
            test_ids=tuple(self.test_ids[i] for i in kept),
            normal_label=self.class_names[normal_class],
        )


@dataclasses.dataclass(frozen=True)
class InspectionDataset:
    """Categories with normal images of their own and test images of their own.

    Attributes:
      splits: what gives the split of a category, by its name.
      image_shape: (height, width, channels) of all of them.
      name, source, unreadable: as of `Dataset`.
    """

    name: str
    source: str
    splits: dict[str, Callable[[], OneClassSplit]]
    image_shape: tuple[int, int, int]
    unreadable: dict[str, str] = dataclasses.field(default_factory=dict)

    @property
    def class_names(self) -> tuple[str, ...]:
        """The categories."""
        return tuple(self.splits)

    @property
    def trainable(self) -> list[int]:
        """All of them."""
        return list(range(len(self.splits)))

    def class_index(self, index_or_name: str) -> int:
        """The index of a category given by index or name.

        Raises:
          RequestError: no such category.
        """
        return _class_index(self.name, self.class_names, index_or_name)

    def split(self, normal_class: int, limit_train: int = 0, limit_test: int = 0) -> OneClassSplit:
        """The training and test images of a category."""
        return self.splits[self.class_names[normal_class]]().limited(limit_train, limit_test)
