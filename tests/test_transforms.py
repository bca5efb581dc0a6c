"""Laws of every erasing transform, and what each that ships does."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from itae_jax import transforms
from itae_jax.errors import RequestError
from itae_jax.transforms import Transform, registry
from itae_jax.transforms import checks as laws

NAMES = [*transforms.names(), "gray+rotate", "rotate+mask", "gray+rotate+scale", "shuffle+blur"]


@pytest.fixture(params=[1, 3])
def images(request, rng):
    return jnp.asarray(rng.uniform(-1, 1, (3, 10, 10, request.param)), jnp.float32)


@pytest.mark.parametrize("name", NAMES)
def test_every_law_holds(name):
    broken = [finding for finding in laws.check(transforms.get(name)) if not finding.holds]
    assert broken == []


def test_the_drawn_order_of_shuffle_is_the_same_in_another_process():
    assert laws.check_elsewhere("shuffle", transforms.get("shuffle")).holds


def times_two(image, index):
    return 2 * image


def python_branch(image, index):
    return image[:, ::-1] if index else image


def noisy(image, index):
    noise = np.random.default_rng().uniform(-0.1, 0.1, image.shape)
    return (0.9 * image + jnp.asarray(noise, image.dtype)) * 0.9


BROKEN = {
    "times_two": (Transform("times_two", 1, times_two), "range", "makes [-1.989, 1.989] of float32"),
    "cropped": (Transform("cropped", 1, lambda x, i: x[1:]), "shape", "15x16x1 of 16x16x1, expected 16x16x1"),
    "other_channels": (
        Transform("grey", 1, lambda x, i: x.mean(-1, keepdims=True)),
        "shape",
        "expected 16x16x3",
    ),
    "turned": (Transform("turned", 1, lambda x, i: x + x.swapaxes(0, 1)), "shape", "square_only=True"),
    "float32": (Transform("wide", 1, lambda x, i: x.astype("float32")), "dtype", "float32 of bfloat16"),
    "nan": (Transform("nan", 1, lambda x, i: jnp.sqrt(x)), "range", "nan"),
    "branch": (Transform("branch", 2, python_branch), "jit", "TracerBoolConversionError"),
    "noisy": (Transform("clock", 1, noisy), "repeat", "draw from a fixed seed"),
    "same_members": (Transform("same", 2, lambda x, i: x * 0.5), "members", "members 0 and 1 are the same"),
    "inverted": (Transform("inverted", 1, lambda x, i: -x), "erases", "can be computed from the result"),
    "cubed": (Transform("cubed", 1, lambda x, i: x**3 / 2 + x / 2), "erases", "can be computed"),
    "not_invertible": (
        Transform("dark", 1, lambda x, i: x * 0, invertible=True),
        "erases",
        "declared invertible, but member 0 keeps 0 of 256",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_transform_that_breaks_a_law_is_told_what_was_found(case):
    transform, law, found = BROKEN[case]
    finding = laws.check_law(law, transform)
    assert not finding.holds
    assert found in finding.found


def test_the_vmap_law_sees_what_a_batch_does_to_its_images():
    """An image that depends on its batch can only be written with what `vmap` itself is told."""

    @jax.custom_batching.custom_vmap
    def brightness(image):
        return image.mean()

    @brightness.def_vmap
    def brightness_of_a_batch(size, batched, images):
        return jnp.broadcast_to(images.mean(), (size,)), True

    mixed = Transform("mixed", 1, lambda image, index: 0.5 * image - 0.5 * brightness(image))
    finding = laws.check_law("vmap", mixed)
    assert not finding.holds
    assert "in a batch of 16x16x1" in finding.found


def test_integer_images_are_refused_with_the_conversion():
    with pytest.raises(TypeError, match=r"uint8 by x / 127\.5 - 1"):
        transforms.get("gray+rotate").apply(jnp.zeros((10, 10, 3), jnp.uint8), 0)


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


def test_the_masks_are_disjoint_and_cover_the_image(rng):
    for height, width in ((16, 16), (19, 23), (5, 64)):
        image = jnp.asarray(rng.uniform(0.5, 1, (height, width, 3)), jnp.float32)
        erased = np.asarray(transforms.get("mask").apply_all(image[None])[:, 0])
        assert ((erased == 0).all(axis=-1).sum(axis=0) == 1).all()
        kept = erased != 0
        np.testing.assert_array_equal(erased[kept], np.broadcast_to(image, erased.shape)[kept])
        shares = (erased == 0).mean(axis=(1, 2, 3))
        assert shares == pytest.approx([0.25] * 4, abs=0.1)


def test_a_mask_is_made_of_whole_patches(rng):
    image = jnp.asarray(rng.uniform(0.5, 1, (32, 32, 1)), jnp.float32)
    masked = np.asarray(transforms.get("mask").apply(image, 3) == 0)[..., 0]
    expected = np.kron(np.tile([[0, 0], [0, 1]], (4, 4)), np.ones((4, 4)))
    np.testing.assert_array_equal(masked, expected.astype(bool))


def test_shuffle_moves_whole_patches_and_loses_none(images):
    numbered = jnp.arange(19 * 22, dtype=jnp.float32).reshape(19, 22, 1) / 1000
    patches = [numbered[r : r + 4, c : c + 5] for r in range(0, 16, 4) for c in range(0, 20, 5)]
    for index in range(4):
        moved = np.asarray(transforms.get("shuffle").apply(numbered, index))
        found = [moved[r : r + 4, c : c + 5] for r in range(0, 16, 4) for c in range(0, 20, 5)]
        order = [next(i for i, patch in enumerate(patches) if np.array_equal(patch, f)) for f in found]
        assert sorted(order) == list(range(16))
        assert order != sorted(order)
        np.testing.assert_array_equal(moved[16:], numbered[16:])
        np.testing.assert_array_equal(moved[:, 20:], numbered[:, 20:])


def test_blur_is_a_gaussian_as_pytorch_convolves(rng):
    torch = pytest.importorskip("torch", reason="PyTorch is the reference")
    image = rng.uniform(-1, 1, (24, 32, 3)).astype(np.float32)
    sigma = 24 / 16
    offsets = np.arange(-6, 7)
    weights = np.exp(-0.5 * (offsets / sigma) ** 2)
    kernel = torch.tensor(np.outer(weights, weights) / weights.sum() ** 2, dtype=torch.float64)[None, None]
    channels_first = torch.tensor(image, dtype=torch.float64).permute(2, 0, 1)[:, None]
    padded = torch.nn.functional.pad(channels_first, (6, 6, 6, 6), mode="replicate")
    expected = torch.nn.functional.conv2d(padded, kernel)[:, 0].permute(1, 2, 0)
    np.testing.assert_allclose(transforms.get("blur").apply(jnp.asarray(image), 0), expected, atol=1e-5)


def test_drop_channel_empties_one_channel_each(rng):
    image = jnp.asarray(rng.uniform(-1, 1, (8, 8, 3)), jnp.float32)
    for index in range(3):
        expected = np.array(image)
        expected[..., index] = 0
        np.testing.assert_array_equal(transforms.get("drop_channel").apply(image, index), expected)


def test_drop_channel_refuses_images_and_transforms_without_colour():
    with pytest.raises(RequestError, match="'drop_channel' needs colour images, these have 1 channel;"):
        transforms.get("drop_channel").apply_all(jnp.zeros((1, 8, 8, 1)))
    with pytest.raises(RequestError, match="'gray' leaves 1 channel; change their order"):
        transforms.get("gray+drop_channel")
    assert transforms.get("drop_channel+gray").count == 3


def test_flip_mirrors_and_turns_upside_down(rng):
    image = jnp.asarray(rng.uniform(-1, 1, (6, 9, 3)), jnp.float32)
    expected = [image, np.fliplr(image), np.flipud(image), np.rot90(image, 2)]
    np.testing.assert_array_equal(transforms.get("flip").apply_all(image[None])[:, 0], expected)


def test_composition_applies_first_to_last(images):
    gray, rotate, both = (transforms.get(name) for name in ("gray", "rotate", "gray+rotate"))
    assert both.count == 4
    assert both.out_channels(3) == 1
    for index in range(4):
        expected = rotate.apply(gray.apply(images[0], 0), index)
        np.testing.assert_array_equal(both.apply(images[0], index), expected)


def test_composition_has_every_pair_of_members():
    double = Transform("double", 2, lambda image, index: jnp.where(index == 0, image, 0.5 * image))
    pair = transforms.compose(double, transforms.get("rotate"))
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
        (Transform("none_of_it", 0, lambda image, index: image), "count=0, expected a whole number"),
    ],
)
def test_register_refuses(transform, message):
    with pytest.raises(ValueError, match=message):
        transforms.register(transform)


def test_a_registered_transform_is_found_and_composes(monkeypatch):
    monkeypatch.setattr(registry, "_REGISTRY", dict(registry._REGISTRY))
    dark = transforms.register(Transform("dark", 1, lambda image, index: image * 0 - 1))
    assert transforms.get("dark") is dark
    assert transforms.get("rotate+dark").count == 4
