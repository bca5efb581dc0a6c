"""The measured rows of experiments/results/: adding to them, and which of them belong into one table."""

import functools
import re
from pathlib import Path

from itae_jax import config
from itae_jax import experiment as experiment_files
from itae_jax.config import Experiment
from itae_jax.errors import RequestError
from itae_jax.files import write_csv
from itae_jax.report import paper
from itae_jax.runs import job_files, results
from itae_jax.runs import read as finished
from itae_jax.runs.read import RunResults
from itae_jax.runs.results import COLUMNS

EXPERIMENTS = Path(__file__).resolve().parent
RESULTS, PAPER = EXPERIMENTS / "results", EXPERIMENTS / "paper"
# Rows that agree in all of these are of one thing, and average; others never do.
_GROUP = (
    *("experiment", "variant", "dataset", "method", "transform", "width", "epochs", "dtype", "device"),
    *("data_copy", "settings"),
)
# A row replaces an older one that measured the same.
SAME = (*_GROUP, "normal_class", "normal_class_name", "seed")
# What may differ between groups that stand side by side in a table: what is compared there.
_COMPARED = ("variant", "transform", "settings")
_COMPARED_SETTINGS = ("transform.name", "train.loss")
_COMPARED_BY_VARIANTS = ("dtype", "compute.dtype")
# Not of results.csv: the experiment that a row was measured in, if not in the one that shows it.
TAKEN_FROM = "taken_from"


def read_rows(path: Path) -> list[dict[str, str]]:
    """The rows of a file of results; columns that it is too old to have are empty."""
    return results.read_rows(path, "mend it") if path.exists() else []


def add(directory: Path) -> None:
    """Adds the rows of a finished run to experiments/results/<experiment>.csv, those of failures too."""
    found = finished.read(directory)
    for row in found.measured:
        job_files.check(found.job_directory(row), row)
    add_rows(found.rows, directory)


def add_rows(rows: list[dict[str, str]], directory: Path) -> None:
    """Adds rows of one experiment, which come from a directory.

    A training that failed never takes the place of one that was measured.

    Raises:
      RequestError: rows of no experiment file, or without a commit.
    """
    name = rows[0]["experiment"]
    if name not in (*names(), "fit"):
        raise RequestError(
            f"{directory}: there is no experiments/{name}.py; publish runs of an experiment file"
        )
    for row in rows:
        if not re.fullmatch("[0-9a-f]{4,40}", row["commit"]):
            changed = row["commit"].endswith("+")
            why = "has uncommitted changes behind it; commit, rerun" if changed else "names no commit"
            raise RequestError(f"{directory}: class {row['normal_class']} {why}")
    path = RESULTS / f"{name}.csv"
    kept: dict[tuple, dict[str, str]] = {}
    for row in [*read_rows(path), *rows]:
        key = tuple(row[key] for key in SAME)
        if row["auroc"] or key not in kept:
            kept[key] = row
    texts, numbers = (
        ("dataset", "variant", "transform", "settings"),
        ("width", "epochs", "seed", "normal_class"),
    )

    def order(row: dict[str, str]) -> tuple:
        return *(row[key] for key in texts), *(int(row[key]) for key in numbers)

    write_csv(path, sorted(kept.values(), key=order), COLUMNS)


@functools.cache
def experiments(name: str) -> dict[str, Experiment]:
    """What an experiment file describes, by variant; nothing for what is no such file."""
    path = EXPERIMENTS / f"{name}.py"
    return experiment_files.load(path) if path.exists() else {}


def names() -> list[str]:
    """The experiment files."""
    return [path.stem for path in sorted(EXPERIMENTS.glob("*.py")) if "\ndef get_config" in path.read_text()]


def paper_table(name: str) -> str:
    """The table of the paper that an experiment file compares with; empty for none."""
    return next((experiment.paper_table for experiment in experiments(name).values()), "")


