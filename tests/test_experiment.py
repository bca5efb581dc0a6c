"""Experiments as data: overrides, JSON, differences, and experiment files."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from itae_jax import experiment, methods
from itae_jax.config import DataConfig, TrainConfig
from itae_jax.errors import RequestError
from itae_jax.experiment import Experiment
from itae_jax.methods.itae import ITAEConfig
from itae_jax.methods.vae import VAEConfig

NAMES = ("name", "variant", "paper_table")  # of directories and files


def values_of(name, field):
    """The values that a setting can have."""
    limits = field.metadata
    least, most = limits["least"], limits["most"]
    if limits["choices"]:
        return st.sampled_from(limits["choices"])
    if name in ("seed", "runs"):
        return st.integers(1, 100)
    if field.type is int:
        return st.integers(least, most or 2**40)
    if field.type is float:
        return st.floats(least, most, allow_nan=False, allow_infinity=False)
    return st.text("abcxyz_019", min_size=1) if name in NAMES else st.text(st.characters(codec="utf-8"))


def experiments_of(method):
    fields = experiment.fields_of(methods.config_class(method))
    flat = st.fixed_dictionaries({}, optional={name: values_of(name, field) for name, field in fields.items()})
    return flat.map(lambda values: experiment.from_flat({"method.name": method, **values}))


EXPERIMENTS = st.sampled_from(methods.names()).flatmap(experiments_of)


@settings(deadline=None)
@given(EXPERIMENTS)
def test_json_gives_the_experiment_back(one):
    assert experiment.from_tree(json.loads(experiment.to_json(one))) == one
    assert experiment.from_flat(experiment.flatten(one)) == one


@settings(deadline=None)
@given(EXPERIMENTS, EXPERIMENTS)
def test_overriding_every_setting_of_one_experiment_gives_the_other(first, second):
    flat = experiment.flatten(second)
    assert experiment.override(first, [f"{name}={value}" for name, value in flat.items()]) == second


@settings(deadline=None)
@given(EXPERIMENTS, EXPERIMENTS)
def test_differences_are_the_deciding_settings_that_differ(first, second):
    assert experiment.differences(first, first) == {}
    before, after = experiment.decisive(first), experiment.decisive(second)
    names = {name for name in before | after if before.get(name) != after.get(name)}
    assert experiment.differences(first, second) == {n: (before.get(n), after.get(n)) for n in names}
    assert experiment.gives_the_same(first, second) == (names <= {*NAMES, "data.root"})


@pytest.mark.parametrize("method", methods.names())
def test_changed_settings_are_those_off_the_methods_defaults(method):
    default = experiment.from_flat({"method.name": method})
    expected = {} if method == "itae" else {"method.name": method}
    assert experiment.changed(default) == expected
    for name, field in experiment.fields_of(type(default.method)).items():
        value = experiment.flatten(default)[name]
        choices = [choice for choice in field.metadata["choices"] if choice != value]
        other = choices[0] if choices else value + 1 if field.type is not str else "other"
        if field.metadata["most"] is not None:
            other = min(other, field.metadata["most"])
        found = experiment.changed(experiment.override(default, [f"{name}={other}"]))
        shown = field.metadata["decides"] and name not in (*NAMES, "data.root")
        assert found == (expected | {name: other} if shown else expected)


def test_another_method_takes_its_own_defaults_of_training():
    old = Experiment(train=TrainConfig(epochs=50, augment="flip"), method=ITAEConfig(width=8))
    new = experiment.override(old, ["method.name=vae"])
    assert new.method == VAEConfig()
    assert new.train.epochs == 50  # the user's own
    assert new.train.augment == "none"  # GeoTrans would not know a mirrored image from another transform
    assert (old.train.learning_rate, new.train.learning_rate) == (0.1, VAEConfig.TRAIN["learning_rate"])
    assert new.train.halve_every_epochs == VAEConfig.TRAIN["halve_every_epochs"]
    given = experiment.override(old, ["train.learning_rate=0.1", "method.name=vae", "method.latent=3"])
    assert (given.train.learning_rate, given.method.latent) == (0.1, 3)
    assert experiment.override(new, ["method.name=vae"]) == new


@pytest.mark.parametrize("method", methods.names())
def test_a_recipe_changes_settings_beneath_the_users(method):
    default, recipes = experiment.from_flat({"method.name": method}), methods.config_class(method).RECIPES
    for name, recipe in recipes.items():
        improved = experiment.override(default, [], name)
        assert experiment.flatten(improved).items() >= recipe.items()
        given = experiment.override(default, ["train.learning_rate=0.5"], name)
        assert (given.method, given.train.learning_rate) == (improved.method, 0.5)
    with pytest.raises(RequestError, match=f"--recipe other: method.name={method}"):
        experiment.override(default, [], "other")


@pytest.mark.parametrize(
    ("assignments", "message"),
    [
        (["method.name=vae", "method.width=8"], r"'method\.width' with method\.name=vae; did you mean"),
        (["method.latent=8"], r"'method\.latent' with method\.name=itae"),
        (["method.widht=8"], r"'method\.widht'.*did you mean method\.width"),
        (["method.nam=knn"], r"did you mean method\.name"),
        (["qqqqqqq=1"], "'qqqqqqq'; the settings are name, variant"),
        (["train=1"], "no setting 'train'"),
        (["name="], "name=''"),
        (["variant=a/b"], "variant='a/b'"),
        (["name=.hidden"], "name='.hidden'"),
        (["seed=4294967295", "runs=2"], "seeds end at 4294967295"),
    ],
)
def test_override_refuses_what_the_method_lacks_or_cannot_be(assignments, message):
    with pytest.raises(RequestError, match=message):
        experiment.override(Experiment(), assignments)


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ([], "expected a JSON object"),
        ({"train": 3}, "'train'"),
        ({"train": {"learning_rate": 10**400}}, r"train\.learning_rate"),
        ({"method": {"name": 3}}, r"method\.name=3"),
    ],
)
def test_trees_of_other_things_are_refused(tree, message):
    with pytest.raises(RequestError, match=message):
        experiment.from_tree(tree)


def test_sections_are_of_their_class():
    with pytest.raises(RequestError, match="train: expected a TrainConfig"):
        Experiment(train={"epochs": 3})
    with pytest.raises(RequestError, match="method: expected a MethodConfig"):
        Experiment(method=DataConfig())


def test_record_of_a_run_is_read_without_its_environment(tmp_path):
    one = Experiment(name="x", method=VAEConfig(latent=3))
    path = tmp_path / "config.json"
    path.write_text(json.dumps(experiment.as_tree(one) | {"environment": {"commit": "abc"}}))
    assert experiment.read_record(path) == one
    for text in ("{", "[" * 10**5, "[1]", '{"seed": "3"}', "\xff"):
        path.write_bytes(text.encode("latin-1"))
        with pytest.raises(RequestError, match=r"config\.json"):
            experiment.read_record(path)


def write(path, body):
    path.write_text(f"from itae_jax.experiment import Experiment\n\ndef {body}\n")
    return path


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("get_configs(): return []", "no dictionary"),
        ("get_configs(): return {}", "no dictionary"),
        ("get_configs(): return {'a': 1}", r"\['a'\]: expected a name and an Experiment"),
        ("get_configs(): return {'': Experiment()}", r"\[''\]: expected a name"),
        ("get_configs(): return {'a/b': Experiment()}", "variant='a/b': expected a word"),
        ("get_configs(): return {'a': Experiment(), 'b': Experiment(name='x')}", "need one name"),
        ("get_config(): return {}", "returned dict, expected Experiment"),
        ("get_config(): return 1 / 0", "ZeroDivisionError"),
        ("get_config(): raise SystemExit", "SystemExit"),
        ("get_config(:", "line 3"),
        ("other(): pass", r"needs a function get_config\(\)"),
    ],
)
def test_experiment_file_that_gives_no_experiment_is_refused(tmp_path, body, message):
    with pytest.raises(RequestError, match=rf"mine\.py: .*{message}"):
        experiment.load(write(tmp_path / "mine.py", body))


def test_variants_are_chosen_overridden_and_kept_apart(tmp_path):
    body = "get_configs(): return {v: Experiment(seed=i) for i, v in enumerate('ab')}"
    path = write(tmp_path / "mine.py", body)
    loaded = experiment.load(path, ["train.epochs=3"])
    found = [(key, one.variant, one.seed, one.train.epochs) for key, one in loaded.items()]
    assert found == [("a", "a", 0, 3), ("b", "b", 1, 3)]
    assert list(experiment.load(path, chosen=["b"])) == ["b"]
    for arguments, message in (
        ((["seed=3"],), "the variants a and b alike"),
        (((), ["melted"]), "no variant 'melted'; its variants: a, b"),
        (((), [""]), "no variant ''"),
    ):
        with pytest.raises(RequestError, match=message):
            experiment.load(path, *arguments)


def test_a_setting_of_a_method_changes_the_variants_that_have_it(tmp_path):
    body = """get_configs():
        from itae_jax.methods.ganomaly import GANomalyConfig
        return {'a': Experiment(), 'b': Experiment(method=GANomalyConfig())}
    """
    path = write(tmp_path / "mine.py", body)
    both = experiment.load(path, ["method.width=8", "method.channels=9", "train.epochs=3"])
    assert (both["a"].method.width, both["b"].method.channels) == (8, 9)
    assert {one.train.epochs for one in both.values()} == {3}
    for chosen, field in ((None, "melted"), (["a"], "channels")):
        with pytest.raises(RequestError, match=f"no setting 'method.{field}'"):
            experiment.load(path, [f"method.{field}=9"], chosen)


def test_a_run_is_repeated_by_its_config_but_code_that_it_names_only_if_named_again(tmp_path):
    path = tmp_path / "config.json"
    for transform, assignments in (("rotate", []), ("mine:T", ["method.transform=mine:T"])):
        one = Experiment(name="x", method=ITAEConfig(transform=transform))
        path.write_text(experiment.to_json(one))
        assert experiment.load(path, assignments) == {"": one}
    with pytest.raises(RequestError, match=r"config\.json: .*--set method\.transform=mine:T"):
        experiment.load(path)


def test_experiments_are_found_by_name_or_path(tmp_path):
    own = write(tmp_path / "own.py", "get_config(): return Experiment(name='own')")
    assert experiment.find(str(own)) == own
    assert experiment.find("digits").name == "digits.py"
    for name in ("digits.json", f"{tmp_path}/no.py", str(tmp_path)):
        with pytest.raises(RequestError, match="no such experiment file"):
            experiment.find(name)
    with pytest.raises(
        RequestError, match=r"digit: no such experiment; choose from .*digits.*, or name a file"
    ):
        experiment.find("digit")
