"""Finished runs, read back; what several machines did of one experiment is joined."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from itae_jax import config
from itae_jax import experiment as experiment_files
from itae_jax.config import Experiment
from itae_jax.errors import RequestError
from itae_jax.report import paper
from itae_jax.runs import job_files, results, variants

_NAMED_BY_FOLDER = ("folder", "mvtec_ad")


@dataclasses.dataclass(frozen=True)
class RunResults:
    """What one experiment has given so far, in one run directory or in several.

    Attributes:
      experiment: of the first of the directories.
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
    def otherwise(self) -> str:
        """Which settings of training are not the paper's; empty if none, or if it is not compared with."""
        return paper.otherwise(self.rows[0]) if self.experiment.paper_table else ""

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
    printed = paper.read(directory / "paper.csv", "remove it, and give the command of the run again")
    found = RunResults(
        experiment, rows, printed, {(row["normal_class"], row["seed"]): directory for row in rows}
    )
    for row in rows:
        _check_is_of(experiment, row, directory)
        _complete(row, found.job_directory(row))
    return found


def _check_is_of(experiment: Experiment, row: dict[str, str], directory: Path) -> None:
    """Raises RequestError for a row of another config."""
    ours = results.columns_of(experiment)
    if row["variant"]:  # older versions tell of none
        ours["variant"] = experiment.variant
    if experiment.data.name not in _NAMED_BY_FOLDER:
        ours["dataset"] = experiment.data.name
    for column, value in ours.items():
        if row[column] != value:
            raise RequestError(
                f"{directory}: results.csv has {column}={row[column]!r} in class {row['normal_class']}, "
                f"seed {row['seed']}, but config.json {value!r}; mend what was changed by hand"
            )


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
        elif row["auroc"]:
            for measure in filter(known.get, results.MEASURES):
                if row[measure] not in ("", known[measure]):
                    raise RequestError(
                        f"{second.directories[key]}: class {row['normal_class_name']}, seed {row['seed']} has "
                        f"{measure}={row[measure]}, but {known[measure]} in {directories[key]}; "
                        "report them one by one"
                    )
            doubled += 1
    return dataclasses.replace(
        first,
        rows=sorted(rows.values(), key=lambda row: (int(row["normal_class"]), int(row["seed"]))),
        directories=directories,
        paper=first.paper or second.paper,
        duplicates=first.duplicates + doubled,
    )


def _complete(row: dict[str, str], directory: Path) -> None:
    """Fills in the measures of images that rows of older versions lack."""
    if row["average_precision"] or not row["auroc"]:
        return
    from itae_jax.evaluate import metrics as measures

    values = measures.of_images(*job_files.read_scores(directory, row))
    row |= {name: f"{value:.6f}" for name, value in values.items()}


def training_curves(found: RunResults) -> dict[tuple[str, str], dict[int, float]]:
    """(normal class, seed) -> epoch -> test AUROC while training, where `evaluate.every_epochs` was set."""
    curves: dict[tuple[str, str], dict[int, float]] = {}
    for root in found.roots:
        for entry in results.read_metrics(root / "metrics.jsonl"):
            key = str(entry.get("normal_class")), str(entry.get("seed"))
            if found.directories.get(key) == root and _is_share(entry.get("auroc")):
                curves.setdefault(key, {})[entry["epoch"]] = entry["auroc"]
    return curves


def _is_share(value: object) -> bool:
    return isinstance(value, float) and 0 <= value <= 1
