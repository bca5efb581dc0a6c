"""Augmentations: pure functions of a key and an image."""

import jax
import numpy as np
import pytest

from itae_jax.errors import RequestError
from itae_jax.training import augment


def many(name, image, count=200):
    keys = jax.random.split(jax.random.key(0), count)
    return np.asarray(jax.vmap(lambda key: augment.get(name)(key, image))(keys))


@pytest.fixture
def image(rng):
    return rng.uniform(-1, 1, (6, 8, 3)).astype(np.float32)


def test_flip_mirrors_about_half_of_the_images(image):
    flipped = many("flip", image)
    mirrored = [np.array_equal(x, image[:, ::-1]) for x in flipped]
    kept = [np.array_equal(x, image) for x in flipped]
    assert all(a != b for a, b in zip(mirrored, kept, strict=True))
    assert 70 < sum(mirrored) < 130


def crops(image):
    padded = np.pad(image, ((4, 4), (4, 4), (0, 0)), mode="reflect")
    height, width, _ = image.shape
    return {padded[y : y + height, x : x + width].tobytes() for y in range(9) for x in range(9)}


def test_shift_makes_every_crop_of_the_reflected_image_and_no_other(image):
    assert {x.tobytes() for x in many("shift", image, 2000)} == crops(image)


def test_get_joins_augmentations_that_draw_independently(image):
    seen = {x.tobytes() for x in many("flip+shift", image, 2000)}
    assert seen == crops(image) | crops(image[:, ::-1])
    np.testing.assert_array_equal(many("none", image, 1)[0], image)


@pytest.mark.parametrize("name", ["turn", "flip+turn", ""])
def test_get_refuses_an_unknown_name_with_the_choices(name):
    with pytest.raises(RequestError, match=r"train\.augment=.* none, or from flip, shift"):
        augment.get(name)
