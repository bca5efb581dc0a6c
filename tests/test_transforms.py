"""Checks of every erasing transform, and what each transform of the package does."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import to_torch
from hypothesis import given, settings
from hypothesis import strategies as st

from itae_jax import transforms
from itae_jax.errors import RequestError
from itae_jax.transforms import Transform, checks

NAMES = [*transforms.names(), "shuffle+blur"]


@pytest.fixture(params=[1, 3])
def images(request, rng):
    return jnp.asarray(rng.uniform(-1, 1, (3, 10, 10, request.param)), jnp.float32)


@pytest.mark.parametrize("name", NAMES)
def test_every_transform_passes_every_check(name):
    assert [finding for finding in checks.check_all(transforms.get(name)) if not finding.passed] == []


def test_shuffle_has_the_same_order_in_another_process():
    assert checks.check_elsewhere(transforms.get("shuffle")).passed


def noisy(image, index):
    noise = np.random.default_rng().uniform(-0.1, 0.1, image.shape)
    return (0.9 * image + jnp.asarray(noise, image.dtype)) * 0.9


BROKEN = [
    ("range", "[-1.989, 1.989] of float32", Transform("times_two", 1, lambda x, i: 2 * x)),
    ("range", "nan", Transform("nan", 1, lambda x, i: jnp.sqrt(x))),
    ("shape", "15x16x1 of 16x16x1, expected 16x16x1", Transform("cropped", 1, lambda x, i: x[1:])),
    ("shape", "expected 16x16x3", Transform("grey", 1, lambda x, i: x.mean(-1, keepdims=True))),
    ("shape", "square_only=True", Transform("turned", 1, lambda x, i: x + x.swapaxes(0, 1))),
    ("dtype", "float32 of bfloat16", Transform("wide", 1, lambda x, i: x.astype("float32"))),
    ("jit", "TracerBoolConversionError", Transform("branch", 2, lambda x, i: x[:, ::-1] if i else x)),
    ("repeat", "draw from a fixed seed", Transform("noisy", 1, noisy)),
    ("members", "members 0 and 1 are the same", Transform("same", 2, lambda x, i: x * 0.5)),
    ("erases", "can be computed", Transform("inverted", 1, lambda x, i: -x)),
    ("erases", "can be computed", Transform("cubed", 1, lambda x, i: x**3 / 2 + x / 2)),
    ("erases", "invertible, but", Transform("dark", 1, lambda x, i: x * 0, invertible=True)),
]


def test_check_says_once_that_a_transform_cannot_be_compiled():
    members = np.zeros((2, 1, 1, 1), np.float32)
    for erase in (lambda x, i: x[:, ::-1] if i else x, lambda x, i: x * [0.5, 0.7][i], lambda x, i: members[i]):
        (finding,) = checks.check_all(Transform("branch", 2, erase))
        assert not finding.passed and "jnp." in finding.found
    drawing = Transform("drawing", 1, lambda x, i: x, draw=lambda key, x, other: x if x[0, 0, 0] > 0 else other)
    (finding,) = checks.check_all(drawing)
    assert not finding.passed and "jnp." in finding.found


@pytest.mark.parametrize(("name", "found", "transform"), BROKEN, ids=[case[2].name for case in BROKEN])
def test_check_names_what_a_broken_transform_does(name, found, transform):
    finding = checks.check(name, transform)
    assert not finding.passed
    assert found in finding.found


def test_check_vmap_finds_an_image_that_depends_on_its_batch():

    @jax.custom_batching.custom_vmap
    def brightness(image):
        return image.mean()

    @brightness.def_vmap
    def brightness_of_a_batch(size, batched, images):
        return jnp.broadcast_to(images.mean(), (size,)), True

    mixed = Transform("mixed", 1, lambda image, index: 0.5 * image - 0.5 * brightness(image))
    finding = checks.check("vmap", mixed)
    assert not finding.passed
    assert "in a batch of 16x16x3" in finding.found


def test_to_float_scales_pixels_to_minus_one_to_one():
    pixels = jnp.asarray([0, 51, 255], jnp.uint8)
    np.testing.assert_allclose(transforms.to_float(pixels), [-1, -0.6, 1], atol=1e-6)


def test_identity_gray_and_rotate_change_nothing_average_channels_and_turn_anticlockwise(images):
    identity, gray, turned = (transforms.get(name).apply_all(images) for name in ("identity", "gray", "rotate"))
    np.testing.assert_array_equal(identity[0], images)
    np.testing.assert_allclose(gray[0], np.asarray(images).mean(-1, keepdims=True), atol=1e-6)
    for index in range(4):
        np.testing.assert_array_equal(turned[index], np.rot90(images, index, (1, 2)))


def test_scale_halves_and_enlarges_as_pytorch_does(images):
    functional = pytest.importorskip("torch", reason="PyTorch is the reference").nn.functional
    half = functional.avg_pool2d(to_torch(images), 2)
    expected = functional.interpolate(half, scale_factor=2, mode="bilinear", align_corners=False)
    scaled = transforms.get("scale").apply_all(images)[0]
    np.testing.assert_allclose(scaled, expected.permute(0, 2, 3, 1), atol=1e-6)


def test_mask_members_are_disjoint_and_cover_the_image(rng):
    for height, width in ((16, 16), (19, 23), (5, 64)):
        image = jnp.asarray(rng.uniform(0.5, 1, (height, width, 3)), jnp.float32)
        erased = np.asarray(transforms.get("mask").apply_all(image[None])[:, 0])
        assert ((erased == 0).all(axis=-1).sum(axis=0) == 1).all()
        kept = erased != 0
        np.testing.assert_array_equal(erased[kept], np.broadcast_to(image, erased.shape)[kept])
        shares = (erased == 0).mean(axis=(1, 2, 3))
        assert shares == pytest.approx([0.25] * 4, abs=0.1)


def test_mask_erases_whole_patches(rng):
    image = jnp.asarray(rng.uniform(0.5, 1, (32, 32, 1)), jnp.float32)
    masked = np.asarray(transforms.get("mask").apply(image, 3) == 0)[..., 0]
    expected = np.kron(np.tile([[0, 0], [0, 1]], (4, 4)), np.ones((4, 4)))
    np.testing.assert_array_equal(masked, expected.astype(bool))


def test_shuffle_moves_whole_patches_and_loses_none():
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
    one_by_one = to_torch(np.float64(image)[None])[0][:, None]
    padded = torch.nn.functional.pad(one_by_one, (6, 6, 6, 6), mode="replicate")
    expected = torch.nn.functional.conv2d(padded, kernel)[:, 0].permute(1, 2, 0)
    np.testing.assert_allclose(transforms.get("blur").apply(jnp.asarray(image), 0), expected, atol=1e-5)


def test_drop_channel_empties_one_channel_each(rng):
    image = jnp.asarray(rng.uniform(-1, 1, (8, 8, 3)), jnp.float32)
    for index in range(3):
        expected = np.array(image)
        expected[..., index] = 0
        np.testing.assert_array_equal(transforms.get("drop_channel").apply(image, index), expected)


def test_drop_channel_refuses_images_and_transforms_without_colour():
    with pytest.raises(RequestError, match="'drop_channel' needs colour images, these have 1 channel"):
        transforms.get("drop_channel").apply_all(jnp.zeros((1, 8, 8, 1)))
    with pytest.raises(RequestError, match="'gray' leaves 1 channel"):
        transforms.get("gray+drop_channel")
    assert transforms.get("drop_channel+gray").count == 3


def test_flip_mirrors_and_turns_upside_down(rng):
    image = jnp.asarray(rng.uniform(-1, 1, (6, 9, 3)), jnp.float32)
    expected = [image, np.fliplr(image), np.flipud(image), np.rot90(image, 2)]
    np.testing.assert_array_equal(transforms.get("flip").apply_all(image[None])[:, 0], expected)


def test_paste_changes_half_of_the_images_in_regions_of_any_size(rng):
    images = jnp.asarray(rng.uniform(-0.5, 0.5, (400, 32, 32, 1)), jnp.float32)
    keys = jax.random.split(jax.random.key(0), 400)
    pasted = transforms.get("paste").draw_each(keys, images, images[::-1])
    shares = np.asarray((jnp.abs(pasted - images) > 0.03).mean((1, 2, 3)))
    assert 0.4 < (shares > 0).mean() < 0.6
    changed = shares[shares > 0]
    assert changed.min() < 0.02 and changed.max() > 0.3 and changed.max() < 1


def test_composed_transforms_draw_each_part(images):
    both = transforms.get("paste+rotate")
    keys = jax.random.split(jax.random.key(0), 3)
    square = images
    drawn = np.asarray(both.draw_each(keys, square, square[::-1]))
    assert drawn.shape == square.shape and both.count == 4
    np.testing.assert_array_equal(both.apply_all(square)[1], transforms.get("rotate").apply_all(square)[1])


def test_compose_applies_first_to_last(images):
    gray, rotate, both = (transforms.get(name) for name in ("gray", "rotate", "gray+rotate"))
    assert both.count == 4
    assert both.out_channels(3) == 1
    for index in range(4):
        expected = rotate.apply(gray.apply(images[0], 0), index)
        np.testing.assert_array_equal(both.apply(images[0], index), expected)


def test_compose_has_every_pair_of_members():
    double = Transform("double", 2, lambda image, index: jnp.where(index == 0, image, 0.5 * image))
    pair = transforms.compose(double, transforms.get("rotate"))
    image = jnp.arange(4.0).reshape(2, 2, 1) / 4
    members = pair.apply_all(image[None])[:, 0]
    expected = [np.rot90(image * factor, turns) for factor in (1, 0.5) for turns in range(4)]
    np.testing.assert_allclose(members, expected)


@pytest.mark.parametrize("name", ["rotate", "gray+rotate"])
def test_rotate_refuses_images_that_are_not_square(name):
    with pytest.raises(RequestError, match=r"square.*20x30.*data\.image_size"):
        transforms.get(name).apply_all(jnp.zeros((1, 20, 30, 3)))


@pytest.mark.parametrize("name", ["nonsense", "gray+nonsense", "", "gray+", "+gray"])
def test_get_refuses_an_unknown_name_with_the_choices(name):
    with pytest.raises(RequestError, match=r"method\.transform=.*choose from identity, gray, rotate, scale"):
        transforms.get(name)


@pytest.mark.parametrize(
    ("transform", "message"),
    [
        (Transform("gray", 1, lambda image, index: image), "registered already"),
        (Transform("a+b", 1, lambda image, index: image), "letters, digits and underscores"),
        (Transform("none_of_it", 0, lambda image, index: image), "count=0"),
    ],
)
def test_register_refuses_a_wrong_transform(transform, message):
    with pytest.raises(ValueError, match=message):
        transforms.register(transform)


def test_register_makes_a_transform_that_is_found_and_composes():
    dark = transforms.register(Transform("registered_here", 1, lambda image, index: image * 0 - 1))
    assert transforms.get("registered_here") is dark
    assert transforms.get("rotate+registered_here").count == 4


@settings(deadline=None, max_examples=40)
@given(st.sampled_from(transforms.names()), st.integers())
def test_apply_refuses_integers_other_shapes_and_unknown_members(name, index):
    transform = transforms.get(name)
    with pytest.raises(TypeError, match=r"uint8 by x / 127\.5 - 1"):
        transform.apply(jnp.zeros((4, 4, 3), jnp.uint8), 0)
    with pytest.raises(TypeError, match=r"floats in \[-1, 1\]"):
        transform.apply_all(jnp.zeros((1, 4, 4, 3), jnp.int32))
    with pytest.raises(ValueError, match="H x W x C"):
        transform.apply(jnp.zeros((4, 4)), 0)
    if not 0 <= index < transform.count:
        with pytest.raises(IndexError, match=f"0 to {transform.count - 1}, not {index}"):
            transform.apply(jnp.zeros((4, 4, 3)), index)
