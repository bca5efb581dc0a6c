"""Scoring against plain NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from itae_jax import transforms
from itae_jax.evaluate import restoration as evaluate

POSITIVE = st.floats(0.01, 10)


def blur(inputs):
    """A stand-in for the network that every image goes through by itself: B x H x W x 1 to 3 channels."""
    return jnp.repeat(inputs * 0.5 + inputs.mean((1, 2), keepdims=True) * 0.5, 3, axis=-1)


@pytest.fixture
def images(rng):
    return rng.integers(0, 256, (11, 8, 8, 3), np.uint8)


@pytest.mark.parametrize("error", ["l1", "l2"])
def test_errors_are_means_over_pixels_for_every_member(images, error):
    result = evaluate.restoration_errors(blur, images, transforms.get("gray+rotate"), error)
    originals = images / 127.5 - 1
    for index in range(4):
        inputs = np.stack([np.rot90(x.mean(-1, keepdims=True), index) for x in originals])
        difference = 0.5 * inputs + 0.5 * inputs.mean((1, 2), keepdims=True) - originals
        expected = np.abs(difference) if error == "l1" else np.square(difference)
        np.testing.assert_allclose(result[:, index], expected.mean((1, 2, 3)), rtol=1e-5)


@pytest.mark.parametrize("batch_size", [1, 3, 4, 11, 64])
@pytest.mark.parametrize("devices", [1, 4])
def test_batches_padding_and_devices_change_nothing(images, batch_size, devices):
    transform = transforms.get("rotate")

    def errors(**options):
        return evaluate.restoration_errors(lambda x: x * 0.9, images, transform, **options)

    result = errors(batch_size=batch_size, devices=jax.devices()[:devices])
    assert result.shape == (11, 4)
    np.testing.assert_allclose(result, errors(batch_size=16, devices=jax.devices()[:1]), rtol=1e-6)


def test_no_images_give_no_errors(images):
    assert evaluate.restoration_errors(blur, images[:0], transforms.get("rotate")).shape == (0, 4)


def test_float_images_are_refused_with_the_conversion(images):
    with pytest.raises(TypeError, match=r"uint8 images, got float64.*\(255 \* x\)"):
        evaluate.restoration_errors(blur, images / 255, transforms.get("rotate"))


def test_an_unknown_error_is_refused(images):
    with pytest.raises(ValueError, match="choose l1 or l2"):
        evaluate.restoration_errors(blur, images, transforms.get("rotate"), "l3")


@settings(deadline=None)
@given(
    errors=hnp.arrays(np.float64, (6, 4), elements=POSITIVE),
    normal=hnp.arrays(np.float64, 4, elements=POSITIVE),
)
def test_scores_are_equation_3(errors, normal):
    expected = [sum(errors[x, i] / normal[i] for i in range(4)) / 4 for x in range(6)]
    np.testing.assert_allclose(evaluate.anomaly_scores(errors, normal), expected, rtol=1e-12)


@settings(deadline=None)
@given(errors=hnp.arrays(np.float32, (9, 4), elements=st.floats(0.0625, 8, width=32)))
def test_training_normals_score_one_on_average(errors):
    scores = evaluate.anomaly_scores(errors, evaluate.normal_errors(errors))
    assert scores.mean() == pytest.approx(1, rel=1e-6)


def test_sums_instead_of_means_give_the_same_scores(rng):
    errors, normal = rng.uniform(0.1, 1, (5, 3)), rng.uniform(0.1, 1, 3)
    pixels = 32 * 32 * 3
    np.testing.assert_allclose(
        evaluate.anomaly_scores(errors * pixels, normal * pixels), evaluate.anomaly_scores(errors, normal)
    )


@pytest.mark.parametrize("normal", [[0.5, 0.0], [0.5, np.nan], [0.5, -1.0]])
def test_a_normaliser_that_cannot_divide_is_refused(normal):
    with pytest.raises(ValueError, match="above zero"):
        evaluate.anomaly_scores(np.ones((3, 2)), normal)


def test_shapes_that_do_not_match_are_refused():
    with pytest.raises(ValueError, match="do not match"):
        evaluate.anomaly_scores(np.ones((3, 2)), np.ones(3))


@settings(deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 5)), min_size=2, max_size=30))
def test_auroc_is_the_share_of_pairs_ranked_right(pairs):
    is_anomaly, scores = (np.asarray(column) for column in zip(*pairs, strict=True))
    if is_anomaly.all() or not is_anomaly.any():
        with pytest.raises(ValueError, match="both normal and anomalous"):
            evaluate.auroc(is_anomaly, scores)
        return
    high, low = scores[is_anomaly][:, None], scores[~is_anomaly][None]
    expected = ((high > low) + 0.5 * (high == low)).mean()
    assert evaluate.auroc(is_anomaly, scores) == pytest.approx(expected)


def test_frame_normality_is_equation_4_in_each_video():
    scores = np.array([1.0, 3.0, 10.0, 20.0, 2.0, 5.0])
    videos = np.array(["a", "a", "b", "b", "a", "c"])
    np.testing.assert_allclose(evaluate.frame_normality(scores, videos), [1, 0, 1, 0, 0.5, 1])
