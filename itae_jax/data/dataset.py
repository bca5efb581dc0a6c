"""The one-class protocol: train on images of a normal class alone, test on normal and anomalous images."""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np

from itae_jax.config import DataConfig
from itae_jax.data.images import Images, Shape, as_images
from itae_jax.errors import RequestError

Coverage = Literal["complete", "partial", "other", "own"]


@dataclasses.dataclass(frozen=True)
class OneClassSplit:
    """Normal images to train on, and images to test on.

    Attributes:
      test_labels: what each test image shows: a class, or a defect.
      test_ids: names of the test images, the same in every run.
      normal_label: the label of the normal images; all others are anomalous.
      test_masks: for each test image the file that marks its defect, or None; empty if the data set has
        no masks.
      video_ids: for each test image the video that it is a frame of; empty for still images.
      read_mask: file -> H x W bool in the geometry of the images, or None if it cannot be read.
      without_bars: (map of a test image, its file) -> the map with NaN in the black bars around the image.
    """

    train_images: Images
    test_images: Images
    test_labels: tuple[str, ...]
    test_ids: tuple[str, ...]
    normal_label: str
    test_masks: tuple[Path | None, ...] = ()
    video_ids: tuple[str, ...] = ()
    read_mask: Callable[[Path], np.ndarray | None] | None = None
    without_bars: Callable[[np.ndarray, Path], np.ndarray] | None = None

    @property
    def is_anomaly(self) -> np.ndarray:
        """N booleans."""
        return np.asarray([label != self.normal_label for label in self.test_labels], bool)

    def masks(self, positions: np.ndarray) -> list[np.ndarray | None]:
        """Returns where the defect of these test images is: H x W bool, all False for a normal image.

        None for a defect without a mask or with an empty one: nobody marked it, or it was cut off.
        """
        if not self.test_masks or self.read_mask is None:
            return [None] * len(positions)
        is_anomaly, masks = self.is_anomaly, []
        for position in positions:
            path = self.test_masks[position]
            if is_anomaly[position]:
                mask = None if path is None else self.read_mask(path)
                masks.append(mask if mask is not None and mask.any() else None)
            else:
                masks.append(np.zeros(self.test_images.image_shape[:2], bool))
        return masks

    def limited(self, limit_train: int, limit_test: int) -> "OneClassSplit":
        """Returns a split with at most so many images of each, as `sample` draws them; 0: all."""
        kept = sample(len(self.test_images), limit_test)
        of_test_images: dict[str, Any] = {
            name: tuple(values[i] for i in kept)
            for name in ("test_labels", "test_ids", "test_masks", "video_ids")
            if (values := getattr(self, name))
        }
        train_images = self.train_images.select(sample(len(self.train_images), limit_train))
        test_images = self.test_images.select(kept)
        return dataclasses.replace(self, train_images=train_images, test_images=test_images, **of_test_images)


def sample(count: int, limit: int) -> np.ndarray:
    """Draws `limit` of `count` positions, the same ones every time; all if the limit is 0 or not smaller.

    Every n-th position would not do, because classes may follow each other in a rhythm.
    """
    if limit == 0 or limit >= count:
        return np.arange(count)
    return np.sort(np.random.default_rng(0).permutation(count)[:limit])


@dataclasses.dataclass(frozen=True)
class Dataset:
    """Images of several classes, each of which in turn is the normal one.

    Attributes:
      name: as in `data.name`, or the name of the user's own folder.
      source: the dataset source: which copy of the data this is, for the record of a result.
      trainable: indices of the classes that have training images.
      make_split: (normal class, limit_train, limit_test) -> its split.
      coverage: what a class is trained and tested on: "complete", all that was published of it; "partial",
        some of the folders; "other", classes other than the published ones; "own", the user's own images.
      unreadable: name -> reason of the files left out so far, masks among them.
    """

    name: str
    source: str
    class_names: tuple[str, ...]
    trainable: tuple[int, ...]
    image_shape: Shape
    make_split: Callable[[int, int, int], OneClassSplit]
    coverage: Coverage = "complete"
    unreadable: dict[str, str] = dataclasses.field(default_factory=dict)

    @classmethod
    def labelled(
        cls,
        *,
        name: str,
        source: str,
        class_names: tuple[str, ...],
        train_images: np.ndarray | Images,
        train_labels: np.ndarray,
        test_images: np.ndarray | Images,
        test_labels: np.ndarray,
        test_ids: tuple[str, ...],
        **about: Any,
    ) -> "Dataset":
        """Makes a data set whose classes share one test set; all but the normal one are anomalous there.

        Images are N x H x W x C uint8 or `Images`, labels N indices into `class_names`; `about` is further
        attributes.
        """
        train, test = as_images(train_images), as_images(test_images)
        for part, images, labels in (("train", train, train_labels), ("test", test, test_labels)):
            if labels.shape != (len(images),):
                raise ValueError(f"{part}: {len(images)} images and labels of shape {labels.shape}")
        if len(test_ids) != len(test):
            raise ValueError(f"{len(test)} test images and {len(test_ids)} ids")
        label_names = tuple(class_names[label] for label in test_labels)

        @functools.cache
        def test_in_memory(limit: int) -> Images:  # all classes share one copy
            return test.select(sample(len(test), limit)).in_memory()

        def make_split(normal_class: int, limit_train: int, limit_test: int) -> OneClassSplit:
            normal = train.select(np.flatnonzero(train_labels == normal_class))
            whole = OneClassSplit(normal, test, label_names, test_ids, class_names[normal_class])
            limited = whole.limited(limit_train, limit_test)
            return dataclasses.replace(limited, test_images=test_in_memory(limit_test))

        trainable = tuple(np.unique(train_labels).tolist())
        return cls(name, source, class_names, trainable, train.image_shape, make_split, **about)

    def class_index(self, index_or_name: str) -> int:
        """Returns the index of a class given by name or index; it has images to train on."""
        names = self.class_names
        if index_or_name in names:
            index = names.index(index_or_name)
        elif index_or_name.isdecimal() and int(index_or_name) < len(names):
            index = int(index_or_name)
        else:
            raise RequestError(
                f"--classes: {self.name} has no class {index_or_name!r}; "
                f"choose from 0 to {len(names) - 1} or {', '.join(names)}"
            )
        if index not in self.trainable:
            raise RequestError(f"--classes: there is no training image of {names[index]!r}")
        return index

    def split(self, normal_class: int, limit_train: int = 0, limit_test: int = 0) -> OneClassSplit:
        """Returns the split of a normal class, with at most so many images; 0: all."""
        return self.make_split(normal_class, limit_train, limit_test)


@dataclasses.dataclass(frozen=True)
class Spec:
    """A data set that `data.name` can name.

    Attributes:
      about, size, licence, get: what it is, and how to get it, for `itae data list`.
      there: root -> what can be read from there now, in a few words; empty for nothing.
      preparable: whether `itae data prepare` takes it.
    """

    name: str
    about: str
    size: str
    licence: str
    get: str
    load: Callable[[DataConfig], Dataset]
    there: Callable[[str], str]
    preparable: bool = False
