"""A training that another run has done already is taken over, not repeated."""

import shutil

import pytest

from itae_jax import cli, config
from itae_jax.errors import RequestError
from itae_jax.runs import results, reuse
from itae_jax.training.trainer import Trainer

pytestmark = pytest.mark.usefixtures("tiny_network")
FILE = """
from itae_jax.config import *

def get_configs():
    data, transform = DataConfig(name="digits", image_size=16), TransformConfig(name="rotate")
    return {"turned": Experiment(name="another", data=data, transform=transform)}
"""
DIGITS = "0123456789"
SETTINGS = ["--set", "compute.devices=1", "model.width=2", "train.epochs=2"]
SETTINGS += ["data.limit_train=40", "data.limit_test=60"]


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
    seeds, train = [], Trainer.train

    def watched(self, images, seeds_of_one, *arguments):
        seeds.append(seeds_of_one)
        return train(self, images, seeds_of_one, *arguments)

    monkeypatch.setattr(Trainer, "train", watched)
    return seeds


def run(file, out, first, *more):
    command = ["run", str(file), "--out", str(out), "--classes", "6,7", "--reuse", str(first), *SETTINGS]
    return cli.main([*command, *more])


def test_what_would_be_the_same_is_taken_and_the_rest_is_trained(file, first, tmp_path, trained, capsys):
    assert run(file, tmp_path / "out", first) == 0
    assert trained == [(0, 7)]
    assert capsys.readouterr().out.count("taken from") == 1
    directories = tmp_path / "out" / "turned", first / "Turned"
    ours, theirs = (results.read_results(directory)[6, 0] for directory in directories)
    assert ours == theirs | {"experiment": "another", "variant": "turned"}
    for name in ("scores.csv", "illustrations.npz"):
        taken, original = (directory / "class_6" / "seed_0" / name for directory in directories)
        assert taken.read_bytes() == original.read_bytes()
    entries = [results.read_metrics(directory / "metrics.jsonl") for directory in directories]
    ours, theirs = ([entry for entry in of_run if entry["normal_class"] == 6] for of_run in entries)
    assert ours == theirs
    assert len(ours) == 2
    assert (tmp_path / "out" / "report.html").exists()


@pytest.mark.parametrize(
    ("other", "is_taken"),
    [
        ("name=other", True),
        ("data.root=elsewhere", True),
        ("compute.devices=2", True),
        ("train.loss=l1", False),
        ("data.limit_train=41", False),
        ("evaluate.every_epochs=2", False),
    ],
)
def test_what_would_be_another_result_is_not_taken(other, is_taken, first, tmp_path):
    (one,) = reuse.read([first])
    source = one.rows[0]["data_copy"]
    experiment = config.override(one.experiment, [other])
    reuse.take([one], experiment, source, DIGITS, [(6, 0), (7, 0)], tmp_path, lambda line: None)
    assert list(results.read_results(tmp_path)) == ([(6, 0)] if is_taken else [])
    reuse.take([one], one.experiment, "other data", DIGITS, [(8, 0)], tmp_path, lambda line: None)
    reuse.take([one], one.experiment, source, "abcdefghij", [(8, 0)], tmp_path, lambda line: None)
    assert (8, 0) not in results.read_results(tmp_path)


def test_a_copy_that_was_cut_short_is_made_again(file, first, tmp_path, trained, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(results, "add_result", lambda out, row: (_ for _ in ()).throw(KeyboardInterrupt))
        assert run(file, tmp_path, first) == 130
    (tmp_path / "turned" / "class_6" / "seed_0" / "scores.csv").write_text("half")
    assert run(file, tmp_path, first) == 0
    assert trained == [(0, 7)]
    directories = tmp_path / "turned", first / "Turned"
    ours, theirs = (directory / "class_6" / "seed_0" / "scores.csv" for directory in directories)
    assert ours.read_bytes() == theirs.read_bytes()
    entries = results.read_metrics(tmp_path / "turned" / "metrics.jsonl")
    assert [entry["epoch"] for entry in entries if entry["normal_class"] == 6] == [1, 2]


def test_what_is_missing_or_damaged_in_the_other_run_is_said(first, tmp_path):
    (one,) = reuse.read([shutil.copytree(first, tmp_path / "first")])
    source, out = one.rows[0]["data_copy"], tmp_path / "out"
    arguments = [one], one.experiment, source, DIGITS, [(6, 0)], out, lambda line: None
    (tmp_path / "out").mkdir()
    unreadable = tmp_path / "first" / "Turned" / "unreadable.csv"
    unreadable.write_text("name,why\nx.png,broken\n")
    with pytest.raises(RequestError, match=r"unreadable.csv: is damaged"):
        reuse.take(*arguments)
    unreadable.unlink()
    for name in ("scores.csv", "illustrations.npz"):
        path = one.job_directory(one.rows[0]) / name
        content = path.read_bytes()
        path.write_bytes(content[: len(content) // 2])
        with pytest.raises(RequestError, match="its results are damaged"):
            reuse.take(*arguments)
        path.write_bytes(content)
        assert not list(out.glob("class_*"))
    shutil.rmtree(one.job_directory(one.rows[0]))
    with pytest.raises(RequestError, match=r"class_6.*: is missing"):
        reuse.take(*arguments)
    assert not (tmp_path / "out" / "results.csv").exists()


def test_a_directory_without_results_is_refused_before_anything_is_written(file, tmp_path, capsys):
    assert run(file, tmp_path / "out", tmp_path / "nowhere") == 2
    assert "nowhere: no results.csv there" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
