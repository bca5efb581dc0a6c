"""A wrong request gets one line, which names the thing and the remedy, and exit code 2; nothing is lost."""

import io
import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import contents, one_line
from PIL import Image

from itae_jax import cli

DIGITS = str(Path(__file__).parent.parent / "experiments" / "digits.py")


class Poison:
    """Leaves a file behind when it is unpickled."""

    def __reduce__(self):
        return Path("unpickled").touch, ()


def picture(path, size=(32, 32)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", size, 90).save(path)


FILES = {
    "binary.csv": b"\xff\xfe\x00\x01",
    "joins.csv": b"folder,class\ncat,animal\n",
    "scores.csv": b"path,score\nx,1\n",
    "fine.csv": b"path,score,is_anomaly,p_value,error_0,reason\nx,1,0,1,1,\n",
    "syntax.py": b"def get_config(:",
    "no_module.py": b"import nothing_of_that_name",
    "notes.txt": b"get_config",
    "paper.py": b"import itae_jax\ndef get_config(): return itae_jax.Experiment(paper_table='t9')",
    "unknown.json": b'{"trane": {"epochs": 3}}',
    "huge.json": b'{"method": {"width": 1e99}}',
    "vae.json": b'{"method": {"name": "vae", "width": 8}}',
    "own_code.json": b'{"method": {"transform": "mine:T"}}',
}
JOB = "class_6/seed_0"
POISON = pickle.dumps(Poison())
# copy of a run or a model -> (file, what becomes of its content; None: it is deleted)
RUNS = {
    "cut_row": ("results.csv", lambda content: content[:-30]),
    "not_text": ("results.csv", lambda content: b"\xff\xfe\x00"),
    "no_config": ("config.json", None),
    "bad_config": ("config.json", lambda content: b"{"),
    "pickled": (f"{JOB}/illustrations.npz", lambda content: POISON),
    "no_scores": (f"{JOB}/scores.csv", None),
}
MODELS = {
    "cut_state": ("state/about.json", lambda content: content[:-9]),
    "poisoned": ("state/about.json", lambda content: POISON),
    "cut_normal": ("normal_scores.csv", lambda content: content[:-20]),
}


@pytest.fixture(scope="module")
def site(tmp_path_factory, tiny_network, finished_run, small_model):
    """A directory with things to stumble over."""
    site = tmp_path_factory.mktemp("site")
    for name in ("cat", "dog"):
        for split, count in (("train", 3), ("test", 1)):
            for number in range(count):
                picture(site / "pets" / split / name / f"{number}.png")
                picture(site / "bomb" / split / name / f"{number}.png", (3000, 2))
    for number in range(12):
        picture(site / "good" / f"{number}.png", (20, 20 + number % 2))
        (site / "broken").mkdir(exist_ok=True)
        (site / "broken" / f"{number}.png").write_bytes(b"no image")
    (site / "empty").mkdir()
    (site / "thesis").mkdir()
    (site / "thesis" / "report.md").write_text("years of work")
    picture(site / "pictures" / "figures" / "roc.png")
    (site / "web").mkdir()
    (site / "web" / "config.json").write_text('{"name": "web", "seed": 1}')
    for name, content in FILES.items():
        (site / name).write_bytes(content)
    for original, whole, copies in ((finished_run, "run", RUNS), (small_model, "model", MODELS)):
        shutil.copytree(original, site / whole)
        for copy, (name, damage) in copies.items():
            path = shutil.copytree(original, site / copy) / name
            path.write_bytes(damage(path.read_bytes())) if damage else path.unlink()
    with (shutil.copytree(site / "run", site / "pickle_inside") / JOB / "illustrations.npz").open("wb") as file:
        np.savez(file, originals=np.array([Poison()], object))
    return site


def run(*settings, experiment=DIGITS, **options):
    """Arguments of `itae run`; {site} stands for the directory with things to stumble over."""
    flags = [text for name, value in options.items() for text in (f"--{name}", value)]
    return ["run", experiment, *flags, *(["--set", *settings] if settings else [])]


def folder(name, *settings, **options):
    return run("data.name=folder", f"data.root={{site}}/{name}", "data.image_size=32", *settings, **options)


def fit(images, *options):
    return ["fit", images, "--out", "m", *options]


def score(model, *options):
    return ["score", f"{{site}}/{model}", "{site}/good", "--out", "s.csv", *options]


def joined(coordinator, number, process_id):
    return [*run(), "--coordinator", coordinator, "--num-processes", number, "--process-id", process_id]


PROCESSES = [
    *((wrong, "2", "0", f"--coordinator {wrong}") for wrong in ("host", "host:65536", "::1:80", "[::1:80")),
    ("host:1", "2", "2", "--process-id 2"),
    ("[::1]:80", "0", "0", "--num-processes 0"),
]
# (arguments, what the message names: the thing, and the option, field or command that helps)
COMMANDS = [
    ([], "COMMAND", "itae --help"),
    (["fly"], "'fly'", "run"),
    (["run"], "EXPERIMENT", "itae run --help"),
    ([*run(), "--colour"], "--colour"),
    (run(classes="11"), "'11'", "0 to 9"),
    (run(classes="6,,8"), "''"),
    (run(seeds="one"), "'one'", "--seeds"),
    (run(seeds="-1"), "--seeds", "0 to 4294967295"),
    (run(variants="x"), "--variants", "'x'"),
    (run(out=""), "--out"),
    (run(out=DIGITS), "digits.py"),
    (run(out="{site}/no_config"), "no_config"),
    (run(reuse="{site}/empty"), "empty: no results.csv there"),
    (run(out="{site}/run"), "train.epochs: 2 -> 50"),
    (run(out="{site}/bad_config"), "bad_config/config.json"),
    (run(out="{site}/model"), "model/config.json", "name another directory"),
    (run(out="{site}/web"), "web/config.json", "name another directory"),
    (run(out="{site}/thesis"), "thesis", "report.md"),
    (run("data.name=digits", experiment="table5_losses", out="{site}/thesis"), "thesis", "report.md"),
    (run(out="m", tensorboard="m/events"), "--tensorboard m/events", "--out"),
    (run("data.name=digits", experiment="table5_losses", out="{site}/empty", classes="melted"), "melted"),
    (run(profile=DIGITS), "--profile", "digits.py"),
    (run(profile="/proc/here"), "--profile", "/proc/here"),
    ([*run(), "--process-id", "0"], "--coordinator, --num-processes and --process-id"),
    *((joined(*words), named) for *words, named in PROCESSES),
    ([*joined("host:1", "2", "0"), "--distributed"], "--distributed"),
    (["report", "nowhere"], "nowhere"),
    (["report", "{site}/empty"], "empty", "--out"),
    (["report", "{site}/no_config"], "no_config"),
    *((["report", f"{{site}}/{copy}"], f"{copy}/results.csv") for copy in ("cut_row", "not_text")),
    *((["report", f"{{site}}/{copy}"], f"{copy}/{JOB}") for copy in ("pickled", "pickle_inside", "no_scores")),
    (["report", "{site}/run", "--out", DIGITS], "digits.py", "--out"),
    (["report", "{site}/run", "--out", "{site}/thesis"], "--out", "thesis", "report.md"),
    (["report", "{site}/run", "--out", "{site}/model"], "--out", "model", "another run or model"),
    (["report", "{site}/run", "--out", "{site}/pictures"], "--out", "pictures", "figures"),
    (["bench", "--rounds", "0"], "--rounds", "1 to"),
    (["bench", "--set", "method.widht=3"], "method.widht", "method.width"),
    (["bench", "--json", "no/such/bench.json"], "no/such"),
    (["bench", "--plot", "picture.txt"], "picture.txt", ".png"),
    (["bench", "--json", "same.png", "--plot", "same.png"], "same.png"),
    (["bench", "data", "--count", "0"], "--count", "1 to"),
    (["bench", "sound"], "'sound'"),
    (["data", "prepare", "digits"], "digits", "mnist"),
    (["data", "prepare", "mist"], "mist", "mnist"),
    (["data", "prepare", "mnist", "--manual-dir", "nowhere"], "nowhere"),
    (["data", "sing"], "'sing'"),
    (["transforms", "check", "melt"], "'melt'", "identity"),
    (["transforms", "show", "nothing.png", "--out", "erased.png"], "nothing.png", "no such file"),
]
EXPERIMENTS = [
    (run(experiment="missing.py"), "missing.py"),
    (run(experiment="digit"), "digit", "digits"),
    (run(experiment="x" * 300 + ".py"), "xxx"),
    (run("data.name=folder", f"data.root={'x' * 300}"), "xxx"),
    (run(experiment="{site}"), "site"),
    (run(experiment="{site}/notes.txt"), "notes.txt", "get_config()"),
    (run(experiment="{site}/syntax.py"), "syntax.py", "line 1"),
    (run(experiment="{site}/no_module.py"), "ModuleNotFoundError", "nothing_of_that_name"),
    (run(experiment="{site}/paper.py"), "t9"),
    (run(experiment="{site}/unknown.json"), "unknown.json", "trane.epochs"),
    (run(experiment="{site}/huge.json"), "method.width=1e+99", "a whole number"),
    (run(experiment="{site}/vae.json"), "vae.json", "method.width", "method.name=vae"),
    (run(experiment="{site}/own_code.json"), "own_code.json", "--set method.transform=mine:T"),
]
SETTINGS = [  # test_config.py has the limits of each
    (run("train.epochs"), "'train.epochs'", "section.field=value"),
    (run("train.epoch=3"), "train.epoch", "train.epochs"),
    (run("train.epochs=many"), "train.epochs", "'many'", "a whole number"),
    (run("data.channels=3"), "data.channels=3", "grey"),
    (run("train.batch_size=500"), "class '0'", "train.batch_size=500"),
    (run("train.augment=melt"), "'melt'", "flip"),
    (run("train.augment=crop7", "method.name=vae"), "train.augment=crop7", "vae", "7x7"),
    (run("method.error=head"), "method.error=head", "method.head"),
    (run("method.transforms_per_image=all", "method.transform=paste"), "transforms_per_image=all", "paste"),
    (run("method.name=svm"), "method.name='svm'", "itae", "vae"),
    (run("method.name=vae", "method.width=3"), "method.width", "method.name=vae"),
    (run("method.transform=melt"), "'melt'", "identity"),
    (run("method.network=resnet34_unet"), "method.network=resnet34_unet", "data.image_size", "32"),
    (run("data.name=mist"), "data.name='mist'", "digits"),
    (run("data.image_size=8"), "8x8", "data.image_size", "16"),
    (run("method.name=vae", "data.image_size=4"), "4x4", "method.name=vae", "data.image_size"),
    (run("compute.dtype=float64"), "compute.dtype='float64'", "JAX_ENABLE_X64=1"),
    (run("compute.devices=3"), "train.batch_size=32", "3 devices"),
    (run("compute.devices=64"), "compute.devices=64"),
    (run("name=../x"), "name='../x'"),
]
DATA = [  # test_folders.py has what else a tree can lack
    (run("data.name=folder"), "data.name='folder'", "data.root"),
    (folder("nowhere"), "nowhere"),
    (folder("empty"), "empty", "train", "test"),
    (folder("pets"), "'cat'", "train.batch_size=32"),
    (folder("pets", classes="bird"), "'bird'", "cat, dog"),
    (folder("pets", "data.superclasses={site}/binary.csv"), "binary.csv"),
    (folder("pets", "data.superclasses={site}/joins.csv"), "animal"),
    (folder("bomb", "data.image_size=0", "data.max_side=2000"), "3000x2", "data.max_side"),
    (run("data.name=mvtec_ad", "data.root={site}/empty"), "empty", "train/good"),
    (run("data.name=mnist", "data.root={site}/empty"), "mnist", "itae data prepare mnist"),
]
FITTED = [
    (["fit"], "IMAGES", "itae fit --help"),
    (fit("nowhere"), "nowhere"),
    (fit("{site}/empty"), "empty", "0 images"),
    (fit("{site}/pets/train/cat"), "cat", "3 images"),
    (fit("{site}/broken"), "broken"),
    (["fit", "{site}/good", "--out", "{site}/pets"], "pets"),
    (["fit", "{site}/good", "--out", DIGITS], "digits.py"),
    (["fit", "{site}/good", "--out", "{site}/model", "--epochs", "9"], "model", "train.epochs"),
    (["fit", "{site}/good", "--out", f"{DIGITS}/m"], "Not a directory"),
    (["fit", "{site}/good"], "--out"),
    (fit("{site}/good", "--epochs", "many"), "--epochs", "many"),
    (fit("{site}/good", "--minutes", "0"), "--minutes 0", "above 0"),
    (fit("{site}/good", "--minutes", "1", "--epochs", "1"), "--minutes", "--epochs"),
    (fit("{site}/good", "--minutes", "1", "--set", "train.epochs=1"), "--minutes", "train.epochs"),
    (fit("{site}/good", "--size", "8"), "8x8", "16"),
    (fit("{site}/good", "--holdout", "1.5"), "--holdout 1.5"),
    (fit("{site}/good", "--set", "data.root=x"), "data.root"),
    (fit("{site}/good", "--set", "method.transform=drop_channel"), "drop_channel"),
    (fit("{site}/good", "--set", "method.name=vae", "method.width=8"), "method.width", "method.name=vae"),
    (["score", "nowhere", "{site}/good", "--out", "s.csv"], "nowhere", "itae fit"),
    (score("run"), "run", "itae fit"),
    (["score", "{site}/model", "nowhere", "--out", "s.csv"], "nowhere"),
    (["score", "{site}/model", "{site}/empty", "--out", "s.csv"], "empty", ".png"),
    (["score", "{site}/model", "{site}/good", "--out", "{site}"], "--out", "site"),
    (["score", "{site}/model", "{site}/good", "--out", "no/such/s.csv"], "no/such"),
    (score("model", "--false-positive-rate", "0"), "rate of 0.0", "0 and 1"),
    (score("model", "--false-positive-rate", "x"), "'x'", "itae score --help"),
    (score("model", "--heatmaps", "{site}/good/h"), "good/h", "outside it"),
    (score("model", "--heatmaps", DIGITS), "digits.py"),
    (score("model", "--heatmaps", "h", "--maps", "{site}/good"), "--maps", "outside it"),
    (score("model", "--maps", DIGITS), "digits.py"),
    (["score", "{site}/model", "-", "--out", "s.csv"], "no path on standard input"),
    (["score", "{site}/model", "{site}/good", "--out", "{site}/notes.txt"], "notes.txt: exists"),
    *((score(copy), f"{copy}/state") for copy in ("cut_state", "poisoned")),
    (score("cut_normal"), "cut_normal", "normal_scores.csv"),
    (["calibrate", "nowhere", "{site}/good", "--out", "m"], "nowhere", "itae fit"),
    (["calibrate", "{site}/model", "nowhere", "--out", "m"], "nowhere"),
    (["calibrate", "{site}/model", "{site}/empty", "--out", "m"], "empty", ".png"),
    (["calibrate", "{site}/model", "{site}/broken", "--out", "m"], "none of the 12 calibration images"),
    (["calibrate", "{site}/model", "{site}/good", "--out", "{site}/model"], "model", "new directory"),
    (["calibrate", "{site}/model", "{site}/good", "--out", f"{DIGITS}/m"], "--out", "digits.py"),
    (["calibrate", "{site}/cut_state", "{site}/good", "--out", "m"], "cut_state/state"),
    (["report", "{site}/scores.csv"], "scores.csv", "itae score"),
    (["report", "{site}/binary.csv"], "binary.csv", "UTF-8"),
    (["report", "{site}/model", "{site}/run"], "model"),
    (["report", "{site}/scores.csv", "{site}/scores.csv"], "one file of scores"),
    (["report", "{site}/fine.csv", "--model", "nowhere"], "nowhere"),
    (["report", "nowhere", "--model", "{site}/model"], "nowhere"),
    (["report", "{site}/scores.csv", "--false-positive-rate", "0.1"], "--model"),
    (["report", "{site}/run", "--false-positive-rate", "0.1"], "--false-positive-rate"),
    (["export", "nowhere", "--out", "f"], "nowhere", "itae fit"),
    (["export", "{site}/model", "--out", "no/such/f"], "no/such/f"),
    (["export", "{site}/model", "--out", "{site}"], "name a file"),
    (["export", "{site}/model", "--out", "f", "--format", "zip"], "'zip'", "safetensors"),
]
CASES = [*COMMANDS, *EXPERIMENTS, *SETTINGS, *DATA, *FITTED]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [(case[0], case[1:]) for case in CASES],
    ids=[" ".join(case[0]).replace("/", "|")[:90] for case in CASES],
)
def test_bad_request_gets_one_line_and_exit_code_2_and_loses_nothing(
    site, arguments, named, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"\n")))
    before = contents(site)
    capsys.readouterr()
    assert cli.main([text.replace("{site}", str(site)) for text in arguments]) == 2
    error = one_line(capsys)
    assert not [name for name in named if name not in error], error
    assert list(tmp_path.iterdir()) == []
    assert contents(site) == before


def test_file_of_another_program_is_never_written_over(site, tmp_path, capsys):
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
        one_line(capsys)
    assert contents(model) == before
    with Image.open(photo) as image:
        assert image.size == (20, 20)
    assert (tmp_path / "pipe.csv").is_fifo() and (tmp_path / "link.csv").is_symlink()
    for _ in range(2):  # its own it may replace
        assert cli.main(["score", str(model), str(photo), "--out", str(tmp_path / "s.csv")]) == 0


def test_pipe_is_not_waited_for(site, tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    out = tmp_path / "scores.csv"
    assert cli.main(["score", str(site / "model"), str(tmp_path / "pipe.png"), "--out", str(out)]) == 2
    picture(tmp_path / "fine.png", (20, 20))
    (tmp_path / "paths").write_text(f"{tmp_path}/pipe.png\n{tmp_path}/fine.png\n")
    with (tmp_path / "paths").open() as paths, pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.stdin", paths)
        assert cli.main(["score", str(site / "model"), "-", "--out", str(out)]) == 0
    assert "not a file" in out.read_text().splitlines()[1]
