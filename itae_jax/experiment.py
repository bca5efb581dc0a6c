"""Experiments as data: all settings of a run, `section.field=value` overrides, JSON, experiment files.

An experiment file is Python with a function `get_config()` that returns an `Experiment`, or
`get_configs()` that returns several by name, its variants. It states only what differs from the defaults.
"""

import dataclasses
import difflib
import json
import logging
import re
import runpy
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from itae_jax import config, methods
from itae_jax.config import ComputeConfig, DataConfig, EvaluateConfig, MethodConfig, TrainConfig, setting
from itae_jax.errors import RequestError

_LOG = logging.getLogger(__name__)
# Where the shipped experiment files are: in an installed package, else in a clone.
_PLACES = (Path(__file__).parent / "experiments", Path(__file__).parent.parent / "experiments")
_SHIPPED = next((place for place in _PLACES if place.is_dir()), _PLACES[0])
# Settings that say where and under which name, not what is computed.
_PLACES_AND_NAMES = ("name", "variant", "paper_table", "data.root")
_LAST_SEED = 2**32 - 1  # JAX makes keys of 32 bits


@dataclasses.dataclass(frozen=True)
class Experiment:
    """All settings that decide a result; versions and machine aside.

    Raises:
      RequestError: a value makes no sense.
    """

    name: str = setting("experiment", "names the directory of the results")
    variant: str = setting("", "the name of one of several experiments of a file")
    seed: int = setting(0, "the first seed", least=0, most=_LAST_SEED, decides=False)
    runs: int = setting(
        1, "trainings of each class, with seeds from `seed` on", least=1, most=10_000, decides=False
    )
    classes: str = setting("", "normal classes, indices or names, joined by commas; empty: all", decides=False)
    paper_table: str = setting("", "the file of the paper's numbers to compare with")
    data: DataConfig = dataclasses.field(default_factory=DataConfig)
    method: MethodConfig = dataclasses.field(default_factory=lambda: methods.config_class("itae")())
    train: TrainConfig = dataclasses.field(default_factory=TrainConfig)
    evaluate: EvaluateConfig = dataclasses.field(default_factory=EvaluateConfig)
    compute: ComputeConfig = dataclasses.field(default_factory=ComputeConfig)

    def __post_init__(self):
        for name, base in _SECTIONS.items():
            if not isinstance(getattr(self, name), base):
                raise RequestError(f"{name}: expected a {base.__name__}, got {getattr(self, name)!r}")
        config.check(self, "")
        for field in ("name", "variant", "paper_table"):
            word = getattr(self, field)
            if (not word and field == "name") or not word.isprintable() or re.search(r"^[.]|[/\\]", word):
                raise RequestError(f"{field}={word!r}: expected a word that can name a directory")
        if self.seed + self.runs - 1 > _LAST_SEED:
            raise RequestError(f"seed={self.seed} runs={self.runs}: seeds end at {_LAST_SEED}")
        own = {key: value for key, value in self.method.TRAIN.items() if not getattr(self.train, key)}
        object.__setattr__(self, "train", dataclasses.replace(self.train, **own))


_SECTIONS: dict[str, type] = dict(
    data=DataConfig, method=MethodConfig, train=TrainConfig, evaluate=EvaluateConfig, compute=ComputeConfig
)


def flatten(experiment: Experiment) -> dict[str, Any]:
    """All settings as {"train.epochs": 500, ...}; `method.name` names the method."""
    flat: dict[str, Any] = {}
    for field in dataclasses.fields(experiment):
        value = getattr(experiment, field.name)
        if field.name == "method":
            flat["method.name"] = value.NAME
        if field.name in _SECTIONS:
            flat |= {f"{field.name}.{key}": item for key, item in dataclasses.asdict(value).items()}
        else:
            flat[field.name] = value
    return flat


def fields_of(method: type[MethodConfig]) -> dict[str, dataclasses.Field]:
    """Every setting of an experiment with this method, by its dotted name; `method.name` aside."""
    fields = {field.name: field for field in dataclasses.fields(Experiment) if field.name not in _SECTIONS}
    for section, base in _SECTIONS.items():
        owner = method if section == "method" else base
        fields |= {f"{section}.{field.name}": field for field in dataclasses.fields(owner)}
    return fields


def from_flat(flat: dict[str, Any]) -> Experiment:
    """The inverse of `flatten`; settings left out keep their default; RequestError for a wrong one."""
    flat = dict(flat)
    method = methods.config_class(flat.pop("method.name", "itae"))
    known = fields_of(method)
    parts: dict[str, dict[str, Any]] = {section: {} for section in ("", *_SECTIONS)}
    for name, value in flat.items():
        if name not in known:
            raise RequestError(_unknown(name, known, method))
        section, _, field = name.rpartition(".")
        parts[section][field] = config.as_type(known[name], name, value)
    sections = {name: (method if name == "method" else base)(**parts[name]) for name, base in _SECTIONS.items()}
    return Experiment(**parts[""], **sections)


