"""Measured results: collects finished runs into experiments/results/ and writes the tables from there.

python experiments/publish.py runs/digits ...   adds the rows of finished runs, then writes
python experiments/publish.py --fitted NAME MODEL SCORES.csv   adds what a fitted model scored, a folder by kind
python experiments/publish.py                   writes docs/results.md, and parts of README.md and others
python experiments/publish.py --check           only says whether they are up to date
"""

import argparse
import functools
import sys
from pathlib import Path

import publish_faults
import publish_fitted
import publish_scaling
import publish_speed

from itae_jax import config, experiment_files, finished, paper, tables, variants
from itae_jax.errors import RequestError
from itae_jax.finished import RunResults
from itae_jax.report import describe
from itae_jax.results import COLUMNS, read_csv, write_csv, write_text

ROOT = Path(__file__).resolve().parent.parent
EXPERIMENTS = ROOT / "experiments"
RESULTS, PAPER = EXPERIMENTS / "results", EXPERIMENTS / "paper"
# Rows that agree in all of these are of one thing, and average; others never do.
_GROUP = (
    *("experiment", "variant", "dataset", "method", "transform", "width", "epochs", "dtype", "device"),
    *("data_copy", "settings"),
)
# A row replaces an older one that measured the same.
_SAME = (*_GROUP, "normal_class", "seed")
# What may differ between groups that stand side by side in a table: what is compared there.
_COMPARED = ("variant", "transform")
_COMPARED_SETTINGS = ("transform.name", "train.loss")
_SHOWN_SETTINGS = ("data.name", "transform.name", "model.width", "train.epochs", "compute.dtype")


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
def paper_table(experiment: str) -> str:
    """The table of the paper that an experiment file compares with; empty for none."""
    path = EXPERIMENTS / f"{experiment}.py"
    return next(iter(experiment_files.load(path).values())).paper_table if path.exists() else ""


def as_results(rows: list[dict[str, str]]) -> RunResults:
    """Rows of one group, as a report would read them from a run directory."""
    row = rows[0]
    table = paper_table(row["experiment"])
    printed = read_csv(PAPER / f"{table}.csv") if table else []
    start = config.Experiment(name=row["experiment"], variant=row["variant"], paper_table=table)
    loss, error = paper.setting(row, "train.loss", "l2"), paper.setting(row, "evaluate.error", "l1")
    experiment = config.override(start, [f"train.loss={loss}", f"evaluate.error={error}"])
    rows = sorted(rows, key=lambda row: (int(row["normal_class"]), int(row["seed"])))
    return RunResults(experiment, rows, printed, {})


def groups() -> list[RunResults]:
    """All that was measured, rows of one thing together."""
    found: dict[tuple, list[dict[str, str]]] = {}
    for path in sorted(RESULTS.glob("*.csv")):
        for row in read_rows(path):
            found.setdefault(tuple(row[key] for key in _GROUP), []).append(row)
    return [as_results(rows) for rows in found.values()]


def side_by_side() -> list[list[RunResults]]:
    """The groups that one table compares: alike but for what is compared."""
    found: dict[tuple, list[RunResults]] = {}
    for group in groups():
        row = group.rows[0]
        settings = [part for part in row["settings"].split(" ") if not part.startswith(_COMPARED_SETTINGS)]
        key = *(row[key] for key in _GROUP if key not in (*_COMPARED, "settings")), *settings
        found.setdefault(key, []).append(group)
    return list(found.values())


def training(row: dict[str, str]) -> str:
    """How a row came about: what distinguishes the lines of the summary."""
    others = [part for part in row["settings"].split(" ") if part.partition("=")[0] not in _SHOWN_SETTINGS]
    reduced = ["reduced"] if is_reduced(row) else []
    told = [f"width {row['width']}", f"{row['epochs']} epochs", row["dtype"], *reduced, *others]
    return ", ".join(told)


def is_reduced(row: dict[str, str]) -> bool:
    """Whether a result stands beside the paper's but is of less training or data."""
    return bool(paper_table(row["experiment"])) and paper.is_reduced(row)


