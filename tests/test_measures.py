"""Measures of images and of pixels against counting by hand."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from itae_jax import cli, data, experiment, files
from itae_jax.config import DataConfig
from itae_jax.evaluate import metrics, restoration
from itae_jax.report import run_page

CASES = st.lists(st.tuples(st.booleans(), st.integers(0, 5)), min_size=2, max_size=30).filter(
    lambda pairs: len({anomalous for anomalous, _ in pairs}) == 2
)


def counts(is_anomaly, scores):
    """(precision, recall) at every threshold that occurs, highest first, by counting."""
    for threshold in sorted(set(scores), reverse=True):
        called = scores >= threshold
        hits = (called & is_anomaly).sum()
        yield hits / called.sum(), hits / is_anomaly.sum()


@settings(deadline=None)
@given(CASES)
def test_image_measures_are_those_of_counting(pairs):
    is_anomaly, scores = (np.asarray(column) for column in zip(*pairs, strict=True))
    curve = list(counts(is_anomaly, scores))
    recalls = [0, *(recall for _, recall in curve)]
    area = sum(p * (r - before) for (p, r), before in zip(curve, recalls, strict=False))
    best = max(2 * p * r / (p + r) if p + r else 0 for p, r in curve)
    assert metrics.of_images(is_anomaly, scores) == {
        "average_precision": pytest.approx(area),
        "best_f1": pytest.approx(best),
    }


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
        if x0 < limit and x0 != x1:
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
    maps[0, 5:, :] = 1  # the large region alone is found
    # Half of the regions without a false positive; the other half comes with all of the rest.
    assert metrics.aupro(masks, maps) == pytest.approx(0.5 + 0.5 * 0.15)
    assert metrics.pixel_auroc(masks, maps) == pytest.approx((50 + 0.5) / 51)


def test_pixel_measures_ignore_what_is_not_known(rng):
    masks, maps = rng.random((3, 8, 8)) < 0.3, rng.random((3, 8, 8))
    wider = np.pad(maps, ((0, 0), (2, 2), (0, 0)), constant_values=np.nan)
    found = metrics.of_pixels(masks, maps)
    assert metrics.of_pixels(np.pad(masks, ((0, 0), (2, 2), (0, 0))), wider) == found
    assert found == {"pixel_auroc": metrics.auroc(masks.ravel(), maps.ravel()), "aupro": metrics.aupro(masks, maps)}
    assert metrics.of_pixels([*masks, None], [*maps, maps[0]]) == found
    assert metrics.of_pixels([None, np.zeros((8, 8), bool)], maps[:2]) == {}


@pytest.mark.parametrize("fill", [False, True])
def test_pixel_measures_refuse_pixels_of_one_kind(fill):
    masks = np.full((1, 4, 4), fill)
    for measure in (metrics.aupro, metrics.pixel_auroc):
        with pytest.raises(ValueError, match=r"both|inside and outside"):
            measure(masks, np.zeros(masks.shape))


def test_maps_of_errors_have_the_score_as_their_mean(rng):
    errors = rng.random((3, 5, 8, 8, 1), np.float32)
    means_NxT = errors.mean((2, 3, 4)).T
    normal = restoration.normal_errors(means_NxT)
    maps = np.asarray(restoration.maps(errors, normal.astype(np.float32)))
    np.testing.assert_allclose(maps.mean((1, 2)), restoration.anomaly_scores(means_NxT, normal), rtol=1e-5)


@pytest.fixture
def category(tmp_path):
    """A category with four defects: a mask of greys, no mask, an empty mask and a damaged one."""
    root = tmp_path / "plate"
    ramp = np.tile(np.arange(16, dtype=np.uint8) * 17, (16, 1))
    for name in ("train/good/0", "test/good/0", *(f"test/dent/{i}" for i in range(4))):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(ramp).save(root / f"{name}.png")
    marks = root / "ground_truth" / "dent"
    marks.mkdir(parents=True)
    Image.fromarray(ramp).save(marks / "0_mask.png")
    Image.fromarray(np.zeros_like(ramp)).save(marks / "2_mask.png")
    (marks / "3_mask.png").write_bytes(b"not an image")
    return root


def test_masks_are_cut_at_half_and_unknown_ones_are_none(category):
    dataset = data.load(DataConfig(name="mvtec_ad", root=str(category), image_size=16))
    split = dataset.split(0)
    masks = dict(zip(split.test_ids, split.masks(np.arange(len(split.test_ids))), strict=True))
    expected = np.tile(np.arange(16) * 17 > 127, (16, 1))
    np.testing.assert_array_equal(masks.pop("test/dent/0.png"), expected)
    assert not masks.pop("test/good/0.png").any()
    assert masks == {f"test/dent/{i}.png": None for i in (1, 2, 3)}
    assert [name.rpartition("/")[2] for name in dataset.unreadable] == ["3_mask.png"]


def test_run_measures_pixels_and_shows_them(category, tmp_path, tiny_network):
    small = ["data.image_size=16", "method.width=2", "train.epochs=1", "train.batch_size=1", "train.augment=none"]
    small += [f"data.root={category}", "method.transform=identity", "compute.devices=1"]
    out = tmp_path / "out"
    assert cli.main(["run", "table2_mvtec_ad", "--out", str(out), "--set", *small]) == 0
    (run,) = run_page.read([out])
    (result,) = run.results
    assert all(0 <= result.value(name) <= 1 for name in metrics.PIXEL_COLUMNS)
    with np.load(run.job_directory(result) / "illustrations.npz") as saved:
        shown = dict(zip(saved["labels"].tolist(), saved["masks"], strict=True))
        scores = [float(row["score"]) for row in files.read_csv(run.job_directory(result) / "scores.csv")]
        for mean in saved["maps"].mean((1, 2)):
            assert np.isclose(scores, mean, rtol=1e-5).any()
    assert shown["dent"].mean() == 0.5 and not shown["good"].any()
    assert "| plate | " in (out / "report.md").read_text() and "AUPRO" in (out / "report.md").read_text()
    assert (out / "figures" / "error_maps_plate.png").exists()
    assert experiment.read_record(out / "config.json").data.root == str(category)
