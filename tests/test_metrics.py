"""Measures of images, pixels and video frames against counting by hand."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from itae_jax.evaluate import auroc, frame_normality, metrics

PAIRS = st.lists(st.tuples(st.booleans(), st.integers(0, 5)), min_size=2, max_size=30).filter(
    lambda pairs: len({anomalous for anomalous, _ in pairs}) == 2
)


@settings(deadline=None)
@given(PAIRS)
def test_auroc_is_the_share_of_pairs_ranked_right(pairs):
    is_anomaly, scores = (np.asarray(column) for column in zip(*pairs, strict=True))
    high, low = scores[is_anomaly][:, None], scores[~is_anomaly][None]
    expected = ((high > low) + 0.5 * (high == low)).mean()
    assert auroc(is_anomaly, scores) == pytest.approx(expected)


@settings(deadline=None)
@given(st.floats(0, 1), st.integers(1, 500), st.integers(1, 500))
def test_interval_of_an_auroc_contains_it_and_narrows_with_more_images(area, normal, anomalous):
    low, high = metrics.auroc_interval(area, normal, anomalous)
    assert 0 <= low <= area <= high <= 1 and low < high
    narrow_low, narrow_high = metrics.auroc_interval(area, 10 * normal, 10 * anomalous)
    assert narrow_high - narrow_low < high - low


@pytest.mark.parametrize("scale", [1, 30])
def test_interval_of_an_auroc_contains_the_true_one_95_times_in_100(scale, rng):
    true, (normal, anomalous) = scale / (1 + scale), (40, 25)
    is_anomaly, inside = np.arange(normal + anomalous) >= normal, 0
    for _ in range(300):
        scores = rng.exponential(np.where(is_anomaly, scale, 1))
        low, high = metrics.auroc_interval(auroc(is_anomaly, scores), normal, anomalous)
        inside += low <= true <= high
    assert 0.92 < inside / 300 < 0.99


@settings(deadline=None)
@given(PAIRS)
def test_measures_of_images_are_those_of_counting(pairs):
    is_anomaly, scores = (np.asarray(column) for column in zip(*pairs, strict=True))
    area, best, before = 0.0, 0.0, 0.0
    for threshold in sorted(set(scores), reverse=True):
        found = (is_anomaly & (scores >= threshold)).sum()
        precision, recall = found / (scores >= threshold).sum(), found / is_anomaly.sum()
        area, before = area + precision * (recall - before), recall
        best = max(best, 2 * precision * recall / (precision + recall) if found else 0)
    expected = {"average_precision": pytest.approx(area), "best_f1": pytest.approx(best)}
    assert metrics.of_images(is_anomaly, scores) == expected


def regions_of(mask):
    """The connected parts of a mask, diagonal neighbours connecting, by flooding."""
    left, regions = set(zip(*np.nonzero(mask), strict=True)), []
    while left:
        region, border = set(), {left.pop()}
        while border:
            y, x = border.pop()
            region.add((y, x))
            near = {(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)} & left
            left -= near
            border |= near
        regions.append(region)
    return regions


def aupro_by_hand(masks, maps, limit):
    """The mean overlap of the regions over the false-positive rate, threshold by threshold."""
    regions = [(number, region) for number, mask in enumerate(masks) for region in regions_of(mask)]
    points = [(0.0, 0.0)]
    for threshold in sorted(set(maps.ravel()), reverse=True):
        overlaps = [np.mean([maps[n][pixel] >= threshold for pixel in region]) for n, region in regions]
        points.append(((maps[~masks] >= threshold).mean(), np.mean(overlaps)))
    area = 0.0
    for (x0, y0), (x1, y1) in itertools.pairwise(points):
        if x0 >= limit or x0 == x1:
            continue
        end = min(x1, limit)
        y_end = y0 + (y1 - y0) * (end - x0) / (x1 - x0)
        area += (end - x0) * (y0 + y_end) / 2
    return area / limit


@pytest.mark.parametrize("values", [3, 1000])
@pytest.mark.parametrize("limit", [0.3, 0.05, 1.0])
@pytest.mark.parametrize("seed", range(4))
def test_aupro_is_the_overlap_of_each_region_counted_by_hand(seed, limit, values):
    rng = np.random.default_rng(seed)
    masks = rng.random((3, 9, 7)) < 0.25
    masks[1] = False
    maps = rng.integers(0, values, masks.shape) + masks * rng.integers(0, values, masks.shape)
    assert metrics.aupro(masks, maps, limit) == pytest.approx(aupro_by_hand(masks, maps, limit))


def test_aupro_counts_a_small_region_as_much_as_a_large_one():
    masks = np.zeros((1, 10, 10), bool)
    masks[0, 0, 0] = masks[0, 5:, :] = True
    maps = np.zeros(masks.shape)
    maps[0, 5:, :] = 1  # finds the large region alone
    # Half of the regions without a false positive; the other half comes with all of the rest.
    assert metrics.aupro(masks, maps) == pytest.approx(0.5 + 0.5 * 0.15)
    assert metrics.pixel_auroc(masks, maps) == pytest.approx((50 + 0.5) / 51)


def test_aupro_takes_touching_corners_for_one_region():
    diagonal = np.eye(6, dtype=bool)[None]
    maps = np.where(diagonal, np.arange(36.0).reshape(1, 6, 6), -1)
    assert metrics.aupro(diagonal, maps) == pytest.approx(1)


def test_measures_of_pixels_leave_out_nan(rng):
    masks, maps = rng.random((3, 8, 8)) < 0.3, rng.random((3, 8, 8))
    masks[2] = False
    wider = (
        np.pad(masks, ((0, 0), (2, 2), (0, 0))),
        np.pad(maps, ((0, 0), (2, 2), (0, 0)), constant_values=np.nan),
    )
    expected = {"pixel_auroc": metrics.pixel_auroc(masks, maps), "aupro": metrics.aupro(masks, maps)}
    assert metrics.of_pixels(list(wider[0]), wider[1]) == expected
    assert metrics.of_pixels([], []) == metrics.of_pixels([masks[2]], maps[:1]) == {}


@pytest.mark.parametrize("fill", [False, True])
def test_measures_of_one_kind_are_refused(fill):
    masks = np.full((1, 4, 4), fill)
    for measure in (metrics.aupro, metrics.pixel_auroc, auroc):
        with pytest.raises(ValueError, match=r"both|inside and outside"):
            measure(masks, np.zeros(masks.shape))


def test_frame_normality_is_equation_4_in_each_video():
    scores = np.array([1.0, 3.0, 10.0, 20.0, 2.0, 5.0])
    videos = np.array(["a", "a", "b", "b", "a", "c"])
    np.testing.assert_allclose(frame_normality(scores, videos), [1, 0, 1, 0, 0.5, 1])
    for wrong, message in ((scores[:5], "do not match"), (scores * np.nan, "finite")):
        with pytest.raises(ValueError, match=message):
            frame_normality(wrong, videos)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.floats(-10, 10), min_size=2, max_size=9), st.integers(0, 8))
def test_auroc_refuses_what_cannot_be_ranked(scores, position):
    labels, spoilt = np.arange(len(scores)) % 2 == 1, np.array(scores)
    spoilt[position % len(scores)] = np.nan
    for given_labels, given_scores, message in (
        (labels, spoilt, "NaN"),
        (labels & False, scores, "both normal and anomalous"),
        (labels, [*scores, 1.0], "inconsistent"),
    ):
        with pytest.raises(ValueError, match=message):
            auroc(given_labels, np.array(given_scores))
