"""Laws of every erasing transform, and what each of the paper's does."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from itae_jax import transforms
from itae_jax.errors import RequestError
from itae_jax.transforms import Transform

NAMES = [*transforms.names(), "gray+rotate", "rotate+scale", "gray+rotate+scale"]
COLOURS = [1, 3]


@pytest.fixture(params=NAMES)
def transform(request):
    return transforms.get(request.param)


@pytest.fixture(params=COLOURS)
def images(request, rng):
    return jnp.asarray(rng.uniform(-1, 1, (3, 10, 10, request.param)), jnp.float32)


def test_jit_agrees_with_eager(transform, images):
    for index in range(transform.count):
        with jax.disable_jit():
            eager = transform.apply(images[0], index)
        np.testing.assert_allclose(transform.apply(images[0], index), eager, atol=1e-6)


def test_vmap_agrees_with_a_loop(transform, images):
    looped = [[transform.apply(image, index) for image in images] for index in range(transform.count)]
    np.testing.assert_allclose(transform.apply_all(images), np.asarray(looped), atol=1e-6)


def test_each_image_gets_its_own_member(transform, images):
    index = jnp.asarray([transform.count - 1, 0, transform.count // 2])
    every = transform.apply_all(images)
    expected = np.stack([every[i, b] for b, i in enumerate(index)])
    np.testing.assert_allclose(transform.apply_each(images, index), expected, atol=1e-6)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_size_dtype_and_range_are_kept(transform, images, dtype):
    for image in (images[0], jnp.ones_like(images[0]), -jnp.ones_like(images[0])):
        for index in range(transform.count):
            erased = transform.apply(image.astype(dtype), index)
            assert erased.dtype == dtype
            assert erased.shape == (*image.shape[:2], transform.out_channels(image.shape[2]))
            assert jnp.abs(erased.astype(jnp.float32)).max() <= 1 + 1e-6


def test_members_are_distinct(transform, images):
    erased = np.asarray(transform.apply_all(images)).reshape(transform.count, -1)
    assert len(np.unique(erased.round(5), axis=0)) == transform.count


def test_works_inside_jit_and_grad(transform, images):
    gradient = jax.jit(jax.grad(lambda x: transform.apply_all(x).sum()))(images)
    assert gradient.shape == images.shape
    assert jnp.isfinite(gradient).all()


def test_integer_images_are_refused_with_the_conversion(transform):
    with pytest.raises(TypeError, match=r"uint8 by x / 127\.5 - 1"):
        transform.apply(jnp.zeros((10, 10, 3), jnp.uint8), 0)


def test_identity_changes_nothing(images):
    np.testing.assert_array_equal(transforms.get("identity").apply_all(images)[0], images)


def test_gray_is_the_plain_mean_over_channels(images):
    gray = transforms.get("gray").apply_all(images)[0]
    np.testing.assert_allclose(gray, np.asarray(images).mean(-1, keepdims=True), atol=1e-6)


def test_rotate_turns_anticlockwise(images):
    for index in range(4):
        turned = transforms.get("rotate").apply(images[0], index)
        np.testing.assert_array_equal(turned, np.rot90(images[0], index))


def test_scale_halves_and_enlarges_as_pytorch_does(images):
    functional = pytest.importorskip("torch", reason="PyTorch is the reference").nn.functional
    import torch

    channels_first = torch.tensor(np.asarray(images)).permute(0, 3, 1, 2)
    half = functional.avg_pool2d(channels_first, 2)
    expected = functional.interpolate(half, scale_factor=2, mode="bilinear", align_corners=False)
    scaled = transforms.get("scale").apply_all(images)[0]
    np.testing.assert_allclose(scaled, expected.permute(0, 2, 3, 1), atol=1e-6)


def test_scale_takes_odd_sizes(rng):
    image = jnp.asarray(rng.uniform(-1, 1, (7, 9, 3)), jnp.float32)
    assert transforms.get("scale").apply(image, 0).shape == (7, 9, 3)


def test_composition_applies_first_to_last(images):
    gray, rotate, both = (transforms.get(name) for name in ("gray", "rotate", "gray+rotate"))
    assert both.count == 4
    assert both.out_channels(3) == 1
    for index in range(4):
        expected = rotate.apply(gray.apply(images[0], 0), index)
        np.testing.assert_array_equal(both.apply(images[0], index), expected)


def test_composition_has_every_pair_of_members():
    double = Transform("double", 2, lambda image, index: jnp.where(index == 0, image, 0.5 * image))
    pair = transforms._compose(double, transforms.get("rotate"))
    image = jnp.arange(4.0).reshape(2, 2, 1) / 4
    members = pair.apply_all(image[None])[:, 0]
    expected = [np.rot90(image * factor, turns) for factor in (1, 0.5) for turns in range(4)]
    np.testing.assert_allclose(members, expected)


@pytest.mark.parametrize("name", ["rotate", "gray+rotate"])
def test_rotation_of_an_image_that_is_not_square_is_refused(name):
    with pytest.raises(RequestError, match=r"square.*20x30.*data\.image_size"):
        transforms.get(name).apply_all(jnp.zeros((1, 20, 30, 3)))


@pytest.mark.parametrize("name", ["nonsense", "gray+nonsense", "", "gray+", "+gray"])
def test_an_unknown_name_is_refused_with_the_choices(name):
    with pytest.raises(RequestError, match="choose from identity, gray, rotate, scale"):
        transforms.get(name)


@pytest.mark.parametrize(
    ("transform", "message"),
    [
        (Transform("gray", 1, lambda image, index: image), "registered already"),
        (Transform("a+b", 1, lambda image, index: image), "letters, digits and underscores"),
        (Transform("none_of_it", 0, lambda image, index: image), "count 0"),
    ],
)
def test_register_refuses(transform, message):
    with pytest.raises(ValueError, match=message):
        transforms.register(transform)


def test_a_registered_transform_is_found_and_composes(monkeypatch):
    monkeypatch.setattr(transforms, "_REGISTRY", dict(transforms._REGISTRY))
    dark = transforms.register(Transform("dark", 1, lambda image, index: image * 0 - 1))
    assert transforms.get("dark") is dark
    assert transforms.get("rotate+dark").count == 4