def summary_table() -> list[str]:
    """A line for each group: the average over its classes beside the paper's."""
    header = ["data", "erased by", "training", "classes", "seeds", "average AUROC, %", "paper, full training"]
    lines = []
    for group in groups():
        (of_dataset,) = tables.columns([group])
        row = group.rows[0]
        for column in of_dataset:
            told = {line.key: line for line in tables.lines(group.rows, column.cells, column.measure)}
            classes = sum(key.isdecimal() for key in told)
            how = row["transform"] if column.measure == "auroc" else f"{row['transform']}, {column.title}"
            average = told["avg"]
            counts = [str(classes), str(average.seeds)]
            shown = [row["data_copy"], how, training(row), *counts, average.ours_text, average.paper_text]
            lines.append(shown)
    return tables.as_markdown(tables.Grid(header, lines, len(lines)), texts=3)


def section(together: list[RunResults]) -> list[str]:
    """The part of docs/results.md on groups that stand side by side."""
    (of_dataset,) = tables.columns(together)
    first = together[0].rows[0]
    compared = bool(first["experiment"] and paper_table(first["experiment"]))
    mark = " (reduced: less than the paper's training)" if compared and paper.is_reduced(first) else ""
    name = ": ".join(dict.fromkeys((first["experiment"], first["dataset"])))
    lines = [f"## {name}, {first['dtype']}, width {first['width']}{mark}", ""]
    lines += [*tables.as_markdown(tables.grid(of_dataset)), ""]
    for column in of_dataset:
        seeds = tables.seeds_grid(column)
        if seeds:
            lines += [f"{column.title} by seed:", "", *tables.as_markdown(seeds), ""]
    for column in {id(column.found): column for column in of_dataset}.values():
        row, title = column.found.rows[0], column.title
        lines += [f"{title}: {describe(column.found)}. Not at their defaults: `{row['settings']}`.", ""]
        measures = tables.measures_grid(column.found)
        if len(measures.header) > 2:
            lines += [f"{title}, all measures in percent:", "", *tables.as_markdown(measures), ""]
    return lines


def results_page() -> str:
    """docs/results.md."""
    lines = ["# Results", "", "Written from `experiments/results/` by `make results`.", ""]
    for together in side_by_side():
        lines += section(together)
    return "\n".join([*lines, *publish_speed.sections(RESULTS)])


def between(text: str, name: str, lines: list[str]) -> str:
    """The text with these lines between its marks of that name."""
    begin, end = f"<!-- {name}: begin, written by make results -->", f"<!-- {name}: end -->"
    before, _, rest = text.partition(begin)
    _, _, after = rest.partition(end)
    return before + "\n".join([begin, *lines, end]) + after


def pages() -> dict[Path, str]:
    """Everything that is written from the results."""
    blocks = {
        ROOT / "README.md": {"results": [*summary_table(), *publish_speed.speed_line(RESULTS)]},
        ROOT / "docs" / "reliability.md": {"faults": publish_faults.lines(RESULTS)},
        ROOT / "docs" / "scaling.md": {
            "scaling": publish_scaling.lines(RESULTS),
            "plan": publish_scaling.plan_lines(RESULTS),
        },
    }
    written = {ROOT / "docs" / "results.md": results_page()}
    for path, named in blocks.items():
        text = path.read_text(encoding="utf-8")
        for name, lines in named.items():
            text = between(text, name, lines)
        written[path] = text
    return written


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="*", type=Path, help="directories of finished runs")
    parser.add_argument("--fitted", nargs=3, action="append", default=[], metavar=("NAME", "MODEL", "SCORES"))
    parser.add_argument("--check", action="store_true", help="exit 1 if a page is not up to date")
    arguments = parser.parse_args()
    try:
        for directory in arguments.runs:
            for run in variants.expand(directory):
                add(run)
        for name, model, scores in arguments.fitted:
            add_rows([publish_fitted.row(Path(model), Path(scores), name)], Path(model))
    except RequestError as error:
        print(f"publish: {error}", file=sys.stderr)
        return 2
    written = pages()
    old = [
        path for path, text in written.items() if not path.exists() or path.read_text(encoding="utf-8") != text
    ]
    if arguments.check:
        for path in old:
            print(f"{path.relative_to(ROOT)} is not what make results writes", file=sys.stderr)
        return 1 if old else 0
    for path in old:
        write_text(path, written[path])
    return 0


if __name__ == "__main__":
    sys.exit(main())
