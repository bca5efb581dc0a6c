"""Which pictures a report has, and what they show: from results to the arguments of a figure."""

import itertools
from collections.abc import Iterator

import numpy as np
from matplotlib.figure import Figure

from itae_jax.report import columns, comparisons, efficiency, tables
from itae_jax.report.columns import Column
from itae_jax.runs import job_files
from itae_jax.runs import read as finished


def comparing(of_dataset: list[Column]) -> Iterator[tuple[str, Figure, str]]:
    """(kind, figure, caption) of the pictures of several methods that there are data for."""
    by_class = bars(of_dataset)
    if by_class:
        *arguments, caption = by_class
        yield "bars", comparisons.bars_by_class(*arguments), caption
    panels = _curve_panels(of_dataset)
    if panels:
        spread = any(len(curve.aurocs_SxE) > 1 for _, curves in panels for curve in curves if curve)
        bands = "; bands are one SD over seeds" if spread else ""
        caption = f"AUROC on the test set while training{bands}. No epoch is chosen by it."
        yield "curves", comparisons.curves_over_epochs(panels), caption
    methods = efficiency.compared(of_dataset)
    if methods:
        caption = f"{efficiency.ABOUT} Circles: their area is the memory; dashed: the paper's."
        yield "efficiency", comparisons.bubbles(methods), caption
    where, maps = _maps(of_dataset)
    if maps:
        caption = (
            "Where each method sees an anomaly: the brighter, the larger its error, by a scale for each "
            "column. The outline is the defect's mask; blue labels are normal."
        )
        yield "error_maps", comparisons.error_maps(*maps), f"{where}. {caption}"


def bars(of_dataset: list[Column]) -> tuple[list[str], list[comparisons.Bars], str] | None:
    """The arguments of `comparisons.bars_by_class`, and the caption; None where a table says it all."""
    told = [tables.of(column) for column in of_dataset]
    names = {line.key: line.name for of_column in told for line in of_column if line.key != "SD"}
    if len(names) == 2:
        del names["avg"]  # of one class
    if tables.averages_differ(told):
        names.pop("avg", None)
    if not names or len(names) == len(of_dataset) == 1:
        return None
    order = tables.in_order(names)
    methods = [
        _bars(columns.labelled(column.title, column.found), of_column, order)
        for column, of_column in zip(of_dataset, told, strict=True)
    ]
    caption = "AUROC by normal class; dotted: chance"
    shown = [line for of_column in told for line in of_column if line.key in names]
    caption += "; diamonds: the paper's" if any(line.difference is not None for line in shown) else ""
    caption += "; whiskers: one SD over seeds." if any(line.spread for line in shown) else "."
    return [names[key] for key in order], methods, caption


def _bars(title: str, of_column: list[tables.Line], order: list[str]) -> comparisons.Bars:
    by_key, nan = {line.key: line for line in of_column}, float("nan")
    there = [by_key.get(key) for key in order]
    return comparisons.Bars(
        title,
        [line.value if line else nan for line in there],
        [nan if line is None or line.spread is None else line.spread for line in there],
        [nan if line is None or line.difference is None else float(line.cell["auroc"]) for line in there],
    )


def _curve_panels(of_dataset: list[Column]):
    """(class name, curve of each method or None) for the classes that were followed while training."""
    followed = [column for column in of_dataset if _is_followed(column)]
    curves: dict[str, dict[int, list[dict[int, float]]]] = {}  # class -> column -> of each seed
    names = {}
    for number, column in enumerate(followed):
        of_column = finished.training_curves(column.found)
        for row in column.found.rows:
            curve = of_column.get((row["normal_class"], row["seed"]))
            if curve:
                key = tables.class_key(row)
                names[key] = row["normal_class_name"]
                curves.setdefault(key, {}).setdefault(number, []).append(curve)
    panels = []
    for key in tables.in_order(curves):
        methods = []
        for number, column in enumerate(followed):
            of_seeds = curves[key].get(number, [])
            epochs = sorted(set.intersection(*map(set, of_seeds))) if of_seeds else []
            values = np.array([[100 * curve[epoch] for epoch in epochs] for curve in of_seeds])
            methods.append(
                comparisons.Curve(columns.labelled(column.title, column.found), np.array(epochs), values)
                if epochs
                else None
            )
        panels.append((names[key], methods))
    return panels


def _is_followed(column: Column) -> bool:
    """Whether the column tells the error that was scored by while training, too."""
    return column.measure in ("auroc", f"auroc_{column.found.experiment.evaluate.error}")


def _maps(of_dataset: list[Column]):
    """The first class whose defects have masks, and the arguments of `comparisons.error_maps` for it."""
    trained = columns.trainings(of_dataset)
    first_of = {}
    for row in [row for _, found in trained for row in found.measured]:
        first_of.setdefault(tables.class_key(row), row)
    for first in first_of.values():
        shown, methods = None, []
        for title, found in trained:
            same = [row for row in found.measured if _is_same_training(row, first)]
            saved = job_files.read_illustrations(found.job_directory(same[0])) if same else {}
            if not {"maps", "masks"} <= set(saved) or not saved["masks"].any():
                continue
            shown = shown or saved
            if np.array_equal(saved["originals"], shown["originals"]):
                methods.append((columns.labelled(title, found), saved["maps"]))
        if methods:
            arguments = (
                shown["originals"],
                shown["masks"],
                shown["labels"].tolist(),
                shown["is_anomaly"],
                methods,
            )
            return f"Normal class {first['normal_class_name']}, seed {first['seed']}", arguments
    return "", None


def _is_same_training(row: dict[str, str], other: dict[str, str]) -> bool:
    return (tables.class_key(row), row["seed"]) == (tables.class_key(other), other["seed"])


_MEMBERS = {"rotate": ("0°", "90°", "180°", "270°")}


def member_titles(transform: str, count: int) -> list[str]:
    """What tells the members of a transform apart: the angles of rotations, else numbers."""
    parts = [_MEMBERS.get(part, ("",)) for part in transform.split("+")]
    titles = [" ".join(filter(None, members)) for members in itertools.product(*parts)]
    return titles if len(titles) == count else [str(index) for index in range(count)]
