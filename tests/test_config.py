"""Configs: defaults, overrides, JSON, and what is refused."""

import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from itae_jax import config
from itae_jax.config import DataConfig, Experiment, TrainConfig
from itae_jax.errors import RequestError


def test_json_round_trip():
    experiment = Experiment(name="x", seed=3, train=TrainConfig(epochs=7, learning_rate=0.05))
    assert config.from_json(config.to_json(experiment)) == experiment


@given(st.integers(1, 10**6), st.floats(1e-6, 1e6), st.sampled_from(["l1", "l2"]))
def test_overrides_are_read_by_the_fields_type(epochs, rate, loss):
    changed = config.override(
        Experiment(),
        [f"train.epochs={epochs}", f"train.learning_rate={rate!r}", f"train.loss={loss}", "name=5"],
    )
    assert changed.train == TrainConfig(epochs=epochs, learning_rate=rate, loss=loss)
    assert changed.name == "5"
    assert dataclasses.replace(changed, name="experiment", train=TrainConfig()) == Experiment()


def test_the_last_of_two_overrides_holds():
    assert config.override(Experiment(), ["seed=1", "seed=2"]).seed == 2


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("train.epochs", "expected section.field=value"),
        ("train.epoch=3", "did you mean train.epochs"),
        ("zzzzzz=3", "the fields are name, variant, method, seed"),
        ("train=3", "there is no field 'train'"),
        ("train.epochs=3.5", "expected a whole number"),
        ("train.epochs=", "expected a whole number"),
        ("train.learning_rate=fast", "expected a number"),
        ("train.epochs=0", "train.epochs=0: expected at least 1"),
        ("train.batch_size=-4", "expected at least 1"),
        ("seed=-1", "expected at least 0"),
        ("data.limit_test=-1", "expected at least 0"),
        ("train.learning_rate=0", "expected a positive number"),
        ("train.learning_rate=nan", "expected a positive number"),
        ("train.momentum=nan", "expected at least 0"),
        ("train.momentum=inf", "expected at most 1"),
        ("model.width=1000000000000", "expected at most 4096"),
        ("data.image_size=100000", "expected at most 16384"),
        ("seed=4294967296", "expected at most 4294967295"),
        ("name=", "can name a directory"),
        ("train.loss=l3", "choose from l2, l1"),
        ("model.name=vgg", "choose from unet"),
        ("compute.dtype=float16", "choose from float32, bfloat16, float64"),
        ("evaluate.error=mse", "choose from l1, l2"),
        ("method=svm", "choose from itae"),
    ],
)
def test_a_wrong_override_is_refused(assignment, message):
    with pytest.raises(RequestError, match=message):
        config.override(Experiment(), [assignment])


@pytest.mark.parametrize(
    "build",
    [
        lambda: TrainConfig(epochs="3"),
        lambda: TrainConfig(epochs=True),
        lambda: DataConfig(name=None),
        lambda: {"epochs": 3},
    ],
)
def test_a_field_of_the_wrong_type_is_refused(build):
    section = build()
    field = "data" if isinstance(section, DataConfig) else "train"
    with pytest.raises(RequestError, match=f"{field}.*expected"):
        Experiment(**{field: section})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not a config"),
        ("[]", "expected a JSON object"),
        ('{"trane": {"epochs": 3}}', "there is no field 'trane.epochs'"),
        ('{"train": {"epochs": "3"}}', "train.epochs='3': expected a whole number"),
        ('{"train": 3}', "there is no field 'train'"),
    ],
)
def test_wrong_json_is_refused(text, message):
    with pytest.raises(RequestError, match=message):
        config.from_json(text)


def test_differences_name_field_old_and_new_but_not_what_leaves_results_comparable():
    old = Experiment()
    new = config.override(old, ["model.width=8", "seed=4", "compute.devices=2"])
    assert config.differences(old, new) == ["model.width: 64 -> 8"]
    assert config.differences(old, old) == []


def test_whole_numbers_in_json_serve_for_numbers():
    tree = json.loads(config.to_json(Experiment()))
    tree["train"]["learning_rate"] = 1
    assert config.from_json(json.dumps(tree)).train.learning_rate == 1.0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "no such experiment file"),
        ("x = 1", r"needs a function get_config\(\)"),
        ("def get_config(:", "line 1"),
        ("def get_config():\n    return {}", "returned dict, expected Experiment"),
        ("import nothing_of_that_name", "ModuleNotFoundError"),
        ("def get_config():\n    return 1 / 0", "ZeroDivisionError"),
    ],
)
def test_a_wrong_experiment_file_is_refused(tmp_path, text, message):
    path = tmp_path / "mine.py"
    if text is not None:
        path.write_text(text)
    with pytest.raises(RequestError, match=f"mine.py.*{message}"):
        config.load_experiments(path)


def test_an_experiment_is_a_python_file(tmp_path):
    (tmp_path / "mine.txt").write_text("{}")
    with pytest.raises(RequestError, match="is a Python file"):
        config.load_experiments(tmp_path / "mine.txt")
