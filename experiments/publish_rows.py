"""The measured rows of experiments/results/: adding to them, and which of them belong into one table."""

import functools
from pathlib import Path

from itae_jax import config, experiment_files, finished, paper
from itae_jax.config import Experiment
from itae_jax.errors import RequestError
from itae_jax.finished import RunResults
from itae_jax.results import COLUMNS, read_csv, write_csv

EXPERIMENTS = Path(__file__).resolve().parent
RESULTS, PAPER = EXPERIMENTS / "results", EXPERIMENTS / "paper"
# Rows that agree in all of these are of one thing, and average; others never do.
_GROUP = (
    *("experiment", "variant", "dataset", "method", "transform", "width", "epochs", "dtype", "device"),
    *("data_copy", "settings"),
)
# A row replaces an older one that measured the same.
_SAME = (*_GROUP, "normal_class", "seed")
# What may differ between groups that stand side by side in a table: what is compared there.
_COMPARED = ("variant", "transform", "settings")
_COMPARED_SETTINGS = ("transform.name", "train.loss")
# Not of results.csv: the experiment that a row was measured in, if not in the one that shows it.
TAKEN_FROM = "taken_from"


def read_rows(path: Path) -> list[dict[str, str]]:
    """The rows of a file of results; columns that it is too old to have are empty."""
    return [dict.fromkeys(COLUMNS, "") | row for row in read_csv(path)] if path.exists() else []


def add(directory: Path) -> None:
    """Adds the rows of a finished run to experiments/results/<experiment>.csv."""
    rows = finished.read(directory).measured
    if not rows:
        raise RequestError(f"{directory}: none of its trainings has an AUROC")
    add_rows(rows, directory)


def add_rows(rows: list[dict[str, str]], directory: Path) -> None:
    """Adds rows of one experiment, which come from a directory."""
    for row in rows:
        if not row["commit"] or row["commit"].endswith("+"):
            raise RequestError(
                f"{directory}: class {row['normal_class']} has uncommitted changes behind it; commit, rerun"
            )
    path = RESULTS / f"{rows[0]['experiment']}.csv"
    kept = {tuple(row[key] for key in _SAME): row for row in [*read_rows(path), *rows]}
    order = ("dataset", "variant", "transform", "width", "epochs", "seed", "normal_class")
    write_csv(path, sorted(kept.values(), key=lambda row: [row[key].zfill(9) for key in order]), COLUMNS)


@functools.cache
def _experiments(name: str) -> dict[str, Experiment]:
    """What an experiment file describes, by variant; nothing for what is no such file."""
    path = EXPERIMENTS / f"{name}.py"
    return experiment_files.load(path) if path.exists() else {}


def paper_table(name: str) -> str:
    """The table of the paper that an experiment file compares with; empty for none."""
    return next((experiment.paper_table for experiment in _experiments(name).values()), "")


def is_reduced(row: dict[str, str]) -> bool:
    """Whether a result stands beside the paper's but is of less training or data."""
    return bool(paper_table(row["experiment"])) and paper.is_reduced(row)


def side_by_side() -> list[list[RunResults]]:
    """All that was measured: a list for each table, of one entry for each of its columns.

    They are alike but for what is compared. The variants of an experiment come in the order of its
    file, with those that another experiment has measured alike.
    """
    rows = [row for path in sorted(RESULTS.glob("*.csv")) for row in read_rows(path)]
    found: dict[tuple, dict[tuple, list[dict[str, str]]]] = {}
    for row in [*rows, *_taken_over(rows)]:
        columns = found.setdefault((row["experiment"], *_table(row)), {})
        columns.setdefault(tuple(row[key] for key in _GROUP), []).append(row)
    tables = [[_as_results(of_column) for of_column in columns.values()] for columns in found.values()]
    for columns in tables:
        order = list(_experiments(columns[0].experiment.name))
        if all(column.experiment.variant in order for column in columns):
            columns.sort(key=lambda column: order.index(column.experiment.variant))
    return tables


def _table(row: dict[str, str]) -> tuple:
    """What the columns of a table have in common."""
    settings = [part for part in row["settings"].split(" ") if not part.startswith(_COMPARED_SETTINGS)]
    return *(row[key] for key in _GROUP[1:] if key not in _COMPARED), *settings


def _taken_over(rows: list[dict[str, str]]) -> list[dict[str, str]]:
    """For each variant that an experiment lacks, what others measured alike of the classes that it has."""

    def training(row: dict[str, str], transform: str, loss: str) -> tuple:
        return row["normal_class"], row["seed"], transform, loss, *_table(row)

    def of(row: dict[str, str]) -> tuple:
        return training(row, row["transform"], paper.setting(row, "train.loss", "l2"))

    measured = {of(row): row for row in reversed(rows)}
    own = {(row["experiment"], of(row)) for row in rows}
    taken = {}
    for row in rows:
        name = row["experiment"]
        for variant, experiment in _experiments(name).items():
            key = training(row, experiment.transform.name, experiment.train.loss)
            if variant and key in measured and (name, key) not in own:
                found = measured[key]
                shown = {"experiment": name, "variant": variant, TAKEN_FROM: found["experiment"]}
                taken[name, key] = found | shown
    return list(taken.values())


def _as_results(rows: list[dict[str, str]]) -> RunResults:
    """The rows of one column, as a report would read them from a run directory."""
    row = rows[0]
    table = paper_table(row["experiment"])
    printed = read_csv(PAPER / f"{table}.csv") if table else []
    start = config.Experiment(name=row["experiment"], variant=row["variant"], paper_table=table)
    loss, error = paper.setting(row, "train.loss", "l2"), paper.setting(row, "evaluate.error", "l1")
    experiment = config.override(start, [f"train.loss={loss}", f"evaluate.error={error}"])
    rows = sorted(rows, key=lambda row: (int(row["normal_class"]), int(row["seed"])))
    return RunResults(experiment, rows, printed, {})
