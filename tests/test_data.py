"""The one-class protocol and the digits."""

import numpy as np
import pytest

from itae_jax import data
from itae_jax.config import DataConfig
from itae_jax.data import Dataset
from itae_jax.errors import RequestError


@pytest.fixture
def toy():
    images = np.arange(24, dtype=np.uint8).reshape(24, 1, 1, 1)
    return Dataset(
        name="toy",
        source="made here",
        class_names=("cat", "dog", "7"),
        train_images=images,
        train_labels=np.arange(24) % 3,
        test_images=images[:12],
        test_labels=np.arange(12) % 3,
        test_ids=tuple(f"toy/{i}" for i in range(12)),
    )


@pytest.fixture(scope="module")
def digits():
    return data.load(DataConfig(name="digits"))


def test_training_images_are_the_normal_class_alone_and_the_test_set_is_whole(toy):
    split = toy.split(1)
    assert split.train_images.array.ravel().tolist() == list(range(1, 24, 3))
    assert len(split.test_images) == 12
    np.testing.assert_array_equal(split.is_anomaly, np.arange(12) % 3 != 1)
    assert split.test_ids == toy.test_ids


def test_limits_draw_the_same_ones_every_time_and_keep_the_order(toy):
    first, second = (toy.split(0, limit_train=4, limit_test=6) for _ in range(2))
    assert first.test_ids == second.test_ids
    assert first.train_images.array.ravel().tolist() == second.train_images.array.ravel().tolist()
    assert len(first.train_images) == 4
    assert set(first.train_images.array.ravel()) <= set(range(0, 24, 3))
    numbers = [int(text.split("/")[1]) for text in first.test_ids]
    assert numbers == sorted(set(numbers))
    assert first.test_images.array.ravel().tolist() == numbers
    assert first.test_labels == tuple(toy.class_names[number % 3] for number in numbers)
    assert len(toy.split(0, limit_test=99).test_images) == 12


def test_limits_do_not_follow_a_rhythm_of_the_classes(digits):
    labels = digits.split(0, limit_test=60).test_labels
    assert max(labels.count(name) for name in digits.class_names) <= 12


def test_classes_go_by_name_first_and_by_index(toy):
    assert [toy.class_index(name) for name in ("dog", "0", "7", "1")] == [1, 0, 2, 1]


@pytest.mark.parametrize("name", ["cow", "3", "-1", ""])
def test_an_unknown_class_is_refused_with_the_choices(toy, name):
    with pytest.raises(RequestError, match=r"toy has no class .* 0 to 2 or cat, dog, 7"):
        toy.class_index(name)


def test_an_unknown_data_set_is_refused_with_the_choices():
    with pytest.raises(RequestError, match=r"data\.name='mist': choose from digits"):
        data.load(DataConfig(name="mist"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train_images": np.zeros((24, 1, 1, 1))}, "expected N x H x W x C uint8 images, got float64"),
        ({"test_images": np.zeros((12, 1, 1), np.uint8)}, "expected N x H x W x C uint8"),
        ({"train_labels": np.zeros(3, int)}, "24 images and labels of shape"),
        ({"test_ids": ("a",)}, "12 test images and 1 ids"),
    ],
)
def test_a_data_set_that_does_not_fit_together_is_refused(toy, change, message):
    with pytest.raises((TypeError, ValueError), match=message):
        Dataset(**(vars(toy) | change))


def test_digits_are_the_whole_set_without_overlap(digits):
    assert digits.image_shape == (16, 16, 1)
    assert len(digits.train_images) + len(digits.test_images) == 1797
    assert len(set(digits.test_ids)) == 599
    assert set(digits.train_labels) == set(digits.test_labels) == set(range(10))


def test_digits_fill_the_range_of_uint8_and_keep_their_picture(digits):
    from sklearn.datasets import load_digits

    train = digits.train_images.array
    assert train.min() == 0
    assert train.max() == 255
    halved = train[0, ..., 0].astype(float).reshape(8, 2, 8, 2).mean((1, 3))
    assert np.corrcoef(halved.ravel(), load_digits().images[0].ravel())[0, 1] > 0.97


def test_digits_take_the_size_asked_for():
    assert data.load(DataConfig(name="digits", image_size=24)).image_shape == (24, 24, 1)
