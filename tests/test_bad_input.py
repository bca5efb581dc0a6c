"""What is wrong with a request is told in one line, with the remedy, and nothing is written or lost."""

import json
import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import SMALL_FIT
from PIL import Image

from itae_jax import cli

EXPERIMENTS = Path(__file__).parent.parent / "experiments"
DIGITS = str(EXPERIMENTS / "digits.py")


class Poison:
    """Leaves a file behind when it is unpickled."""

    def __reduce__(self):
        return Path("unpickled").touch, ()


def picture(path, size=(32, 32), mode="L"):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, 90 if mode == "L" else (90, 90, 90)).save(path)


@pytest.fixture(scope="module")
def site(tmp_path_factory, tiny_network):
    """A directory with things to stumble over."""
    site = tmp_path_factory.mktemp("site")
    for split, count in (("train", 3), ("test", 1)):
        for name in ("cat", "dog"):
            for i in range(count):
                picture(site / "pets" / split / name / f"{i}.png")
    for copy in ("no_train", "no_test", "no_class", "one_class", "no_images", "all_broken", "bomb", "link"):
        shutil.copytree(site / "pets", site / copy)
    shutil.rmtree(site / "no_train" / "train")
    shutil.rmtree(site / "no_test" / "test")
    for split in ("train", "test"):
        shutil.rmtree(site / "one_class" / split / "cat")
        shutil.rmtree(site / "no_class" / split)
        (site / "no_class" / split).mkdir()
    for path in (site / "no_images").rglob("*.png"):
        path.rename(path.with_suffix(".txt"))
    for path in (site / "all_broken").rglob("*.png"):
        path.write_bytes(path.read_bytes()[:40])
    for path in (site / "bomb").rglob("*.png"):
        picture(path, (3000, 2))
    (site / "link" / "train" / "again").symlink_to(site / "link")
    (site / "empty").mkdir()
    picture(site / "mvtec" / "bottle" / "train" / "good" / "0.png")
    picture(site / "mvtec_empty" / "bottle" / "train" / "bad" / "0.png")

    (site / "joins.csv").write_text("folder,class\ncat,animal\n")
    (site / "no_header.csv").write_text("cat,animal\n")
    (site / "hole.csv").write_text("folder,class\ncat,\n")
    (site / "outside.csv").write_text("folder,class\n../../cat,animal\n")
    (site / "absolute.csv").write_text("folder,class\n/etc,animal\n")
    (site / "binary.csv").write_bytes(b"\xff\xfe\x00\x01")

    (site / "no_function.py").write_text("x = 1")
    (site / "syntax.py").write_text("def get_config(:")
    (site / "wrong_type.py").write_text("def get_config():\n    return {}")
    (site / "no_module.py").write_text("import nothing_of_that_name")
    (site / "raises.py").write_text("def get_config():\n    return 1 / 0")
    (site / "exits.py").write_text("raise SystemExit(0)")
    (site / "no_variants.py").write_text("def get_configs():\n    return {}")
    (site / "notes.txt").write_text("get_config")
    (site / "paper.py").write_text(
        "from itae_jax.config import Experiment\n\ndef get_config():\n    return Experiment(paper_table='t9')"
    )
    for name, text in (
        ("broken.json", "{"),
        ("list.json", "[]"),
        ("unknown.json", '{"trane": {"epochs": 3}}'),
        ("type.json", '{"train": {"epochs": "3"}}'),
        ("huge.json", '{"model": {"width": 1e99}}'),
    ):
        (site / name).write_text(text)

    command = ["run", DIGITS, "--classes", "6,8", "--out", str(site / "run")]
    assert cli.main([*command, "--set", "train.epochs=1", "data.limit_train=40", "data.limit_test=40"]) == 0
    for copy in (
        *("cut_row", "foreign_columns", "not_text", "no_rows", "no_config", "bad_config", "bad_auroc"),
        *("pickled_pictures", "no_scores", "cut_scores", "bad_label"),
    ):
        shutil.copytree(site / "run", site / copy)
    rows = (site / "run" / "results.csv").read_text()
    (site / "cut_row" / "results.csv").write_text(rows[:-30])
    (site / "foreign_columns" / "results.csv").write_text("a,b\n1,2\n")
    (site / "not_text" / "results.csv").write_bytes(b"\xff\xfe\x00")
    (site / "no_rows" / "results.csv").write_text(rows.splitlines()[0] + "\n")
    (site / "no_config" / "config.json").unlink()
    (site / "bad_config" / "config.json").write_text("{")
    (site / "bad_auroc" / "results.csv").write_text(rows.replace(",0.", ",7."))
    (site / "pickled_pictures" / "class_6" / "seed_0" / "illustrations.npz").write_bytes(pickle.dumps(Poison()))
    (site / "no_scores" / "class_6" / "seed_0" / "scores.csv").unlink()
    scores = site / "cut_scores" / "class_6" / "seed_0" / "scores.csv"
    scores.write_text(scores.read_text()[:-30])
    with (site / "bad_label" / "class_6" / "seed_0" / "illustrations.npz").open("wb") as file:
        np.savez(file, originals=np.array([Poison()], object))  # an array that is a pickle

    for i in range(12):
        picture(site / "good" / f"{i}.png", (20, 20 + i % 2))
    assert cli.main(["fit", str(site / "good"), "--out", str(site / "model"), *SMALL_FIT]) == 0
    model_copies = (
        "no_state",
        "cut_state",
        "poisoned",
        "other_format",
        "other_width",
        "no_normal",
        "cut_normal",
    )
    for copy in model_copies:
        shutil.copytree(site / "model", site / copy)
    shutil.rmtree(site / "no_state" / "state")
    about = site / "cut_state" / "state" / "about.json"
    about.write_text(about.read_text()[:-9])
    for path in (site / "poisoned" / "state").rglob("*"):
        if path.is_file():
            path.write_bytes(pickle.dumps(Poison()))
    record = (site / "model" / "config.json").read_text()
    (site / "other_format" / "config.json").write_text(record.replace('"format": 1', '"format": 7'))
    (site / "no_normal" / "normal_scores.csv").unlink()
    normal = site / "cut_normal" / "normal_scores.csv"
    normal.write_text(normal.read_text()[:-20])
    (site / "scores.csv").write_text("path,score\nx,1\n")
    picture(site / "few" / "0.png")
    return site


