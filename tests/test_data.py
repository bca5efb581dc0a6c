"""The one-class protocol, the registry, and the digits."""

import numpy as np
import pytest

from itae_jax import data
from itae_jax.config import DataConfig
from itae_jax.data import Dataset

IMAGES = np.arange(24, dtype=np.uint8).reshape(24, 1, 1, 1)
TOY = {
    "name": "toy",
    "source": "made here",
    "class_names": ("cat", "dog", "7"),
    "train_images": IMAGES,
    "train_labels": np.arange(24) % 3,
    "test_images": IMAGES[:12],
    "test_labels": np.arange(12) % 3,
    "test_ids": tuple(f"toy/{i}" for i in range(12)),
}


@pytest.fixture
def toy():
    return Dataset.labelled(**TOY)


@pytest.fixture(scope="module")
def digits():
    return data.load(DataConfig(name="digits"))


def test_split_trains_on_the_normal_class_and_tests_on_all(toy):
    split = toy.split(1)
    assert split.train_images.array.ravel().tolist() == list(range(1, 24, 3))
    assert split.test_images.array.ravel().tolist() == list(range(12))
    np.testing.assert_array_equal(split.is_anomaly, np.arange(12) % 3 != 1)
    assert split.test_ids == TOY["test_ids"]
    assert split.test_images is toy.split(0).test_images


def test_split_limits_draw_the_same_images_every_time_in_order(toy):
    first, second = (toy.split(0, limit_train=4, limit_test=6) for _ in range(2))
    assert first.test_ids == second.test_ids
    assert first.train_images.array.ravel().tolist() == second.train_images.array.ravel().tolist()
    assert len(first.train_images) == 4
    assert set(first.train_images.array.ravel()) <= set(range(0, 24, 3))
    numbers = [int(text.split("/")[1]) for text in first.test_ids]
    assert numbers == sorted(set(numbers)) == first.test_images.array.ravel().tolist()
    assert first.test_labels == tuple(toy.class_names[number % 3] for number in numbers)
    assert len(toy.split(0, limit_test=99).test_images) == 12


def test_split_limits_do_not_follow_a_rhythm_of_the_classes(digits):
    labels = digits.split(0, limit_test=60).test_labels
    assert max(labels.count(name) for name in digits.class_names) <= 12


def test_class_index_takes_names_first_and_then_indices(toy):
    assert [toy.class_index(name) for name in ("dog", "0", "7", "1")] == [1, 0, 2, 1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train_images": np.zeros((24, 1, 1, 1))}, "N x H x W x C uint8 images, got float64"),
        ({"test_images": np.zeros((12, 1, 1), np.uint8)}, "N x H x W x C uint8"),
        ({"train_labels": np.zeros(3, int)}, "24 images and labels of shape"),
        ({"test_ids": ("a",)}, "12 test images and 1 ids"),
    ],
)
def test_labelled_refuses_parts_that_do_not_fit_together(change, message):
    with pytest.raises((TypeError, ValueError), match=message):
        Dataset.labelled(**(TOY | change))


def test_digits_are_the_whole_set_without_overlap(digits):
    splits = [digits.split(digit) for digit in digits.trainable]
    assert digits.image_shape == (16, 16, 1)
    assert digits.coverage == "complete"
    assert sum(len(split.train_images) for split in splits) + len(splits[0].test_images) == 1797
    assert len(set(splits[0].test_ids)) == 599
    assert set(splits[0].test_labels) == set(digits.class_names) == set("0123456789")


def test_digits_fill_the_range_of_uint8_and_keep_their_picture(digits):
    from sklearn.datasets import load_digits

    train = digits.split(0).train_images.array
    assert (train.min(), train.max()) == (0, 255)
    halved = train[0, ..., 0].astype(float).reshape(8, 2, 8, 2).mean((1, 3))
    assert np.corrcoef(halved.ravel(), load_digits().images[0].ravel())[0, 1] > 0.97
    assert data.load(DataConfig(name="digits", image_size=24)).image_shape == (24, 24, 1)
