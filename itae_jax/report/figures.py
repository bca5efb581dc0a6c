"""The pictures of a report, each as a matplotlib figure."""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

NORMAL, ANOMALOUS = "#0072b2", "#d55e00"  # told apart by colour-blind readers too
SCALE = "1 = mean of the training normals"
OUTLINE = "#00e5ff"  # of a defect; no shade of a heat map is like it


def _grid(count: int, columns: int = 5, side: float = 2.1) -> tuple[Figure, list]:
    columns = min(columns, count)
    rows = -(-count // columns)
    figure = Figure(figsize=(max(columns * side, 4.2), rows * side + 0.5), layout="constrained")
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for spare in axes[count:]:
        spare.set_axis_off()
    return figure, axes[:count]


def score_histograms(panels: list[tuple[str, np.ndarray, np.ndarray]], scale: str = SCALE) -> Figure:
    """Scores of normal and of anomalous test images, a panel for each (title, is_anomaly, scores).

    Args:
      scale: what the numbers mean.
    """
    figure, axes = _grid(len(panels))
    for ax, (title, is_anomaly, scores) in zip(axes, panels, strict=True):
        bins = np.linspace(scores.min(), np.quantile(scores, 0.995) + 1e-9, 31)
        scores = np.minimum(scores, bins[-1])  # the last bar stands for all beyond it
        for kind, colour, name in ((False, NORMAL, "normal"), (True, ANOMALOUS, "anomalous")):
            ax.hist(scores[is_anomaly == kind], bins, density=True, color=colour, alpha=0.6, label=name)
        ax.set_title(label(title), fontsize=9)
        ax.set_yticks([])
        ax.tick_params(labelsize=7)
    figure.supxlabel(f"anomaly score, {scale}", fontsize=9)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper right", ncols=2, fontsize=8)
    return figure


def roc_curves(panels: list[tuple[str, np.ndarray, np.ndarray]]) -> Figure:
    """The ROC curve of each (title, is_anomaly, scores), with its area."""
    from sklearn.metrics import roc_auc_score, roc_curve

    figure, axes = _grid(len(panels))
    for ax, (title, is_anomaly, scores) in zip(axes, panels, strict=True):
        false_rate, true_rate, _ = roc_curve(is_anomaly, scores)
        ax.plot([0, 1], [0, 1], color="0.8", linewidth=0.8)
        ax.plot(false_rate, true_rate, color=NORMAL, linewidth=1.6)
        ax.set_title(f"{label(title)}: {100 * roc_auc_score(is_anomaly, scores):.1f}", fontsize=9)
        ax.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
        ax.tick_params(labelsize=7)
    figure.supxlabel("share of normal images called anomalous", fontsize=9)
    figure.supylabel("share of anomalies found", fontsize=9)
    return figure


def restorations(
    originals: np.ndarray,
    inputs: np.ndarray,
    outputs: np.ndarray,
    names: list[str],
    is_anomaly: np.ndarray,
    members: list[str],
) -> Figure:
    """Rows of original, inputs, outputs, as in the paper's Figure 5.

    Args:
      originals: N x H x W x C uint8.
      inputs, outputs: T x N x H x W x C' uint8.
      names: the class of each row.
      members: what tells the T members of the transform apart.
    """
    titles = ["Ori", *(f"{part} {member}".strip() for part in "IO" for member in members)]
    panels = _mosaic([originals, *inputs, *outputs])
    height, width = panels.shape[0] / len(originals), panels.shape[1] / len(titles)
    inches = 0.62 / width
    names = [label(name, 24) for name in names]
    figure = Figure(
        figsize=(panels.shape[1] * inches + 0.1 * max(map(len, names)) + 0.2, panels.shape[0] * inches + 0.3),
        layout="constrained",
    )
    ax = figure.subplots()
    ax.imshow(panels, interpolation="nearest")
    ax.spines[:].set_visible(False)
    ax.xaxis.tick_top()
    ax.tick_params(length=0)
    ax.set_xticks((np.arange(len(titles)) + 0.5) * width, titles, fontsize=9)
    ax.set_yticks((np.arange(len(names)) + 0.5) * height, names, fontsize=10)
    for tick, anomalous in zip(ax.get_yticklabels(), is_anomaly, strict=True):
        tick.set_color(ANOMALOUS if anomalous else NORMAL)
    return figure


def label(text: str, length: int = 40) -> str:
    """A name as matplotlib draws it: one line, no mathematics, not too long, every character a valid one."""
    text = " ".join(text.encode("utf-8", "replace").decode().split())
    text = text if len(text) <= length else text[: length - 1] + "…"
    return text.replace("$", r"\$")


def _mosaic(columns: list[np.ndarray]) -> np.ndarray:
    """Columns of N images side by side with white gaps, enlarged to some 64 pixels a side, RGB."""
    enlarge = max(1, round(64 / max(columns[0].shape[1:3])))
    tiles = []
    for images in columns:
        images = np.broadcast_to(images, (*images.shape[:3], 3)).repeat(enlarge, 1).repeat(enlarge, 2)
        framed = np.pad(images, ((0, 0), (2, 2), (2, 2), (0, 0)), constant_values=255)
        tiles.append(np.concatenate(list(framed)))
    return np.concatenate(tiles, axis=1)


def threshold_histogram(
    scores_N: np.ndarray, is_anomaly_N: np.ndarray | None, threshold: float | None
) -> Figure:
    """How many images have which score, by kind where that is known, with the threshold as a line."""
    figure = Figure(figsize=(5, 3), layout="constrained")
    ax = figure.subplots()
    high = max(np.quantile(scores_N, 0.995), threshold or 0)
    bins = np.linspace(scores_N.min(), high * (1 + 1e-9) + 1e-9, 41)
    scores_N = np.minimum(scores_N, bins[-1])  # the last bar stands for all beyond it
    if is_anomaly_N is None:
        ax.hist(scores_N, bins, color=NORMAL, alpha=0.8)
    else:
        for kind, colour, name in ((False, NORMAL, "normal"), (True, ANOMALOUS, "anomalous")):
            ax.hist(scores_N[is_anomaly_N == kind], bins, color=colour, alpha=0.6, label=name)
        ax.legend(fontsize=9)
    if threshold is not None:
        ax.axvline(threshold, color="0.2", linewidth=1.2, linestyle="--")
    ax.set_xlabel("anomaly score", fontsize=10)
    ax.set_ylabel("images", fontsize=10)
    ax.yaxis.set_major_locator(MaxNLocator(integer=True))
    ax.spines[["top", "right"]].set_visible(False)
    return figure


def loss_curve(entries: list[dict]) -> Figure:
    """The loss of each report of a training; on a logarithmic axis if it falls to a tenth or below."""
    figure = Figure(figsize=(5, 3), layout="constrained")
    ax = figure.subplots()
    losses = np.array([entry["loss"] for entry in entries], float)
    mark = "." if len(entries) == 1 else None
    ax.plot([entry["epoch"] for entry in entries], losses, color=NORMAL, marker=mark)
    if 0 < 10 * np.nanmin(losses) <= np.nanmax(losses):
        ax.set_yscale("log")
        ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ax.yaxis.set_major_formatter("{x:g}")
        ax.yaxis.set_minor_formatter(NullFormatter())
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    ax.set_xlabel("epoch", fontsize=10)
    ax.set_ylabel("loss", fontsize=10)
    ax.spines[["top", "right"]].set_visible(False)
    return figure