def override(experiment: Experiment, assignments: Iterable[str], recipe: str = "") -> Experiment:
    """The experiment with a recipe of the method applied, then `section.field=value` assignments.

    With another `method.name` the settings of the old method and its augmentation go, and settings of `train`
    that are at the old method's default take the new one's; all of them, if that takes one pass.

    Raises:
      RequestError: an assignment without `=`, a setting or recipe that the method lacks, or a wrong value.
    """
    texts = {}
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        if not equals:
            raise RequestError(f"--set {assignment!r}: expected section.field=value")
        texts[name] = text
    flat = flatten(experiment)
    method = methods.config_class(texts.pop("method.name", experiment.method.NAME))
    if method is not type(experiment.method):
        flat = {name: value for name, value in flat.items() if not name.startswith("method.")}
        del flat["train.augment"]
        for key, value in experiment.method.TRAIN.items():
            if method.ONE_PASS or flat[f"train.{key}"] == value:
                del flat[f"train.{key}"]
        flat["method.name"] = method.NAME
    if recipe:
        if recipe not in method.RECIPES:
            there = ", ".join(method.RECIPES) or "none"
            raise RequestError(f"--recipe {recipe}: method.name={method.NAME} has {there}")
        flat |= method.RECIPES[recipe]
    known = fields_of(method)
    for name, text in texts.items():
        if name not in known:
            raise RequestError(f"--set {name}={text}: {_unknown(name, known, method)}")
        flat[name] = config.parse(known[name], f"--set {name}", text)
        if name.removeprefix("train.") in method.TRAIN and not flat[name] > 0:
            raise RequestError(f"--set {name}={text}: expected a number above 0")
    return from_flat(flat)


def recipe_of(experiment: Experiment) -> str:
    """The name of the method's recipe whose settings all hold; empty if there is none."""
    flat, recipes = flatten(experiment), type(experiment.method).RECIPES
    return next((name for name, settings in recipes.items() if flat.items() >= settings.items()), "")


def _unknown(name: str, known: Iterable[str], method: type[MethodConfig]) -> str:
    close = difflib.get_close_matches(name, [*known, "method.name"], n=1, cutoff=0.5)
    of_method = f" with method.name={method.NAME}" if name.startswith("method.") else ""
    fields = [field for field in known if not of_method or field.startswith("method.")]
    hint = f"did you mean {close[0]}?" if close else f"the settings are {', '.join(fields) or 'none'}"
    return f"there is no setting {name!r}{of_method}; {hint}"


def to_json(experiment: Experiment) -> str:
    """The experiment as JSON, nested by section."""
    return json.dumps(as_tree(experiment), indent=2)


def as_tree(experiment: Experiment) -> dict[str, Any]:
    """The experiment as nested dictionaries of JSON values."""
    tree: dict[str, Any] = {}
    for name, value in flatten(experiment).items():
        section, _, field = name.rpartition(".")
        (tree.setdefault(section, {}) if section else tree)[field] = value
    return tree


def from_tree(tree: Any) -> Experiment:
    """The inverse of `as_tree`; RequestError for what is not an object, or what `from_flat` refuses."""
    if not isinstance(tree, dict):
        raise RequestError("not a config: expected a JSON object")
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            flat |= {f"{key}.{name}": item for name, item in value.items()}
        else:
            flat[key] = value
    return from_flat(flat)


def read_record(path: Path) -> Experiment:
    """The experiment of a run's config.json; RequestError if it cannot be read."""
    try:
        tree = json.loads(path.read_text(encoding="utf-8-sig"))
        if isinstance(tree, dict):
            tree.pop("environment", None)
        return from_tree(tree)
    except json.JSONDecodeError as error:
        raise RequestError(f"{path}: not a config: {error}") from None
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise RequestError(f"{path}: {error}") from None


def decisive(experiment: Experiment) -> dict[str, Any]:
    """The settings that decide a result."""
    fields = fields_of(type(experiment.method))
    aside = {name for name, field in fields.items() if not field.metadata["decides"]}
    return {name: value for name, value in flatten(experiment).items() if name not in aside}


def changed(experiment: Experiment) -> dict[str, Any]:
    """The decisive settings that are not at the method's defaults; names and places aside."""
    defaults = flatten(Experiment(method=type(experiment.method)())) | {"method.name": "itae"}
    given = decisive(experiment).items()
    return {k: v for k, v in given if v != defaults[k] and k not in _PLACES_AND_NAMES}


def differences(old: Experiment, new: Experiment, ignored: Sequence[str] = ()) -> dict[str, tuple[Any, Any]]:
    """(old, new) by name of every decisive setting that differs; those of another method are None."""
    before, after = decisive(old), decisive(new)
    pairs = {name: (before.get(name), after.get(name)) for name in before | after if name not in ignored}
    return {name: (was, now) for name, (was, now) in pairs.items() if was != now}


def gives_the_same(old: Experiment, new: Experiment) -> bool:
    """Whether both give the same results; names and the place of the data may differ."""
    return not differences(old, new, _PLACES_AND_NAMES)


def as_text(different: Mapping[str, tuple[Any, Any]]) -> str:
    """`field: old -> new; ...` of what `differences` returns."""

    def shown(value):
        return "not given" if value is None else repr(value)

    return "; ".join(f"{name}: {shown(was)} -> {shown(now)}" for name, (was, now) in different.items())


