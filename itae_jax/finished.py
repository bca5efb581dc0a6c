"""Finished runs, read back; what several machines did of one experiment is joined."""

import csv
import dataclasses
from collections.abc import Sequence
from pathlib import Path

from itae_jax import config, experiment_files, paper, results, variants
from itae_jax.config import Experiment
from itae_jax.errors import RequestError

_VIDEO = ("shanghaitech",)  # whose frames have ids `<video>/<frame>`


@dataclasses.dataclass(frozen=True)
class RunResults:
    """What one experiment has given so far, in one run directory or in several.

    Attributes:
      rows: those of results.csv, sorted by class and seed.
      paper: the paper's rows for this data set, of all its methods.
      directories: of the runs, the one that the row of (class, seed) came from under it.
      duplicates: how many rows came from more than one directory, and agreed.
    """

    experiment: Experiment
    rows: list[dict[str, str]]
    paper: list[dict[str, str]]
    directories: dict[tuple[str, str], Path]
    duplicates: int = 0

    @property
    def dataset(self) -> str:
        """As in `data.name`, or the name of the user's folder."""
        return self.rows[0]["dataset"]

    @property
    def measured(self) -> list[dict[str, str]]:
        """The rows that have an AUROC."""
        return [row for row in self.rows if row["auroc"]]

    @property
    def notes(self) -> list[str]:
        """A line for each row that has none."""
        return [
            f"class {row['normal_class_name']}, seed {row['seed']}: {row['note']}"
            for row in self.rows
            if row["note"]
        ]

    @property
    def reduced(self) -> str:
        """In what this is of less than the paper's training that it is compared with; empty if in nothing."""
        return paper.reduced(self.rows[0]) if self.experiment.paper_table else ""

    @property
    def roots(self) -> list[Path]:
        """The run directories that the rows came from."""
        return list(dict.fromkeys(self.directories.values()))

    @property
    def seeds(self) -> list[str]:
        """All seeds that there are rows of."""
        return sorted({row["seed"] for row in self.rows}, key=int)

    def job_directory(self, row: dict[str, str]) -> Path:
        """Where the files of a row's training are."""
        key = row["normal_class"], row["seed"]
        return results.job_directory(self.directories[key], *key)


def read(directory: Path) -> RunResults:
    """Reads one run directory.

    Raises:
      RequestError: it holds no finished run.
    """
    if not (directory / "results.csv").is_file():
        raise RequestError(f"{directory}: no results.csv there; name the --out directory of a run")
    experiment = experiment_files.read_record(directory / "config.json")
    rows = [row for _, row in sorted(results.read_results(directory).items())]
    if not rows:
        raise RequestError(f"{directory}: results.csv has no row yet; let a training finish")
    printed = _read_paper(directory / "paper.csv")
    found = RunResults(
        experiment, rows, printed, {(row["normal_class"], row["seed"]): directory for row in rows}
    )
    for row in rows:
        _complete(row, found.job_directory(row))
    return found


def _read_paper(path: Path) -> list[dict[str, str]]:
    needed, numbers = {"dataset", "method", "class", "auroc", "source"}, ("images_per_second", "memory_mb")
    try:
        rows = results.read_csv(path) if path.exists() else []
        if any(None in row.values() or not needed <= set(row) for row in rows):
            raise ValueError("a row is cut short")
        for row in rows:
            for column in ("auroc", *numbers):
                float(row.get(column) or 0)
    except (OSError, csv.Error, ValueError) as error:
        raise RequestError(
            f"{path}: is damaged ({error}); remove it, and run the experiment again for another"
        ) from None
    return rows


def read_all(directories: Sequence[Path]) -> list[RunResults]:
    """Reads run directories, each with its variants; those of one config become one.

    Raises:
      RequestError: one holds no finished run, or two disagree about the same class and seed.
    """
    joined: list[tuple[tuple, RunResults]] = []
    paths = [path for directory in directories for path in variants.expand(directory)]
    for path in {path.resolve(): path for path in paths}.values():
        one = read(path)
        key = _what_is_run(one)
        alike = (
            i for i, (other, found) in enumerate(joined) if other == key and _have_same_classes(found, one)
        )
        index = next(alike, None)
        if index is None:
            joined.append((key, one))
        else:
            joined[index] = key, _join(joined[index][1], one)
    return [found for _, found in joined]


