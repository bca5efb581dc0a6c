"""The pictures that set several methods, or ours and the paper's numbers, side by side.

Each function returns a figure and its caption, or None where there are no data for it.
"""

import itertools
import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from itae_jax.report import columns, efficiency, figures, tables
from itae_jax.report.figures import ANOMALOUS, NORMAL
from itae_jax.report.tables import Column
from itae_jax.runs import read as finished
from itae_jax.runs.results import Result

Picture = tuple[Figure, str]
# By id of the run: results, (is_anomaly_N, scores_N), and the arrays of illustrations.npz.
Files = dict[int, list[tuple[Result, tuple[np.ndarray, np.ndarray], dict[str, np.ndarray]]]]
# Colour-blind readers can tell them apart (Okabe and Ito).
_COLOURS = ("#e69f00", ANOMALOUS, "#56b4e9", "#009e73", NORMAL, "#cc79a7", "#666666")
_PAPER_MARK: dict[str, Any] = {"color": "black", "markerfacecolor": "white", "markersize": 4}


def draw_all(of_dataset: Sequence[Column], files: Files) -> Iterator[tuple[str, Figure, str]]:
    """Yields (kind, figure, caption) of the pictures that there are data for."""
    kinds = {"bars": bars_by_class(of_dataset), "curves": curves_over_epochs(of_dataset)}
    kinds |= {"efficiency": bubbles(of_dataset), "anomaly_maps": anomaly_maps(of_dataset, files)}
    kinds |= {"roc": roc_curves(of_dataset, files)}
    yield from ((kind, *picture) for kind, picture in kinds.items() if picture)


def colours(titles: Sequence[str]) -> list[str]:
    """Returns a colour for each title: that of its first word, or one that is left if that is taken.

    So a method has one colour on every picture, wherever its column stands.
    """
    methods = [re.split(r"[ ,]", title, maxsplit=1)[0] for title in titles]
    own = [_COLOURS[sum(method.encode()) % len(_COLOURS)] for method in methods]
    left = itertools.cycle([one for one in _COLOURS if one not in own] or _COLOURS)
    return [next(left) if colour in own[:number] else colour for number, colour in enumerate(own)]


def _titled(of_dataset: Sequence[Column]) -> list[tuple[Column, str, str]]:
    """(column, title, colour)."""
    titles = [columns.labelled(column.title, column.run) for column in of_dataset]
    names = [figures.label(title) for title in titles]
    return list(zip(of_dataset, names, colours(titles), strict=True))


def bars_by_class(of_dataset: Sequence[Column]) -> Picture | None:
    """Draws a bar for each method in each class, the paper's number as a mark on it.

    None where a table says it all.
    """
    found = [column.lines for column in of_dataset]
    keys = {line.key for lines in found for line in lines} - {tables.SD}
    if tables.averages_differ(found) or sum(key.is_class for key in keys) == 1:
        keys.discard(tables.AVERAGE)
    if not keys or len(keys) == len(of_dataset) == 1:
        return None
    groups, count = sorted(keys), len(of_dataset)
    inches = min(11, max(4.2, 0.25 * len(groups) * (count + 1) + 1.6))
    figure = Figure(figsize=(inches, 3.4), layout="constrained")
    ax, share = figure.subplots(), 0.8 / count
    handles, marks, has_spread = [], [], False
    for number, (column, title, colour) in enumerate(_titled(of_dataset)):
        offset = (number - (count - 1) / 2) * share
        places = {line: groups.index(line.key) + offset for line in column.lines if line.key in keys}
        bars = list(places.values()), [line.value for line in places], share * 0.92
        handles.append(ax.bar(*bars, color=colour, alpha=0.75, label=title))
        for line, x in places.items():
            if line.spread is not None:
                ax.errorbar(x, line.value, line.spread, fmt="none", ecolor="0.2", elinewidth=1, capsize=2)
                has_spread = True
            if line.cell and line.cell.value is not None:
                marks += ax.plot(x, line.cell.value, "D", label="paper", **_PAPER_MARK)
    ax.axhline(50, color="0.5", linewidth=0.8, linestyle=":")
    ax.set(xlim=(-0.5, len(groups) - 0.5), ylim=(0, 102))
    ax.set_ylabel("AUROC, %", fontsize=9)
    names = [figures.label(key.name, 24) for key in groups]
    turned: dict[str, Any] = {"rotation": 40, "ha": "right"} if sum(map(len, names)) > 9 * inches else {}
    ax.set_xticks(range(len(names)), names, **turned)
    figures.tidy(ax)
    _legend(figure, [*handles, *marks[:1]])
    caption = "AUROC by normal class; dotted: chance"
    caption += "; diamonds: the paper's" if marks else ""
    caption += "; whiskers: one SD over seeds" if has_spread else ""
    return figure, f"{caption}."


