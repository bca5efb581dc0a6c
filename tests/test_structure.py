"""Structural errors and reductions of anomaly maps, against independent implementations."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from itae_jax.evaluate import restoration, structure


@pytest.fixture
def pair(rng):
    """Two images that share coarse structure, 2 x 37 x 52 x C in [-1, 1]."""

    def make(channels):
        coarse = ndimage.gaussian_filter(rng.normal(size=(2, 37, 52, channels)), (0, 3, 3, 0)) * 4
        noisy = coarse + 0.2 * rng.normal(size=coarse.shape)
        return np.tanh(coarse).astype(np.float32), np.tanh(noisy).astype(np.float32)

    return make


@pytest.mark.parametrize("channels", [1, 3])
def test_ssim_error_is_that_of_scikit_image(pair, channels):
    metrics = pytest.importorskip("skimage.metrics", reason="scikit-image is the reference")
    first, second = pair(channels)
    found = np.asarray(structure.ssim_error(jnp.asarray(first), jnp.asarray(second)))
    options = {"gaussian_weights": True, "use_sample_covariance": False, "data_range": 2.0, "full": True}
    for image, other, error in zip(first, second, found, strict=True):
        _, expected = metrics.structural_similarity(image, other, channel_axis=-1, **options)
        np.testing.assert_allclose(error, 1 - expected, atol=1e-4)


def reference_msgms(first, second, scales):
    x, y = first.astype(np.float64).mean(-1), second.astype(np.float64).mean(-1)
    kernel = np.array([[1, 0, -1]] * 3) / 3
    total, (height, width) = np.zeros(x.shape), x.shape
    for scale in range(scales):
        if scale:
            x, y = (z[: len(z) // 2 * 2, : z.shape[1] // 2 * 2] for z in (x, y))
            x, y = (z.reshape(len(z) // 2, 2, -1, 2).mean((1, 3)) for z in (x, y))
        g, h = (
            np.hypot(*(ndimage.correlate(z, one, mode="reflect") for one in (kernel, kernel.T))) for z in (x, y)
        )
        error = 1 - (2 * g * h + 0.0104) / (g**2 + h**2 + 0.0104)
        rows, columns = (
            np.clip((np.arange(n) + 0.5) * m / n - 0.5, 0, m - 1)
            for n, m in zip((height, width), error.shape, strict=True)
        )
        total += ndimage.map_coordinates(error, np.meshgrid(rows, columns, indexing="ij"), order=1)
    return total / scales


@pytest.mark.parametrize(("factor", "scales"), [(1, 2), (2, 3), (4, 4)])
def test_msgms_error_is_that_of_numpy(pair, factor, scales):
    first, second = (np.repeat(np.repeat(one, factor, 1), factor, 2) for one in pair(3))
    found = np.asarray(structure.msgms_error(jnp.asarray(first), jnp.asarray(second)))[..., 0]
    for image, other, error in zip(first, second, found, strict=True):
        np.testing.assert_allclose(error, reference_msgms(image, other, scales), atol=1e-4)


@pytest.mark.parametrize("error", [structure.ssim_error, structure.msgms_error])
def test_structural_errors_are_zero_for_the_same_image_and_symmetric(pair, error):
    first, second = map(jnp.asarray, pair(1))
    assert np.abs(error(first, first)).max() < 1e-4
    np.testing.assert_allclose(error(first, second), error(second, first), atol=1e-6)
    assert float(error(first, second).min()) >= -1e-4


@pytest.mark.parametrize(("width", "deviation", "share"), [(64, 1.0, 0.02), (96, 1.5, 0.3), (256, 2.0, 1)])
def test_reductions_are_those_of_numpy(rng, width, deviation, share):
    maps = rng.uniform(size=(3, 40, width)).astype(np.float32)
    found = restoration.reduced(jnp.asarray(maps), share)
    smooth = np.stack([ndimage.gaussian_filter(one, deviation, mode="nearest") for one in maps]).reshape(3, -1)
    top = np.sort(smooth, axis=1)[:, -round(share * smooth.shape[1]) :].mean(1)
    for name, expected in {"mean": maps.mean((1, 2)), "max": smooth.max(1), "top": top}.items():
        np.testing.assert_allclose(found[name], expected, rtol=1e-4)


def test_the_maximum_over_members_is_a_score():
    errors, normal = np.array([[1.0, 4.0], [3.0, 2.0]]), np.array([1.0, 2.0])
    assert restoration.anomaly_scores(errors, normal, "max").tolist() == [2.0, 3.0]
    np.testing.assert_allclose(restoration.anomaly_scores(jnp.asarray(errors), normal, "max"), [2.0, 3.0])
