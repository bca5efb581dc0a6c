"""`itae fit`: what it chooses, what it writes, what it refuses."""

import csv
import json
import os

import numpy as np
import pytest
from conftest import SMALL_FIT as SMALL
from PIL import Image

from itae_jax import cli, config, files, progress
from itae_jax.data import reader as decode
from itae_jax.detection import fit
from itae_jax.detection import model as trained

pytestmark = pytest.mark.usefixtures("tiny_network")


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def make_images(folder, count, rng, size=(20, 20), colour=False, suffix=".png"):
    """Images that are dark on the left."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        pixels = rng.integers(100, 256, (size[1], size[0], 3) if colour else (size[1], size[0]), np.uint8)
        pixels[:, : size[0] // 2] //= 4
        Image.fromarray(pixels).save(folder / f"{number:03d}{suffix}")
    return folder


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """40 grey images in folders, of several sizes and formats, and one that cannot be read."""
    rng, root = np.random.default_rng(0), tmp_path_factory.mktemp("photos")
    make_images(root / "monday", 20, rng)
    make_images(root / "tuesday" / "late", 19, rng, (30, 24), suffix=".jpg")
    (root / "tuesday" / "broken.png").write_bytes(b"no image")
    (root / "notes.txt").write_text("not an image either")
    return root


@pytest.fixture(scope="module")
def model(photos, tmp_path_factory):
    out = tmp_path_factory.mktemp("models") / "model"
    assert cli.main(["fit", str(photos), "--out", str(out), *SMALL]) == 0
    return out


def test_a_model_holds_all_that_scoring_needs_and_says_what_was_left_out(model, photos):
    names = {"config.json", "metrics.jsonl", "normal_scores.csv", "state", "unreadable.csv"}
    assert {path.name for path in model.iterdir()} == names
    assert [path.name for path in model.parent.iterdir()] == ["model"]
    (broken,) = rows_of(model / "unreadable.csv")
    assert broken["image"] == str(photos / "tuesday" / "broken.png")
    record = json.loads((model / "config.json").read_text())
    assert record["image_shape"] == [16, 16, 1]
    assert record["experiment"]["transform"]["name"] == "rotate"
    assert record["experiment"]["data"]["fit"] == "letterbox"
    details = record["details"]
    assert details["num_train"] + details["num_held_out"] == 39
    assert details["num_images"] == 40


def test_the_held_out_fifth_is_listed_with_scores(model, photos):
    loaded = trained.load(model)
    assert len(loaded.normal.ids) in (7, 8)  # the broken one may be among them
    assert all(name.startswith(str(photos)) for name in loaded.normal.ids)
    assert loaded.fitted.num_train == loaded.details["num_train"]


def test_again_there_is_nothing_to_do(model, photos, capsys):
    before = {path: path.read_bytes() for path in model.rglob("*") if path.is_file()}
    assert cli.main(["fit", str(photos), "--out", str(model), *SMALL]) == 0
    assert "nothing to do" in capsys.readouterr().out
    assert {path: path.read_bytes() for path in model.rglob("*") if path.is_file()} == before


def test_it_says_what_it_chose_and_why_and_what_comes_next(photos, tmp_path, capsys):
    out = tmp_path / "my model"
    assert cli.main(["fit", str(photos), "--out", str(out), *SMALL, "--seed", "3"]) == 0
    said = capsys.readouterr().out
    for part in ("40 images in", "8 of them (20 %) are held out", "data.fit=letterbox", "they are grey"):
        assert part in said
    assert "as asked: " in said and "train.epochs=1" in said
    assert "epoch 1/1  loss" in said
    assert "1 images left out" in said
    assert f"next: itae score '{out}' IMAGES --out scores.csv --heatmaps heatmaps" in said
    assert trained.load(out).experiment.seed == 3


def look(width, height, grey=False):
    return decode.Look(width, height, grey)


def chosen(looks, asked=None, num_train=1000, on_cpu=True):
    return {choice.field: choice.value for choice in fit.choose(looks, asked or {}, num_train, on_cpu)}


@pytest.mark.parametrize(
    ("looks", "expected"),
    [
        ([look(256, 256)] * 9, {"data.fit": "crop", "data.channels": 3, "transform.name": "gray+rotate"}),
        ([look(256, 240, True)] * 9, {"data.fit": "crop", "data.channels": 1, "transform.name": "rotate"}),
        ([look(256, 256)] * 9 + [look(256, 200)], {"data.fit": "letterbox"}),
        ([look(64, 64, True)] * 9 + [look(64, 64)], {"data.channels": 3}),
        ([look(28, 28)], {"data.image_size": 32}),
        ([look(500, 100)], {"data.image_size": 64}),
        ([look(500, 50)], {"data.image_size": 32}),
    ],
)
def test_settings_follow_from_the_images(looks, expected):
    assert expected.items() <= chosen(looks).items()


def test_what_is_asked_for_is_not_chosen_and_the_rest_follows_it():
    asked = {"data.channels": 3, "train.epochs": 30, "data.image_size": 48}
    values = chosen([look(99, 99, True)], asked)
    assert not asked.keys() & values.keys()
    assert values["transform.name"] == "gray+rotate"
    assert values["train.halve_every_epochs"] == 25


@pytest.mark.parametrize("num_train", [6, 31, 32, 800, 50_000, 10**6])
def test_a_cpu_gets_as_many_epochs_as_it_can_do(num_train):
    values = chosen([look(99, 99)], num_train=num_train)
    steps = values["train.epochs"] * (num_train // min(32, num_train))
    assert 1 <= values["train.epochs"] <= 500
    assert steps <= 2000 + num_train // 32
    assert values.get("train.halve_every_epochs", 50) <= max(1, values["train.epochs"])


def test_an_accelerator_gets_the_papers_network_and_epochs():
    values = chosen([look(600, 400)], on_cpu=False)
    assert (values["data.image_size"], values["model.width"], values["train.epochs"]) == (128, 64, 500)
    assert "train.halve_every_epochs" not in values


def test_grey_is_told_by_the_pixels_and_sizes_as_they_are_seen(tmp_path, rng):
    grey = Image.fromarray(rng.integers(0, 256, (60, 90), np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    grey.convert("RGB").save(tmp_path / "turned.jpg", exif=exif)
    assert decode.look(tmp_path / "turned.jpg") == look(60, 90, True)
    Image.fromarray(rng.integers(0, 256, (60, 90, 3), np.uint8)).save(tmp_path / "colour.png")
    assert decode.look(tmp_path / "colour.png") == look(90, 60, False)
    (tmp_path / "broken.png").write_bytes(b"no image")
    assert decode.look(tmp_path / "broken.png") is None


def test_training_and_held_out_images_differ_and_follow_the_seed(photos, model, tmp_path):
    names = set(trained.load(model).normal.ids)
    assert cli.main(["fit", str(photos), "--out", str(tmp_path / "other"), *SMALL, "--seed", "1"]) == 0
    assert set(trained.load(tmp_path / "other").normal.ids) != names


def one_line(capsys):
    error = capsys.readouterr().err
    assert error.startswith("itae: ")
    assert error.count("\n") == 1, error
    return error


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--epochs", "2"], "train.epochs: 1 -> 2"),
        (["--seed", "1"], "seed: 0 -> 1"),
        (["--holdout", "0.4"], "holdout: 0.2 -> 0.4"),
    ],
)
def test_another_model_in_the_same_directory_is_refused_with_the_difference(
    model, photos, capsys, change, message
):
    assert cli.main(["fit", str(photos), "--out", str(model), *SMALL, *change]) == 2
    assert message in one_line(capsys)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere", "--out", "m"], "nowhere: no such folder"),
        (["few", "--out", "m"], "7 images in it, at least 8 are needed"),
        (["broken", "--out", "m"], "none of the 8 images there can be read"),
        (["good", "--out", "few"], "few: is not empty"),
        (["good", "--out", "file"], "file: is a file"),
        (["good", "--out", "file/m"], "Not a directory"),
        (["good"], "required: --out"),
        (["good", "--out", "m", "--epochs", "many"], "expected a whole number"),
        (["good", "--out", "m", "--size", "8"], "images of 8x8 are too small"),
        (["good", "--out", "m", "--holdout", "1"], "--holdout 1.0"),
        (["good", "--out", "m", "--set", "data.root=x"], "itae run alone"),
        (["good", "--out", "m", "--set", "transform.name=melt"], "'melt' is not a transform"),
        (["good", "--out", "m", "--set", "compute.devices=64"], "this machine has 4"),
    ],
)
def test_a_wrong_request_gets_one_line_and_writes_nothing(
    arguments, message, tmp_path, monkeypatch, capsys, rng
):
    monkeypatch.chdir(tmp_path)
    make_images(tmp_path / "good", 8, rng)
    make_images(tmp_path / "few", 7, rng)
    (tmp_path / "broken").mkdir()
    for number in range(8):
        (tmp_path / "broken" / f"{number}.png").write_bytes(b"no image")
    (tmp_path / "file").write_text("mine")
    before = sorted(tmp_path.rglob("*"))
    assert cli.main(["fit", *arguments]) == 2
    assert message in one_line(capsys)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_fit_that_ends_early_leaves_no_model_and_can_be_started_again(photos, tmp_path, monkeypatch, capsys):
    out = tmp_path / "model"
    command = ["fit", str(photos), "--out", str(out), *SMALL]

    def interrupted(self, epoch, loss, rate):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("itae_jax.progress.FitProgress.epoch", interrupted)
        assert cli.main(command) == 130
    assert not out.exists()
    with files.locked(trained.partial_of(out)):
        assert cli.main(command) == 2
    assert "is writing there" in capsys.readouterr().err
    assert cli.main(command) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert len((out / "metrics.jsonl").read_text().splitlines()) == 1


def test_nothing_chosen_is_out_of_the_configs_range():
    for on_cpu in (True, False):
        for size in ((1, 1), (20_000, 3)):
            values = chosen([look(*size)], num_train=1, on_cpu=on_cpu)
            config.from_flat({"name": "fit"} | values)


@pytest.fixture
def interrupted(monkeypatch):
    """Fits as asked, but for an interrupt after the second epoch; returns the exit code."""

    def run(*command):
        class Interrupted(progress.FitProgress):
            def epoch(self, epoch, loss, rate):
                if epoch == 2:
                    raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(progress, "FitProgress", Interrupted)
            return cli.main(list(command))

    return run


LONGER = [*SMALL, "train.checkpoint_minutes=0", "--epochs", "3"]


def test_an_interrupted_fit_goes_on_to_the_same_bits(photos, tmp_path, interrupted, capsys):
    plain, out = str(tmp_path / "plain"), str(tmp_path / "model")
    assert cli.main(["fit", str(photos), "--out", plain, *LONGER]) == 0
    capsys.readouterr()
    assert interrupted("fit", str(photos), "--out", out, *LONGER) == 130
    assert "the same command resumes" in capsys.readouterr().err
    assert not (tmp_path / "model").exists()
    assert cli.main(["fit", str(photos), "--out", out, *LONGER]) == 0
    assert "resuming from" in capsys.readouterr().out
    for name in ("normal_scores.csv", "metrics.jsonl"):
        assert (tmp_path / "model" / name).read_bytes() == (tmp_path / "plain" / name).read_bytes()
    assert {path.name for path in tmp_path.iterdir()} == {"plain", "model"}
    assert not {"begun.json", "checkpoints"} & {path.name for path in (tmp_path / "model").iterdir()}


def test_what_is_left_of_another_fit_is_not_gone_on_with(photos, tmp_path, interrupted, capsys):
    out = str(tmp_path / "model")
    assert interrupted("fit", str(photos), "--out", out, *LONGER) == 130
    capsys.readouterr()
    assert cli.main(["fit", str(photos), "--out", out, *LONGER, "--seed", "1"]) == 0
    assert "resuming from" not in capsys.readouterr().out
    assert len((tmp_path / "model" / "metrics.jsonl").read_text().splitlines()) == 3


def test_a_small_folder_with_a_broken_image_is_fitted_all_the_same(tmp_path, rng, capsys):
    folder = make_images(tmp_path / "few", 12, rng)
    (folder / "005.png").write_bytes((folder / "005.png").read_bytes()[:80])
    command = ["fit", str(folder), "--out", str(tmp_path / "model"), "--epochs", "1", "--size", "16"]
    assert cli.main([*command, "--set", "model.width=2", "data.on_corrupt=skip"]) == 0
    assert "train.batch_size=2" in capsys.readouterr().out
    make_images(folder, 1, np.random.default_rng(5), (40, 40))  # one of them replaced
    assert cli.main([*command, "--set", "model.width=2", "data.on_corrupt=skip"]) == 2
    assert "it was fitted on other images" in capsys.readouterr().err


def test_what_is_in_the_way_is_left_alone(photos, tmp_path, capsys):
    (tmp_path / "model.partial").mkdir()
    (tmp_path / "model.partial" / "mine.txt").write_text("mine")
    assert cli.main(["fit", str(photos), "--out", str(tmp_path / "model"), *SMALL]) == 2
    assert "model.partial: is in the way" in capsys.readouterr().err
    assert (tmp_path / "model.partial" / "mine.txt").read_text() == "mine"


def test_out_may_be_a_link_and_names_any_bytes(tmp_path, rng):
    folder = make_images(tmp_path / "images", 8, rng)
    (folder / "000.png").rename(folder / os.fsdecode(b"odd\xff.png"))
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert cli.main(["fit", str(folder), "--out", str(tmp_path / "link"), *SMALL]) == 0
    assert trained.is_model(tmp_path / "real")
    assert len(trained.load(tmp_path / "real").normal.ids) == 2
