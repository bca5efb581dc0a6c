"""Speed of scoring, memory and AUROC of each method: what the paper's Figure 3 compares."""

from collections.abc import Sequence
from typing import NamedTuple

from itae_jax.report import columns, tables
from itae_jax.report.tables import Column, Grid

ABOUT = (
    "Speed of scoring over all devices, the memory that its program takes on one of them, and average AUROC. "
    "The paper's: its own measurement, at width 64 on a GTX 1080 Ti."
)


class Efficiency(NamedTuple):
    """Images scored a second over all devices, 10^6 bytes on each, AUROC in percent over these classes."""

    title: str
    images_per_second: float
    memory_mb: float
    auroc: float
    classes: str = "all classes"
    is_paper: bool = False


def compared(of_dataset: Sequence[Column]) -> list[Efficiency]:
    """Returns ours, then the paper's; nothing unless the paper's table of these runs has speeds."""
    rows = [row for column in of_dataset for row in column.run.paper if row.get("images_per_second")]
    printed = {row["method"]: row for row in rows}
    papers = []
    for method, row in printed.items():
        speed, memory, auroc = (float(row[name]) for name in ("images_per_second", "memory_mb", "auroc"))
        papers.append(Efficiency(f"paper: {method}", speed, memory, auroc, is_paper=True))
    ours = [one for column in of_dataset if printed and (one := _of(column))]
    return ours + papers if ours else []


def _of(column: Column) -> Efficiency | None:
    """Over all trainings of a column; None where time or memory is not known, or devices differ."""
    results = column.run.measured
    seconds = [result.score_seconds or 0 for result in results]
    memory = [result.score_memory_mib or 0 for result in results]
    if not results or not all(seconds + memory) or len({result.device for result in results}) > 1:
        return None
    return Efficiency(
        columns.labelled(column.title, column.run),
        sum(result.num_test for result in results) / sum(seconds),
        max(memory) * 2**20 / 1e6,
        next(line.value for line in column.lines if line.key == tables.AVERAGE),
        tables.count_classes(column.lines),
    )


def grid(methods: Sequence[Efficiency]) -> Grid:
    """Returns them as a table."""
    rows = [
        [one.title, f"{one.images_per_second:.0f}", f"{one.memory_mb:.0f}", f"{one.auroc:.1f} ({one.classes})"]
        for one in methods
    ]
    return Grid(["method", "images scored a second", "memory of scoring, MB", "AUROC, %"], rows, len(rows))
