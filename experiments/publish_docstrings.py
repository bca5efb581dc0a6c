"""The end of an experiment file's docstring: how a CPU does it, what it has given, and in which time."""

import textwrap
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import publish_rows
import reduced

from itae_jax import progress
from itae_jax.report import columns, tables
from itae_jax.runs.read import RunResults

_BEGINS = ("\n\nReduced, for a CPU:", "\n\nMeasured:")
_END = '\n"""\n'
_WIDTH = 110


def pages(trainings: dict[str, list[str]]) -> dict[Path, str]:
    """The text of each experiment file.

    Args:
      trainings: by experiment what was measured, a line for each way of training.
    """
    written = {}
    for name in publish_rows.names():
        path = publish_rows.EXPERIMENTS / f"{name}.py"
        written[path] = _with_end(path.read_text(encoding="utf-8"), _lines(name, trainings.get(name, [])))
    return written


def _with_end(text: str, lines: Sequence[str]) -> str:
    docstring, end, code = text.partition(_END)
    before = docstring
    for begin in _BEGINS:
        before = before.partition(begin)[0]
    told = [line.replace("\\", "/").replace('"', "'") for line in lines]  # names of data sets are the user's
    return "\n".join([before, "", *told]) + end + code


def _lines(name: str, trainings: Sequence[str]) -> list[str]:
    on_cpu, measured = (begin.strip() for begin in _BEGINS)
    names = [short for short, one in reduced.REDUCED.items() if one.file == name]
    start = [f"{on_cpu} python experiments/reduced.py {' '.join(names)}", ""] if names else []
    start.append(measured if trainings else f"{measured} nothing yet.")
    options = {"subsequent_indent": "    ", "break_on_hyphens": False}
    return start + [line for text in trainings for line in textwrap.wrap(f"  {text}", _WIDTH, **options)]


def line(together: Sequence[RunResults], how: str) -> str:
    """The average AUROC of each column of a table, in percent, and how long a training took."""
    (of_dataset,) = columns.by_dataset(together)
    averages = []
    for column in of_dataset:
        told = tables.of(column)
        averages += [
            f"{column.title} {line.ours_text} ({tables.count_classes(told)})"
            for line in told
            if line.key == "avg"
        ]
    averages = averages or ["no AUROC"]
    rows = [row for column in of_dataset for row in column.found.rows]
    all_seconds = [float(row["train_seconds"]) for row in rows if row["train_seconds"]]
    if not all_seconds:
        return f"{how}: {', '.join(averages)}"
    time = progress.duration(median(all_seconds))
    return f"{how}: {', '.join(averages)}; {time} a training on {rows[0]['device']}"
