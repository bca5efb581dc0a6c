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


def test_differences_name_field_old_and_new_but_not_what_leaves_results_comparable():
    old = Experiment()
    new = config.override(old, ["model.width=8", "seed=4", "compute.devices=2"])
    assert config.differences(old, new) == ["model.width: 64 -> 8"]
    assert config.differences(old, old) == []


def test_whole_numbers_in_json_serve_for_numbers():
    tree = json.loads(config.to_json(Experiment()))
    tree["train"]["learning_rate"] = 1
    assert config.from_json(json.dumps(tree)).train.learning_rate == 1.0


def test_numbers_beyond_floats_are_refused():
    tree = json.loads(config.to_json(Experiment()))
    tree["train"]["learning_rate"] = 10**400
    with pytest.raises(RequestError, match=r"train\.learning_rate: is too large a number"):
        config.from_json(json.dumps(tree))
