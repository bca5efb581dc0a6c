"""Pixel measures of a run: masks as the reader cuts them, measures in results.csv, maps in the report."""

import numpy as np
import pytest
from PIL import Image

from itae_jax import cli, data, experiment, files
from itae_jax.config import DataConfig
from itae_jax.evaluate import metrics
from itae_jax.runs.read import read_all


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
    assert [name.rpartition("/")[2] for name in dataset.unreadable] == ["2_mask.png", "3_mask.png"]


def test_bars_around_an_image_do_not_count(tmp_path, tiny_network, monkeypatch):
    root, wide = tmp_path / "plate", np.zeros((16, 32), np.uint8)
    mask = wide.copy()
    mask[:, 16:] = 255
    for name in ("train/good/0", "test/good/0", "test/dent/0", "ground_truth/dent/0_mask"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(mask if "mask" in name else wide).save(root / f"{name}.png")
    right = np.tile(np.arange(32, dtype=np.float32), (2, 32, 1))  # higher to the right, in the bars lowest
    right[:, :8] = right[:, 24:] = -1
    monkeypatch.setattr("itae_jax.training.learner.Trained.anomaly_maps", lambda self, images: right)
    small = ["data.image_size=32", "data.fit=letterbox", "method.width=2", "train.epochs=1"]
    small += ["train.batch_size=1", "method.transform=identity", "compute.devices=1", f"data.root={root}"]
    assert cli.main(["run", "table2_mvtec_ad", "--out", str(tmp_path / "out"), "--set", *small]) == 0
    (result,) = read_all([tmp_path / "out"])[0].results
    normal = np.tile(np.arange(32), 2)  # the right half of one image of two is a defect
    is_defect = np.repeat([True, False], 32) & (normal >= 16)
    assert result.value("pixel_auroc") == pytest.approx(metrics.auroc(is_defect, normal), abs=1e-5)


def test_run_measures_pixels_and_shows_them(category, tmp_path, tiny_network):
    small = [
        "data.image_size=16",
        "method.width=2",
        "train.epochs=1",
        "train.batch_size=1",
        "train.augment=none",
    ]
    small += [f"data.root={category}", "method.transform=identity", "compute.devices=1"]
    out = tmp_path / "out"
    assert cli.main(["run", "table2_mvtec_ad", "--out", str(out), "--set", *small]) == 0
    (run,) = read_all([out])
    (result,) = run.results
    assert all(0 <= result.value(name) <= 1 for name in metrics.PIXEL_COLUMNS)
    with np.load(run.job_directory(result) / "illustrations.npz") as saved:
        shown = dict(zip(saved["labels"].tolist(), saved["masks"], strict=True))
        scores = [float(row["score"]) for row in files.read_csv(run.job_directory(result) / "scores.csv")]
        for mean in saved["maps"].mean((1, 2)):
            assert np.isclose(scores, mean, rtol=1e-5).any()
    assert shown["dent"].mean() == 0.5 and not shown["good"].any()
    assert "| plate | " in (out / "report.md").read_text() and "AUPRO" in (out / "report.md").read_text()
    assert (out / "figures" / "anomaly_maps_plate.png").exists()
    assert experiment.read_record(out / "config.json").data.root == str(category)
