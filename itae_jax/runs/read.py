"""Finished runs, read back; the results of several machines on one experiment are joined."""

import csv
import dataclasses
import tokenize
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from itae_jax import experiment, files
from itae_jax.errors import RequestError
from itae_jax.experiment import Experiment
from itae_jax.runs import directory, results
from itae_jax.runs.results import Result
from itae_jax.training.log import read_metrics

_MOST_SCORE = 3.4e38  # scores are float32
_ROUNDING = 1e-5  # of the measures in results.csv
# What NumPy and the modules that it reads archives with raise on broken ones.
_DAMAGED = (
    *(OSError, EOFError, ValueError, KeyError, NotImplementedError),
    *(zipfile.BadZipFile, zlib.error, tokenize.TokenError, SyntaxError),
)


@dataclasses.dataclass(frozen=True)
class RunResults:
    """What one experiment has given so far, in one run directory or in several.

    Attributes:
      experiment: of the first directory.
      results: sorted by class and seed.
      paper: rows of the paper's numbers for this data set, all methods.
      directories: the run directory that the result of (class, seed) came from.
      duplicates: how many results came from more than one directory, and agreed.
    """

    experiment: Experiment
    results: list[Result]
    paper: list[dict[str, str]]
    directories: dict[tuple[int, int], Path]
    duplicates: int = 0

    @property
    def dataset(self) -> str:
        """As in `data.name`, or the name of the user's folder."""
        return self.results[0].dataset

    @property
    def measured(self) -> list[Result]:
        """The results with an AUROC."""
        return [result for result in self.results if result.auroc is not None]

    @property
    def notes(self) -> list[str]:
        """A line for each result without an AUROC."""
        noted = [one for one in self.results if one.note]
        return [f"class {one.normal_class_name}, seed {one.seed}: {one.status}: {one.note}" for one in noted]

    @property
    def roots(self) -> list[Path]:
        """The run directories."""
        return list(dict.fromkeys(self.directories.values()))

    @property
    def seeds(self) -> list[int]:
        """All seeds that have results."""
        return sorted({result.seed for result in self.results})

    def job_directory(self, result: Result) -> Path:
        """The directory of a result's training."""
        return directory.of_job(self.directories[result.job], *result.job)


def read(path: Path) -> RunResults:
    """Reads one run directory; RequestError if it holds no finished run, or is damaged."""
    if not (path / "results.csv").is_file():
        raise RequestError(f"{path}: no results.csv there; name the --out directory of a run")
    of_run = experiment.read_record(path / "config.json")
    found = results.read(path / "results.csv")
    if not found:
        raise RequestError(f"{path}: results.csv has no row yet; let a training finish")
    for result in found.values():
        _check_is_of(of_run, result, path)
    paper = read_paper(path / "paper.csv", "remove it, and run the same command again")
    return RunResults(of_run, [found[job] for job in sorted(found)], paper, dict.fromkeys(found, path))


def _check_is_of(of_run: Experiment, result: Result, path: Path) -> None:
    """Raises RequestError for a result of another config."""
    expected: dict[str, Any] = {
        "experiment": of_run.name,
        "variant": of_run.variant,
        "method": of_run.method.NAME,
    }
    expected |= {"epochs": of_run.train.epochs, "dtype": of_run.compute.dtype}
    if result.coverage != "own":
        expected["dataset"] = of_run.data.name
    for column, value in expected.items():
        if getattr(result, column) != value:
            raise RequestError(
                f"{path}: results.csv has {column}={getattr(result, column)!r} in class {result.normal_class}, "
                f"seed {result.seed}, but config.json {value!r}; undo what was changed by hand"
            )


def read_all(paths: Sequence[Path]) -> list[RunResults]:
    """Reads run directories, each with its variants, and joins those of one config.

    Raises RequestError if one holds no finished run, or two disagree about a class and seed.
    """
    joined: list[tuple[tuple, RunResults]] = []
    expanded = [run for path in paths for run in directory.expand(path)]
    for path in {path.resolve(): path for path in expanded}.values():
        one = read(path)
        key = _what_is_run(one)
        alike = (i for i, (other, run) in enumerate(joined) if other == key and _have_same_classes(run, one))
        index = next(alike, None)
        if index is None:
            joined.append((key, one))
        else:
            joined[index] = key, _join(joined[index][1], one)
    return [run for _, run in joined]


def _have_same_classes(first: RunResults, second: RunResults) -> bool:
    """Whether each number means one class in both, unlike in two folders of one name."""
    one, other = ({r.normal_class: r.normal_class_name for r in run.results} for run in (first, second))
    return all(one[number] == other[number] for number in one.keys() & other.keys())


def _what_is_run(one: RunResults) -> tuple:
    """What two directories must have in common to belong into one table."""
    settings, first = experiment.decisive(one.experiment) | {"data.root": ""}, one.results[0]
    return first.data_source, first.coverage, tuple(settings.items())


def _join(first: RunResults, second: RunResults) -> RunResults:
    """Joins both; where a training failed in one place only, the other one counts."""
    found = {result.job: result for result in first.results}
    directories, doubled = dict(first.directories), 0
    for result in second.results:
        known = found.get(result.job)
        if known is None or (result.auroc is not None and known.auroc is None):
            found[result.job], directories[result.job] = result, second.directories[result.job]
        elif result.auroc is not None:
            _check_agree(known, result, first.directories[result.job], second.directories[result.job])
            doubled += 1
    return dataclasses.replace(
        first,
        results=[found[job] for job in sorted(found)],
        directories=directories,
        paper=first.paper or second.paper,
        duplicates=first.duplicates + doubled,
    )


