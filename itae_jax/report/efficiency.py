"""Speed of scoring, memory and AUROC of each method: what the paper's Figure 3 compares."""

import dataclasses
from collections.abc import Sequence

from itae_jax.report import columns, tables
from itae_jax.report.columns import Column

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
      classes: how many the AUROC is averaged over, in words.
    """

    title: str
    images_per_second: float
    auroc: float
    memory_mb: float
    classes: str = "all classes"
    is_paper: bool = False


def compared(of_dataset: Sequence[Column]) -> list[Efficiency]:
    """Ours, then the paper's; nothing where the experiment's numbers of the paper tell of no speed."""
    printed = {
        row["method"]: row
        for column in of_dataset
        for row in column.found.paper
        if row.get("images_per_second")
    }
    ours = [one for column in of_dataset if (one := _of(column))] if printed else []
    numbers = ("images_per_second", "auroc", "memory_mb")
    papers = [
        Efficiency(f"paper: {method}", *(float(row[number]) for number in numbers), is_paper=True)
        for method, row in printed.items()
    ]
    return ours + papers if ours else []


def _of(column: Column) -> Efficiency | None:
    """Over all its trainings; None where time or memory of scoring is not known, or devices differ."""
    rows = column.found.measured
    if len({row["device"] for row in rows}) > 1:
        return None
    if not rows or not all(
        float(row[key] or 0) for row in rows for key in ("score_seconds", "score_memory_mib")
    ):
        return None
    told = tables.of(column)
    (auroc,) = (line.value for line in told if line.key == "avg")
    speed = sum(int(row["num_test"]) for row in rows) / sum(float(row["score_seconds"]) for row in rows)
    memory = max(float(row["score_memory_mib"]) for row in rows) * 2**20 / 1e6
    title = columns.labelled(column.title, column.found)
    return Efficiency(title, speed, auroc, memory, tables.count_classes(told))


def grid(methods: Sequence[Efficiency]) -> tables.Grid:
    """As a table, the paper's below ours."""
    rows = [
        [one.title, f"{one.images_per_second:.0f}", f"{one.memory_mb:.0f}", f"{one.auroc:.1f} ({one.classes})"]
        for one in methods
    ]
    return tables.Grid(
        ["method", "images scored a second", "memory of scoring, MB", "AUROC, %"], rows, len(rows)
    )