def run(*settings, experiment=DIGITS, **options):
    """Arguments of `itae run`; {site} stands for the directory with things to stumble over."""
    flags = [text for name, value in options.items() for text in (f"--{name}", value)]
    return ["run", experiment, *flags, *(["--set", *settings] if settings else [])]


def folder(name, *settings, **options):
    return run("data.name=folder", f"data.root={{site}}/{name}", "data.image_size=32", *settings, **options)


def score(model, *options):
    return ["score", f"{{site}}/{model}", "{site}/good", "--out", "s.csv", *options]


# (arguments, the thing that the message names, the remedy that it names)
COMMANDS = [
    ([], "COMMAND", "see itae --help"),
    (["fly"], "'fly'", "choose from"),
    (["run"], "EXPERIMENT.py", "see itae run --help"),
    ([*run(), "--colour"], "--colour", "see itae --help"),
    (run(classes="11"), "'11'", "choose from 0 to 9"),
    (run(classes=""), "no class ''", "choose from"),
    (run(classes="6,,8"), "no class ''", "choose from"),
    (run(seeds="one"), "'one'", "whole numbers like 0,1,2"),
    (run(seeds="-1"), "--seeds", "from 0 to 4294967295"),
    (run(seeds="4294967296"), "--seeds", "from 0 to 4294967295"),
    (run(variants="x"), "no variant 'x'", "its variants: none"),
    (run(out=""), "--out", "name a directory"),
    (run(out=DIGITS), "digits.py", "name a directory"),
    (run(out="{site}/no_config"), "no_config", "name another directory"),
    (run(out="{site}/run"), "train.epochs: 1 -> 50", "name another directory"),
    (run(out="{site}/bad_config"), "bad_config", "not a config"),
    (["report", "nowhere"], "nowhere: no such file", "name the --out directory of a run"),
    (["report", "{site}/no_rows"], "no_rows", "let a training finish"),
    (["report", "{site}/cut_row"], "results.csv: is damaged", "name another directory"),
    (["report", "{site}/foreign_columns"], "results.csv", "name another directory"),
    (["report", "{site}/not_text"], "results.csv: is damaged", "name another directory"),
    (["report", "{site}/bad_auroc"], "expected a number between 0 and 1", "name another directory"),
    (["report", "{site}/pickled_pictures"], "class_6/seed_0", "into another directory"),
    (["report", "{site}/bad_label"], "class_6/seed_0", "into another directory"),
    (["report", "{site}/no_scores"], "class_6/seed_0", "into another directory"),
    (["report", "{site}/cut_scores"], "scores.csv is cut short", "into another directory"),
    (["bench", "--widths", "0"], "--widths", "from 1 up"),
    (["bench", "--widths", "wide"], "'wide'", "whole numbers like 0,1,2"),
    (["bench", "--rounds", "0"], "--rounds", "from 1 up"),
    (["bench", "--widths", "16,5000"], "--widths", "from 1 up to 4096"),
    (["bench", "--widths", "16,16"], "--widths", "each once"),
    (["bench", "--models", "2,0"], "--models", "from 1 up"),
    (["bench", "--count", "10"], "--count", "leave it out"),
    (["bench", "data", "--models", "2"], "--models", "leave it out"),
    (["bench", "data", "--scored-at-once", "8"], "--scored-at-once", "leave it out"),
    (["bench", "--scored-at-once", "0"], "--scored-at-once", "from 1 up"),
    (["bench", "data", "--dtype", "float32"], "--dtype", "leave it out"),
    (["bench", "data", "--count", "0"], "--count", "from 1 up"),
    (["bench", "--json", "no/such/bench.json"], "no/such", "name a place"),
    (["bench", "--json", "{site}/run/results.csv/x"], "results.csv/x", "name a place"),
    (["bench", "--json", "x" * 300], "x" * 300, "name a place"),
    (["bench", "--plot", "picture.txt"], "picture.txt", "ends in .png"),
    (["bench", "--json", "same.png", "--plot", "same.png"], "same.png", "name two files"),
    (["bench", "--scored-at-once", "7"], "--scored-at-once 7", "a multiple"),
    (["bench", "sound"], "'sound'", "choose from"),
    (["data", "prepare", "digits"], "digits", "choose from mnist"),
    (["data", "prepare", "mist"], "mist", "choose from mnist"),
    (["data", "prepare", "mnist", "--manual-dir", "nowhere"], "nowhere", "no such directory"),
    (["data", "sing"], "'sing'", "choose from"),
]
FILES = [
    (run(experiment="missing.py"), "missing.py", "no such experiment file"),
    (run(experiment="x" * 300), "xxx", "File name too long; name another place"),
    (run("data.name=folder", f"data.root={'x' * 300}"), "xxx", "File name too long; name another place"),
    (["report", "x" * 300], "xxx", "File name too long; name another place"),
    (run(experiment="{site}"), "site", "no such experiment file"),
    (run(experiment="{site}/notes.txt"), "notes.txt", "a Python file with a function get_config()"),
    (run(experiment="{site}/no_function.py"), "no_function.py", "needs a function get_config()"),
    (run(experiment="{site}/syntax.py"), "syntax.py: line 1", ""),
    (run(experiment="{site}/wrong_type.py"), "returned dict", "expected Experiment"),
    (run(experiment="{site}/no_module.py"), "ModuleNotFoundError", "nothing_of_that_name"),
    (run(experiment="{site}/raises.py"), "raises.py", "ZeroDivisionError"),
    (run(experiment="{site}/exits.py"), "exits.py", "SystemExit"),
    (run(experiment="{site}/no_variants.py"), "no_variants.py", "dictionary of experiments"),
    (run(experiment="{site}/paper.py"), "paper_table='t9'", "there is no"),
    (run(experiment="{site}/broken.json"), "broken.json", "line 1 column 2"),
    (run(experiment="{site}/list.json"), "list.json", "expected a JSON object"),
    (run(experiment="{site}/unknown.json"), "trane.epochs", "there is no field"),
    (run(experiment="{site}/type.json"), "train.epochs='3'", "expected a whole number"),
    (run(experiment="{site}/huge.json"), "model.width=1e+99", "expected a whole number"),
]
SETTINGS = [
    (run("train.epochs"), "'train.epochs'", "expected section.field=value"),
    (run("train.epoch=3"), "train.epoch", "did you mean train.epochs"),
    (run("zzzzzz=3"), "zzzzzz", "the fields are name, variant"),
    (run("train=3"), "'train'", "there is no field"),
    (run("train.epochs=3.5"), "train.epochs=3.5", "a whole number"),
    (run("train.epochs="), "train.epochs=", "a whole number"),
    (run("train.learning_rate=fast"), "fast", "a number"),
    (run("train.epochs=0"), "train.epochs=0", "at least 1"),
    (run("train.batch_size=-4"), "train.batch_size=-4", "at least 1"),
    (run("train.batch_size=500"), "training images", "lower the batch size"),
    (run("train.learning_rate=0"), "train.learning_rate=0", "a positive number"),
    (run("train.learning_rate=nan"), "train.learning_rate=nan", "a positive number"),
    (run("train.momentum=inf"), "train.momentum=inf", "at most 1"),
    (run("train.weight_decay=-1"), "train.weight_decay=-1", "at least 0"),
    (run("train.checkpoint_minutes=-1"), "train.checkpoint_minutes=-1", "at least 0"),
    (run("train.keep_checkpoints=0"), "train.keep_checkpoints=0", "at least 1"),
    (run("train.loss=l3"), "train.loss='l3'", "choose from l2, l1"),
    (run("train.augment=melt"), "'melt'", "choose none, or from flip"),
    (run("transform.name=melt"), "'melt'", "choose from identity"),
    (run("transform.name="), "''", "choose from identity"),
    (run("transform.name=gray+"), "''", "choose from identity"),
    (run("model.name=vgg"), "model.name='vgg'", "choose from unet"),
    (run("model.width=1000000000000"), "model.width", "at most 4096"),
    (run("model.output=relu"), "model.output='relu'", "choose from tanh, linear"),
    (run("data.name=mist"), "data.name='mist'", "choose from digits"),
    (run("data.image_size=8"), "images of 8x8", "set data.image_size to 16 or more"),
    (run("data.image_size=100000"), "data.image_size=100000", "at most 16384"),
    (run("data.channels=2"), "data.channels=2", "choose from 0, 1, 3"),
    (run("data.limit_test=-1"), "data.limit_test=-1", "at least 0"),
    (run("data.on_corrupt=cry"), "data.on_corrupt='cry'", "choose from skip, error"),
    (run("evaluate.error=mse"), "evaluate.error='mse'", "choose from l1, l2"),
    (run("compute.dtype=float16"), "compute.dtype='float16'", "choose from float32"),
    (run("compute.dtype=float64"), "compute.dtype='float64'", "JAX_ENABLE_X64=1"),
    (run("compute.devices=3"), "the 3 devices", "set compute.devices"),
    (run("compute.devices=64"), "compute.devices=64", "this machine has 4"),
    (run("seed=4294967296"), "seed=4294967296", "at most 4294967295"),
    (run("name=../x"), "'../x'", "can name a directory"),
    (run("paper_table=../x"), "paper_table='../x'", "can name a directory"),
    (run("name="), "name=''", "can name a directory"),
    (run("method=svm"), "method='svm'", "choose from itae"),
]
DATA = [
    (run("data.name=folder"), "data.name='folder'", "--set data.root=DIR"),
    (folder("nowhere"), "nowhere", "no such directory"),
    (folder("joins.csv"), "joins.csv", "no such directory"),
    (folder("empty"), "empty", "expected folders train and test"),
    (folder("no_train"), "no_train", "there is no folder train"),
    (folder("no_test"), "no_test", "expected folders train and test"),
    (folder("no_class"), "no_class", "at least two classes"),
    (folder("one_class"), "found dog", "at least two classes"),
    (folder("no_images"), "no images", "the endings read are"),
    (folder("pets"), "training images", "lower the batch size"),
    (folder("pets", classes="bird"), "'bird'", "choose from 0 to 1 or cat, dog"),
    (folder("pets", "data.superclasses=nowhere.csv"), "nowhere.csv", "No such file"),
    (folder("pets", "data.superclasses={site}/no_header.csv"), "no_header.csv", "the header folder,class"),
    (folder("pets", "data.superclasses={site}/hole.csv"), "hole.csv", "the header folder,class"),
    (folder("pets", "data.superclasses={site}/outside.csv"), "outside.csv", "leaves the directory"),
    (folder("pets", "data.superclasses={site}/absolute.csv"), "absolute.csv", "leaves the directory"),
    (folder("pets", "data.superclasses={site}/binary.csv"), "binary.csv", ""),
    (folder("pets", "data.superclasses={site}/joins.csv"), "found animal", "at least two classes"),
    (folder("pets", "transform.name=rotate", "data.image_size=0", "data.limit_train=1"), "training images", ""),
    (folder("all_broken", "data.image_size=0"), "no image there can be read", "2.png: not an image"),
    (folder("bomb", "data.image_size=0", "data.max_side=2000"), "3000x2", "data.max_side=2000"),
    (run("data.name=mvtec_ad", "data.root={site}/mvtec_empty"), "mvtec_empty", "<category>/train/good"),
    (run("data.name=mvtec_ad", "data.root={site}/mvtec"), "no images in it", "test"),
    (run("data.name=mnist", "data.root={site}/empty"), "mnist is not in", "itae data prepare mnist"),
]
MODELS = [
    (["fit"], "IMAGES", "see itae fit --help"),
    (["fit", "nowhere", "--out", "m"], "nowhere", "name the folder of the normal images"),
    (["fit", "{site}/empty", "--out", "m"], "0 images in it", "at least 8 are needed"),
    (["fit", "{site}/few", "--out", "m"], "1 images in it", "at least 8 are needed"),
    (["fit", "{site}/all_broken", "--out", "m"], "can be read", "all_broken"),
    (["fit", "{site}/good", "--out", "{site}/pets"], "pets: is not empty", "name a new directory"),
    (["fit", "{site}/good", "--out", DIGITS], "digits.py: is a file", "name a directory"),
    (["fit", "{site}/good", "--out", "{site}/model", "--epochs", "9"], "holds another model", "train.epochs"),
    (["fit", "{site}/good", "--out", "m", "--epochs", "many"], "many", "a whole number"),
    (["fit", "{site}/good", "--out", "m", "--epochs", "0"], "train.epochs=0", "at least 1"),
    (["fit", "{site}/good", "--out", "m", "--size", "8"], "images of 8x8", "16 or more"),
    (["fit", "{site}/good", "--out", "m", "--holdout", "1.5"], "--holdout 1.5", "between 0 and 1"),
    (["fit", "{site}/good", "--out", "m", "--set", "data.root=x"], "data.root", "itae run alone"),
    (["fit", "{site}/good", "--out", "m", "--set", "transform.name=drop_channel"], "drop_channel", "channel"),
    (["score", "nowhere", "{site}/good", "--out", "s.csv"], "nowhere: no trained model", "itae fit IMAGES"),
    (score("run"), "run: no trained model", "itae fit IMAGES"),
    (["score", "{site}/model", "nowhere", "--out", "s.csv"], "nowhere", "no such folder or file"),
    (["score", "{site}/model", "{site}/empty", "--out", "s.csv"], "no images in it", "the endings read are"),
    (["score", "{site}/model", "{site}/good", "--out", "{site}"], "site", "name a"),
    (
        ["score", "{site}/model", "{site}/good", "--out", "no/such/s.csv"],
        "no/such",
        "a directory that is there",
    ),
    (score("model", "--false-alarms", "0"), "rate of 0", "between 0 and 1"),
    (score("model", "--false-alarms", "x"), "'x'", "see itae score --help"),
    (score("model", "--heatmaps", "{site}/good/h"), "good/h", "outside it"),
    (score("no_state"), "state: is damaged", "fit the model again"),
    (
        score("cut_state"),
        "state: is damaged",
        "fit the model again",
    ),
    (score("poisoned"), "state: is damaged", "fit the model again"),
    (
        score("other_format"),
        "its format is 7",
        "fit the model again",
    ),
    (
        score("cut_normal"),
        "normal_scores.csv",
        "fit the model again",
    ),
    (score("no_normal"), "no trained model", "itae fit IMAGES"),
    (["report", "{site}/scores.csv"], "scores.csv: its columns", "name a file that itae score wrote"),
    (["report", "{site}/binary.csv"], "binary.csv", "name a file that itae score wrote"),
    (["report", "{site}/model", "{site}/run"], "model", "one model at a time"),
    (["report", "{site}/run", "--false-alarms", "0.1"], "--false-alarms", "one model"),
    (["export", "nowhere", "--out", "f"], "nowhere: no trained model", "itae fit IMAGES"),
    (["export", "{site}/model", "--out", "no/such/f"], "no/such/f", "a directory that is there"),
    (["export", "{site}/model", "--out", "f", "--format", "zip"], "'zip'", "choose from"),
    (["transforms", "check", "melt"], "'melt'", "choose from identity"),
    (["transforms", "check", "nothing:HERE"], "nothing:HERE", "put nothing.py into the current directory"),
    (["transforms", "check", "math:pi"], "math:pi", "expected an itae_jax.Transform"),
    (["transforms", "check", "a b:c"], "a b:c", "expected module:attribute"),
]
CASES = [*COMMANDS, *MODELS, *FILES, *SETTINGS, *DATA]


