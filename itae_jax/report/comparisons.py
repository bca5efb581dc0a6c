"""The pictures that set several methods, or ours and the paper's numbers, side by side."""

import dataclasses
import itertools
import re
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from itae_jax.report import figures
from itae_jax.report.efficiency import Efficiency
from itae_jax.report.figures import ANOMALOUS, NORMAL, OUTLINE

# Told apart by colour-blind readers too (Okabe and Ito).
COLOURS = (NORMAL, ANOMALOUS, "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#666666")
_PAPER_MARK = {"color": "black", "markerfacecolor": "white", "markersize": 4}


# The same on every picture, wherever the method's column stands.
_OF_METHOD = {"ITAE": NORMAL, "AE+G+R": NORMAL, "AE": ANOMALOUS}


def colours(titles: Sequence[str]) -> list[str]:
    """A colour for each method, by the word that its title begins with, or else of what is left in order."""
    words = [re.split(r"[ ,]", title, maxsplit=1)[0] for title in titles]
    fixed = {}  # colour -> the first title that has it
    for number, word in enumerate(words):
        if word in _OF_METHOD:
            fixed.setdefault(_OF_METHOD[word], number)
    left = itertools.cycle([one for one in COLOURS if one not in fixed] or COLOURS)
    return [
        _OF_METHOD[word] if fixed.get(_OF_METHOD.get(word)) == number else next(left)
        for number, word in enumerate(words)
    ]


@dataclasses.dataclass(frozen=True)
class Bars:
    """AUROC in percent of one method: by group its own, the SD over seeds, and the paper's (NaN: none)."""

    title: str
    ours: Sequence[float]
    spreads: Sequence[float]
    papers: Sequence[float]


def bars_by_class(groups: Sequence[str], methods: Sequence[Bars]) -> Figure:
    """A bar for each method in each group, the paper's number as a mark on it."""
    groups = [figures.label(group, 24) for group in groups]
    count, share = len(methods), 0.8 / len(methods)
    inches = min(11, max(4.2, 0.25 * len(groups) * (count + 1) + 1.6))
    figure = Figure(figsize=(inches, 3.4), layout="constrained")
    ax = figure.subplots()
    places = np.arange(len(groups))
    shades = colours([bars.title for bars in methods])
    for number, (bars, colour) in enumerate(zip(methods, shades, strict=True)):
        x = places + (number - (count - 1) / 2) * share
        ax.bar(x, bars.ours, share * 0.92, color=colour, alpha=0.75, label=figures.label(bars.title))
        if not np.isnan(bars.spreads).all():
            ax.errorbar(x, bars.ours, bars.spreads, fmt="none", ecolor="0.2", elinewidth=1, capsize=2)
        printed = ~np.isnan(bars.papers)
        label = None if any(line.get_label() == "paper" for line in ax.lines) else "paper"
        if printed.any():
            ax.plot(x[printed], np.compress(printed, bars.papers), "D", label=label, **_PAPER_MARK)
    ax.axhline(50, color="0.5", linewidth=0.8, linestyle=":")
    ax.set_xlim(-0.5, len(groups) - 0.5)
    ax.set_ylim(0, 102)
    ax.set_ylabel("AUROC, %", fontsize=9)
    if sum(map(len, groups)) > 9 * inches:
        ax.set_xticks(places, groups, rotation=40, ha="right")
    else:
        ax.set_xticks(places, groups)
    ax.spines[["top", "right"]].set_visible(False)
    ax.tick_params(labelsize=8)
    handles, labels = ax.get_legend_handles_labels()
    order = sorted(range(len(labels)), key=lambda i: labels[i] == "paper")
    shown = [handles[i] for i in order], [labels[i] for i in order]
    in_a_row = _in_a_row(labels, inches)
    figure.legend(*shown, loc="outside upper center", ncols=in_a_row, fontsize=8, frameon=False)
    return figure


@dataclasses.dataclass(frozen=True)
class Curve:
    """AUROC in percent while training: at these epochs, a row for every seed."""

    title: str
    epochs: np.ndarray
    aurocs_SxE: np.ndarray


def curves_over_epochs(panels: Sequence[tuple[str, Sequence[Curve | None]]]) -> Figure:
    """A panel for each (normal class, curve of each method): mean over seeds in a band of one SD."""
    columns = min(5, len(panels))
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(max(4.2, 2.2 * columns), 1.9 * rows + 0.6), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    handles = {}
    by_method = zip(*(methods for _, methods in panels), strict=True)
    shades = colours([next((curve.title for curve in curves if curve), "") for curves in by_method])
    for ax, (title, methods) in zip(axes.flat, panels, strict=False):
        for curve, colour in zip(methods, shades, strict=True):
            if curve is None:
                continue
            middle = curve.aurocs_SxE.mean(0)
            (line,) = ax.plot(curve.epochs, middle, color=colour, linewidth=1.4, marker=".", markersize=3)
            handles[figures.label(curve.title)] = line
            if len(curve.aurocs_SxE) > 1:
                band = curve.aurocs_SxE.std(0, ddof=1)
                low, high = middle - band, middle + band
                ax.fill_between(curve.epochs, low, high, color=colour, alpha=0.2, linewidth=0)
        ax.set_title(figures.label(title), fontsize=9)
        ax.set_ylim(top=min(ax.get_ylim()[1], 101))
        ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        ax.grid(color="0.9", linewidth=0.6)
        ax.tick_params(labelsize=7)
    for spare in list(axes.flat)[len(panels) :]:
        spare.set_axis_off()
    figure.supxlabel("epoch", fontsize=9)
    figure.supylabel("AUROC, %", fontsize=9)
    in_a_row = _in_a_row(list(handles), figure.get_figwidth())
    told = handles.values(), handles.keys()
    figure.legend(*told, loc="outside upper center", ncols=in_a_row, fontsize=8, frameon=False)
    return figure


