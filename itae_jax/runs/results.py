"""A row of results.csv as a typed value: parsed once on reading, never as text afterwards."""

import contextlib
import csv
import dataclasses
import math
import types
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from itae_jax import files
from itae_jax.data.dataset import Coverage
from itae_jax.errors import RequestError

MEASURES = ("auroc", "average_precision", "best_f1", "pixel_auroc", "aupro")
_FURTHER = "auroc_"  # how the columns of further scores' AUROCs begin
_MOST_DIGITS = 18


@dataclasses.dataclass(frozen=True)
class Result:
    """What one training of one class with one seed gave.

    Measures are fractions in [0, 1]; None where they are not defined.

    Attributes:
      auroc: by the method's own score.
      status: "done"; "undefined" where the test images give no AUROC; "failed" where training did. The
        note says why.
      coverage: as `Dataset.coverage`.
      num_train, num_test: readable images; of a failed training, all.
      num_videos: whose frames the test images are, scored within each video (Eq. 4); None for still images.
      train_seconds: includes compiling in a run's first training.
      further_aurocs: by the method's further scores, columns `auroc_<name>`.
    """

    experiment: str
    dataset: str
    method: str
    normal_class: int
    normal_class_name: str
    seed: int
    epochs: int
    auroc: float | None
    num_train: int
    num_test: int
    train_seconds: float | None
    score_seconds: float | None
    device: str
    dtype: str
    normal_label: str
    data_source: str
    coverage: Coverage
    commit: str
    variant: str = ""
    status: Literal["done", "undefined", "failed"] = "done"
    note: str = ""
    num_anomalous: int | None = None
    average_precision: float | None = None
    best_f1: float | None = None
    pixel_auroc: float | None = None
    aupro: float | None = None
    score_memory_mib: float | None = None
    num_videos: int | None = None
    further_aurocs: dict[str, float] = dataclasses.field(default_factory=dict)

    @property
    def job(self) -> tuple[int, int]:
        """(normal class, seed)."""
        return self.normal_class, self.seed

    def value(self, measure: str) -> float | None:
        """A measure by name: one of `MEASURES`, or `auroc_<name>` of a further score."""
        if measure.startswith(_FURTHER):
            return self.further_aurocs.get(measure.removeprefix(_FURTHER))
        return getattr(self, measure)


_FIELDS = [field for field in dataclasses.fields(Result) if field.name != "further_aurocs"]
COLUMNS = [field.name for field in _FIELDS]


def as_row(result: Result) -> dict[str, str]:
    """The texts of a result by column."""
    row = {field.name: _text(field.name, getattr(result, field.name)) for field in _FIELDS}
    return row | {f"{_FURTHER}{name}": f"{value:.6f}" for name, value in result.further_aurocs.items()}


def _text(name: str, value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.6f}" if name in MEASURES else f"{value:.3f}"
    return str(value)


def parse(row: dict[str, str]) -> Result:
    """The result of a row's texts; ValueError if one is missing, or is none that a run writes."""
    if None in row or None in row.values():
        raise ValueError("a row is cut short")
    values = {field.name: _parsed(field, row[field.name]) for field in _FIELDS}
    filled = {name: text for name, text in row.items() if name.startswith(_FURTHER) and text}
    further = {name.removeprefix(_FURTHER): _number(name, text) for name, text in filled.items()}
    result = Result(**values, further_aurocs=further)
    for name in (*MEASURES, *filled):
        value = result.value(name)
        if value is not None and not 0 <= value <= 1:
            raise ValueError(f"{name}={value}, expected a number between 0 and 1")
    if (result.auroc is None) == (result.status == "done"):
        raise ValueError(f"status={result.status} with auroc={row['auroc'] or 'nothing'}")
    if result.num_anomalous is not None and not 0 < result.num_anomalous <= result.num_test:
        raise ValueError(f"num_anomalous={result.num_anomalous} of num_test={result.num_test}")
    return result


def _parsed(field: dataclasses.Field, text: str) -> Any:
    kind = field.type
    if isinstance(kind, types.UnionType):
        if not text:
            return None
        kind = next(one for one in typing.get_args(kind) if one is not type(None))
    if typing.get_origin(kind) is Literal:
        if text not in typing.get_args(kind):
            raise ValueError(f"{field.name}={text!r}, expected one of {', '.join(typing.get_args(kind))}")
        return text
    if kind is int:
        if not (text.isdecimal() and len(text) < _MOST_DIGITS):
            raise ValueError(f"{field.name}={text!r}, expected a whole number")
        return int(text)
    return _number(field.name, text) if kind is float else text


def _number(name: str, text: str) -> float:
    with contextlib.suppress(ValueError):
        if 0 <= (value := float(text)) < math.inf:
            return value
    raise ValueError(f"{name}={text!r}, expected a number from 0 up")


def read(path: Path) -> dict[tuple[int, int], Result]:
    """The results by (normal class, seed); none where there is no file; RequestError if it is damaged."""
    if not path.exists():
        return {}
    advice = "repair it, or name another directory"
    try:
        content, rows = path.read_bytes(), files.read_csv(path)
        if not content.endswith(b"\n"):
            raise ValueError("its last line is cut short")
        header = next(csv.reader(content.decode("utf-8-sig", "surrogateescape").splitlines()), [])
        known, further = header[: len(COLUMNS)], header[len(COLUMNS) :]
        if known != COLUMNS or not all(name.startswith(_FURTHER) for name in further):
            raise RequestError(f"{path}: its columns are not those of results.csv; {advice}")
        found: dict[tuple[int, int], Result] = {}
        for number, row in enumerate(rows, 1):
            try:
                result = parse(row)
            except ValueError as error:
                raise ValueError(f"row {number}: {error}") from None
            if result.job in found:
                raise ValueError(f"class {result.normal_class}, seed {result.seed} is there twice")
            found[result.job] = result
        return found
    except RequestError:
        raise
    except (OSError, UnicodeDecodeError, csv.Error, ValueError) as error:
        raise RequestError(f"{path}: is damaged ({error}); {advice}") from None


def write(path: Path, results: Sequence[Result]) -> None:
    """Writes a results.csv atomically."""
    further = dict.fromkeys(f"{_FURTHER}{name}" for result in results for name in result.further_aurocs)
    files.write_csv(path, [as_row(result) for result in results], [*COLUMNS, *further])


def add(path: Path, result: Result) -> None:
    """Adds a result to a results.csv."""
    write(path, [*read(path).values(), result])