def contents(directory):
    return {path: path.read_bytes() for path in sorted(directory.rglob("*")) if path.is_file()}


@pytest.mark.parametrize(
    ("arguments", "thing", "remedy"), CASES, ids=[" ".join(case[0]).replace("/", "|") for case in CASES]
)
def test_one_line_and_exit_code_2(site, arguments, thing, remedy, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    before = contents(site)
    capsys.readouterr()
    assert cli.main([text.replace("{site}", str(site)) for text in arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("itae: ") and error.count("\n") == 1, error
    assert thing in error and remedy in error
    assert list(tmp_path.iterdir()) == []
    assert contents(site) == before


def test_there_are_many_cases():
    assert len(CASES) >= 80


def test_a_run_refused_over_its_images_may_be_repeated_with_another_config(tmp_path, capsys, tiny_network):
    """What only reading shows comes after config.json is written, but before a training has begun."""
    for split, sizes in (("train", (32, 32, 40)), ("test", (32,))):
        for name in ("cat", "dog"):
            for i, size in enumerate(sizes):
                picture(tmp_path / "pets" / split / name / f"{i}.png", (size, size))
    out = tmp_path / "out"
    settings = ["data.name=folder", f"data.root={tmp_path}/pets", "train.batch_size=2", "train.epochs=1"]
    command = ["run", DIGITS, "--out", str(out), "--set", *settings, "transform.name=identity"]
    assert cli.main([*command, "data.image_size=0"]) == 2
    assert "2.png: is 40x40, others are 32x32; set data.image_size" in capsys.readouterr().err
    assert cli.main([*command, "data.image_size=32"]) == 0
    assert json.loads((out / "config.json").read_text())["data"]["image_size"] == 32


def test_a_file_that_is_not_its_own_is_never_written_over(site, tmp_path, capsys):
    """Images, models, scores under another name, and what is no regular file."""
    photo, model = tmp_path / "photo.png", tmp_path / "model"
    picture(photo, (20, 20))
    shutil.copytree(site / "model", model)
    (tmp_path / "link.csv").symlink_to(tmp_path / "target.csv")
    os.mkfifo(tmp_path / "pipe.csv")
    before = contents(model)
    for command in (
        ["score", str(model), str(photo), "--out", str(photo)],
        ["score", str(model), str(photo), "--out", str(model / "config.json")],
        ["score", str(model), str(photo), "--out", str(tmp_path / "link.csv")],
        ["score", str(model), str(photo), "--out", str(tmp_path / "pipe.csv")],
        ["export", str(model), "--out", str(model / "normal_scores.csv")],
        ["export", str(model), "--out", str(model / "config")],  # beside it would stand config.json
        ["export", str(model), "--out", str(tmp_path / "link.csv")],
    ):
        assert cli.main(command) == 2
        assert capsys.readouterr().err.count("\n") == 1
    assert contents(model) == before
    with Image.open(photo) as image:
        assert image.size == (20, 20)
    assert (tmp_path / "pipe.csv").is_fifo() and (tmp_path / "link.csv").is_symlink()
    for _ in range(2):  # its own it may replace
        assert cli.main(["score", str(model), str(photo), "--out", str(tmp_path / "s.csv")]) == 0


def test_a_pipe_is_not_waited_for(site, tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    out = tmp_path / "scores.csv"
    assert cli.main(["score", str(site / "model"), str(tmp_path / "pipe.png"), "--out", str(out)]) == 2
    picture(tmp_path / "fine.png", (20, 20))
    (tmp_path / "paths").write_text(f"{tmp_path}/pipe.png\n{tmp_path}/fine.png\n")
    with (tmp_path / "paths").open() as paths, pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.stdin", paths)
        assert cli.main(["score", str(site / "model"), "-", "--out", str(out)]) == 0
    assert out.read_text().splitlines()[1].endswith(",not a file")