def find(name: str) -> Path:
    """The experiment file of a name or a path: `digits`, `experiments/digits.py`, `DIR/config.json`."""
    path = Path(name)
    if path.suffix in (".py", ".json") or len(path.parts) > 1:
        if path.is_file():
            return path
        raise RequestError(f"{path}: no such experiment file")
    if name in shipped():
        return _SHIPPED / f"{name}.py"
    raise RequestError(f"{name}: no such experiment; choose from {', '.join(shipped())}, or name a file")


def shipped() -> list[str]:
    """The names of the experiments that come with the package."""
    return sorted(path.stem for path in _SHIPPED.glob("*.py") if not path.name.startswith("_"))


def load(
    path: Path, assignments: Iterable[str] = (), chosen: Sequence[str] | None = None, recipe: str = ""
) -> dict[str, Experiment]:
    """The experiments of a file by variant, overridden; under "" the only one where there are no variants.

    Args:
      path: Python, or the config.json of a run, which is then repeated.
      assignments: `section.field=value`. Of variants with several methods, a setting of a method changes those
        that have it.
      chosen: the variants to keep; None: all.
      recipe: of the method; empty: the file's own settings.

    Raises:
      RequestError: the file fails or returns something else; there is no such variant; the overrides
        leave two variants alike; a config.json names code of the user that no assignment names.
    """
    _LOG.info("experiment file: %s", path)
    experiments = {"": read_record(path)} if path.suffix == ".json" else _run_file(path)
    unknown = [name for name in chosen or () if name not in experiments or not name]
    if unknown:
        there = ", ".join(filter(None, experiments)) or "none"
        raise RequestError(f"--variants: {path} has no variant {unknown[0]!r}; its variants: {there}")
    assignments = list(assignments)
    kept = experiments if chosen is None else [name for name in experiments if name in chosen]
    overridden = {
        variant: override(experiments[variant], _applicable(experiments, kept, variant, assignments), recipe)
        for variant in kept
    }
    if path.suffix == ".json":
        _check_names_no_code(path, overridden[""], assignments)
    first_of: dict[Experiment, str] = {}
    for variant, experiment in overridden.items():
        other = first_of.setdefault(dataclasses.replace(experiment, variant=""), variant)
        if other != variant:
            alike = f"the variants {other} and {variant} alike"
            raise RequestError(f"--set: makes {alike}; choose one by --variants")
    return overridden


def _applicable(
    experiments: Mapping[str, Experiment], kept: Iterable[str], variant: str, assignments: Sequence[str]
) -> list[str]:
    """The assignments, less those of settings that only other variants' methods have."""
    names = [text.partition("=")[0] for text in assignments]
    if "method.name" in names:
        return list(assignments)
    fields = {one: fields_of(type(experiments[one].method)) for one in kept}
    elsewhere = set().union(*fields.values()) - fields[variant].keys()
    return [text for name, text in zip(names, assignments, strict=True) if name not in elsewhere]


def _check_names_no_code(path: Path, experiment: Experiment, assignments: list[str]) -> None:
    """A config.json may come from anybody: code that it names runs only if the user names it too."""
    code = experiment.method.foreign_code
    field = next((name for name, value in flatten(experiment).items() if value == code), "")
    if code and f"{field}={code}" not in assignments:
        raise RequestError(
            f"{path}: was run with {field}={code}, code that is not part of itae_jax; if you know and trust "
            f"it, add --set {field}={code}"
        )


def _run_file(path: Path) -> dict[str, Experiment]:
    if path.suffix != ".py":
        raise RequestError(
            f"{path}: an experiment is a Python file with a function get_config(), or the config.json of a run"
        )
    try:
        functions = runpy.run_path(str(path))
        if callable(functions.get("get_configs")):
            return _named_variants(functions["get_configs"]())
        if not callable(functions.get("get_config")):
            raise RequestError("an experiment file needs a function get_config()")
        experiment = functions["get_config"]()
        if not isinstance(experiment, Experiment):
            raise RequestError(f"get_config() returned {type(experiment).__name__}, expected Experiment")
        return {"": experiment}
    except RequestError as error:
        raise RequestError(f"{path}: {error}") from None
    except SyntaxError as error:
        raise RequestError(f"{path}: line {error.lineno}: {error.msg}") from None
    except (Exception, SystemExit) as error:  # the user's own code can raise anything
        raise RequestError(f"{path}: {type(error).__name__}: {error}") from None


def _named_variants(experiments: Any) -> dict[str, Experiment]:
    if not isinstance(experiments, dict) or not experiments:
        raise RequestError("get_configs() returned no dictionary of experiments by variant")
    for variant, experiment in experiments.items():
        if not isinstance(experiment, Experiment) or not isinstance(variant, str) or not variant:
            raise RequestError(f"get_configs()[{variant!r}]: expected a name and an Experiment")
    if len({experiment.name for experiment in experiments.values()}) > 1:
        raise RequestError("get_configs(): the variants of an experiment need one name")
    return {variant: dataclasses.replace(one, variant=variant) for variant, one in experiments.items()}
