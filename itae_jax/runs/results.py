"""The files of a run directory: how they are written, and read again.

config.json    the experiment and the environment it ran in
results.csv    a row for every finished (normal class, seed)
unreadable.csv  the images that were left out because they cannot be read
metrics.jsonl  loss and rate while training, and the AUROC where `evaluate.every_epochs` asks
paper.csv      the paper's numbers for this data set, where it has them
class_<k>/seed_<s>/  scores.csv, illustrations.npz and the trained state; checkpoints while training
"""

import contextlib
import csv
import dataclasses
import json
import math
from collections.abc import Iterator
from pathlib import Path

from itae_jax import config, environment, files
from itae_jax import experiment as experiment_files
from itae_jax.config import Experiment
from itae_jax.errors import RequestError
from itae_jax.files import writing

COLUMNS = [
    *("experiment", "dataset", "method", "normal_class", "normal_class_name", "seed", "epochs", "auroc"),
    *("num_train", "num_test", "train_seconds", "score_seconds", "device"),
    *("dtype", "width", "transform", "normal_label", "settings", "data_copy", "commit"),
    *("average_precision", "best_f1", "pixel_auroc", "aupro", "auroc_l1", "auroc_l2", "score_memory_mib"),
    "variant",
    "note",  # why there is no AUROC
    "num_anomalous",  # of the num_test
]  # new ones come last: files of older versions have the first of them
_ALWAYS_THERE = COLUMNS.index("commit") + 1  # columns after these are empty in rows of older versions
MEASURES = ("auroc", "average_precision", "best_f1", "pixel_auroc", "aupro", "auroc_l1", "auroc_l2")
_COUNTS = ("normal_class", "seed", "epochs", "width", "num_train", "num_test", "num_anomalous")
_ALWAYS_COUNTED = ("normal_class", "seed", "epochs", "width")
_MANY_DIGITS = 20
_MOST_EPOCHS = 10**9
_AMOUNTS = ("train_seconds", "score_seconds", "score_memory_mib")
FAILED = "failed: "  # how the note of a training begins that came to nothing


def job_directory(out: Path, normal_class: int | str, seed: int | str) -> Path:
    """Where the files of one training are."""
    return out / f"class_{normal_class}" / f"seed_{seed}"


def check_same_experiment(out: Path, experiment: Experiment) -> None:
    """Raises RequestError if `out` holds anything but results of this experiment."""
    if out.exists() and not out.is_dir():
        raise RequestError(f"--out {out}: is a file; name a directory")
    path = out / "config.json"
    if not path.exists():
        if (out / "results.csv").exists():
            raise RequestError(f"--out {out}: has results.csv but no config.json; name another directory")
        return
    if _is_untouched(out):
        return
    different = config.differences(experiment_files.read_record(path), experiment)
    if different:
        raise RequestError(
            f"--out {out}: holds results of another config ({'; '.join(different)}); "
            "undo the change or name another directory"
        )


def _is_untouched(out: Path) -> bool:
    """Whether no training of this run directory has begun; its config may then change."""
    return not (out / "results.csv").exists() and not any(out.glob("class_*"))


@contextlib.contextmanager
def begun(out: Path, experiment: Experiment) -> Iterator[None]:
    """Holds a run directory, made if need be, for this process and this experiment.

    config.json is written if no training has begun under an earlier one.

    Raises:
      RequestError: the directory cannot be made, another run holds it, or it is of another experiment.
    """
    with writing(out, "--out"):
        out.mkdir(parents=True, exist_ok=True)
    with files.locked(out):
        check_same_experiment(out, experiment)
        if _is_untouched(out):
            record = dataclasses.asdict(experiment) | {"environment": environment.describe()}
            with writing(out, "--out"):
                files.write_text(out / "config.json", json.dumps(record, indent=2) + "\n")
        yield


def read_unreadable(path: Path) -> dict[str, str]:
    """The images that a file lists, and why they cannot be read; none where there is no such file.

    Raises:
      RequestError: it is damaged.
    """
    rows = files.read_csv(path) if path.exists() else []
    if any(not {"image", "reason"} <= row.keys() for row in rows):
        raise RequestError(f"{path}: is damaged (expected the columns image, reason); remove it")
    return {row["image"]: row["reason"] for row in rows}


def add_unreadable(path: Path, unreadable: dict[str, str]) -> None:
    """Adds images that cannot be read, and why, to those that a file lists already."""
    known = read_unreadable(path)
    if unreadable.keys() - known.keys():
        reasons = sorted((known | unreadable).items())
        files.write_csv(path, [{"image": name, "reason": why} for name, why in reasons])


