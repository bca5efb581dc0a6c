"""`itae fit`: what it chooses, writes, resumes and refuses."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import SMALL_FIT, SMALL_FITS, contents, save_images
from PIL import Image

from itae_jax import cli, experiment, files, methods, progress
from itae_jax.data import reader
from itae_jax.detection import choose
from itae_jax.detection import model as models

pytestmark = pytest.mark.usefixtures("tiny_network")


def fit(images, out, *options):
    return cli.main(["fit", str(images), "--out", str(out), *options])


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """40 grey images in folders, of several sizes and formats, one of them unreadable."""
    root = tmp_path_factory.mktemp("photos")
    save_images(root / "monday", 20)
    save_images(root / "tuesday" / "late", 19, 1, (30, 24), ".jpg")
    (root / "tuesday" / "broken.png").write_bytes(b"no image")
    (root / "notes.txt").write_text("not an image either")
    return root


@pytest.fixture(scope="module")
def model(photos, tmp_path_factory):
    out = tmp_path_factory.mktemp("models") / "my model"
    assert fit(photos, out, *SMALL_FIT, "--seed", "3") == 0
    return out


def test_fit_writes_all_that_scoring_needs_and_lists_what_cannot_be_read(model, photos):
    names = {"config.json", "metrics.jsonl", "normal_scores.csv", "state", "unreadable.csv"}
    assert {path.name for path in model.iterdir()} == names
    assert [path.name for path in model.parent.iterdir()] == [model.name]
    (broken,) = files.read_csv(model / "unreadable.csv")
    assert broken["image"] == str(photos / "tuesday" / "broken.png")
    loaded = models.load(model)
    assert loaded.image_shape == (16, 16, 1)
    assert (loaded.experiment.method.transform, loaded.experiment.data.fit) == ("rotate", "stretch")
    assert loaded.experiment.seed == 3
    assert len(loaded.normal.ids) in (7, 8)  # a fifth; the broken image may be one of them
    assert all(name.startswith(str(photos)) for name in loaded.normal.ids)
    assert loaded.trained.num_train + len(loaded.normal.ids) == 39


def test_fit_again_has_nothing_to_do(model, photos, capsys):
    before = contents(model)
    assert fit(photos, model, *SMALL_FIT, "--seed", "3") == 0
    assert "nothing to do" in capsys.readouterr().out
    assert contents(model) == before


def test_fit_says_what_it_chose_and_what_comes_next(photos, model, tmp_path, capsys):
    out = tmp_path / "other model"
    assert fit(photos, out, *SMALL_FIT) == 0
    said = capsys.readouterr().out
    assert "255 levels" not in said
    for part in ("40 images in", "8 of them (20 %)", "data.fit=stretch", "train.epochs=1", "epoch 1/1"):
        assert part in said
    assert "Calibration scores: median" in said
    assert f"itae score '{out}' IMAGES" in said
    assert set(models.load(out).normal.ids) != set(models.load(model).normal.ids)  # the seed decides


def test_images_that_share_an_aspect_ratio_keep_it_from_fit_to_export(tmp_path):
    good, model, scores, maps = (tmp_path / name for name in ("good", "model", "scores.csv", "maps"))
    save_images(good, 12, size=(40, 20))
    assert fit(good, model, *SMALL_FITS["pca"]) == 0
    loaded = models.load(model)
    assert (loaded.image_shape, loaded.experiment.data.aspect) == ((16, 32, 1), 2.0)
    for command in (
        ["score", model, good, "--out", scores, "--maps", maps],
        ["calibrate", model, save_images(tmp_path / "new", 8, 1, (20, 40)), "--out", tmp_path / "copy"],
        ["export", model, "--out", tmp_path / "file"],
    ):
        assert cli.main([str(part) for part in command]) == 0
    assert np.load(maps / "000.png.npy").shape == (16, 32)
    paths = [good / row["path"] for row in files.read_csv(scores)]
    expected = loaded.trained.score(np.stack([loaded.reader.read(path) for path in paths])).scores_N
    assert [float(row["score"]) for row in files.read_csv(scores)] == pytest.approx(expected, rel=1e-5)
    image = json.loads((tmp_path / "file.json").read_text())["image"]
    assert (image["height"], image["width"], image["fit"]) == (16, 32, "stretch")


def look(width, height, grey=False):
    return reader.Look(width, height, grey)


def chosen(looks, asked=None, num_train=1000, accelerator=False, method="itae"):
    settings = methods.config_class(method)()
    found = choose.choose(looks, asked or {}, num_train, settings, accelerator)
    return {choice.field: choice.value for choice in found}


@pytest.mark.parametrize(
    ("looks", "expected"),
    [
        ([look(256, 256)] * 9, {"data.fit": "stretch", "data.aspect": 1.0, "data.channels": 3}),
        ([look(256, 240, True)] * 9, {"data.aspect": 1.0, "data.channels": 1}),
        ([look(256, 256)] * 9 + [look(256, 200)], {"data.aspect": 1.0}),
        ([look(64, 64, True)] * 9 + [look(64, 64)], {"data.channels": 3}),
        ([look(28, 28)], {"data.image_size": 32}),
        ([look(500, 100)], {"data.image_size": 64, "data.aspect": 1.0}),
        ([look(640, 480)] * 9, {"data.image_size": 64, "data.aspect": 80 / 64}),
        ([look(500, 900)] * 9, {"data.aspect": 64 / 112}),
        ([look(1, 300)] * 9, {"data.aspect": 1.0}),
        ([look(640, 480)] * 9 + [look(480, 640)], {"data.aspect": 1.0}),
        ([look(500, 50)], {"data.image_size": 32}),
    ],
)
def test_choose_follows_the_images(looks, expected):
    assert expected.items() <= chosen(looks).items()


@pytest.mark.parametrize("size", [16, 24, 30, 40, 56, 72])
def test_choose_keeps_squares_square_at_any_size(size):
    assert chosen([look(99, 99)], {"data.image_size": size})["data.aspect"] == 1.0
    assert chosen([look(99, 199)] * 9, {"data.image_size": size})["data.aspect"] < 0.7


def test_choose_makes_images_square_for_what_needs_it():
    looks = [look(640, 480)] * 9
    for values in (chosen(looks, {"method.transform": "rotate"}), chosen(looks, method="geotrans")):
        assert values["data.aspect"] == 1.0


def test_choose_leaves_what_is_asked_for_and_follows_it():
    asked = {"method.transform": "rotate", "train.epochs": 30, "data.image_size": 48}
    values = chosen([look(99, 99, True)], asked)
    assert not asked.keys() & values.keys()
    assert "method.head" not in values and values["method.optimizer"] == "adamw"


@pytest.mark.parametrize("method", methods.names())
@pytest.mark.parametrize("num_train", [1, 31, 32, 800, 10**6])
@pytest.mark.parametrize("accelerator", [False, True])
def test_choose_makes_valid_settings_for_any_number_of_images(num_train, method, accelerator):
    values = chosen([look(20_000, 3)], num_train=num_train, method=method, accelerator=accelerator)
    settings = experiment.from_flat({"method.name": method} | values)
    assert settings.train.batch_size <= num_train


def test_choose_mirrors_no_images_for_a_method_that_tells_mirror_images_apart():
    assert chosen([look(99, 99)], method="geotrans")["train.augment"] == "none"


def test_choose_gives_an_accelerator_larger_images_and_the_papers_width():
    values = chosen([look(600, 400)], accelerator=True)
    assert (values["data.image_size"], values["method.width"]) == (128, 64)


def test_fit_trains_about_as_long_as_asked_and_as_long_when_resumed(photos, tmp_path, monkeypatch):
    monkeypatch.setattr("itae_jax.training.trainer.Trainer.seconds_per_step", lambda *_: 0.5)
    options = ["--minutes", "0.1", *SMALL_FIT[SMALL_FIT.index("--size") :]]
    assert fit(photos, tmp_path / "model", *options) == 0
    settings = models.load(tmp_path / "model").experiment
    assert settings.train.epochs == 3  # of 4 steps of 0.5 s each
    monkeypatch.setattr("itae_jax.training.trainer.Trainer.seconds_per_step", lambda *_: 0.1)
    before = contents(tmp_path / "model")
    assert fit(photos, tmp_path / "model", *options) == 0
    assert contents(tmp_path / "model") == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--epochs", "2"], "train.epochs: 1 -> 2"),
        (["--seed", "1"], "seed: 3 -> 1"),
        (["--holdout", "0.4"], "holdout: 0.2 -> 0.4"),
    ],
)
def test_fit_refuses_another_model_with_the_difference(model, photos, refused, change, message):
    assert message in refused("fit", photos, "--out", model, *SMALL_FIT, "--seed", "3", *change)


@pytest.fixture
def interrupted(monkeypatch):
    """Fits, interrupted after an epoch; returns the exit code."""

    def run(epoch_of_interrupt, *arguments):
        def epoch(self, name, epoch, loss, rate):
            if epoch == epoch_of_interrupt:
                raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(progress.ConsoleProgress, "epoch", epoch)
            return fit(*arguments)

    return run


LONGER = ["train.checkpoint_minutes=0", "--epochs", "3"]


def test_fit_resumes_to_the_same_bits(photos, tmp_path, interrupted, capsys):
    options = [*SMALL_FITS["defects"], *LONGER]
    assert fit(photos, tmp_path / "plain", *options) == 0
    capsys.readouterr()
    out = tmp_path / "model"
    assert interrupted(2, photos, out, *options) == 130
    assert "the same command" in capsys.readouterr().err
    assert not out.exists()
    assert fit(photos, out, *options) == 0
    assert "resuming from" in capsys.readouterr().out
    for name in ("normal_scores.csv", "metrics.jsonl"):
        assert (out / name).read_bytes() == (tmp_path / "plain" / name).read_bytes()
    assert {path.name for path in tmp_path.iterdir()} == {"plain", "model"}
    assert {path.name for path in out.iterdir()} == {path.name for path in (tmp_path / "plain").iterdir()}


KILLED = """
import os, signal, sys
import conftest
from itae_jax import cli, progress

