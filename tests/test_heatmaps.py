"""Heat maps lie where the error is, whatever brought the image to the model's size."""

import numpy as np
import pytest
from PIL import Image

from itae_jax.data import reader as decode
from itae_jax.detection import anomaly_map as heatmaps


def ramp(width, height):
    """Smooth in both directions, so that resizing changes it little: values from 20 to 220."""
    x, y = np.meshgrid(np.linspace(0, 1, width), np.linspace(0, 1, height))
    return 20 + 130 * x + 70 * y


@pytest.mark.parametrize("fit", decode.FITS)
@pytest.mark.parametrize("size", [(64, 64), (90, 60), (61, 97), (200, 32), (33, 32), (20, 25), (31, 200)])
def test_a_map_of_the_pixels_themselves_lies_over_the_image(tmp_path, fit, size):
    image = ramp(*size)
    Image.fromarray(np.uint8(np.rint(image))).save(tmp_path / "image.png")
    reader = decode.Reader(size=64, channels=1, fit=fit)
    over = reader.lay_over(reader.read(tmp_path / "image.png")[..., 0], *size)
    assert over.shape == image.shape
    seen = ~np.isnan(over)
    cropped = fit == "crop" or (fit == "pad" and max(size) > 64)
    expected = min(size) / max(size) if cropped else 1
    assert seen.mean() == pytest.approx(expected, abs=0.01)
    side = min(size[0], size[1])
    inner = np.zeros_like(seen)  # interpolation mixes in the bars at the edge
    inner[side // 10 + 1 : -side // 10 - 1, side // 10 + 1 : -side // 10 - 1] = True
    np.testing.assert_allclose(over[seen & inner], image[seen & inner], atol=4)


@pytest.mark.parametrize("fit", decode.FITS)
@pytest.mark.parametrize("size", [(64, 64), (90, 60), (61, 97), (33, 32), (31, 200)])
def test_a_map_without_bars_is_known_where_the_image_is_and_nowhere_else(tmp_path, fit, size):
    Image.new("L", size, 255).save(tmp_path / "white.png")
    reader = decode.Reader(size=64, channels=1, fit=fit)
    white = reader.read(tmp_path / "white.png")[..., 0]
    cut = reader.without_bars(np.float32(white), tmp_path / "white.png")
    np.testing.assert_array_equal(np.isnan(cut), white == 0)
    np.testing.assert_array_equal(cut[white > 0], 255)


def test_an_outline_goes_around_the_mask_and_not_over_it():
    picture = np.zeros((20, 30, 3), np.uint8)
    mask = np.zeros((40, 60), bool)
    mask[11, 21] = True  # the smallest there is, of a file twice as large
    drawn = heatmaps.outline(picture, mask).any(axis=2)
    expected = np.zeros_like(drawn)
    expected[[4, 6, 5, 5], [10, 10, 9, 11]] = True
    np.testing.assert_array_equal(drawn, expected)


def test_an_image_that_keeps_its_size_keeps_its_map(rng):
    map_HxW = rng.random((20, 30), np.float32)
    np.testing.assert_array_equal(decode.Reader(size=0).lay_over(map_HxW, 30, 20), map_HxW)


def test_colour_is_where_the_error_is_and_nowhere_below_normal():
    image = np.full((20, 30, 3), 100, np.uint8)
    map_HxW = np.full((20, 30), 0.9)
    map_HxW[5:10, 5:10] = 3.0
    map_HxW[15:, :] = np.nan
    picture = heatmaps.overlay(image, map_HxW, full=4.0).astype(int)
    coloured = np.ptp(picture, axis=2) > 0
    assert coloured[5:10, 5:10].all()
    assert coloured.sum() == 25
    assert (picture[~coloured] == 100).all()
    hotter = heatmaps.overlay(image, map_HxW, full=3.0).astype(int)
    assert np.abs(hotter - 100).sum() > np.abs(picture - 100).sum()


def test_smoothing_keeps_the_sum_and_lowers_a_lonely_pixel():
    map_HxW = np.zeros((64, 64))
    map_HxW[30, 30] = 1
    smooth = heatmaps.smooth(map_HxW)
    assert smooth.sum() == pytest.approx(1)
    assert smooth.max() < 0.25
    assert np.unravel_index(smooth.argmax(), smooth.shape) == (30, 30)