def read_results(out: Path) -> dict[tuple[int, int], dict[str, str]]:
    """The rows of results.csv by (normal class, seed); none where there is no such file.

    Raises:
      RequestError: as `read_rows`; a training stands there twice.
    """
    path = out / "results.csv"
    found = {}
    for row in read_rows(path) if path.exists() else []:
        job = int(row["normal_class"]), int(row["seed"])
        if job in found:
            raise RequestError(
                f"{path}: is damaged (class {job[0]}, seed {job[1]} stands there twice); mend it, or name "
                "another directory"
            )
        found[job] = row
    return found


def read_rows(path: Path, advice: str = "mend it, or name another directory") -> list[dict[str, str]]:
    """The rows of a results.csv, or of several put together; columns that it is too old to have are empty.

    Raises:
      RequestError: its columns are not those of results.csv, or a row is not as a run writes it; the message
        ends with the advice.
    """
    try:
        rows, content = files.read_csv(path), path.read_bytes()
        if not rows and content.splitlines()[:1] != [",".join(COLUMNS).encode()]:
            raise ValueError("it has no header of ours")
        if not content.endswith(b"\n"):
            raise ValueError("its last line is cut short")
        if any(len(row) < _ALWAYS_THERE or list(row) != COLUMNS[: len(row)] for row in rows):
            raise RequestError(f"{path}: its columns are not those of results.csv; {advice}")
        rows = [dict.fromkeys(COLUMNS, "") | row for row in rows]
        for number, row in enumerate(rows, 1):
            try:
                _check_row(row)
            except ValueError as error:
                raise ValueError(f"row {number}: {error}") from None
        return rows
    except RequestError:
        raise
    except (OSError, UnicodeDecodeError, csv.Error, ValueError) as error:
        raise RequestError(f"{path}: is damaged ({error}); {advice}") from None


def _check_row(row: dict[str, str | None]) -> None:
    """Raises ValueError for what no row of ours holds."""
    if None in row.values() or bool(row["note"]) == bool(row["auroc"]):
        raise ValueError("a row is cut short, or has not either an AUROC between 0 and 1 or a note")
    for column in _COUNTS:
        given = row[column] or column in _ALWAYS_COUNTED
        if given and not (row[column].isdecimal() and len(row[column]) < _MANY_DIGITS):
            raise ValueError(f"{column}={row[column]!r}, expected a whole number")
    for column in filter(row.get, MEASURES):
        if not 0 <= float(row[column]) <= 1:
            raise ValueError(f"{column}={row[column]}, expected a number between 0 and 1")
    for column in filter(row.get, _AMOUNTS):
        if not 0 <= float(row[column]) < math.inf:
            raise ValueError(f"{column}={row[column]}, expected a number from 0 up")
    if row["num_anomalous"] and not 0 < int(row["num_anomalous"]) <= int(row["num_test"] or 0):
        raise ValueError(f"num_anomalous={row['num_anomalous']} of num_test={row['num_test']}")


def columns_of(experiment: Experiment) -> dict[str, str]:
    """What every row of an experiment's results.csv tells of its config."""
    return {
        "experiment": experiment.name,
        "method": experiment.method,
        "epochs": str(experiment.train.epochs),
        "dtype": experiment.compute.dtype,
        "width": str(experiment.model.width),
        "transform": experiment.transform.name,
        "settings": config.settings(experiment),
    }


def add_result(out: Path, row: dict) -> None:
    """Adds a row to results.csv."""
    files.write_csv(out / "results.csv", [*read_results(out).values(), row], COLUMNS)


class Metrics:
    """The lines of one training in metrics.jsonl.

    Args:
      job: which training it is; stands in each of its lines.
    """

    def __init__(self, path: Path, job: dict):
        self._path, self._job, self._going_on = path, job, False

    def add(self, entry: dict) -> None:
        """Adds a line; the first time without what an interrupted run wrote of this epoch and later ones."""
        if not self._going_on:
            self._forget_from(entry["epoch"])
            self._going_on = True
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({**self._job, **entry}) + "\n")

    def _forget_from(self, epoch: int) -> None:
        kept = [
            json.dumps(entry) + "\n"
            for entry in read_metrics(self._path)
            if {key: entry.get(key) for key in self._job} != self._job or entry["epoch"] < epoch
        ]
        files.write_text(self._path, "".join(kept))


def read_metrics(path: Path) -> list[dict]:
    """The entries of metrics.jsonl; lines that a kill cut short, or that are none of ours, are left out."""
    entries = []
    text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
    for line in text.splitlines():
        with contextlib.suppress(ValueError, RecursionError):
            entry = json.loads(line)
            if _is_of_an_epoch(entry):
                entries.append(entry)
    return entries


def _is_of_an_epoch(entry: object) -> bool:
    epoch = entry.get("epoch") if isinstance(entry, dict) else None
    return type(epoch) is int and 0 < epoch < _MOST_EPOCHS