def _check_agree(known: Result, other: Result, first: Path, second: Path) -> None:
    for measure in results.MEASURES:
        values = known.value(measure), other.value(measure)
        if None not in values and values[0] != values[1]:
            raise RequestError(
                f"{second}: class {other.normal_class_name}, seed {other.seed} has {measure}={values[1]}, but "
                f"{values[0]} in {first}; report them one by one"
            )


def training_curves(run: RunResults, name: str = "auroc") -> dict[tuple[int, int], dict[int, float]]:
    """(class, seed) -> epoch -> a metric while training; the test AUROC if `evaluate.every_epochs` was set."""
    curves: dict[tuple[int, int], dict[int, float]] = {}
    for root in run.roots:
        for entry in read_metrics(root / "metrics.jsonl"):
            job, value = (entry.get("normal_class"), entry.get("seed")), entry.get(name)
            is_valid = isinstance(value, float) and (name != "auroc" or 0 <= value <= 1)
            if run.directories.get(job) == root and is_valid:  # type: ignore[arg-type]
                curves.setdefault(job, {})[entry["epoch"]] = value  # type: ignore
    return curves


def read_paper(path: Path, advice: str = "repair it") -> list[dict[str, str]]:
    """The paper's numbers in a CSV file; none without a file; RequestError, with advice, if damaged."""
    try:
        rows = files.read_csv(path) if path.exists() else []
        if path.exists() and not rows:
            raise ValueError("it has no row")
        for row in rows:
            if None in row.values() or not {"dataset", "method", "class", "auroc", "source"} <= set(row):
                raise ValueError("a row is cut short")
            if not 0 <= float(row["auroc"] or 0) <= 100:
                raise ValueError(f"auroc={row['auroc']}, expected percent")
            for column in ("images_per_second", "memory_mb", "auroc") if row.get("images_per_second") else ():
                if not 0 < float(row.get(column) or 0) < float("inf"):
                    raise ValueError(f"{column}={row.get(column)!r}, expected a positive number")
    except (OSError, csv.Error, ValueError) as error:
        raise RequestError(f"{path}: is damaged ({error}); {advice}") from None
    return rows


def read_scores(run: RunResults, result: Result) -> tuple[np.ndarray, np.ndarray]:
    """(is anomaly, score) of every image in a scores.csv, of video by Eq. 4; RequestError if damaged."""
    from itae_jax.evaluate import metrics

    where = run.job_directory(result)
    try:
        rows = files.read_csv(where / "scores.csv")
        if not rows or any(None in row.values() for row in rows):
            raise ValueError("scores.csv is cut short")
        is_anomaly = np.array([row["label"] != result.normal_label for row in rows])
        values = np.array([float(row["score"]) for row in rows])
        if not (np.abs(values) <= _MOST_SCORE).all():
            raise ValueError("a score in scores.csv is not a finite number")
        if len(rows) != result.num_test:
            raise ValueError(f"scores.csv has {len(rows)} of {result.num_test} images")
        if result.num_videos is not None:  # the id of a frame is `<video>/<frame>`
            videos = np.array([row["id"].rpartition("/")[0] for row in rows])
            values = 1 - metrics.frame_normality(values, videos)
        found = {"num_anomalous": is_anomaly.sum(), "auroc": metrics.auroc(is_anomaly, values)}
        for name, value in found.items():
            noted = getattr(result, name)
            if noted is not None and not abs(value - noted) <= _ROUNDING:
                raise ValueError(f"scores.csv gives {name}={value:.6g}, results.csv has {noted}")
        return is_anomaly, values
    except (OSError, ValueError, KeyError, csv.Error) as error:
        raise _damaged(where, error) from None


def read_illustrations(run: RunResults, result: Result) -> dict[str, np.ndarray]:
    """The images that a training kept for the report; RequestError if they are damaged."""
    where = run.job_directory(result)
    try:
        with (where / "illustrations.npz").open("rb") as file, np.load(file, allow_pickle=False) as saved:
            arrays = {key: saved[key] for key in {"labels", "is_anomaly", "originals", *saved.files}}
        _check_arrays(arrays)
        return arrays
    except _DAMAGED as error:
        raise _damaged(where, error) from None


def _check_arrays(arrays: dict[str, np.ndarray]) -> None:
    """Raises ValueError unless all arrays are of the same images and of the types that a training writes."""
    count, height, width, channels = arrays["originals"].shape
    kinds = {"labels": "U", "is_anomaly": "b", "originals": "u", "inputs": "u", "outputs": "u"}
    kinds |= {"maps": "f", "masks": "b"}
    if any(arrays[key].dtype.kind != kind for key, kind in kinds.items() if key in arrays):
        raise ValueError("illustrations.npz holds values of other types than a training writes")
    if not count or channels not in (1, 3) or arrays["labels"].ndim != 1:
        raise ValueError("illustrations.npz holds no images, or others than grey and colour")
    of_images = all(len(arrays[key]) == count for key in ("labels", "is_anomaly"))
    examples = [arrays[key] for key in ("inputs", "outputs") if key in arrays]
    of_examples = all(len(array) and array.shape[1:4] == (count, height, width) for array in examples)
    maps = [arrays[key].shape for key in ("maps", "masks") if key in arrays]
    if not of_images or not of_examples or any(shape != (count, height, width) for shape in maps):
        raise ValueError("the arrays of illustrations.npz are not of the same images")


def check_files(run: RunResults, result: Result) -> None:
    """Raises RequestError unless the files of a training are complete and agree with its result."""
    read_scores(run, result)
    read_illustrations(run, result)
    from itae_jax.training import checkpoint

    checkpoint.check(run.job_directory(result) / "state")


def _damaged(where: Path, error: Exception) -> RequestError:
    return RequestError(
        f"{where}: its results are damaged ({error}); run the experiment into another directory"
    )
