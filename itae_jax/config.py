"""Settings: fields with their limits beside them, and the sections that every method shares.

A section is a frozen dataclass of `setting` fields. `check` refuses values outside the limits, so that a
section that exists is valid.
"""

import dataclasses
from collections.abc import Iterable
from typing import Any, ClassVar

from itae_jax.errors import RequestError

FALSE_POSITIVE_RATE = 0.05  # of normal images called anomalies, unless another is asked for
_KINDS = {int: "a whole number", float: "a number", str: "text"}


def setting(
    default: Any,
    about: str,
    *,
    least: float | None = None,
    most: float | None = None,
    choices: tuple = (),
    decides: bool = True,
    reduces: bool = False,
) -> Any:
    """A field of a section: what it is about, and its limits or choices.

    Args:
      decides: whether it decides the result; False for speed, places, and which of several results.
      reduces: whether a value below the method's default makes a run smaller than the paper's.
    """
    facts = {"about": about, "least": least, "most": most, "choices": choices}
    return dataclasses.field(default=default, metadata={**facts, "decides": decides, "reduces": reduces})


class Section:
    """Base of the sections: checks its values on creation."""

    PREFIX: ClassVar[str]

    def __post_init__(self):
        check(self, self.PREFIX)


def check(section: Any, prefix: str) -> None:
    """Raises RequestError for the first field whose value has the wrong type or lies outside its limits."""
    for field in dataclasses.fields(section):
        if not field.metadata:
            continue
        name, value, limits = f"{prefix}{field.name}", getattr(section, field.name), field.metadata
        kind: Any = field.type
        if not isinstance(value, (int, float) if kind is float else kind) or isinstance(value, bool):
            raise RequestError(f"{name}={value!r}: expected {_KINDS[kind]}")
        if limits["choices"] and value not in limits["choices"]:
            choices = ", ".join(str(choice) or "''" for choice in limits["choices"])
            raise RequestError(f"{name}={value!r}: choose from {choices}")
        # Written so that NaN is refused too.
        if limits["least"] is not None and not value >= limits["least"]:
            raise RequestError(f"{name}={value}: expected at least {limits['least']}")
        if limits["most"] is not None and not value <= limits["most"]:
            raise RequestError(f"{name}={value}: expected at most {limits['most']}")


def limits(field: dataclasses.Field) -> str:
    """Describes what a field's value may be; empty if anything of its type."""
    if choices := field.metadata["choices"]:
        return f"one of {', '.join(str(choice) or 'empty' for choice in choices)}"
    ends = [("at least", field.metadata["least"]), ("at most", field.metadata["most"])]
    return ", ".join(f"{word} {end:.10g}" for word, end in ends if end is not None)


def parse(field: dataclasses.Field, name: str, text: str) -> Any:
    """The value that a text stands for, by the field's type; RequestError if it is of another type."""
    kind: Any = field.type
    try:
        return kind(text)
    except (ValueError, OverflowError):
        raise RequestError(f"{name}={text!r}: expected {_KINDS[kind]}") from None


def as_type(field: dataclasses.Field, name: str, value: Any) -> Any:
    """The value with whole numbers turned into floats where the field is a float."""
    if field.type is float and type(value) is int:
        try:
            return float(value)
        except OverflowError:
            raise RequestError(f"{name}: is too large a number") from None
    return value


@dataclasses.dataclass(frozen=True)
class DataConfig(Section):
    """Which images, and how files become arrays of one shape."""

    PREFIX: ClassVar[str] = "data."

    name: str = setting("digits", "the data set; itae data list shows them")
    root: str = setting("", "directory of the data")
    image_size: int = setting(0, "shorter side in pixels; 0: the data set's own", least=0, most=16_384)
    aspect: float = setting(1.0, "width over height", least=1 / 16, most=16)
    channels: int = setting(0, "0: the data set's own", choices=(0, 1, 3))
    fit: str = setting(
        "",
        "how images get this shape; empty: the data set's own",
        choices=("", "crop", "letterbox", "stretch", "pad"),
    )
    superclasses: str = setting("", "CSV file with the header folder,class that joins folders to classes")
    limit_train: int = setting(0, "number of training images, a fixed random sample; 0: all", least=0)
    limit_test: int = setting(0, "number of test images, a fixed random sample; 0: all", least=0)
    on_corrupt: str = setting("skip", "what to do with unreadable images", choices=("skip", "error"))
    max_side: int = setting(20_000, "larger images are refused, in pixels", least=1)
    memory_gib: float = setting(4.0, "more images than this are read while training", least=0, decides=False)
    workers: int = setting(0, "threads that read images; 0: one a core", least=0, decides=False)