def measured() -> list[dict[str, str]]:
    """All rows of experiments/results/."""
    return [row for path in sorted(RESULTS.glob("*.csv")) for row in read_rows(path)]


def side_by_side() -> list[list[RunResults]]:
    """All that was measured: a list for each table, of one entry for each of its columns.

    They are alike but for what is compared. The variants of an experiment come in the order of its
    file, with those that another experiment has measured alike; elsewhere the plain autoencoder is last.
    """
    rows = measured()
    found: dict[tuple, dict[tuple, list[dict[str, str]]]] = {}
    for row in [*rows, *_taken_over(rows)]:
        columns = found.setdefault((row["experiment"], *_table(row)), {})
        columns.setdefault(tuple(row[key] for key in _GROUP), []).append(row)
    tables = [[_as_results(of_column) for of_column in columns.values()] for columns in found.values()]
    for columns in tables:
        order = list(experiments(columns[0].experiment.name))

        def place(column: RunResults, order: list[str] = order) -> tuple:
            variant = column.experiment.variant
            return order.index(variant) if variant in order else len(order), is_plain(column)

        columns.sort(key=place)
    return tables


def is_plain(column: RunResults) -> bool:
    """Whether nothing is erased: the plain autoencoder."""
    return column.rows[0]["transform"] == "identity"


def _table(row: dict[str, str]) -> tuple:
    """What the columns of a table have in common."""
    compared = (*_COMPARED, *_COMPARED_SETTINGS, *(_COMPARED_BY_VARIANTS if row["variant"] else ()))
    settings = (one for one in paper.settings(row).items() if one[0] not in compared)
    return *(row[key] for key in _GROUP[1:] if key not in compared), *settings


def _taken_over(rows: list[dict[str, str]]) -> list[dict[str, str]]:
    """For each variant that an experiment lacks, what others measured alike of the classes that it has."""
    of_others: dict[tuple, dict[str, str]] = {}
    for row in reversed(rows):
        if row["auroc"]:
            of_others[_training(row, paper.settings(row))] = row
    own = {(row["experiment"], _training(row, paper.settings(row))) for row in rows}
    taken = {}
    for row in rows:
        name, variants = row["experiment"], experiments(row["experiment"])
        if row["variant"] not in variants:
            continue
        for variant, experiment in variants.items():
            key = _training(row, _settings_of(row, variants[row["variant"]], experiment))
            if key in of_others and (name, key) not in own:
                found = of_others[key]
                shown = {"experiment": name, "variant": variant, TAKEN_FROM: found["experiment"]}
                taken[name, variant, key] = found | shown
    return list(taken.values())


def _training(row: dict[str, str], settings: dict[str, str]) -> tuple:
    """What makes two trainings the same: the row's, or the same by other settings."""
    of_row = ("dataset", "data_copy", "device", "normal_class", "normal_class_name", "seed")
    return *(row[key] for key in of_row), frozenset(settings.items())


def _settings_of(row: dict[str, str], variant: Experiment, other: Experiment) -> dict[str, str]:
    """The settings of a row of one variant, if it were of the other."""
    settings = paper.settings(row)
    ours, theirs = (paper.settings({"settings": config.settings(one)}) for one in (variant, other))
    kept = {field: value for field, value in settings.items() if ours.get(field) != value}
    return theirs | kept


def _as_results(rows: list[dict[str, str]]) -> RunResults:
    """The rows of one column, as a report would read them from a run directory."""
    row = rows[0]
    table = paper_table(row["experiment"])
    printed = paper.read(PAPER / f"{table}.csv") if table else []
    start = config.Experiment(name=row["experiment"], variant=row["variant"], paper_table=table)
    loss, error = paper.setting(row, "train.loss", "l2"), paper.setting(row, "evaluate.error", "l1")
    experiment = config.override(start, [f"train.loss={loss}", f"evaluate.error={error}"])
    rows = sorted(rows, key=lambda row: (int(row["normal_class"]), int(row["seed"])))
    return RunResults(experiment, rows, printed, {})
