"""Odd but valid requests: a run comes to its report, with numbers where there are any."""

import csv
import math
import os
import platform
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from itae_jax import cli

DIGITS = str(Path(__file__).parent.parent / "experiments" / "digits.py")


@pytest.fixture
def run_tree(tmp_path, tiny_network):
    """Writes a tree {split/class: images H x W}, runs class 0 on it, and returns its row and directory."""

    def run(tree, *settings):
        for folder, images in tree.items():
            (tmp_path / "tree" / folder).mkdir(parents=True)
            for i, image in enumerate(images):
                Image.fromarray(np.asarray(image, np.uint8)).save(tmp_path / "tree" / folder / f"{i}.png")
        out = tmp_path / "out"
        fields = ["data.name=folder", f"data.root={tmp_path}/tree", "train.epochs=2", *settings]
        assert cli.main(["run", DIGITS, "--classes", "0", "--out", str(out), "--set", *fields]) == 0
        assert (out / "report.html").exists()
        with (out / "results.csv").open(newline="") as file:
            (row,) = csv.DictReader(file)
        return row, out

    return run


def constant(value, count):
    return [np.full((16, 16), value)] * count


@pytest.mark.parametrize("value", [0, 128, 255])
def test_constant_images(run_tree, value):
    tree = {"train/a": constant(value, 8), "test/a": constant(value, 2), "test/b": constant(255 - value, 2)}
    row, _ = run_tree(tree, "train.batch_size=4")
    assert 0 <= float(row["auroc"]) <= 1


def test_one_training_image(run_tree, rng):
    tree = {
        name: rng.integers(0, 256, (n, 16, 16)) for name, n in (("train/a", 1), ("test/a", 2), ("test/b", 2))
    }
    row, _ = run_tree(tree, "train.batch_size=1")
    assert (row["num_train"], row["num_test"]) == ("1", "4")
    assert math.isfinite(float(row["auroc"]))


def test_a_test_set_of_one_image(run_tree, rng):
    tree = {
        name: rng.integers(0, 256, (n, 16, 16)) for name, n in (("train/a", 4), ("train/b", 4), ("test/b", 1))
    }
    row, out = run_tree(tree, "train.batch_size=4")
    assert row["auroc"] == ""
    assert row["note"] == "AUROC is not defined: the 1 test images are all anomalous"
    assert row["note"] in (out / "report.html").read_text()


def test_names_are_text_on_the_page_whatever_they_look_like(run_tree, rng):
    evil = "<script>document.title = 'taken'<|script>".replace("|", "&#47;")
    tree = {
        f"{split}/{name}": rng.integers(0, 256, (4, 16, 16))
        for split in ("train", "test")
        for name in (evil, "b")
    }
    row, out = run_tree(tree, "train.batch_size=4")
    assert row["normal_class_name"] == evil
    page = (out / "report.html").read_text()
    assert "<script>document" not in page
    assert "&lt;script&gt;document" in page


def test_test_images_that_cannot_be_read_leave_no_scores(run_tree, rng, tmp_path):
    tree = {"train/a": rng.integers(0, 256, (4, 16, 16)), "train/b": rng.integers(0, 256, (4, 16, 16))}
    for name in ("a", "b"):
        (tmp_path / "tree" / "test" / name).mkdir(parents=True)
        (tmp_path / "tree" / "test" / name / "0.png").write_bytes(b"no image")
    row, out = run_tree(tree, "train.batch_size=4")
    assert row["note"] == "AUROC is not defined: no test image can be read"
    with (out / "unreadable.csv").open(newline="") as file:
        assert [line["image"].rpartition("/")[2] for line in csv.DictReader(file)] == ["0.png", "0.png"]


def test_a_class_that_cannot_be_trained_does_not_end_the_sweep(tmp_path, tiny_network, rng, capsys):
    for folder in ("train/a", "train/b", "test/a", "test/b"):
        (tmp_path / "tree" / folder).mkdir(parents=True)
        for i in range(4):
            path = tmp_path / "tree" / folder / f"{i}.png"
            Image.fromarray(rng.integers(0, 256, (16, 16), np.uint8)).save(path)
            if folder == "train/a":
                path.write_bytes(path.read_bytes()[:60])
    out = tmp_path / "out"
    fields = ["data.name=folder", f"data.root={tmp_path}/tree", "train.epochs=1", "train.batch_size=4"]
    assert cli.main(["run", DIGITS, "--out", str(out), "--set", *fields]) == 1
    with (out / "results.csv").open(newline="") as file:
        first, second = csv.DictReader(file)
    assert first["note"].startswith("failed: of 4 training images fewer than train.batch_size=4 can be read")
    assert second["auroc"] and not second["note"]
    capsys.readouterr()
    shutil.rmtree(tmp_path / "tree" / "test" / "b")
    (tmp_path / "tree" / "test" / "c").mkdir()
    Image.fromarray(rng.integers(0, 256, (16, 16), np.uint8)).save(tmp_path / "tree" / "test" / "c" / "0.png")
    before = (out / "results.csv").read_bytes()
    assert cli.main(["run", DIGITS, "--out", str(out), "--set", *fields]) == 2
    assert "holds results of other data" in capsys.readouterr().err
    assert (out / "results.csv").read_bytes() == before


def test_a_refused_second_run_leaves_the_config_of_the_first(tmp_path, capsys):
    from itae_jax.config import Experiment
    from itae_jax.runs import results

    out = tmp_path / "out"
    with results.begun(out, Experiment(name="first")):
        before = (out / "config.json").read_bytes()
        assert cli.main(["run", DIGITS, "--out", str(out)]) == 2
        told = f"another run (process {os.getpid()} on {platform.node()}) is writing there"
        assert told in capsys.readouterr().err
    assert (out / "config.json").read_bytes() == before
