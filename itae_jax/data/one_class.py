"""The one-class protocol: train on the normal class alone, test on everything."""

import dataclasses

import numpy as np

from itae_jax.errors import RequestError


@dataclasses.dataclass(frozen=True)
class Dataset:
    """Labelled images in memory.

    Attributes:
      name: as in `data.name`.
      source: which copy of the data this is, for the record of a result.
      train_images, test_images: N x H x W x C uint8.
      train_labels, test_labels: N integers, indices into class_names.
      test_ids: N texts that name the test images, the same in every run.
    """

    name: str
    source: str
    class_names: tuple[str, ...]
    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    test_ids: tuple[str, ...]

    def __post_init__(self):
        for part in ("train", "test"):
            images, labels = getattr(self, f"{part}_images"), getattr(self, f"{part}_labels")
            if images.dtype != np.uint8 or images.ndim != 4:
                raise ValueError(
                    f"{part} images: expected N x H x W x C uint8, got {images.dtype} {images.shape}"
                )
            if labels.shape != images.shape[:1]:
                raise ValueError(f"{part}: {len(images)} images and labels of shape {labels.shape}")
        if len(self.test_ids) != len(self.test_images):
            raise ValueError(f"{len(self.test_images)} test images and {len(self.test_ids)} ids")

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(height, width, channels)."""
        return self.train_images.shape[1:]

    def class_index(self, index_or_name: str) -> int:
        """The index of a class given by index or name.

        Raises:
          RequestError: no such class.
        """
        if index_or_name in self.class_names:
            return self.class_names.index(index_or_name)
        if index_or_name.isdecimal() and int(index_or_name) < len(self.class_names):
            return int(index_or_name)
        raise RequestError(
            f"--classes: {self.name} has no class {index_or_name!r}; "
            f"choose from 0 to {len(self.class_names) - 1} or {', '.join(self.class_names)}"
        )


@dataclasses.dataclass(frozen=True)
class OneClassSplit:
    """Normal images to train on, and test images of all classes."""

    train_images: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    test_ids: tuple[str, ...]
    is_anomaly: np.ndarray


def one_class_split(
    dataset: Dataset, normal_class: int, limit_train: int = 0, limit_test: int = 0
) -> OneClassSplit:
    """The normal class's training images, and the whole test set with all other classes anomalous.

    A limit above 0 keeps that many images, spread evenly over the order that they have.
    """
    train_images = dataset.train_images[dataset.train_labels == normal_class]
    kept = _spread(len(dataset.test_images), limit_test)
    labels = dataset.test_labels[kept]
    return OneClassSplit(
        train_images=train_images[_spread(len(train_images), limit_train)],
        test_images=dataset.test_images[kept],
        test_labels=labels,
        test_ids=tuple(dataset.test_ids[i] for i in kept),
        is_anomaly=labels != normal_class,
    )


def _spread(count: int, limit: int) -> np.ndarray:
    if limit == 0 or limit >= count:
        return np.arange(count)
    return np.arange(limit) * count // limit
