"""Which pictures compare several methods, and what they show: from results to the arguments of a figure."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from itae_jax.report import columns, comparisons, efficiency, figures, tables
from itae_jax.report.tables import Column, Line
from itae_jax.runs import read as finished


def comparing(of_dataset: Sequence[Column]) -> Iterator[tuple[str, Figure, str]]:
    """Yields (kind, figure, caption) of the pictures that there are data for."""
    for kind, make in (
        ("bars", _bars),
        ("curves", _curves),
        ("efficiency", _efficiency),
        ("error_maps", _maps),
    ):
        if made := make(of_dataset):
            yield kind, *made


def _titles(of_dataset: Sequence[Column]) -> list[str]:
    return [columns.labelled(column.title, column.run) for column in of_dataset]


def _bars(of_dataset: Sequence[Column]) -> tuple[Figure, str] | None:
    """None where a table says it all."""
    found = [column.lines for column in of_dataset]
    keys = {line.key for lines in found for line in lines} - {tables.SD}
    if tables.averages_differ(found) or sum(key.is_class for key in keys) == 1:
        keys.discard(tables.AVERAGE)
    if not keys or len(keys) == len(of_dataset) == 1:
        return None
    shown = sorted(keys)

    def numbers(of_line: Callable[[Line], float | None]) -> np.ndarray:
        rows = [{line.key: of_line(line) for line in lines} for lines in found]
        return pd.DataFrame(rows).reindex(columns=shown).to_numpy(float)

    ours, spreads = numbers(lambda line: line.value), numbers(lambda line: line.spread)
    papers = numbers(lambda line: line.cell.value if line.cell else None)
    caption = "AUROC by normal class; dotted: chance"
    caption += "; diamonds: the paper's" if not np.isnan(papers).all() else ""
    caption += "; whiskers: one SD over seeds." if not np.isnan(spreads).all() else "."
    names = [key.name for key in shown]
    return comparisons.bars_by_class(names, _titles(of_dataset), ours, spreads, papers), caption


def _curves(of_dataset: Sequence[Column]) -> tuple[Figure, str] | None:
    """Curves of the classes that were followed while training, which is done by the method's own score."""
    followed = [column for column in of_dataset if tables.is_own_score(column.run, column.measure)]
    rows = [
        (tables.class_key(result), number, result.seed, epoch, 100 * auroc)
        for number, column in enumerate(followed)
        for curves in [finished.training_curves(column.run)]
        for result in column.run.results
        for epoch, auroc in curves.get(result.job, {}).items()
    ]
    if not rows:
        return None
    frame = pd.DataFrame(rows, columns=["class", "column", "seed", "epoch", "auroc"])
    panels = []
    for key, of_class in frame.groupby("class"):
        curves = {
            number: of_column.pivot(index="epoch", columns="seed", values="auroc").dropna()
            for number, of_column in of_class.groupby("column")
        }
        panels.append((key.name, [curves.get(number) for number in range(len(followed))]))
    has_bands = any(curve is not None and curve.shape[1] > 1 for _, curves in panels for curve in curves)
    bands = "; bands are one SD over seeds" if has_bands else ""
    caption = f"AUROC on the test set while training{bands}. No epoch is chosen by it."
    return comparisons.curves_over_epochs(_titles(followed), panels), caption


def _efficiency(of_dataset: Sequence[Column]) -> tuple[Figure, str] | None:
    methods = efficiency.compared(of_dataset)
    caption = f"{efficiency.ABOUT} Circles: their area is the memory; dashed: the paper's."
    return (comparisons.bubbles(methods), caption) if methods else None


def _maps(of_dataset: Sequence[Column]) -> tuple[Figure, str] | None:
    """Maps of the first class and seed whose defects have masks."""
    runs = columns.trainings(of_dataset)
    first_seeds: dict[tables.Key, int] = {}
    for _, run in runs:
        for result in run.measured:
            first_seeds.setdefault(tables.class_key(result), result.seed)
    for key, seed in first_seeds.items():
        shown, methods = None, []
        for title, run in runs:
            same = [one for one in run.measured if (tables.class_key(one), one.seed) == (key, seed)]
            saved = finished.read_illustrations(run, same[0]) if same else {}
            if not {"maps", "masks"} <= set(saved) or not saved["masks"].any():
                continue
            shown = shown or saved
            if np.array_equal(saved["originals"], shown["originals"]):
                methods.append((columns.labelled(title, run), saved["maps"]))
        if shown:
            caption = (
                f"Normal class {key.name}, seed {seed}. Where each method sees an anomaly: the brighter, the "
                "larger its error, by a scale for each column. The outline is the defect's mask; blue labels "
                "are normal."
            )
            return figures.error_maps(shown, methods), caption
    return None
