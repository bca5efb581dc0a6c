"""Arrays handed to the Python functions: whatever is not what they take is refused, and says so."""

import hypothesis.extra.numpy as arrays
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.tree_util import Partial

from itae_jax import transforms
from itae_jax.data import as_images
from itae_jax.errors import RequestError
from itae_jax.evaluate import restoration as evaluate

DTYPES = st.sampled_from([np.float32, np.float64, np.float16, np.int32, np.int64, np.uint16, np.bool_, np.int8])
SHAPES = arrays.array_shapes(min_dims=0, max_dims=6, min_side=0, max_side=4)
NAMES = st.sampled_from(transforms.names())
UNFIT_NORMALS = st.one_of(
    st.floats(max_value=0, allow_infinity=False), st.just(float("nan")), st.just(float("-inf"))
)
quick = settings(deadline=None, max_examples=40)


@quick
@given(DTYPES, SHAPES)
def test_images_are_uint8_and_nothing_else(dtype, shape):
    with pytest.raises(TypeError, match=r"uint8.*convert floats in \[0, 1\] by \(255 \* x\)"):
        as_images(np.zeros(shape, dtype))


@quick
@given(SHAPES.filter(lambda shape: len(shape) != 4))
def test_images_have_four_axes(shape):
    with pytest.raises(TypeError, match="expected N x H x W x C uint8 images"):
        as_images(np.zeros(shape, np.uint8))


@pytest.mark.parametrize("values", [[0.0, 0.5, 1.0], [np.nan, 0, 1], [np.inf, 0, 1]])
def test_floats_are_never_taken_for_pixels(values):
    images = np.resize(np.asarray(values, np.float32), (2, 4, 4, 1))
    with pytest.raises(TypeError, match="convert floats"):
        evaluate.restoration_errors(lambda x: x, images, transforms.get("identity"))


@quick
@given(NAMES, DTYPES.filter(lambda dtype: not issubclass(dtype, np.floating)))
def test_transforms_take_floats_alone(name, dtype):
    transform = transforms.get(name)
    with pytest.raises(TypeError, match=r"floats in \[-1, 1\], got"):
        transform.apply_all(np.zeros((1, 4, 4, 3), dtype))
    with pytest.raises(TypeError, match=r"floats in \[-1, 1\], got"):
        transform.apply(np.zeros((4, 4, 3), dtype), 0)


@quick
@given(NAMES, SHAPES.filter(lambda shape: len(shape) != 3))
def test_one_image_has_three_axes(name, shape):
    with pytest.raises(ValueError, match="expected one image, H x W x C"):
        transforms.get(name).apply(np.zeros(shape, np.float32), 0)


@quick
@given(NAMES, st.integers())
def test_a_member_that_is_not_there_is_refused(name, index):
    transform = transforms.get(name)
    if 0 <= index < transform.count:
        return
    with pytest.raises(IndexError, match=f"has members 0 to {transform.count - 1}, not {index}"):
        transform.apply(np.zeros((4, 4, 3), np.float32), index)


def test_no_images_have_no_errors():
    images = np.zeros((0, 4, 4, 1), np.uint8)
    errors = evaluate.restoration_errors(Partial(lambda x: x), images, transforms.get("rotate"))
    assert errors.shape == (0, 4)


@quick
@given(st.integers(0, 4), st.integers(1, 4), st.integers(1, 4))
def test_errors_and_normalisers_have_to_match(count, members, others):
    errors, normal = np.ones((count, members)), np.ones(others)
    if members == others:
        np.testing.assert_array_equal(evaluate.anomaly_scores(errors, normal), np.ones(count))
        return
    with pytest.raises(ValueError, match="do not match"):
        evaluate.anomaly_scores(errors, normal)


@quick
@given(UNFIT_NORMALS)
def test_nothing_is_divided_by_what_is_not_above_zero(normal):
    with pytest.raises(ValueError, match="must be above zero"):
        evaluate.anomaly_scores(np.ones((3, 2)), np.array([1.0, normal]))


@quick
@given(arrays.arrays(np.float32, (5, 3), elements=st.floats(0, 2, width=32)))
def test_normalisers_are_always_fit_to_divide_by(errors):
    normal = evaluate.normal_errors(errors)
    assert (normal > 0).all()
    assert np.isfinite(evaluate.anomaly_scores(errors, normal)).all()


@quick
@given(st.lists(st.floats(-10, 10), min_size=2, max_size=9), st.integers(0, 8))
def test_auroc_refuses_what_cannot_be_ranked(scores, position):
    labels = np.arange(len(scores)) % 2 == 1
    spoilt = np.array(scores)
    spoilt[position % len(scores)] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        evaluate.auroc(labels, spoilt)
    with pytest.raises(ValueError, match="both normal and anomalous"):
        evaluate.auroc(np.zeros(len(scores), bool), np.array(scores))
    with pytest.raises(ValueError, match="inconsistent"):
        evaluate.auroc(labels, np.array([*scores, 1.0]))


@quick
@given(st.sampled_from([np.nan, np.inf, -np.inf]), st.integers(1, 5))
def test_frames_without_a_score_have_no_place_in_a_video(value, count):
    scores = np.zeros(count)
    scores[-1] = value
    with pytest.raises(ValueError, match="not finite"):
        evaluate.frame_normality(scores, np.zeros(count, int))
    with pytest.raises(ValueError, match="do not match"):
        evaluate.frame_normality(np.zeros(count), np.zeros(count + 1, int))


@pytest.mark.parametrize("shape", [(16, 16, 3), (16, 15, 1), (8, 8, 1)])
def test_images_of_another_shape_are_refused(make_trainer, shape):
    images = np.zeros((8, *shape), np.uint8)
    with pytest.raises(RequestError, match=f"images of {'x'.join(map(str, shape))}: expected 16x16x1"):
        make_trainer(epochs=1).train(images, (0,), lambda *_: None)
