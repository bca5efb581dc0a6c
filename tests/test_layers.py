"""Layers against NumPy and SciPy."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import correlate

from itae_jax.models.layers import conv3x3, double_bilinear

SIDES = st.integers(1, 7)


@settings(max_examples=25, deadline=None)
@given(height=SIDES, width=SIDES, channels=st.integers(1, 3), seed=st.integers(0, 99))
def test_conv3x3_is_zero_padded_cross_correlation(height, width, channels, seed):
    rng = np.random.default_rng(seed)
    images = rng.normal(size=(2, height, width, channels)).astype(np.float32)
    kernel = rng.normal(size=(3, 3, channels, 2)).astype(np.float32)
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)))
    expected = np.stack(
        [[correlate(image, kernel[..., f], "valid")[..., 0] for f in range(2)] for image in padded]
    )
    result = conv3x3(jnp.asarray(images), jnp.asarray(kernel))
    np.testing.assert_allclose(result, np.moveaxis(expected, 1, -1), atol=1e-4)


@settings(max_examples=25, deadline=None)
@given(height=SIDES, width=SIDES)
def test_double_bilinear_interpolates_with_the_corners_kept(height, width):
    image = np.random.default_rng(0).normal(size=(height, width))

    def stretched(line):
        return np.interp(np.linspace(0, len(line) - 1, 2 * len(line)), np.arange(len(line)), line)

    expected = np.apply_along_axis(stretched, 1, np.apply_along_axis(stretched, 0, image))
    result = double_bilinear(jnp.asarray(image, jnp.float32)[None, :, :, None])
    np.testing.assert_allclose(result[0, :, :, 0], expected, atol=1e-5)
    assert result[0, 0, 0, 0] == pytest.approx(image[0, 0], abs=1e-6)
    assert result[0, -1, -1, 0] == pytest.approx(image[-1, -1], abs=1e-6)
