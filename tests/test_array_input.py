"""Arrays given to the Python functions: what they do not take is refused with the reason."""

import hypothesis.extra.numpy as arrays
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.tree_util import Partial

from itae_jax import transforms
from itae_jax.data import as_images
from itae_jax.errors import RequestError
from itae_jax.evaluate import metrics, restoration
from itae_jax.experiment import Experiment, override
from itae_jax.training.learner import Learner

DTYPES = st.sampled_from([np.float32, np.float64, np.float16, np.int32, np.int64, np.uint16, np.bool_, np.int8])
SHAPES = arrays.array_shapes(min_dims=0, max_dims=6, min_side=0, max_side=4)
NAMES = st.sampled_from(transforms.names())
NOT_POSITIVE = st.one_of(st.floats(max_value=0, allow_infinity=False), st.sampled_from([np.nan, -np.inf]))
quick = settings(deadline=None, max_examples=40)


@quick
@given(DTYPES, SHAPES)
def test_images_are_uint8(dtype, shape):
    with pytest.raises(TypeError, match=r"uint8.*convert floats in \[0, 1\] by \(255 \* x\)"):
        as_images(np.zeros(shape, dtype))


@quick
@given(SHAPES.filter(lambda shape: len(shape) != 4))
def test_images_have_four_axes(shape):
    with pytest.raises(TypeError, match="expected N x H x W x C uint8 images"):
        as_images(np.zeros(shape, np.uint8))


@pytest.mark.parametrize("values", [[0.0, 0.5, 1.0], [np.nan, 0, 1], [np.inf, 0, 1]])
def test_restoration_errors_take_no_floats_for_pixels(values):
    images = np.resize(np.asarray(values, np.float32), (2, 4, 4, 1))
    with pytest.raises(TypeError, match="convert floats"):
        restoration.restoration_errors(lambda x: x, images, transforms.get("identity"))


@quick
@given(NAMES, DTYPES.filter(lambda dtype: not issubclass(dtype, np.floating)))
def test_transforms_take_floats(name, dtype):
    transform = transforms.get(name)
    with pytest.raises(TypeError, match=r"floats in \[-1, 1\]"):
        transform.apply_all(np.zeros((1, 4, 4, 3), dtype))
    with pytest.raises(TypeError, match=r"floats in \[-1, 1\]"):
        transform.apply(np.zeros((4, 4, 3), dtype), 0)


@quick
@given(NAMES, SHAPES.filter(lambda shape: len(shape) != 3))
def test_transforms_take_one_image_of_three_axes(name, shape):
    with pytest.raises(ValueError, match="H x W x C"):
        transforms.get(name).apply(np.zeros(shape, np.float32), 0)


@quick
@given(NAMES, st.integers())
def test_transforms_refuse_a_member_that_they_do_not_have(name, index):
    transform = transforms.get(name)
    if not 0 <= index < transform.count:
        with pytest.raises(IndexError, match=f"0 to {transform.count - 1}, not {index}"):
            transform.apply(np.zeros((4, 4, 3), np.float32), index)


def test_restoration_errors_of_no_images_are_none():
    images = np.zeros((0, 4, 4, 1), np.uint8)
    errors = restoration.restoration_errors(Partial(lambda x: x), images, transforms.get("rotate"))
    assert errors.shape == (0, 4)


@quick
@given(st.integers(0, 4), st.integers(1, 4), st.integers(1, 4))
def test_anomaly_scores_need_a_normal_error_for_each_member(count, members, others):
    errors, normal = np.ones((count, members)), np.ones(others)
    if members == others:
        np.testing.assert_array_equal(restoration.anomaly_scores(errors, normal), np.ones(count))
        return
    with pytest.raises(ValueError, match="do not match"):
        restoration.anomaly_scores(errors, normal)


@quick
@given(NOT_POSITIVE)
def test_anomaly_scores_divide_by_positive_numbers_alone(normal):
    with pytest.raises(ValueError, match="above zero"):
        restoration.anomaly_scores(np.ones((3, 2)), np.array([1.0, normal]))


@quick
@given(arrays.arrays(np.float32, (5, 3), elements=st.floats(0, 2, width=32)))
def test_normal_errors_can_always_be_divided_by(errors):
    normal = restoration.normal_errors(errors)
    assert (normal > 0).all()
    assert np.isfinite(restoration.anomaly_scores(errors, normal)).all()


@quick
@given(st.lists(st.floats(-10, 10), min_size=2, max_size=9), st.integers(0, 8))
def test_auroc_refuses_what_cannot_be_ranked(scores, position):
    labels = np.arange(len(scores)) % 2 == 1
    spoilt = np.array(scores)
    spoilt[position % len(scores)] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        metrics.auroc(labels, spoilt)
    with pytest.raises(ValueError, match="both normal and anomalous"):
        metrics.auroc(np.zeros(len(scores), bool), np.array(scores))
    with pytest.raises(ValueError, match="inconsistent"):
        metrics.auroc(labels, np.array([*scores, 1.0]))


@quick
@given(st.sampled_from([np.nan, np.inf, -np.inf]), st.integers(1, 5))
def test_frame_normality_needs_a_finite_score_for_each_frame(value, count):
    scores = np.zeros(count)
    scores[-1] = value
    with pytest.raises(ValueError, match="finite"):
        metrics.frame_normality(scores, np.zeros(count, int))
    with pytest.raises(ValueError, match="do not match"):
        metrics.frame_normality(np.zeros(count), np.zeros(count + 1, int))


@pytest.mark.parametrize("shape", [(16, 16, 3), (16, 15, 1), (8, 8, 1)])
def test_learner_refuses_images_of_another_shape(shape):
    settings = override(Experiment(), ["method.transform=rotate", "method.width=1", "train.batch_size=8"])
    learner = Learner(settings.method, settings.train, settings.evaluate, settings.compute, (16, 16, 1))
    images = as_images(np.zeros((8, *shape), np.uint8))
    with pytest.raises(RequestError, match=f"images of {'x'.join(map(str, shape))}: expected 16x16x1"):
        learner.fit(images, (0,), lambda *_: None)
