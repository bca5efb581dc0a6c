"""Measures of images and of pixels against counting by hand."""

import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from itae_jax import cli, data, files, transforms
from itae_jax.config import DataConfig
from itae_jax.data.dataset import OneClassSplit
from itae_jax.evaluate import metrics as measures
from itae_jax.evaluate import restoration as evaluate
from itae_jax.runs import results

EXPERIMENTS = Path(__file__).parent.parent / "experiments"
CASES = st.lists(st.tuples(st.booleans(), st.integers(0, 5)), min_size=2, max_size=30).filter(
    lambda pairs: len({anomalous for anomalous, _ in pairs}) == 2
)


def counts(is_anomaly, scores):
    """(precision, recall) at every threshold that occurs, highest first, by counting."""
    found = []
    for threshold in sorted(set(scores), reverse=True):
        called = scores >= threshold
        found.append(
            ((called & is_anomaly).sum() / called.sum(), (called & is_anomaly).sum() / is_anomaly.sum())
        )
    return found


@settings(deadline=None)
@given(CASES)
def test_image_measures_are_those_of_counting(pairs):
    is_anomaly, scores = (np.asarray(column) for column in zip(*pairs, strict=True))
    curve = counts(is_anomaly, scores)
    recalls = [0, *(recall for _, recall in curve)]
    area = sum(p * (r - before) for (p, r), before in zip(curve, recalls, strict=False))
    best = max(2 * p * r / (p + r) if p + r else 0 for p, r in curve)
    assert measures.of_images(is_anomaly, scores) == {
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
    """The mean overlap of the regions over the false positive rate, threshold by threshold."""
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
    assert measures.aupro(masks, maps, limit) == pytest.approx(aupro_by_hand(masks, maps, limit))


def test_a_small_region_counts_as_much_as_a_large_one():
    masks = np.zeros((1, 10, 10), bool)
    masks[0, 0, 0] = masks[0, 5:, :] = True
    maps = np.zeros(masks.shape)
    maps[0, 5:, :] = 1  # the large region alone is found
    # Half of the regions at no false alarm; the other half comes with all of the rest.
    assert measures.aupro(masks, maps) == pytest.approx(0.5 + 0.5 * 0.15)
    assert measures.pixel_auroc(masks, maps) == pytest.approx((50 + 0.5) / 51)


def test_touching_corners_are_one_region():
    diagonal = np.eye(6, dtype=bool)[None]
    maps = np.where(diagonal, np.arange(36.0).reshape(1, 6, 6), -1)
    assert len(regions_of(diagonal[0])) == 1
    assert measures.aupro(diagonal, maps) == pytest.approx(1)


def test_pixels_outside_of_the_image_do_not_count():
    rng = np.random.default_rng(0)
    masks, maps = rng.random((3, 8, 8)) < 0.3, rng.random((3, 8, 8))
    wider = (
        np.pad(masks, ((0, 0), (2, 2), (0, 0))),
        np.pad(maps, ((0, 0), (2, 2), (0, 0)), constant_values=np.nan),
    )
    assert measures.aupro(*wider) == measures.aupro(masks, maps)
    assert measures.pixel_auroc(*wider) == measures.pixel_auroc(masks, maps)


def test_images_without_a_known_mask_are_left_out():
    rng = np.random.default_rng(0)
    maps = rng.random((3, 8, 8))
    mask, nowhere = rng.random((8, 8)) < 0.3, np.zeros((8, 8), bool)
    found = measures.of_pixels([mask, None, nowhere], maps)
    assert found == measures.of_pixels([mask, nowhere], maps[[0, 2]])
    assert found["pixel_auroc"] == evaluate.auroc([*mask.ravel(), *nowhere.ravel()], maps[[0, 2]].ravel())
    assert measures.of_pixels([None, nowhere], maps[:2]) == {}


@pytest.mark.parametrize("fill", [False, True])
def test_pixels_of_one_kind_have_no_curve(fill):
    masks = np.full((1, 4, 4), fill)
    for measure in (measures.aupro, measures.pixel_auroc):
        with pytest.raises(ValueError, match=r"both|inside and outside"):
            measure(masks, np.zeros(masks.shape))


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


def test_masks_are_cut_at_half_and_what_is_not_known_is_none(category):
    dataset = data.load(DataConfig(name="mvtec_ad", root=str(category), image_size=16))
    split = dataset.split(0)
    masks = dict(zip(split.test_ids, split.masks(np.arange(len(split.test_ids))), strict=True))
    expected = np.tile(np.arange(16) * 17 > 127, (16, 1))
    np.testing.assert_array_equal(masks.pop("test/dent/0.png"), expected)
    assert not masks.pop("test/good/0.png").any()
    assert masks == {f"test/dent/{i}.png": None for i in (1, 2, 3)}
    assert [Path(name).name for name in dataset.unreadable] == ["3_mask.png"]


def test_a_run_tells_the_measures_of_pixels_and_shows_them(category, tmp_path, tiny_network):
    out, experiment = tmp_path / "out", str(EXPERIMENTS / "table2_mvtec_ad.py")
    small = [
        "data.image_size=16",
        "model.width=2",
        "train.epochs=1",
        "train.batch_size=1",
        "train.augment=none",
    ]
    settings = [*small, f"data.root={category}", "transform.name=identity", "compute.devices=1"]
    assert cli.main(["run", experiment, "--out", str(out), "--set", *settings]) == 0
    (row,) = results.read_results(out).values()
    assert all(0 <= float(row[column]) <= 1 for column in measures.PIXEL_COLUMNS)
    with np.load(out / "class_0" / "seed_0" / "illustrations.npz") as saved:
        shown = dict(zip(saved["labels"].tolist(), saved["masks"], strict=True))
        scores = files.read_csv(out / "class_0" / "seed_0" / "scores.csv")
        all_scores = np.array([float(score["score"]) for score in scores])
        for mean in saved["maps"].mean((1, 2)):
            assert np.isclose(all_scores, mean, rtol=1e-5).any()
    assert shown["dent"].mean() == 0.5
    assert not shown["good"].any()
    assert "| plate | " in (out / "report.md").read_text()
    assert "AUPRO" in (out / "report.md").read_text()
    assert (out / "figures" / "error_maps_plate.png").exists()


def test_a_set_without_masks_has_none(rng):
    images = rng.integers(0, 256, (2, 8, 8, 1), np.uint8)
    split = OneClassSplit(images, images, ("good", "bad"), ("a", "b"), "good")
    assert split.masks(np.arange(2)) == [None, None]


def test_video_is_judged_within_each_video_and_without_the_unreadable():
    labels, videos = ("ok", "odd", "ok", "odd", "ok"), ("a", "a", "b", "b", "b")
    images = np.zeros((5, 8, 8, 1), np.uint8)
    split = OneClassSplit(images, images, labels, tuple("12345"), "ok", video_ids=videos)
    is_anomaly, scores = measures.judged(split, np.array([1.0, 2.0, 10.0, 30.0, np.nan]))
    assert is_anomaly.tolist() == [False, True, False, True]
    np.testing.assert_allclose(scores, [0, 1, 0, 1])


@pytest.mark.parametrize("error", ["l1", "l2"])
@pytest.mark.parametrize("name", ["identity", "gray+rotate"])
def test_the_mean_of_an_error_map_is_the_score(rng, name, error):
    images = rng.integers(0, 256, (7, 8, 8, 3), np.uint8)
    transform = transforms.get(name)

    def restore(inputs):
        return inputs * 0.5 + np.zeros(3, np.float32)[None, None, None]

    errors = evaluate.restoration_errors(restore, images, transform, error)
    normal = evaluate.normal_errors(errors)
    batches = list(evaluate.batch_maps(restore, images, transform, normal, error, batch_size=3))
    positions, batch_errors, maps = (np.concatenate(parts) for parts in zip(*batches, strict=True))
    assert positions.tolist() == list(range(7)) and maps.shape == (7, 8, 8)
    np.testing.assert_allclose(batch_errors, errors, rtol=1e-6)
    np.testing.assert_allclose(maps.mean((1, 2)), evaluate.anomaly_scores(errors, normal), rtol=1e-5)


def test_one_pass_gives_the_errors_of_both_kinds(rng):
    images, transform = rng.integers(0, 256, (5, 8, 8, 1), np.uint8), transforms.get("rotate")
    passes = []

    def restore(inputs):
        passes.append(inputs.shape)
        return inputs * 0.5

    both = evaluate.all_restoration_errors(restore, images, transform)
    assert len(passes) == 1  # traced once, for both
    for kind in ("l1", "l2"):
        np.testing.assert_array_equal(both[kind], evaluate.restoration_errors(restore, images, transform, kind))


def test_memory_of_scoring_grows_with_the_batch():
    def memory(batch_size):
        shape, transform = (16, 16, 1), transforms.get("rotate")
        return evaluate.memory_bytes(lambda x: x * 0.5, shape, transform, batch_size=batch_size)

    assert 64 * 16 * 16 / 4 < memory(64) < memory(256)  # at least the images of one of four devices
