"""Heat maps lie where the error is, whatever brought the image to the model's size."""

import numpy as np
import pytest
from PIL import Image

from itae_jax.data.reader import FITS, Reader
from itae_jax.detection import anomaly_map
from itae_jax.detection.threshold import NormalScores
from itae_jax.evaluate import restoration

SIZES = [(64, 64), (90, 60), (61, 97), (200, 32), (33, 32), (20, 25), (31, 200)]


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("aspect", [1, 1.5, 0.4])
def test_a_map_lies_over_the_image_and_is_unknown_in_the_bars(tmp_path, fit, size, aspect):
    width, height = size
    x, y = np.meshgrid(np.linspace(0, 1, width), np.linspace(0, 1, height))
    image = 20 + 130 * x + 70 * y  # smooth, so that resizing changes it little
    Image.fromarray(np.uint8(np.rint(image))).save(tmp_path / "image.png")
    reader = Reader(size=64, channels=1, fit=fit, aspect=aspect)
    map_HxW = np.float32(reader.read(tmp_path / "image.png")[..., 0])
    cut = reader.without_bars(map_HxW, tmp_path / "image.png")
    np.testing.assert_array_equal(np.isnan(cut), map_HxW == 0)
    np.testing.assert_array_equal(cut[map_HxW > 0], map_HxW[map_HxW > 0])

    over = reader.lay_over(map_HxW, *size)
    assert over.shape == image.shape
    seen = ~np.isnan(over)
    change = width / height / aspect
    assert seen.mean() == pytest.approx(min(change, 1 / change) if fit == "crop" else 1, abs=0.02)
    edge = min(size) // 10 + 1  # where interpolation mixes in the bars
    inner = np.zeros_like(seen)
    inner[edge : min(size) - edge, edge : min(size) - edge] = True
    np.testing.assert_allclose(over[seen & inner], image[seen & inner], atol=4)
    np.testing.assert_array_equal(Reader(size=0).lay_over(map_HxW, *map_HxW.shape[::-1]), map_HxW)


def test_outline_goes_around_the_mask_and_not_over_it():
    mask = np.zeros((40, 60), bool)
    mask[11, 21] = True  # a single pixel, of a file twice as large as the picture
    drawn = anomaly_map.outline(np.zeros((20, 30, 3), np.uint8), mask, "#00e5ff").any(axis=2)
    expected = np.zeros_like(drawn)
    expected[[4, 6, 5, 5], [10, 10, 9, 11]] = True
    np.testing.assert_array_equal(drawn, expected)


def test_overlay_colours_what_is_above_normal():
    image, map_HxW = np.full((20, 30, 3), 100, np.uint8), np.full((20, 30), 0.9)
    map_HxW[5:10, 5:10] = 3.0
    map_HxW[15:, :] = np.nan
    picture = anomaly_map.overlay(image, map_HxW, full=4.0).astype(int)
    coloured = np.ptp(picture, axis=2) > 0
    assert coloured[5:10, 5:10].all()
    assert coloured.sum() == 25
    assert (picture[~coloured] == 100).all()
    hotter = anomaly_map.overlay(image, map_HxW, full=3.0).astype(int)
    assert np.abs(hotter - 100).sum() > np.abs(picture - 100).sum()


def test_only_one_in_twenty_normal_images_reaches_the_brightest_colour(rng):
    """Each of 60 maps of noise in turn is the new image, the others are the calibration set."""
    maps = [anomaly_map.smooth(one) for one in rng.gamma(2, 0.5, (60, 32, 32))]
    peaks, black = np.array([one.max() for one in maps]), np.zeros((32, 32, 1), np.uint8)
    bright = 0
    for position, map_HxW in enumerate(maps):
        others = np.delete(peaks, position)
        full = NormalScores(tuple(map(str, others)), others, others, {}).usual_peak
        strongest = anomaly_map.overlay(black, np.full((32, 32), full), full)[0, 0]
        drawn = anomaly_map.overlay(black, map_HxW, full)
        bright += peaks[position] > full
        assert (drawn == strongest).all(axis=2).any() == (peaks[position] >= full - (full - 1) / 510)
    assert bright == 3


def test_colour_bar_has_the_colours_of_heat_maps_from_grey_on():
    bar = anomaly_map.colour_bar().astype(int)
    assert bar.shape == (1, 256, 3)
    assert np.ptp(bar[0, 0]) == 0
    assert (np.diff(np.ptp(bar[0], axis=1)) >= -2).all() and np.ptp(bar[0, -1]) > 100
    grey = np.full((1, 256, 1), bar[0, 0, 0], np.uint8)
    for full in (1.5, 40):
        np.testing.assert_array_equal(anomaly_map.overlay(grey, np.linspace(1, full, 256)[None], full), bar)


def test_smooth_keeps_sum_and_place_and_lowers_a_lonely_pixel():
    map_HxW = np.zeros((64, 64))
    map_HxW[30, 30] = 1
    smooth = anomaly_map.smooth(map_HxW)
    assert smooth.sum() == pytest.approx(1)
    assert smooth.max() < 0.25
    assert np.unravel_index(smooth.argmax(), smooth.shape) == (30, 30)


@pytest.mark.parametrize("shape", [(16, 24), (64, 64), (300, 512)])
def test_smooth_does_what_scores_do(rng, shape):
    map_HxW = rng.gamma(2, 0.5, shape)
    np.testing.assert_allclose(anomaly_map.smooth(map_HxW), restoration.smoothed(map_HxW[None])[0], rtol=1e-3)
