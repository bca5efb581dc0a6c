"""Speed of scoring, memory and AUROC of each method: what the paper's Figure 3 compares."""

import dataclasses
from collections.abc import Sequence

from itae_jax.report import columns, tables
from itae_jax.report.tables import Column

ABOUT = (
    "Speed of scoring over all devices, the memory that its program takes on one of them, and average AUROC. "
    "The paper's: its own measurement, at width 64 on a GTX 1080 Ti."
)


@dataclasses.dataclass(frozen=True)
class Efficiency:
    """A method's speed of scoring, its AUROC in percent and the memory that scoring takes.

    Attributes:
      images_per_second: over all devices.
      memory_mb: on each device, in 10^6 bytes.
      classes: what the AUROC is averaged over.
    """

    title: str
    images_per_second: float
    auroc: float
    memory_mb: float
    classes: str = "all classes"
    is_paper: bool = False


def compared(of_dataset: Sequence[Column]) -> list[Efficiency]:
    """Returns ours, then the paper's; nothing unless the paper's table of these runs has speeds."""
    printed = {
        row["method"]: row for column in of_dataset for row in column.run.paper if row.get("images_per_second")
    }
    ours = [one for column in of_dataset if (one := _of(column))] if printed else []
    papers = [
        Efficiency(
            f"paper: {method}",
            float(row["images_per_second"]),
            float(row["auroc"]),
            float(row["memory_mb"]),
            is_paper=True,
        )
        for method, row in printed.items()
    ]
    return ours + papers if ours else []


def _of(column: Column) -> Efficiency | None:
    """Over all trainings of a column; None where time or memory is not known, or devices differ."""
    results = column.run.measured
    seconds = sum(result.score_seconds or 0 for result in results)
    memory = max((result.score_memory_mib or 0 for result in results), default=0) * 2**20 / 1e6
    is_known = all(result.score_seconds and result.score_memory_mib for result in results)
    if not results or not is_known or len({result.device for result in results}) > 1:
        return None
    auroc = next(line.value for line in column.lines if line.key == tables.AVERAGE)
    speed = sum(result.num_test for result in results) / seconds
    title = columns.labelled(column.title, column.run)
    return Efficiency(title, speed, auroc, memory, tables.count_classes(column.lines))


def grid(methods: Sequence[Efficiency]) -> tables.Grid:
    """Returns them as a table."""
    rows = [
        [one.title, f"{one.images_per_second:.0f}", f"{one.memory_mb:.0f}", f"{one.auroc:.1f} ({one.classes})"]
        for one in methods
    ]
    return tables.Grid(
        ["method", "images scored a second", "memory of scoring, MB", "AUROC, %"], rows, len(rows)
    )
