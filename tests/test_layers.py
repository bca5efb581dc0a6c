"""Layers against NumPy and SciPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import correlate

from itae_jax.models.cpu_conv import conv3x3, halve
from itae_jax.models.layers import double_bilinear

SIDES = st.integers(1, 7)


@settings(max_examples=12, deadline=None)
@given(height=SIDES, width=SIDES, channels=st.sampled_from([1, 3, 5]), seed=st.integers(0, 99))
def test_conv3x3_is_zero_padded_cross_correlation(height, width, channels, seed):
    rng = np.random.default_rng(seed)
    images = rng.normal(size=(2, height, width, channels)).astype(np.float32)
    kernel = rng.normal(size=(3, 3, channels, 2)).astype(np.float32)
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)))
    expected = np.stack(
        [[correlate(image, kernel[..., f], "valid")[..., 0] for f in range(2)] for image in padded]
    )
    result = jax.jit(conv3x3)(images, kernel)
    np.testing.assert_allclose(result, np.moveaxis(expected, 1, -1), atol=1e-4)


@jax.jit
def inner_products(x, kernel, y):
    """Returns pairs that are equal: <conv(x, k), y> is linear in x and in k, so each gradient gives it back."""

    def product(x, k):
        return jnp.vdot(conv3x3(x, k), y)

    dx, dkernel = jax.grad(product, argnums=(0, 1))(x, kernel)
    other_x, other_kernel = dx[::-1] * 0.3, dkernel * 0.7
    return (
        (product(x, kernel), jnp.vdot(dx, x)),
        (product(x, kernel), jnp.vdot(dkernel, kernel)),
        (product(other_x, kernel), jnp.vdot(dx, other_x)),
        (product(x, other_kernel), jnp.vdot(dkernel, other_kernel)),
    )


# On small and large maps, and with few and many channels: each case is computed in its own way.
@pytest.mark.parametrize(
    ("height", "width", "channels", "features"),
    [
        (1, 1, 8, 8),
        (1, 12, 8, 8),
        (2, 4, 40, 8),
        (7, 6, 3, 8),
        (5, 7, 8, 2),
        (6, 4, 8, 8),
        (4, 7, 40, 40),
        (7, 5, 3, 40),
        (5, 4, 40, 2),
    ],
)
def test_conv3x3_has_its_transpose_as_gradient(height, width, channels, features):
    rng = np.random.default_rng(0)
    arrays = (
        jnp.asarray(rng.normal(size=shape), jnp.float32)
        for shape in ((2, height, width, channels), (3, 3, channels, features), (2, height, width, features))
    )
    for expected, actual in inner_products(*arrays):
        np.testing.assert_allclose(actual, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("side", "channels", "features"), [(4, 8, 8), (16, 1, 8), (16, 8, 3), (8, 40, 40), (8, 40, 3), (8, 3, 40)]
)
def test_conv3x3_in_bfloat16_is_finite_and_close_to_float32(side, channels, features, rng):
    shapes = (2, side, side, channels), (3, 3, channels, features), (2, side, side, features)
    x, kernel, gradient = (jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in shapes)

    @jax.jit
    def all_of(x, kernel, gradient):
        result, backward = jax.vjp(conv3x3, x, kernel)
        return result, *backward(gradient)

    halves = all_of(*(array.astype("bfloat16") for array in (x, kernel, gradient)))
    for half, full in zip(halves, all_of(x, kernel, gradient), strict=True):
        assert half.dtype == jnp.bfloat16
        difference = np.asarray(half, np.float32) - full
        assert np.linalg.norm(difference) < 0.02 * np.linalg.norm(full)  # fails for NaN, too


@settings(max_examples=12, deadline=None)
@given(height=st.integers(2, 7), width=st.integers(2, 7), levels=st.sampled_from([2, 1000]))
def test_halve_takes_maxima_and_gives_gradients_to_the_first_of_them(height, width, levels):
    rng = np.random.default_rng(0)
    image = rng.integers(0, levels, (2, height, width, 3)).astype(np.float32)  # few levels: many ties
    windows = [
        (b, slice(y, y + 2), slice(x, x + 2), c)
        for b in range(2)
        for y in range(0, height - 1, 2)
        for x in range(0, width - 1, 2)
        for c in range(3)
    ]
    shape = (2, height // 2, width // 2, 3)
    weights = rng.normal(size=shape).astype(np.float32)
    halved, backward = jax.vjp(jax.jit(halve), jnp.asarray(image))
    (gradient,) = backward(weights)
    np.testing.assert_array_equal(halved, np.array([image[w].max() for w in windows]).reshape(shape))
    expected = np.zeros_like(image)
    for window, weight in zip(windows, weights.ravel(), strict=True):
        row, column = np.unravel_index(image[window].argmax(), (2, 2))
        expected[window][row, column] = weight
    np.testing.assert_array_equal(gradient, expected)


@settings(max_examples=12, deadline=None)
@given(height=SIDES, width=SIDES)
def test_double_bilinear_interpolates_and_keeps_the_corners(height, width):
    image = np.random.default_rng(0).normal(size=(height, width))

    def stretched(line):
        return np.interp(np.linspace(0, len(line) - 1, 2 * len(line)), np.arange(len(line)), line)

    expected = np.apply_along_axis(stretched, 1, np.apply_along_axis(stretched, 0, image))
    result = jax.jit(double_bilinear)(jnp.asarray(image, jnp.float32)[None, :, :, None])
    np.testing.assert_allclose(result[0, :, :, 0], expected, atol=1e-5)
    assert result[0, 0, 0, 0] == pytest.approx(image[0, 0], abs=1e-6)
    assert result[0, -1, -1, 0] == pytest.approx(image[-1, -1], abs=1e-6)
