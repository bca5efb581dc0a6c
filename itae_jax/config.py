"""Experiments as data: frozen dataclasses, `section.field=value` overrides, JSON.

An experiment file is Python with a function `get_config()` that returns an `Experiment`, or
`get_configs()` that returns several by name, its variants; it states only what differs from the
defaults below.
"""

import dataclasses
import json
from collections.abc import Iterable
from typing import Any

from itae_jax.errors import RequestError


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """Which images, and how files become arrays of one shape.

    Attributes:
      root: directory of the data.
      image_size: side in pixels; 0: the data set's own.
      channels: 1 or 3; 0: the data set's own.
      fit: how an image comes to be square: crop, letterbox, stretch or pad; empty: the data set's own.
      superclasses: CSV file with the header folder,class that joins folders to classes.
      limit_train, limit_test: how many images to use, drawn once and for all; 0: all.
      on_corrupt: skip images that cannot be read, and list them at the end, or stop with an error.
      max_side: larger images are refused, in pixels.
      memory_gib: images that take more than this are read as they are needed.
      workers: threads that read them; 0: one a core.
    """

    name: str = "digits"
    root: str = ""
    image_size: int = 0
    channels: int = 0
    fit: str = ""
    superclasses: str = ""
    limit_train: int = 0
    limit_test: int = 0
    on_corrupt: str = "skip"
    max_side: int = 20_000
    memory_gib: float = 4.0
    workers: int = 0


@dataclasses.dataclass(frozen=True)
class TransformConfig:
    """Which erasing transforms, joined by `+`."""

    name: str = "gray+rotate"


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """The network. `width` 64 is the paper's; `output` is tanh or linear."""

    name: str = "unet"
    width: int = 64
    output: str = "tanh"


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """Training by SGD; an epoch is one pass over the images.

    `batch_size` counts images, over all devices; with `transforms_per_image="all"` a step restores
    each of them from all T members. The newest `keep_checkpoints` states stay on disk until the
    training is done, one written every `checkpoint_minutes`.
    """

    epochs: int = 500
    batch_size: int = 32
    learning_rate: float = 0.1
    momentum: float = 0.0
    weight_decay: float = 0.0
    halve_every_epochs: int = 50
    loss: str = "l2"
    transforms_per_image: str = "one"
    augment: str = "none"
    checkpoint_minutes: float = 10.0
    keep_checkpoints: int = 2


@dataclasses.dataclass(frozen=True)
class EvaluateConfig:
    """Scoring.

    `batch_size` counts images of 32x32, fewer larger ones are taken at a time. `every_epochs` > 0
    also writes the test AUROC while training; nothing reads it back.
    """

    error: str = "l1"
    batch_size: int = 256
    every_epochs: int = 0


@dataclasses.dataclass(frozen=True)
class ComputeConfig:
    """How to compute.

    `devices` 0: all; `steps_per_call` 0: chosen for the backend; `deterministic` "yes" has a GPU use
    only operations that give the same bits every time, which may be slower (a CPU always does).
    """

    dtype: str = "float32"
    devices: int = 0
    steps_per_call: int = 0
    deterministic: str = "no"


@dataclasses.dataclass(frozen=True)
class Experiment:
    """All that decides a result, but the versions and the machine.

    Attributes:
      variant: the name that an experiment file of several gives this one.
      seed: the first seed, or the only one.
      runs: how many trainings of each class, with seeds counted from `seed` on.
      classes: the normal classes, indices or names joined by commas; empty: all.
      paper_table: the file of the paper's numbers that the results stand beside.
    """

    name: str = "experiment"
    variant: str = ""
    method: str = "itae"
    seed: int = 0
    runs: int = 1
    classes: str = ""
    paper_table: str = ""
    data: DataConfig = DataConfig()
    transform: TransformConfig = TransformConfig()
    model: ModelConfig = ModelConfig()
    train: TrainConfig = TrainConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    compute: ComputeConfig = ComputeConfig()

    def __post_init__(self):
        _check_fields(self, "")
        check_values(self)


