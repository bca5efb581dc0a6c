"""The pictures that set several methods, or ours and the paper's numbers, side by side."""

import itertools
import re
from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from itae_jax.report import figures
from itae_jax.report.efficiency import Efficiency
from itae_jax.report.figures import ANOMALOUS, NORMAL

# Colour-blind readers can tell them apart (Okabe and Ito).
_COLOURS = (NORMAL, ANOMALOUS, "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#666666")
# A method has one colour on every picture, wherever its column stands.
_OF_METHOD = {"ITAE": NORMAL, "AE+G+R": NORMAL, "AE": ANOMALOUS, "VAE": "#009e73"}
_PAPER_MARK = {"color": "black", "markerfacecolor": "white", "markersize": 4}


def colours(titles: Sequence[str]) -> list[str]:
    """Returns a colour for each method: by the word that its title begins with, else one that is left."""
    fixed: dict[str, int] = {}  # colour -> the first title that has it
    for number, title in enumerate(titles):
        word = re.split(r"[ ,]", title, maxsplit=1)[0]
        if word in _OF_METHOD:
            fixed.setdefault(_OF_METHOD[word], number)
    left = itertools.cycle([one for one in _COLOURS if one not in fixed] or _COLOURS)
    of_number = {number: colour for colour, number in fixed.items()}
    return [of_number.get(number) or next(left) for number in range(len(titles))]


def bars_by_class(
    groups: Sequence[str], titles: Sequence[str], ours: np.ndarray, spreads: np.ndarray, papers: np.ndarray
) -> Figure:
    """Draws a bar for each method in each group, the paper's number as a mark on it.

    Args:
      ours, spreads, papers: AUROC in percent, its SD over seeds and the paper's, methods x groups; NaN: none.
    """
    groups = [figures.label(group, 24) for group in groups]
    count, share, places = len(titles), 0.8 / len(titles), np.arange(len(groups))
    inches = min(11, max(4.2, 0.25 * len(groups) * (count + 1) + 1.6))
    figure = Figure(figsize=(inches, 3.4), layout="constrained")
    ax = figure.subplots()
    handles, marks = [], []
    for number, (title, colour) in enumerate(zip(titles, colours(titles), strict=True)):
        x, name = places + (number - (count - 1) / 2) * share, figures.label(title)
        handles.append(ax.bar(x, ours[number], share * 0.92, color=colour, alpha=0.75, label=name))
        if not np.isnan(spreads[number]).all():
            ax.errorbar(x, ours[number], spreads[number], fmt="none", ecolor="0.2", elinewidth=1, capsize=2)
        printed = ~np.isnan(papers[number])
        marks += ax.plot(x[printed], papers[number][printed], "D", label="paper", **_PAPER_MARK)
    ax.axhline(50, color="0.5", linewidth=0.8, linestyle=":")
    ax.set(xlim=(-0.5, len(groups) - 0.5), ylim=(0, 102))
    ax.set_ylabel("AUROC, %", fontsize=9)
    is_crowded = sum(map(len, groups)) > 9 * inches
    ax.set_xticks(places, groups, rotation=40 if is_crowded else 0, ha="right" if is_crowded else "center")
    _tidy(ax)
    _legend(figure, handles + (marks[:1] if not np.isnan(papers).all() else []))
    return figure


def curves_over_epochs(
    titles: Sequence[str], panels: Sequence[tuple[str, Sequence[pd.DataFrame | None]]]
) -> Figure:
    """Draws a panel for each normal class: of each method the mean over seeds in a band of one SD.

    Args:
      panels: (class, for each method AUROC in percent, epochs x seeds, or None).
    """
    figure, axes = figures.make_panels(len(panels), 2.2, 1.9, sharex=True, sharey=True)
    handles = {}
    for ax, (title, curves) in zip(axes, panels, strict=True):
        for method, curve, colour in zip(titles, curves, colours(titles), strict=True):
            if curve is None:
                continue
            mean, sd = curve.mean(axis=1), curve.std(axis=1)
            look = {"color": colour, "linewidth": 1.4, "marker": ".", "markersize": 3}
            (handles[method],) = ax.plot(curve.index, mean, label=figures.label(method), **look)
            if curve.shape[1] > 1:
                ax.fill_between(curve.index, mean - sd, mean + sd, color=colour, alpha=0.2, linewidth=0)
        ax.set_title(figures.label(title), fontsize=9)
        ax.set_ylim(top=min(ax.get_ylim()[1], 101))
        ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        ax.grid(color="0.9", linewidth=0.6)
        ax.tick_params(labelsize=7)
    figure.supxlabel("epoch", fontsize=9)
    figure.supylabel("AUROC, %", fontsize=9)
    _legend(figure, list(handles.values()))
    return figure


def bubbles(methods: Sequence[Efficiency]) -> Figure:
    """Draws Figure 3: further right is faster, higher is better, a smaller circle takes less memory."""
    figure = Figure(figsize=(7.2, 3.6), layout="constrained")
    ax = figure.subplots()
    largest = max(one.memory_mb for one in methods)
    handles = []
    for one, colour in zip(methods, colours([one.title for one in methods]), strict=True):
        look = {"facecolor": colour, "edgecolor": colour, "alpha": 0.75}
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
    _tidy(ax)
    figure.legend(handles=handles, loc="outside right upper", fontsize=8, frameon=False)
    return figure


def _tidy(ax) -> None:
    ax.spines[["top", "right"]].set_visible(False)
    ax.tick_params(labelsize=8)


def _legend(figure: Figure, handles: Sequence) -> None:
    """Draws a legend above the picture, with as many entries side by side as have room."""
    longest = max(len(handle.get_label()) for handle in handles)
    in_a_row = max(1, int(figure.get_figwidth() / (0.07 * longest + 0.6)))
    figure.legend(handles=handles, loc="outside upper center", ncols=in_a_row, fontsize=8, frameon=False)
