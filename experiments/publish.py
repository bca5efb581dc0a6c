"""Measured results: collects finished runs into experiments/results/ and writes the tables from there.

python experiments/publish.py runs/digits ...   adds the rows of finished runs, then writes
python experiments/publish.py --fitted NAME MODEL SCORES.csv   adds what a fitted model scored, a folder by kind
python experiments/publish.py                   writes docs/results.md, and parts of README.md and others,
                                                the last paragraph of each experiment's docstring too
python experiments/publish.py --check           only says whether they are up to date
"""

import argparse
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import publish_docstrings
import publish_faults
import publish_fitted
import publish_rows
import publish_scaling
import publish_speed

from itae_jax import tables, variants
from itae_jax.errors import RequestError
from itae_jax.finished import RunResults
from itae_jax.report import describe
from itae_jax.results import write_text

ROOT = Path(__file__).resolve().parent.parent
# What README.md tells of a training beside its width and epochs; docs/results.md has everything.
_TOLD_SETTINGS = ("train.", "evaluate.", "transform.")
_NOT_TOLD_SETTINGS = ("train.epochs", "transform.name")


def training(row: dict[str, str]) -> str:
    """How a row came about, in short."""
    settings = [
        part
        for part in row["settings"].split(" ")
        if part.startswith(_TOLD_SETTINGS) and not part.startswith(_NOT_TOLD_SETTINGS)
    ]
    dtype = [] if row["dtype"] == "float32" else [row["dtype"]]
    return ", ".join([f"width {row['width']}", f"{row['epochs']} epochs", *dtype, *settings])


def title_of(row: dict[str, str]) -> str:
    """The experiment, and the data set if its name does not tell."""
    name, dataset = row["experiment"], row["dataset"]
    return name if dataset in name else f"{name}: {dataset}"


def summary_table() -> list[str]:
    """The averages over classes: a line for each method, with the plain autoencoder and the paper beside it."""
    header = ["experiment", "training", "erased by", "classes", "seeds", "average AUROC, %", "paper's"]
    header += ["plain autoencoder's", "paper's"]
    lines = []
    for together in publish_rows.side_by_side():
        (columns,) = tables.columns(together)
        plain = [column for column in columns if column.found.rows[0]["transform"] == "identity"][:1]
        for column in [column for column in columns if column not in plain] or plain:
            both = [column, *plain] if column not in plain else plain
            told = _averages(both)
            row = column.found.rows[0]
            way = "" if column.measure == "auroc" else f", {column.title}"
            reduced = " (reduced)" if publish_rows.is_reduced(row) else ""
            how = [title_of(row) + reduced, training(row), row["transform"] + way]
            numbers = [text for line in told for text in (line.ours_text, line.paper_text)]
            if column in plain:
                numbers = ["", "", *numbers]
            classes = len(_classes(both))
            lines.append([*how, str(classes), str(told[0].seeds), *numbers, *[""] * (4 - len(numbers))])
    return tables.as_markdown(tables.Grid(header, lines, len(lines)), texts=3)


def _classes(columns: Sequence[tables.Column]) -> set[str]:
    """The classes that all of these columns have."""
    return set.intersection(*({row["normal_class"] for row in column.found.rows} for column in columns))


def _averages(columns: Sequence[tables.Column]) -> Iterable[tables.Line]:
    """The average of each column over the classes that all of them have."""
    classes = _classes(columns)
    averages = []
    for column in columns:
        rows = [row for row in column.found.rows if row["normal_class"] in classes]
        told = tables.lines(rows, column.cells, column.measure)
        averages += [line for line in told if line.key == "avg"]
    return averages


def section(together: list[RunResults]) -> list[str]:
    """The part of docs/results.md on groups that stand side by side."""
    (of_dataset,) = tables.columns(together)
    first = together[0].rows[0]
    mark = " (reduced: less than the paper's training)" if publish_rows.is_reduced(first) else ""
    lines = [f"## {title_of(first)}, {training(first)}{mark}", ""]
    lines += [*tables.as_markdown(tables.grid(of_dataset)), ""]
    for column in of_dataset:
        seeds = tables.seeds_grid(column)
        if seeds:
            lines += [f"{column.title} by seed:", "", *tables.as_markdown(seeds), ""]
    for column in {id(column.found): column for column in of_dataset}.values():
        row, title = column.found.rows[0], column.title
        origin = row.get(publish_rows.TAKEN_FROM, "")
        taken = f"; measured in {origin}" if origin else ""
        lines += [f"{title}: {describe(column.found)}{taken}. Not at their defaults: `{row['settings']}`.", ""]
        measures = tables.measures_grid(column.found)
        if len(measures.header) > 2:
            lines += [f"{title}, all measures in percent:", "", *tables.as_markdown(measures), ""]
    return lines


def results_page() -> str:
    """docs/results.md."""
    lines = ["# Results", "", "Written from `experiments/results/` by `make results`.", ""]
    for together in publish_rows.side_by_side():
        lines += section(together)
    return "\n".join([*lines, *publish_speed.sections(publish_rows.RESULTS)])


def between(text: str, name: str, lines: list[str]) -> str:
    """The text with these lines between its marks of that name."""
    begin, end = f"<!-- {name}: begin, written by make results -->", f"<!-- {name}: end -->"
    before, _, rest = text.partition(begin)
    _, _, after = rest.partition(end)
    return before + "\n".join([begin, *lines, end]) + after


def pages() -> dict[Path, str]:
    """Everything that is written from the results."""
    results = publish_rows.RESULTS
    blocks = {
        ROOT / "README.md": {"results": [*summary_table(), *publish_speed.speed_line(results)]},
        ROOT / "docs" / "reliability.md": {"faults": publish_faults.lines(results)},
        ROOT / "docs" / "scaling.md": {
            "scaling": publish_scaling.lines(results),
            "plan": publish_scaling.plan_lines(results),
        },
    }
    written = {ROOT / "docs" / "results.md": results_page()}
    for path, named in blocks.items():
        text = path.read_text(encoding="utf-8")
        for name, lines in named.items():
            text = between(text, name, lines)
        written[path] = text
    return written | publish_docstrings.pages(docstrings())


def docstrings() -> dict[str, list[str]]:
    """What each experiment has given, in a line for each way of training."""
    told: dict[str, list[str]] = {}
    for together in publish_rows.side_by_side():
        row = together[0].rows[0]
        dataset = title_of(row).removeprefix(row["experiment"]).removeprefix(": ")
        how = ", ".join(filter(None, (dataset, training(row))))
        told.setdefault(row["experiment"], []).append(publish_docstrings.line(together, how))
    return told


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="*", type=Path, help="directories of finished runs")
    parser.add_argument("--fitted", nargs=3, action="append", default=[], metavar=("NAME", "MODEL", "SCORES"))
    parser.add_argument("--check", action="store_true", help="exit 1 if a page is not up to date")
    arguments = parser.parse_args()
    try:
        for directory in arguments.runs:
            for run in variants.expand(directory):
                publish_rows.add(run)
        for name, model, scores in arguments.fitted:
            publish_rows.add_rows([publish_fitted.row(Path(model), Path(scores), name)], Path(model))
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