_CHOICES = {
    "method": ("itae",),
    "data.channels": (0, 1, 3),
    "data.fit": ("", "crop", "letterbox", "stretch", "pad"),
    "data.on_corrupt": ("skip", "error"),
    "model.name": ("unet", "resnet34_unet"),
    "model.output": ("tanh", "linear"),
    "train.loss": ("l2", "l1"),
    "train.transforms_per_image": ("one", "all"),
    "evaluate.error": ("l1", "l2"),
    "compute.dtype": ("float32", "bfloat16", "float64"),
    "compute.deterministic": ("no", "yes"),
}
_AT_LEAST_ONE = (
    "runs",
    "model.width",
    "train.epochs",
    "train.batch_size",
    "train.halve_every_epochs",
    "train.keep_checkpoints",
    "evaluate.batch_size",
    "data.max_side",
)
_AT_LEAST_ZERO = (
    "seed",
    "data.image_size",
    "data.limit_train",
    "data.limit_test",
    "data.memory_gib",
    "data.workers",
    "train.momentum",
    "train.weight_decay",
    "train.checkpoint_minutes",
    "evaluate.every_epochs",
    "compute.devices",
    "compute.steps_per_call",
)
_AT_MOST = {
    "seed": 2**32 - 1,  # of which random keys are made
    "runs": 10_000,
    "data.image_size": 16_384,
    "model.width": 4096,
    "train.batch_size": 2**20,
    "train.epochs": 2**31 - 1,
    "train.momentum": 1.0,
    "train.weight_decay": 1e6,
    "evaluate.batch_size": 2**20,
    "compute.steps_per_call": 10_000,
}
# Fields that change how fast a result comes, or which of several it is, not what is run.
NOT_COMPARED = (
    *("seed", "runs", "classes", "data.memory_gib", "data.workers"),
    *("train.checkpoint_minutes", "train.keep_checkpoints"),
    *("compute.devices", "compute.steps_per_call", "compute.deterministic"),
)


def check_values(experiment: Experiment) -> None:
    """Raises RequestError for the first field whose value makes no sense."""
    values = flatten(experiment)
    for field, choices in _CHOICES.items():
        if values[field] not in choices:
            raise RequestError(f"{field}={values[field]!r}: choose from {', '.join(map(str, choices))}")
    for fields, least in ((_AT_LEAST_ONE, 1), (_AT_LEAST_ZERO, 0)):
        for field in fields:
            if not values[field] >= least:  # NaN is refused too
                raise RequestError(f"{field}={values[field]}: expected at least {least}")
    for field, most in _AT_MOST.items():
        if values[field] > most:
            raise RequestError(f"{field}={values[field]}: expected at most {most}")
    named = ("name", *(field for field in ("variant", "paper_table") if values[field]))
    for field in named:
        name = values[field]
        if not name or not name.isprintable() or set(name) & set("/\\") or name.startswith("."):
            raise RequestError(f"{field}={values[field]!r}: expected a word that can name a directory")
    if values["seed"] + values["runs"] > 2**32:
        raise RequestError(f"seed={values['seed']} runs={values['runs']}: seeds end at {2**32 - 1}")
    if not 0 < values["train.learning_rate"] < float("inf"):
        raise RequestError(f"train.learning_rate={values['train.learning_rate']}: expected a positive number")


def _check_fields(section, prefix: str) -> None:
    for field in dataclasses.fields(section):
        value = getattr(section, field.name)
        if dataclasses.is_dataclass(field.type):
            if not isinstance(value, field.type):
                raise RequestError(f"{prefix}{field.name}: expected a {field.type.__name__}, got {value!r}")
            _check_fields(value, f"{field.name}.")
            continue
        allowed = (int, float) if field.type is float else (field.type,)
        if not isinstance(value, allowed) or isinstance(value, bool):
            raise RequestError(f"{prefix}{field.name}={value!r}: expected {_TYPE_WORDS[field.type]}")


_TYPE_WORDS = {int: "a whole number", float: "a number", str: "text"}