class MethodConfig(Section):
    """Base of a method's section: what the rest of the package may ask of any method's settings.

    Attributes:
      NAME: the method's name in `method.name`.
      TRAIN: the method's defaults of `train.*`.
      BENCH: settings that `itae bench` compares, as field -> value.
      ONE_PASS: whether further passes over the images change nothing.
      FOR_OBJECTS: settings of a method that finds other kinds of objects, where this one finds defects.
      RECIPES: settings by the name of a recipe, as dotted field -> value; the defaults are the paper's.
    """

    PREFIX: ClassVar[str] = "method."
    NAME: ClassVar[str]
    TRAIN: ClassVar[dict[str, Any]]
    BENCH: ClassVar[tuple[dict[str, Any], ...]] = ({},)
    ONE_PASS: ClassVar[bool] = False
    FOR_OBJECTS: ClassVar[dict[str, Any]] = {}
    RECIPES: ClassVar[dict[str, dict[str, Any]]] = {}

    @property
    def title(self) -> str:
        """The method's name in tables."""
        return self.NAME

    @property
    def own_score(self) -> str:
        """The component that is the method's own score; empty if none is."""
        return ""

    @property
    def foreign_code(self) -> str:
        """The user's own code that the settings name, as module:attribute; empty if there is none."""
        return ""

    def paper_name(self, table: str, grey: bool, score: str = "") -> str:
        """The paper's name of this method; empty for what the paper did not do.

        Args:
          table: of the paper, as `table4`.
          grey: whether the images have one channel.
          score: the component that scores, if not the method's own score.
        """
        return ""

    def score_titles(self, table: str) -> dict[str, str]:
        """Title of each further score that a table of the paper compares: component -> title."""
        return {}

    def candidates(self, side: int, asked: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
        """What `itae fit` compares: (title, settings), the usual first.

        Args:
          side: shorter side of the images.
          asked: the settings that were asked for; candidates that disagree are left out.
        """
        return []

    def square_only(self, asked: dict[str, Any]) -> bool:
        """Whether the method, with the settings that were asked for, is made for square images."""
        return False

    def suggest(self, asked: dict[str, Any], accelerator: bool) -> list[tuple[str, Any, str]]:
        """Settings for a folder of images beside those that were asked for: (field, value, reason)."""
        return []

    def component_titles(self, components: Iterable[str]) -> list[str]:
        """How a page names the components of a score."""
        return [name.replace("_", " ") for name in components]

    def example_titles(self, count: int) -> list[str]:
        """What tells the `count` rows of a method's examples apart."""
        return [str(index) if count > 1 else "" for index in range(count)]


@dataclasses.dataclass(frozen=True)
class TrainConfig(Section):
    """Training, on any method; an epoch is one pass over the images. 0 stands for the method's default."""

    PREFIX: ClassVar[str] = "train."

    epochs: int = setting(0, "passes over the images", least=0, most=2**31 - 1, reduces=True)
    batch_size: int = setting(0, "images a step, over all devices", least=0, most=2**20)
    learning_rate: float = setting(0.0, "the rate of the first steps", least=0, most=1e38)
    halve_every_epochs: int = setting(0, "epochs after which the rate is halved", least=0)
    schedule: str = setting(
        "halve",
        "halve the rate every few epochs, or lower it to 0 by a cosine",
        choices=("halve", "cosine"),
    )
    augment: str = setting("none", "none, or flip, shift, light, crop64 (a side in pixels), joined by +")
    checkpoint_minutes: float = setting(10.0, "minutes between checkpoints", least=0, decides=False)
    keep_checkpoints: int = setting(2, "checkpoints kept while training", least=1, decides=False)


@dataclasses.dataclass(frozen=True)
class EvaluateConfig(Section):
    """Scoring."""

    PREFIX: ClassVar[str] = "evaluate."

    batch_size: int = setting(
        0,
        "images of 32x32 scored at a time, fewer larger ones; 0: 256, on a CPU 32",
        least=0,
        most=2**20,
        decides=False,
    )
    every_epochs: int = setting(0, "epochs between test AUROCs while training; 0: none", least=0)


@dataclasses.dataclass(frozen=True)
class ComputeConfig(Section):
    """How to compute."""

    PREFIX: ClassVar[str] = "compute."

    dtype: str = setting("float32", "type of activations", choices=("float32", "bfloat16", "float64"))
    devices: int = setting(0, "number of devices; 0: all", least=0, decides=False)
    steps_per_call: int = setting(
        0, "steps in one call to the devices; 0: chosen for the backend", least=0, most=10_000, decides=False
    )
    deterministic: str = setting(
        "no", "yes: a GPU gives the same bits every time, more slowly", choices=("no", "yes"), decides=False
    )