def epoch(self, name, epoch, loss, rate):
    if epoch == 2:
        os.kill(os.getpid(), signal.SIGKILL)

progress.ConsoleProgress.epoch = epoch
with conftest.training_tiny_networks():
    cli.main(sys.argv[1:])
"""


def test_fit_that_was_killed_resumes_to_the_same_bits(photos, tmp_path, capsys):
    options, out = [*SMALL_FITS["defects"], *LONGER], tmp_path / "model"
    assert fit(photos, tmp_path / "plain", *options) == 0
    command = [sys.executable, "-c", KILLED, "fit", photos, "--out", out, *options]
    done = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    capsys.readouterr()
    assert fit(photos, out, *options) == 0
    assert "resuming from" in capsys.readouterr().out
    for name in ("normal_scores.csv", "metrics.jsonl"):
        assert (out / name).read_bytes() == (tmp_path / "plain" / name).read_bytes()


def test_fit_of_other_settings_beside_an_interrupted_one_is_refused(photos, tmp_path, interrupted, refused):
    out = tmp_path / "model"
    assert interrupted(2, photos, out, *SMALL_FIT, *LONGER) == 130
    with files.locked(tmp_path / "model.partial"):
        assert "is writing there" in refused("fit", photos, "--out", out, *SMALL_FIT, *LONGER)
    kept = contents(tmp_path / "model.partial")
    assert "seed: 0 -> 1" in refused("fit", photos, "--out", out, *SMALL_FIT, *LONGER, "--seed", "1")
    assert contents(tmp_path / "model.partial") == kept
    assert fit(photos, out, *SMALL_FIT, *LONGER) == 0
    lines = (out / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == [1, 2, 3]


def test_fit_that_has_done_nothing_yet_gives_way_to_another(photos, tmp_path, interrupted):
    out = tmp_path / "model"
    assert interrupted(1, photos, out, *SMALL_FIT, "--epochs", "2") == 130
    files.remove(tmp_path / "model.partial" / "checkpoints")
    assert fit(photos, out, *SMALL_FIT, "--seed", "1") == 0
    assert models.load(out).experiment.seed == 1


def test_fit_takes_few_images_of_any_names_and_notices_a_changed_one(tmp_path, refused, capsys):
    folder, out = save_images(tmp_path / "few", 12), tmp_path / "link"
    (folder / "000.png").rename(folder / os.fsdecode(b"odd\xff.png"))
    (folder / "005.png").write_bytes((folder / "005.png").read_bytes()[:80])
    (folder / "006.png").unlink()
    (folder / "006.png").symlink_to(tmp_path / "gone.png")
    (tmp_path / "real").mkdir()
    out.symlink_to(tmp_path / "real")
    options = [option for option in SMALL_FIT if option != "train.batch_size=8"]
    assert fit(folder, out, *options) == 0
    assert "train.batch_size=2" in capsys.readouterr().out
    assert len(models.load(tmp_path / "real").normal.ids) == 2
    save_images(folder, 1, 5, (40, 40))
    (folder / "001.png").unlink()
    assert "other images" in refused("fit", folder, "--out", out, *options)


def test_calibration_images_are_found_from_any_directory(tmp_path, monkeypatch):
    save_images(tmp_path / "good", 12)
    monkeypatch.chdir(tmp_path)
    assert fit("good", "model", *SMALL_FIT) == 0
    named = models.load(tmp_path / "model").normal.ids
    assert {os.path.dirname(name) for name in named} == {str(tmp_path / "good")}


def test_fit_and_calibrate_refuse_a_data_set_with_test_images(photos, model, tmp_path, refused):
    for place in (tmp_path / "set", tmp_path / "sets" / "wood"):
        save_images(place / "train" / "good", 20)
        save_images(place / "test" / "crack", 3)
    for source in (tmp_path / "set", tmp_path / "sets"):
        for command in (["fit", source], ["calibrate", model, source]):
            assert "holds test images" in refused(*command, "--out", tmp_path / "out")


def test_fit_says_that_images_show_little_and_which_files_it_leaves_out(tmp_path, capsys):
    for number in range(12):  # 16 bits that hold 12
        path = save_images(tmp_path / "good", 0) / f"{number}.png"
        Image.fromarray(np.linspace(0, 4095, 400).astype(np.uint16).reshape(20, 20)).save(path)
    (tmp_path / "good" / "notes.txt").touch()
    assert fit(tmp_path / "good", tmp_path / "model", *SMALL_FIT) == 0
    said = capsys.readouterr().out
    assert "only 16 of 255 levels" in said and "1 with .txt" in said
    assert "AUROC on surrogate anomalies" in said  # of a method that was not chosen by it, too


def test_fit_rates_a_model_of_few_images_by_its_calibration_set_and_weighs_nothing_by_it(tmp_path, capsys):
    assert fit(save_images(tmp_path / "good", 12), tmp_path / "model", *SMALL_FITS["defects"]) == 0
    assert "AUROC on surrogate anomalies" in capsys.readouterr().out
    model = models.load(tmp_path / "model")
    assert 0 <= model.details["surrogate_auroc"] <= 1
    assert np.ptp(model.trained.calibration["weights"]) == 0


def test_fit_leaves_foreign_files_alone(photos, tmp_path, refused):
    (tmp_path / "model.partial").mkdir()
    (tmp_path / "model.partial" / "mine.txt").write_text("mine")
    message = refused("fit", photos, "--out", tmp_path / "model", *SMALL_FIT)
    assert "model.partial: is in the way" in message
    assert (tmp_path / "model.partial" / "mine.txt").read_text() == "mine"


def test_fit_says_what_to_try_where_it_may_find_little(photos, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("itae_jax.detection.fit.rated", lambda trained, *_: (trained, 0.5, {}))
    options = ["--holdout", "0.1", *SMALL_FITS["defects"]]
    save_images(tmp_path / "more", 50)
    assert fit(tmp_path / "more", tmp_path / "model", *options) == 0
    said = capsys.readouterr().out
    assert "chance is 50" in said and "method.transform=gray+rotate" in said
    assert "too few to learn" in said
    assert models.load(tmp_path / "model").details["surrogate_auroc"] == 0.5


def test_fit_of_unreadable_images_names_the_commonest_reason(tmp_path, refused):
    for number in range(9):
        (tmp_path / f"{number}.png").write_bytes(b"no image" if number else b"")
    message = refused("fit", tmp_path, "--out", tmp_path / "model")
    assert "none of the 9 images" in message and "mostly: " in message