def _have_same_classes(first: RunResults, second: RunResults) -> bool:
    """Whether no number means two classes, as in two folders of one name."""
    names = {row["normal_class"]: row["normal_class_name"] for row in first.rows}
    return all(
        names.get(row["normal_class"], row["normal_class_name"]) == row["normal_class_name"]
        for row in second.rows
    )


def _what_is_run(one: RunResults) -> tuple:
    """What two directories have in common whose rows belong into one table."""
    elsewhere = dataclasses.replace(one.experiment.data, root="")
    experiment = dataclasses.replace(one.experiment, data=elsewhere)
    return one.rows[0]["data_copy"], tuple(config.compared(experiment).items())


def _join(first: RunResults, second: RunResults) -> RunResults:
    """Both together; a training that failed in one place and not in the other counts as the other's."""
    rows = {(row["normal_class"], row["seed"]): row for row in first.rows}
    directories, doubled = dict(first.directories), 0
    for row in second.rows:
        key = row["normal_class"], row["seed"]
        known = rows.get(key, {"auroc": ""})
        if key not in rows or (row["auroc"] and not known["auroc"]):
            rows[key], directories[key] = row, second.directories[key]
        elif row["auroc"] not in ("", known["auroc"]):
            raise RequestError(
                f"{second.directories[key]}: class {row['normal_class_name']}, seed {row['seed']} has AUROC "
                f"{row['auroc']}, but {known['auroc']} in {directories[key]}; report them one by one"
            )
        elif row["auroc"]:
            doubled += 1
    return dataclasses.replace(
        first,
        rows=sorted(rows.values(), key=lambda row: (int(row["normal_class"]), int(row["seed"]))),
        directories=directories,
        paper=first.paper or second.paper,
        duplicates=first.duplicates + doubled,
    )


def is_video(row: dict[str, str]) -> bool:
    """Whether a result is of frames, which are scored within each video (Eq. 4)."""
    return row["dataset"] in _VIDEO


def read_scores(directory: Path, row: dict[str, str]):
    """(is anomaly, score) of every test image of a training, from its scores.csv; of video by Eq. 4.

    So these are the scores that the measures in results.csv are computed from.

    Raises:
      RequestError: it is damaged.
    """
    import numpy as np

    from itae_jax import evaluate

    try:
        scores = results.read_csv(directory / "scores.csv")
        if not scores or any(None in score.values() for score in scores):
            raise ValueError("scores.csv is cut short")
        is_anomaly = np.array([score["label"] != row["normal_label"] for score in scores])
        values = np.array([float(score["score"]) for score in scores])
        if not np.isfinite(values).all():
            raise ValueError("a score in scores.csv is not a finite number")
        if row["num_test"] and len(scores) != int(row["num_test"]):
            raise ValueError(f"scores.csv has {len(scores)} of {row['num_test']} images")
        if is_video(row):
            videos = np.array([score["id"].rpartition("/")[0] for score in scores])
            values = 1 - evaluate.frame_normality(values, videos)
        return is_anomaly, values
    except (OSError, ValueError, KeyError, csv.Error) as error:
        raise damaged(directory, error) from None


def damaged(directory: Path, error: Exception) -> RequestError:
    """What to say of a training whose files cannot be read."""
    return RequestError(
        f"{directory}: its results are damaged ({error}); run the experiment into another directory"
    )


def _complete(row: dict[str, str], directory: Path) -> None:
    """Fills in the measures of images that rows of older versions lack."""
    if row["average_precision"] or not row["auroc"]:
        return
    from itae_jax import measures

    values = measures.of_images(*read_scores(directory, row))
    row |= {name: f"{value:.6f}" for name, value in values.items()}


def training_curves(found: RunResults) -> dict[tuple[str, str], dict[int, float]]:
    """(normal class, seed) -> epoch -> test AUROC while training, where `evaluate.every_epochs` was set."""
    curves: dict[tuple[str, str], dict[int, float]] = {}
    for root in found.roots:
        for entry in results.read_metrics(root / "metrics.jsonl"):
            key = str(entry.get("normal_class")), str(entry.get("seed"))
            if found.directories.get(key) == root and isinstance(entry.get("auroc"), float):
                curves.setdefault(key, {})[entry["epoch"]] = entry["auroc"]
    return curves