def flatten(experiment: Experiment) -> dict[str, Any]:
    """{"train.epochs": 500, ...}, sections joined to fields by a dot."""
    flat = {}
    for field in dataclasses.fields(experiment):
        value = getattr(experiment, field.name)
        if dataclasses.is_dataclass(value):
            flat |= {f"{field.name}.{key}": item for key, item in dataclasses.asdict(value).items()}
        else:
            flat[field.name] = value
    return flat


def override(experiment: Experiment, assignments: Iterable[str]) -> Experiment:
    """The experiment with `section.field=value` assignments applied, values read by the field's type.

    Raises:
      RequestError: an assignment without `=`, an unknown field, a value of the wrong type.
    """
    known = flatten(Experiment())
    changes = {}
    for assignment in assignments:
        field, equals, text = assignment.partition("=")
        if not equals:
            raise RequestError(f"--set {assignment!r}: expected section.field=value")
        if field not in known:
            raise RequestError(f"--set {assignment!r}: {_unknown(field, known)}")
        kind = type(known[field])
        try:
            changes[field] = kind(text)
        except ValueError:
            raise RequestError(f"--set {assignment!r}: expected {_TYPE_WORDS[kind]}") from None
    return from_flat(flatten(experiment) | changes)


def from_flat(flat: dict[str, Any]) -> Experiment:
    """The experiment of which `flatten` makes this dictionary; fields left out keep their default.

    Raises:
      RequestError: an unknown field, a value of the wrong type or out of range.
    """
    known = flatten(Experiment())
    sections: dict[str, dict[str, Any]] = {}
    top = {}
    for field, value in flat.items():
        if field not in known:
            raise RequestError(_unknown(field, known))
        if type(known[field]) is float and type(value) is int:
            try:
                value = float(value)
            except OverflowError:
                raise RequestError(f"{field}: is too large a number") from None
        section, dot, name = field.partition(".")
        if dot:
            sections.setdefault(section, {})[name] = value
        else:
            top[field] = value
    types = {field.name: field.type for field in dataclasses.fields(Experiment)}
    return Experiment(**top, **{name: types[name](**fields) for name, fields in sections.items()})


def _unknown(field: str, known: Iterable[str]) -> str:
    import difflib

    close = difflib.get_close_matches(field, list(known), n=1, cutoff=0.5)
    hint = f"did you mean {close[0]}?" if close else f"the fields are {', '.join(known)}"
    return f"there is no field {field!r}; {hint}"


def to_json(experiment: Experiment) -> str:
    """One field a line, nested by section."""
    return json.dumps(dataclasses.asdict(experiment), indent=2)


def from_json(text: str) -> Experiment:
    """The inverse of `to_json`.

    Raises:
      RequestError: not JSON, not an object, or what `from_flat` refuses.
    """
    try:
        tree = json.loads(text)
    except json.JSONDecodeError as error:
        raise RequestError(f"not a config: {error}") from None
    if not isinstance(tree, dict):
        raise RequestError("not a config: expected a JSON object")
    flat = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            flat |= {f"{key}.{name}": item for name, item in value.items()}
        else:
            flat[key] = value
    return from_flat(flat)


def settings(experiment: Experiment) -> str:
    """What decides the result and is not at its default, as `field=value` joined by spaces."""
    flat, defaults = flatten(experiment), flatten(Experiment())
    left_out = {*NOT_COMPARED, "name", "variant", "paper_table", "data.root"}
    return " ".join(f"{k}={v}" for k, v in flat.items() if v != defaults[k] and k not in left_out)


def compared(experiment: Experiment) -> dict[str, Any]:
    """The fields that decide a result."""
    return {field: value for field, value in flatten(experiment).items() if field not in NOT_COMPARED}


def differences(old: Experiment, new: Experiment) -> list[str]:
    """`field: old -> new` for every field that makes results incomparable."""
    before, after = compared(old), compared(new)
    return [
        f"{field}: {before[field]!r} -> {after[field]!r}" for field in before if before[field] != after[field]
    ]