def _in_a_row(labels: Sequence[str], inches: float) -> int:
    """How many entries of a legend have room side by side, none longer than the longest."""
    longest = max(map(len, labels), default=0)
    return max(1, int(inches / (0.07 * longest + 0.6)))


def bubbles(methods: Sequence[Efficiency]) -> Figure:
    """Figure 3: further right is faster, higher is better, a smaller circle takes less memory."""
    figure = Figure(figsize=(7.2, 3.6), layout="constrained")
    ax = figure.subplots()
    largest = max(one.memory_mb for one in methods)
    handles = []
    for one, colour in zip(methods, colours([one.title for one in methods]), strict=True):
        look = {"facecolor": colour, "edgecolor": colour, "alpha": 0.75}
        if one.is_paper:
            look = {"facecolor": "none", "edgecolor": colour, "linestyle": "--"}
        place = one.images_per_second, one.auroc
        ax.scatter(*place, s=1600 * one.memory_mb / largest, **look)
        handles.append(Patch(label=f"{figures.label(one.title)}, {one.memory_mb:.0f} MB", **look))
    ax.set_xscale("log")
    ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ax.xaxis.set_major_formatter("{x:g}")
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.margins(0.25)
    ax.set_ylim(top=min(ax.get_ylim()[1], 105))
    ax.set_xlabel("images scored a second", fontsize=9)
    ax.set_ylabel("AUROC, %", fontsize=9)
    figure.legend(handles=handles, loc="outside right upper", fontsize=8, frameon=False)
    ax.grid(color="0.9", linewidth=0.6)
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)
    ax.tick_params(labelsize=8)
    return figure


def error_maps(
    originals: np.ndarray,
    masks: np.ndarray,
    names: Sequence[str],
    is_anomaly: np.ndarray,
    methods: Sequence[tuple[str, np.ndarray]],
) -> Figure:
    """Rows of an image with its defect outlined, and of where each method sees it.

    Args:
      originals: N x H x W x C uint8.
      masks: N x H x W bool; nowhere true where there is none.
      names: the label of each row.
      methods: (title, maps N x H x W), each coloured from 0 to its 99.5th percentile.
    """
    count, side = len(originals), 1.5
    columns = 1 + len(methods)
    figure = Figure(figsize=(columns * side + 0.6, count * side + 0.4), layout="constrained")
    axes = figure.subplots(count, columns, squeeze=False)
    limits = [np.quantile(maps, 0.995) for _, maps in methods]
    grey = originals.mean(-1) / 255
    for row, (label, anomalous) in enumerate(zip(names, is_anomaly, strict=True)):
        image = originals[row] if originals.shape[-1] == 3 else originals[row, ..., 0]
        axes[row, 0].imshow(image, cmap="gray", vmin=0, vmax=255)
        axes[row, 0].set_ylabel(_wrapped(label), fontsize=8, color=ANOMALOUS if anomalous else NORMAL)
        for ax, (_, maps), limit in zip(axes[row, 1:], methods, limits, strict=True):
            ax.imshow(grey[row], cmap="gray", vmin=0, vmax=1)
            ax.imshow(maps[row], cmap="inferno", vmin=0, vmax=limit, alpha=0.75)
        for ax in axes[row]:
            if masks[row].any():
                _outline(ax, masks[row])
            ax.set(xticks=[], yticks=[])
            ax.spines[:].set_visible(False)
    for ax, title in zip(axes[0], ["image", *(title for title, _ in methods)], strict=True):
        ax.set_title(_wrapped(title, 22), fontsize=8)
    return figure


def _outline(ax, mask: np.ndarray) -> None:
    """Draws the edge of a mask of (height, width) over its image, closed where it meets the image's edge."""
    height, width = mask.shape
    extent = (-1, width, -1, height)  # of the centres of the outermost pixels
    ax.contour(np.pad(mask, 1), levels=[0.5], extent=extent, colors=OUTLINE, linewidths=1.2)
    ax.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))


def _wrapped(label: str, width: int = 16) -> str:
    import textwrap

    return "\n".join(textwrap.wrap(figures.label(label), width))
