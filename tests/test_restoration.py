"""Restoration errors, their normaliser and Eq. 3 against plain NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from itae_jax import transforms
from itae_jax.data.images import ArrayImages
from itae_jax.errors import RequestError
from itae_jax.evaluate import anomaly_scores, restoration, restoration_errors

POSITIVE = st.floats(0.01, 10)


def relative(difference, originals):
    """The squared error over the differences of neighbours along rows and columns, half of them a pixel."""
    down, right = (np.abs(np.diff(originals, axis=axis)).sum((1, 2, 3)) for axis in (1, 2))
    return difference**2 * (2 * originals[0].size / (down + right))[:, None, None, None]


ERRORS = {"l1": lambda d, _: np.abs(d), "l2": lambda d, _: np.square(d), "relative": relative}
COMBINATIONS = {
    "mean": lambda r: r.mean(1),
    "max": lambda r: r.max(1),
    "first": lambda r: r[:, 0],
}


def blur(inputs):
    """A stand-in for the network that every image goes through by itself: B x H x W x 1 to 3 channels."""
    return jnp.repeat(inputs * 0.5 + inputs.mean((1, 2), keepdims=True) * 0.5, 3, axis=-1)


@pytest.fixture
def images(rng):
    return rng.integers(0, 256, (11, 8, 8, 3), np.uint8)


@pytest.mark.parametrize("kind", ERRORS)
def test_errors_are_means_over_pixels_for_every_member(images, kind):
    result = restoration_errors(blur, images, transforms.get("gray+rotate"), kind)
    originals = images / 127.5 - 1
    for index in range(4):
        inputs = np.stack([np.rot90(x.mean(-1, keepdims=True), index) for x in originals])
        difference = 0.5 * inputs + 0.5 * inputs.mean((1, 2), keepdims=True) - originals
        expected = ERRORS[kind](difference, originals).mean((1, 2, 3))
        np.testing.assert_allclose(result[:, index], expected, rtol=1e-5)


@pytest.mark.parametrize(("batch_size", "devices"), [(1, 1), (3, 4), (64, 4)])
def test_batches_padding_and_devices_change_nothing(images, batch_size, devices):
    def errors(**options):
        return restoration_errors(lambda x: x * 0.9, images, transforms.get("rotate"), **options)

    result = errors(batch_size=batch_size, devices=jax.devices()[:devices])
    np.testing.assert_allclose(result, errors(batch_size=16, devices=jax.devices()[:1]), rtol=1e-6)


def test_no_images_give_no_errors_and_unreadable_ones_rows_of_nan(images):
    transform = transforms.get("gray+rotate")
    assert restoration_errors(blur, images[:0], transform).shape == (0, 4)
    result = restoration_errors(blur, ArrayImages(images, frozenset({2, 5})), transform)
    assert np.flatnonzero(np.isnan(result).all(1)).tolist() == [2, 5]
    assert np.isnan(result).sum() == 8
    np.testing.assert_allclose(restoration.normal_errors(result), np.nanmean(result, 0), rtol=1e-6)


def test_images_and_errors_of_other_kinds_are_refused(images):
    rotate = transforms.get("rotate")
    with pytest.raises(TypeError, match=r"uint8 images, got float64.*\(255 \* x"):
        restoration_errors(blur, images / 255, rotate)
    with pytest.raises(ValueError, match=r"l3.*l1, l2"):
        restoration_errors(blur, images, rotate, "l3")
    with pytest.raises(RequestError, match="square"):
        restoration_errors(blur, images[:, :4], rotate)


@pytest.mark.parametrize("shape", [(2, 8, 8, 1), (2, 1, 8, 3)])
def test_errors_of_flat_or_thin_images_are_finite(shape):
    flat = np.full(shape, 0.25, np.float32)
    for values in restoration.pixel_errors(flat[None] + 0.1, flat).values():
        assert np.isfinite(values).all()


@settings(deadline=None)
@given(hnp.arrays(np.float64, (6, 4), elements=POSITIVE), hnp.arrays(np.float64, 4, elements=POSITIVE))
def test_scores_are_equation_3(errors, normal):
    expected = [sum(errors[x, i] / normal[i] for i in range(4)) / 4 for x in range(6)]
    np.testing.assert_allclose(anomaly_scores(errors, normal), expected, rtol=1e-12)
    np.testing.assert_allclose(anomaly_scores(jnp.float32(errors), normal), expected, rtol=1e-5)


@pytest.mark.parametrize("combine", restoration.COMBINATIONS)
def test_members_combine_into_scores_and_maps_by_the_same_rule(combine, rng):
    errors, normal = rng.uniform(0.1, 2, (6, 4)), rng.uniform(0.1, 2, 4)
    expected = COMBINATIONS[combine](errors / normal)
    np.testing.assert_allclose(anomaly_scores(errors, normal, combine), expected, rtol=1e-6)
    np.testing.assert_allclose(anomaly_scores(jnp.float32(errors), normal, combine), expected, rtol=1e-5)
    maps = restoration.maps(jnp.float32(errors.T[:, :, None, None]), jnp.float32(normal), combine)
    np.testing.assert_allclose(maps[:, 0, 0], expected, rtol=1e-5)


@settings(deadline=None)
@given(hnp.arrays(np.float32, (9, 4), elements=st.floats(0, 8, width=32)))
def test_normal_errors_divide_and_training_images_score_one_on_average(errors):
    normal = restoration.normal_errors(errors)
    assert (normal > 0).all()  # also for images that are restored exactly
    scores = anomaly_scores(errors, normal)
    assert np.isfinite(scores).all()
    if errors.mean(0).min() > 0.01:
        assert scores.mean() == pytest.approx(1, rel=1e-6)


@settings(deadline=None)
@given(st.floats(max_value=0, allow_infinity=False) | st.sampled_from([np.nan, -np.inf]))
def test_scores_refuse_a_normaliser_that_cannot_divide(value):
    for normal, message in (([0.5, value], "above zero"), ([1], "not match")):
        with pytest.raises(ValueError, match=message):
            anomaly_scores(np.ones((3, 2)), np.array(normal))


def seen_from_the_left(images_BxHxWxC):
    """Maps that depend on where a pixel is: each is weighed by its row and its squared column."""
    rows, columns = (jnp.arange(1.0, 1 + side) for side in images_BxHxWxC.shape[1:3])
    return {"l1": (images_BxHxWxC[..., 0] * rows[None, :, None] * columns[None, None] ** 2)[None]}


@pytest.mark.parametrize("views", restoration.VIEWS)
def test_views_are_averaged_in_place(images, views):
    pixels = images / np.float32(255)

    def numpy_maps(seen):
        return np.asarray(seen_from_the_left(jnp.asarray(seen))["l1"])

    def shifted(seen):
        near = np.pad(seen[:, 1:, 1:], ((0, 0), (0, 1), (0, 1), (0, 0)), mode="edge")
        return np.pad(numpy_maps(near)[:, :, :-1, :-1], ((0, 0), (0, 0), (1, 0), (1, 0)), mode="edge")

    parts = [numpy_maps(pixels)]
    parts += [numpy_maps(pixels[:, :, ::-1])[..., ::-1]] if "flip" in views else []
    parts += [shifted(pixels)] if "shift" in views else []
    parts += [shifted(pixels[:, :, ::-1])[..., ::-1]] if views == "flip+shift" else []
    found = restoration.over_views(seen_from_the_left, jnp.asarray(pixels), views)
    np.testing.assert_allclose(found["l1"], np.mean(parts, 0), rtol=1e-5)
