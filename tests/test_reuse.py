"""A training that another run has done already is taken over, not repeated."""

import dataclasses
import shutil

import pytest

from itae_jax import cli, data, experiment
from itae_jax.errors import RequestError
from itae_jax.runs import read, results, reuse
from itae_jax.training import log, loop

pytestmark = pytest.mark.usefixtures("tiny_network")
FILE = """
from itae_jax.config import DataConfig
from itae_jax.experiment import Experiment
from itae_jax.methods.itae import ITAEConfig

def get_configs():
    data, method = DataConfig(name="digits", image_size=16), ITAEConfig(transform="rotate")
    return {"turned": Experiment(name="another", data=data, method=method)}
"""
SETTINGS = ["--set", "compute.devices=1", "method.width=2", "train.epochs=2"]
SETTINGS += ["data.limit_train=40", "data.limit_test=60", "evaluate.batch_size=8"]


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("experiments") / "another.py"
    path.write_text(FILE)
    return path


@pytest.fixture(scope="module")
def first(file, tiny_network):
    """A run of two classes by the one variant; tests leave it as it is."""
    path = file.with_name("first.py")
    path.write_text(FILE.replace("another", "first").replace("turned", "Turned"))
    assert cli.main(["run", str(path), "--classes", "6,8", "--out", str(file.parent / "first"), *SETTINGS]) == 0
    return file.parent / "first"


@pytest.fixture
def trained(monkeypatch):
    """The seeds of what is trained in the test."""
    seeds, train = [], loop.train

    def watched(trainer, images, seeds_of_one, *arguments):
        seeds.append(seeds_of_one)
        return train(trainer, images, seeds_of_one, *arguments)

    monkeypatch.setattr(loop, "train", watched)
    return seeds


@pytest.fixture(scope="module")
def digits(first):
    (one,) = reuse.read([first])
    return data.load(one.experiment.data)


def run(file, out, first, *more):
    command = ["run", str(file), "--out", str(out), "--classes", "6,7", "--reuse", str(first), *SETTINGS]
    return cli.main([*command, *more])


def take(one, wanted, digits, jobs, out):
    """Takes trainings of a run, and returns which."""
    said = []
    reuse.take([one], wanted, digits, jobs, out, said.append)
    found = list(results.read(out / "results.csv"))
    assert len(said) == len(found)
    return found


def test_same_trainings_are_taken_and_the_rest_is_trained(file, first, tmp_path, trained, capsys):
    assert run(file, tmp_path / "out", first) == 0
    assert trained == [(0, 7)]
    assert capsys.readouterr().out.count("taken from") == 1
    directories = tmp_path / "out" / "turned", first / "Turned"
    ours, theirs = (results.read(one / "results.csv")[6, 0] for one in directories)
    assert ours == dataclasses.replace(theirs, experiment="another", variant="turned")
    for name in ("scores.csv", "illustrations.npz"):
        taken, original = (one / "class_6" / "seed_0" / name for one in directories)
        assert taken.read_bytes() == original.read_bytes()
    entries = [log.read_metrics(one / "metrics.jsonl") for one in directories]
    ours, theirs = ([entry for entry in of_run if entry["normal_class"] == 6] for of_run in entries)
    assert ours == theirs and len(ours) == 2
    assert (tmp_path / "out" / "report.html").exists()


SAME = ["name=other", "data.root=elsewhere", "compute.devices=2"]
OTHER = ["method.loss=l1", "method.name=vae", "data.limit_train=41", "evaluate.every_epochs=2"]


@pytest.mark.parametrize("setting", [*SAME, *OTHER])
def test_trainings_of_another_config_are_not_taken(setting, first, digits, tmp_path):
    (one,) = reuse.read([first])
    wanted = experiment.override(one.experiment, [setting])
    assert take(one, wanted, digits, [(6, 0), (7, 0)], tmp_path) == ([(6, 0)] if setting in SAME else [])


@pytest.mark.parametrize(
    "change", [{"source": "other data"}, {"coverage": "partial"}, {"class_names": tuple("abcdefghij")}]
)
def test_trainings_on_other_data_or_classes_are_not_taken(change, first, digits, tmp_path):
    (one,) = reuse.read([first])
    assert take(one, one.experiment, dataclasses.replace(digits, **change), [(8, 0)], tmp_path) == []


def test_copy_that_was_cut_short_is_made_again(file, first, tmp_path, trained, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(results, "add", lambda path, result: (_ for _ in ()).throw(KeyboardInterrupt))
        assert run(file, tmp_path, first) == 130
    (tmp_path / "turned" / "class_6" / "seed_0" / "scores.csv").write_text("half")
    assert run(file, tmp_path, first) == 0
    assert trained == [(0, 7)]
    ours, theirs = (
        one / "class_6" / "seed_0" / "scores.csv" for one in (tmp_path / "turned", first / "Turned")
    )
    assert ours.read_bytes() == theirs.read_bytes()
    entries = log.read_metrics(tmp_path / "turned" / "metrics.jsonl")
    assert [entry["epoch"] for entry in entries if entry["normal_class"] == 6] == [1, 2]


def test_missing_or_damaged_files_of_the_other_run_are_refused_by_name(first, digits, tmp_path):
    copy = shutil.copytree(first / "Turned", tmp_path / "copy")
    one, out = read.read(copy), tmp_path / "out"
    out.mkdir()
    job = one.job_directory(one.results[0])

    def refused(message):
        with pytest.raises(RequestError, match=message):
            reuse.take([one], one.experiment, digits, [(6, 0)], out, print)
        assert not list(out.glob("class_*")) and not (out / "results.csv").exists()

    (copy / "unreadable.csv").write_text("name,why\nx.png,broken\n")
    refused(rf"{copy}/unreadable\.csv: is damaged")
    (copy / "unreadable.csv").unlink()
    for path in (job / "scores.csv", job / "illustrations.npz", job / "state" / "about.json"):
        content = path.read_bytes()
        path.write_bytes(content[: len(content) // 2])
        refused(rf"{job}.*damaged")
        path.write_bytes(content)
    shutil.rmtree(job)
    refused(rf"{job}: is missing")