def curves_over_epochs(of_dataset: Sequence[Column]) -> Picture | None:
    """Draws AUROC while training, a panel for each class: the mean over seeds in a band of one SD."""
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
    panels = list(pd.DataFrame(rows, columns=["class", "column", "seed", "epoch", "auroc"]).groupby("class"))
    figure, axes = figures.make_panels(len(panels), "epoch", "AUROC, %", 1.9, sharex=True, sharey=True)
    handles, has_bands, looks = {}, False, _titled(followed)
    for ax, (key, of_class) in zip(axes, panels, strict=True):
        for number, of_column in of_class.groupby("column"):
            curve = of_column.pivot(index="epoch", columns="seed", values="auroc").dropna()
            mean, sd, (_, title, colour) = curve.mean(axis=1), curve.std(axis=1), looks[number]
            look: dict[str, Any] = {"color": colour, "linewidth": 1.4, "marker": ".", "markersize": 3}
            (handles[number],) = ax.plot(curve.index, mean, label=title, **look)
            if curve.shape[1] > 1:
                ax.fill_between(curve.index, mean - sd, mean + sd, color=colour, alpha=0.2, linewidth=0)
                has_bands = True
        ax.set_title(figures.label(key.name), fontsize=9)
        ax.set_ylim(top=min(ax.get_ylim()[1], 101))
        ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        ax.grid(color="0.9", linewidth=0.6)
    _legend(figure, [handles[number] for number in sorted(handles)])
    bands = "; bands are one SD over seeds" if has_bands else ""
    return figure, f"AUROC on the test set while training{bands}. No epoch is chosen by it."


def roc_curves(of_dataset: Sequence[Column], files: Files) -> Picture | None:
    """Draws the ROC curves of all methods together, a panel for each class, of its first seed; None for one."""
    own = [column for column in of_dataset if tables.is_own_score(column.run, column.measure)]
    if len(own) < 2:
        return None
    panels: dict[Any, dict[int, tuple[np.ndarray, np.ndarray]]] = {}
    for number, column in enumerate(own):
        for result, scored, _ in files[id(column.run)]:
            panels.setdefault(tables.class_key(result), {}).setdefault(number, scored)
    figure, axes = figures.make_panels(len(panels), "false-positive rate", "true-positive rate")
    looks, handles = _titled(own), {}
    for ax, key in zip(axes, sorted(panels), strict=True):
        for number, scored in panels[key].items():
            _, title, colour = looks[number]
            (handles[number],) = figures.roc_curve(ax, *scored, color=colour, label=title)
        ax.set_title(figures.label(key.name), fontsize=9)
    _legend(figure, [handles[number] for number in sorted(handles)])
    return figure, "ROC curves, of the first seed of each class."


def bubbles(of_dataset: Sequence[Column]) -> Picture | None:
    """Draws Figure 3: further right is faster, higher is better, a smaller circle takes less memory."""
    methods = efficiency.compared(of_dataset)
    if not methods:
        return None
    figure = Figure(figsize=(7.2, 3.6), layout="constrained")
    ax, handles = figure.subplots(), []
    largest = max(one.memory_mb for one in methods)
    for one, colour in zip(methods, colours([one.title for one in methods]), strict=True):
        look: dict[str, Any] = {"facecolor": colour, "edgecolor": colour, "alpha": 0.75}
        if one.is_paper:
            look = {"facecolor": "none", "edgecolor": colour, "linestyle": "--"}
        ax.scatter(one.images_per_second, one.auroc, s=1600 * one.memory_mb / largest, **look)
        handles.append(Patch(label=f"{figures.label(one.title)}, {one.memory_mb:.0f} MB", **look))
    ax.set_xscale("log")
    figures.label_log_axis(ax.xaxis)
    ax.margins(0.25)
    ax.set_ylim(top=min(ax.get_ylim()[1], 105))
    ax.set_xlabel("images scored a second", fontsize=9)
    ax.set_ylabel("AUROC, %", fontsize=9)
    ax.grid(color="0.9", linewidth=0.6)
    ax.set_axisbelow(True)
    figures.tidy(ax)
    figures.legend(figure, handles, loc="outside right upper")
    return figure, f"{efficiency.ABOUT} Circles: their area is the memory; dashed: the paper's."


def anomaly_maps(of_dataset: Sequence[Column], files: Files) -> Picture | None:
    """Draws where each method sees an anomaly, in the first class and seed whose defects have masks."""
    found = [
        (columns.labelled(title, run), (tables.class_key(result), result.seed), saved)
        for title, run in columns.trainings(of_dataset)
        for result, _, saved in files[id(run)]
        if {"maps", "masks"} <= saved.keys() and saved["masks"].any()
    ]
    if not found:
        return None
    _, first, shown = found[0]
    methods = [
        (title, saved["maps"])
        for title, which, saved in found
        if which == first and np.array_equal(saved["originals"], shown["originals"])
    ]
    caption = (
        f"Normal class {first[0].name}, seed {first[1]}. Where each method sees an anomaly: the brighter, the "
        "larger its error, by a scale for each column. The outline is the defect's mask; blue names are normal."
    )
    return figures.anomaly_maps(shown, methods), caption


def _legend(figure: Figure, handles: Sequence) -> None:
    """Draws a legend above the picture, with as many entries side by side as have room."""
    longest = max(len(handle.get_label()) for handle in handles)
    in_a_row = max(1, int(figure.get_figwidth() / (0.07 * longest + 0.6)))
    figures.legend(figure, handles, loc="outside upper center", ncols=in_a_row)
