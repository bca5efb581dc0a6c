"""Laws of every setting of every method: types, limits, choices, and texts."""

import dataclasses
import math
import re

import pytest

from itae_jax import experiment, methods
from itae_jax.config import MethodConfig
from itae_jax.errors import RequestError
from itae_jax.experiment import Experiment

FIELDS = [
    (method, name, field)
    for method in methods.names()
    for name, field in experiment.fields_of(methods.config_class(method)).items()
    if method == "itae" or name.startswith("method.")
]
every_field = pytest.mark.parametrize(
    ("method", "name", "field"), FIELDS, ids=[f"{method}-{name}" for method, name, _ in FIELDS]
)
WRONG_TYPES = {int: ["3", 1.5, None, [], True], float: ["fast", None, [], True], str: [3, None, [], True]}
WRONG_TEXTS = {int: ["3.5", "", "many", "inf"], float: ["fast", "", "1,5"]}


def make(method, name, value):
    return experiment.from_flat({"method.name": method, name: value})


@every_field
def test_setting_refuses_other_types_and_texts_by_name(method, name, field):
    for value in WRONG_TYPES[field.type]:
        with pytest.raises(RequestError, match=rf"^{name}=.*expected"):
            make(method, name, value)
    for text in WRONG_TEXTS.get(field.type, []):
        with pytest.raises(RequestError, match=rf"{name}=.*expected"):
            experiment.override(Experiment(), [f"method.name={method}", f"{name}={text}"])


@every_field
def test_setting_takes_its_limits_and_refuses_what_lies_beyond(method, name, field):
    limits = field.metadata
    refused = [math.nan] if field.type is float else []
    if limits["least"] is not None:
        make(method, name, field.type(limits["least"]))
        refused += [field.type(limits["least"] - 1)]
    if limits["most"] is not None and name != "runs":  # whose limit the seeds share
        make(method, name, field.type(limits["most"]))
        refused += [field.type(2 * limits["most"]), 10**400]
    for value in refused:
        with pytest.raises(RequestError, match=rf"^{name}[=:]"):
            make(method, name, value)


@every_field
def test_setting_takes_its_choices_and_names_them_otherwise(method, name, field):
    choices = field.metadata["choices"]
    for choice in choices:
        make(method, name, choice)
    if choices:
        with pytest.raises(RequestError, match=rf"^{name}=.*choose from .*{re.escape(str(choices[-1]))}"):
            make(method, name, field.type(999))


@every_field
def test_setting_says_what_it_means(method, name, field):
    assert field.metadata["about"]
    make(method, name, field.default)


@pytest.mark.parametrize("method", methods.names())
def test_zero_in_train_stands_for_the_methods_default_but_not_on_the_command_line(method):
    default = make(method, "name", "x")
    for name, value in default.method.TRAIN.items():
        assert make(method, f"train.{name}", 0).train == default.train
        assert getattr(default.train, name) == value
        with pytest.raises(RequestError, match=rf"train\.{name}=0: expected a number above 0"):
            experiment.override(default, [f"train.{name}=0"])


@pytest.mark.parametrize("method", methods.names())
def test_method_config_gives_every_answer_the_package_asks_for(method):
    config = methods.config_class(method)()
    assert isinstance(config, MethodConfig) and method == config.NAME and config.title
    fields = {field.name for field in dataclasses.fields(config)}
    assert config.TRAIN.keys() >= {"epochs", "batch_size", "learning_rate", "halve_every_epochs"}
    assert all(own.keys() <= fields for own in config.BENCH)
    assert {name for name, *_ in config.suggest({}, False)} <= experiment.fields_of(type(config)).keys()
    assert [len(config.example_titles(count)) for count in (1, 4)] == [1, 4]
    assert config.foreign_code == ""
