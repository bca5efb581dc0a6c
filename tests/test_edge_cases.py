"""Odd but valid requests: a run comes to its report, with numbers where there are any."""

import math
import shutil

import numpy as np
import pytest
from conftest import one_line, rows_of
from PIL import Image

from itae_jax import cli, experiment
from itae_jax.runs import directory


@pytest.fixture
def run_tree(tmp_path, tiny_network):
    """Writes a tree {split/class: images H x W}, runs it, and returns the rows and the directory."""

    def run(tree, *settings, code=0, classes=("--classes", "0")):
        for folder, images in tree.items():
            (tmp_path / "tree" / folder).mkdir(parents=True)
            for i, image in enumerate(images):
                Image.fromarray(np.asarray(image, np.uint8)).save(tmp_path / "tree" / folder / f"{i}.png")
        out = tmp_path / "out"
        fields = ["data.name=folder", f"data.root={tmp_path}/tree", "train.epochs=2", "train.batch_size=4"]
        assert cli.main(["run", "digits", *classes, "--out", str(out), "--set", *fields, *settings]) == code
        assert (out / "report.html").exists()
        return rows_of(out / "results.csv"), out

    return run


@pytest.fixture
def noise(rng):
    """{folder: count} -> a tree of images of noise."""
    return lambda counts: {name: rng.integers(0, 256, (count, 16, 16)) for name, count in counts.items()}


@pytest.mark.parametrize("value", [0, 128, 255])
def test_run_takes_constant_images(run_tree, value):
    images = np.full((8, 16, 16), value)
    (row,), _ = run_tree({"train/a": images, "test/a": images[:2], "test/b": 255 - images[:2]})
    assert 0 <= float(row["auroc"]) <= 1


def test_run_takes_one_training_image(run_tree, noise):
    (row,), _ = run_tree(noise({"train/a": 1, "test/a": 2, "test/b": 2}), "train.batch_size=1")
    assert (row["num_train"], row["num_test"]) == ("1", "4")
    assert math.isfinite(float(row["auroc"]))


def test_run_takes_one_test_image(run_tree, noise):
    (row,), out = run_tree(noise({"train/a": 4, "train/b": 4, "test/b": 1}))
    assert (row["auroc"], row["status"]) == ("", "undefined")
    assert "1 test image" in row["note"]
    assert row["note"] in (out / "report.html").read_text()


def test_run_shows_names_as_text_whatever_they_look_like(run_tree, noise):
    evil = "<script>document.title = 'taken'<|script>".replace("|", "&#47;")
    (row,), out = run_tree(noise({f"{split}/{name}": 4 for split in ("train", "test") for name in (evil, "b")}))
    assert row["normal_class_name"] == evil
    page = (out / "report.html").read_text()
    assert "<script>document" not in page
    assert "&lt;script&gt;document" in page


def test_run_gives_no_scores_of_test_images_that_cannot_be_read(run_tree, noise, tmp_path):
    for name in ("a", "b"):
        (tmp_path / "tree" / "test" / name).mkdir(parents=True)
        (tmp_path / "tree" / "test" / name / "0.png").write_bytes(b"no image")
    (row,), out = run_tree(noise({"train/a": 4, "train/b": 4}))
    assert row["status"] == "undefined" and "no test image" in row["note"]
    names = [line["image"].rpartition("/")[2] for line in rows_of(out / "unreadable.csv")]
    assert names == ["0.png", "0.png"]


def test_run_goes_on_after_a_class_that_cannot_be_trained(run_tree, noise, tmp_path, rng, capsys):
    tree = noise({"train/b": 4, "test/a": 4, "test/b": 4})
    (tmp_path / "tree" / "train" / "a").mkdir(parents=True)
    for i in range(4):
        path = tmp_path / "tree" / "train" / "a" / f"{i}.png"
        Image.fromarray(rng.integers(0, 256, (16, 16), np.uint8)).save(path)
        path.write_bytes(path.read_bytes()[:60])
    (first, second), out = run_tree(tree, code=1, classes=())
    assert first["status"] == "failed" and "train.batch_size=4" in first["note"]
    assert second["auroc"] and second["status"] == "done"
    capsys.readouterr()
    shutil.move(tmp_path / "tree" / "test" / "b", tmp_path / "tree" / "test" / "c")
    (tmp_path / "tree" / "test" / "c" / "0.png").unlink()
    before = (out / "results.csv").read_bytes()
    with pytest.raises(AssertionError):
        run_tree({}, classes=())
    assert "holds results of other data" in one_line(capsys)
    assert (out / "results.csv").read_bytes() == before


def test_a_refused_second_run_leaves_the_config_of_the_first(tmp_path, capsys):
    out = tmp_path / "out"
    with directory.opened(out, experiment.Experiment(name="first")):
        before = (out / "config.json").read_bytes()
        assert cli.main(["run", "digits", "--out", str(out)]) == 2
        assert f"{out}: another run is writing there" in one_line(capsys)
    assert (out / "config.json").read_bytes() == before
