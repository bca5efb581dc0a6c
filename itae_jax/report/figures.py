"""The pictures of a report, each as a matplotlib figure."""

import itertools
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from itae_jax import transforms
from itae_jax.data.reader import Reader
from itae_jax.detection import anomaly_map
from itae_jax.evaluate import metrics
from itae_jax.report import html
from itae_jax.transforms import to_float

NORMAL, ANOMALOUS = "#0072b2", "#d55e00"  # colour-blind readers can tell them apart
OUTLINE = "#00e5ff"  # of a defect; no shade of a heat map is like it
_SHOWN_SIDE, _MOST_SHOWN = 128, 4  # pixels, and members of a transform
Panel = tuple[str, np.ndarray, np.ndarray]  # title, is_anomaly, scores


def label(text: str, length: int = 40) -> str:
    """Returns a name that matplotlib can draw: one line of valid characters, no mathematics, not too long."""
    text = " ".join(html.printable(text).split())
    text = text if len(text) <= length else text[: length - 1] + "…"
    return text.replace("$", r"\$")


def make_panels(count: int, x: str, y: str, height: float = 2.1, **options: Any) -> tuple[Figure, list[Axes]]:
    """Returns a figure with rows of up to five panels, and labels of their common axes."""
    columns = min(5, count)
    rows = -(-count // columns)
    size = (5, 3) if count == 1 else (max(columns * 2.1, 4.2), rows * height + 0.5)
    figure = Figure(figsize=size, layout="constrained")
    figure.supxlabel(x, fontsize=9)
    figure.supylabel(y, fontsize=9)
    axes = list(figure.subplots(rows, columns, squeeze=False, **options).flat)
    for ax in axes:
        tidy(ax)
    for spare in axes[count:]:
        spare.set_axis_off()
    return figure, axes[:count]


def legend(figure: Figure, handles: Sequence, **options: Any) -> None:
    """Draws a legend without a frame."""
    figure.legend(handles=handles, fontsize=8, frameon=False, **options)


def tidy(ax: Axes) -> None:
    """Leaves out lines that say nothing."""
    ax.spines[["top", "right"]].set_visible(False)
    ax.tick_params(labelsize=8)


def score_histograms(panels: Sequence[Panel], scale: str) -> Figure:
    """Draws the scores of normal and of anomalous test images, a panel for each class."""
    figure, axes = make_panels(len(panels), f"anomaly score, {scale}", "")
    for ax, (title, is_anomaly_N, scores_N) in zip(axes, panels, strict=True):
        _histogram(ax, scores_N, is_anomaly_N, 30, density=True)
        ax.set_title(label(title), fontsize=9)
        ax.set_yticks([])
    legend(figure, ax.get_legend_handles_labels()[0], loc="outside upper center", ncols=2)
    return figure


def threshold_histogram(
    scores_N: np.ndarray, is_anomaly_N: np.ndarray | None, threshold: float | None
) -> Figure:
    """Draws how many images have which score, by kind where that is known, with the threshold as a line."""
    figure, (ax,) = make_panels(1, "anomaly score", "images")
    _histogram(ax, scores_N, is_anomaly_N, 40, threshold)
    if is_anomaly_N is not None:
        ax.legend(fontsize=9, frameon=False, loc="upper right")
    if threshold is not None:
        ax.axvline(threshold, color="0.2", linewidth=1.2, linestyle="--")
    ax.yaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


def _histogram(ax: Axes, scores_N, is_anomaly_N, count: int, high: float | None = None, **options) -> None:
    """Draws bars from the lowest score to the 99.5th percentile, or to `high`; the last has all beyond."""
    end = max(np.quantile(scores_N, 0.995), -np.inf if high is None else high)
    bins = np.linspace(scores_N.min(), end + 1e-9 * (1 + abs(end)), count + 1).tolist()
    scores_N = np.minimum(scores_N, bins[-1])
    options["histtype"] = "stepfilled"
    if is_anomaly_N is None:
        ax.hist(scores_N, bins, color=NORMAL, alpha=0.8, **options)
        return
    for kind, colour, name in ((False, NORMAL, "normal"), (True, ANOMALOUS, "anomalous")):
        ax.hist(scores_N[is_anomaly_N == kind], bins, color=colour, alpha=0.6, label=name, **options)


def roc_curves(panels: Sequence[Panel]) -> Figure:
    """Draws the ROC curve of each class, with its area in percent."""
    figure, axes = make_panels(len(panels), "false-positive rate", "true-positive rate")
    for ax, (title, is_anomaly_N, scores_N) in zip(axes, panels, strict=True):
        roc_curve(ax, is_anomaly_N, scores_N, color=NORMAL)
        ax.set_title(f"{label(title)}: {100 * metrics.auroc(is_anomaly_N, scores_N):.1f}", fontsize=9)
        ax.set_aspect("equal" if len(panels) > 1 else "auto")
    return figure


def roc_curve(ax: Axes, is_anomaly_N: np.ndarray, scores_N: np.ndarray, **look: Any) -> list[Line2D]:
    """Draws one ROC curve, and the diagonal of chance."""
    from sklearn import metrics as of_scores

    false_rate, true_rate, _ = of_scores.roc_curve(is_anomaly_N, scores_N)
    ax.plot([0, 1], [0, 1], color="0.8", linewidth=0.8)
    ax.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    return ax.plot(false_rate, true_rate, linewidth=1.6, **look)


def loss_curve(*trainings: dict[int, float]) -> Figure:
    """Draws the loss of each training by epoch; on a logarithmic axis if one falls to a tenth or below."""
    figure, (ax,) = make_panels(1, "epoch", "loss")
    for by_epoch in trainings:
        epochs, losses = np.array(list(by_epoch.items()), float).T
        faint, marker = min(1.0, 3 / len(trainings)), "." if len(by_epoch) == 1 else None
        ax.plot(epochs, losses, color=NORMAL, marker=marker, alpha=faint)
    if any(0 < 10 * np.nanmin(losses) <= np.nanmax(losses) for losses in map(_values, trainings)):
        ax.set_yscale("log")
        label_log_axis(ax.yaxis)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    return figure


def _values(by_epoch: dict[int, float]) -> np.ndarray:
    return np.array(list(by_epoch.values()), float)


def label_log_axis(axis: Axis) -> None:
    """Labels a logarithmic axis at 1, 2 and 5."""
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter(NullFormatter())


def restorations(saved: dict[str, np.ndarray], titles: Sequence[str]) -> Figure:
    """Draws rows of original, inputs, outputs, as in the paper's Figure 5.

    `saved` has the arrays of illustrations.npz; the titles tell the inputs apart.
    """
    heads = ["Ori", *(f"{part} {title}".strip() for part in "IO" for title in titles)]
    originals = saved["originals"]
    enlarge = max(1, round(64 / max(originals.shape[1:3])))
    columns = [_enlarged(images, enlarge) for images in (originals, *saved["inputs"], *saved["outputs"])]
    return _image_rows(columns, heads, saved, 0.62)


def anomaly_maps(saved: dict[str, np.ndarray], methods: Sequence[tuple[str, np.ndarray]]) -> Figure:
    """Draws rows of an image of illustrations.npz with its defect outlined, and of where each method sees it.

    `methods` are (title, maps N x H x W), coloured from the mean of normal images to their 99.5th percentile.
    """
    enlarge = max(1, round(160 / max(saved["originals"].shape[1:3])))
    images, masks = _enlarged(saved["originals"], enlarge), _enlarged(saved["masks"], enlarge)

    def overlay(maps: np.ndarray) -> list[np.ndarray]:
        full, maps = float(np.quantile(maps, 0.995)), _enlarged(maps, enlarge)
        return [anomaly_map.overlay(*pair, full) for pair in zip(images, maps, strict=True)]

    columns = [
        np.stack([anomaly_map.outline(*pair, OUTLINE) for pair in zip(column, masks, strict=True)])
        for column in (list(images), *(overlay(maps) for _, maps in methods))
    ]
    heads = ["\n".join(textwrap.wrap(label(head), 22)) for head in ("image", *(title for title, _ in methods))]
    return _image_rows(columns, heads, saved, 1.2)


def erased(path: Path) -> Figure:
    """Draws the centre of an image file and what each transform leaves of it, up to four members or draws."""
    image = Reader(_SHOWN_SIDE, channels=3).read(path)
    original = to_float(jnp.asarray(image))[None]
    rows = {"image": original}
    for name in sorted(set(transforms.names()) - {"identity"}):
        transform = transforms.get(name)
        if transform.draw is None:
            members = transform.apply_all(original)[:, 0]
        else:  # more than are shown, as some draws change nothing
            keys = jax.random.split(jax.random.key(0), 4 * _MOST_SHOWN)
            repeated = original.repeat(len(keys), 0)
            members = transform.draw_each(keys, repeated, repeated[:, ::-1])
            members = members[np.flatnonzero(jnp.abs(members - original).max((1, 2, 3)))]
        shown = np.linspace(0, len(members) - 1, min(len(members), _MOST_SHOWN)).astype(int)
        rows[name] = members[shown]
    figure = Figure(figsize=(_MOST_SHOWN + 1, 1.05 * len(rows)), layout="constrained")
    for axes, (name, images) in zip(figure.subplots(len(rows), _MOST_SHOWN), rows.items(), strict=True):
        for ax, one in itertools.zip_longest(axes, images):
            ax.set_axis_off()
            if one is not None:
                shown = np.broadcast_to(np.asarray(one), image.shape)
                ax.imshow((shown + 1) / 2, interpolation="nearest", vmin=0, vmax=1)
        axes[0].text(-0.1, 0.5, name, ha="right", va="center", fontsize=9, transform=axes[0].transAxes)
    return figure


def _enlarged(images_NxHxW: np.ndarray, factor: int) -> np.ndarray:
    """Images, masks or maps with larger pixels; images in RGB."""
    larger = images_NxHxW.repeat(factor, 1).repeat(factor, 2)
    return larger if larger.ndim == 3 else np.broadcast_to(larger, (*larger.shape[:3], 3))


def _image_rows(columns: Sequence[np.ndarray], heads: Sequence[str], saved: dict, inches: float) -> Figure:
    """Columns of N RGB images side by side, `inches` wide each, with heads above and labels on the left."""
    gaps = ((0, 0), (2, 2), (2, 2), (0, 0))
    framed = [np.concatenate(list(np.pad(images, gaps, constant_values=255))) for images in columns]
    mosaic, names = np.concatenate(framed, axis=1), [label(name, 24) for name in saved["labels"].tolist()]
    height, width = mosaic.shape[0] / len(names), mosaic.shape[1] / len(heads)
    side = len(heads) * inches + 0.1 * max(map(len, names)) + 0.2, mosaic.shape[0] * inches / width + 0.4
    figure = Figure(figsize=side, layout="constrained")
    ax = figure.subplots()
    ax.imshow(mosaic, interpolation="nearest")
    ax.spines[:].set_visible(False)
    ax.xaxis.tick_top()
    ax.tick_params(length=0)
    ax.set_xticks((np.arange(len(heads)) + 0.5) * width, heads, fontsize=9)
    ax.set_yticks((np.arange(len(names)) + 0.5) * height, names, fontsize=10)
    for tick, anomalous in zip(ax.get_yticklabels(), saved["is_anomaly"], strict=True):
        tick.set_color(ANOMALOUS if anomalous else NORMAL)
    return figure
