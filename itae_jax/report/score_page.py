"""Scores as one self-contained HTML page: measures, histogram, telling images, a table that can be sorted."""

import contextlib
import csv
import logging
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from itae_jax import experiment
from itae_jax.config import FALSE_POSITIVE_RATE, MethodConfig
from itae_jax.data.images import UnreadableImageError
from itae_jax.data.reader import Reader
from itae_jax.detection import anomaly_map, score, training_files
from itae_jax.detection import model as trained
from itae_jax.detection.model import TrainedModel
from itae_jax.environment import cpu_cores
from itae_jax.errors import RequestError
from itae_jax.files import check_commas, check_output_file, csv_text, write_text, writing
from itae_jax.methods.method import Combines
from itae_jax.report import figures, html, score_measures
from itae_jax.training.log import read_metrics

_LOG = logging.getLogger(__name__)
_ODDEST, _MISTAKEN = 12, 6  # pictures of the oddest images, of defects and of normal images
_MOST_ROWS = 2000  # of the table; a page of a hundred thousand rows helps nobody
_MOST_THUMBNAILS, _THUMBNAIL_SIDE = 500, 64  # of the table, about 2 KB each


def _nothing(line: str) -> None:
    pass


class ScoredImages(NamedTuple):
    """Images with scores, whether these are above the threshold, the method's components by name, p-values."""

    paths: list[str]
    scores_N: np.ndarray
    is_anomaly_N: np.ndarray
    components: dict[str, np.ndarray]
    unreadable: Sequence[tuple[str, str]] = ()  # path and reason of those without a score
    p_values_N: np.ndarray | None = None


def read_scores(path: Path) -> ScoredImages:
    """Reads what `itae score` wrote; RequestError if it is not such a file, or holds no score."""
    try:
        header, *rows = list(csv.reader(csv_text(path))) or [[]]
        check_commas(path, header)
        if header[:4] != ["path", "score", "is_anomaly", "p_value"] or header[-1] != "reason":
            raise ValueError("its columns are not path,score,is_anomaly,p_value,...,reason")
        if any(len(row) != len(header) for row in rows):
            raise ValueError("a row is cut short")
        scored = [row for row in rows if not row[-1]]
        numbers = np.array([[float(cell) for cell in row[1:-1]] for row in scored])
        if not np.isfinite(numbers).all():
            raise ValueError("a number is not finite")
    except RequestError:
        raise
    except (OSError, ValueError, csv.Error) as error:
        raise RequestError(f"{path}: {error}; name a file that itae score wrote") from None
    if not scored:
        raise RequestError(f"{path}: no image in it has a score")
    components = dict(zip(header[4:-1], numbers[:, 3:].T, strict=True))
    unreadable = [(row[0], row[-1]) for row in rows if row[-1]]
    paths, is_anomaly_N = [row[0] for row in scored], numbers[:, 1].astype(bool)
    return ScoredImages(paths, numbers[:, 0], is_anomaly_N, components, unreadable, numbers[:, 2])


def write_for_scores(
    scores: Path,
    model: Path | None,
    false_positive_rate: float | None,
    trust: str = "",
    normal: str = "",
    say: Callable[[str], object] = _nothing,
) -> Path:
    """Writes the page of a file of scores beside it, with the ending .html.

    With the model that scored it shows restorations and heat maps. Without a false-positive rate it has the
    threshold that the file was written with. `normal` is the name of the folder of normal images, empty for
    good or normal. `say` gets a line before the page is drawn. RequestError if the file or the model cannot be
    read or do not match, or for a rate without a model.
    """
    if scores.suffix == ".html":
        raise RequestError(f"{scores}: the page would overwrite it; give the scores another ending")
    if false_positive_rate is not None and model is None:
        why = "whose calibration set gives the threshold"
        raise RequestError(f"--false-positive-rate needs --model MODEL, {why}")
    images = read_scores(scores)
    loaded = None if model is None else trained.load(model, trust)
    if loaded and not _is_scored_by(images, loaded):
        raise RequestError(f"--model {model}: is not the model that wrote {scores}")
    if loaded and false_positive_rate is not None:
        threshold: float | None = loaded.normal.threshold(false_positive_rate)
        images = images._replace(is_anomaly_N=images.scores_N > threshold)
    else:
        threshold = _threshold_of(images, loaded)
    page: dict[str, Any] = {"title": scores.name, "what": "images", "settings": {}, "loss": None}
    say(f"drawing the page of {scores}")
    return _write(scores.with_suffix(".html"), images, threshold, loaded, page, normal=normal)


def write_for_model(
    directory: Path,
    false_positive_rate: float | None,
    trust: str = "",
    say: Callable[[str], object] = _nothing,
) -> Path:
    """Writes report.html into a model: its calibration images as it scores them, and its settings."""
    model = trained.load(directory, trust)
    normal = model.normal
    threshold = normal.threshold(FALSE_POSITIVE_RATE if false_positive_rate is None else false_positive_rate)
    images = ScoredImages(list(normal.ids), normal.scores_N, normal.scores_N > threshold, normal.components)
    metrics = [] if model.experiment.method.ONE_PASS else read_metrics(directory / "metrics.jsonl")
    losses = {one["epoch"]: one["loss"] for one in metrics if isinstance(one.get("loss"), float)}
    page = {
        "title": directory.absolute().name,
        "what": "calibration images",
        "settings": experiment.changed(model.experiment),
        "loss": html.png(figures.loss_curve(losses)) if losses else None,
    }
    say(f"drawing the page of {directory}")
    return _write(directory / "report.html", images, threshold, model, page, is_labelled=False)


def _is_scored_by(images: ScoredImages, model: TrainedModel) -> bool:
    """Whether the components and the p-values are those of this model and its calibration set."""
    if list(model.normal.components) != list(images.components):
        return False
    return images.p_values_N is None or np.allclose(model.normal.p_values(images.scores_N), images.p_values_N)


def _weights(model: TrainedModel) -> dict[str, str]:
    """The share of each score in that of a method that combines some."""
    method = model.trained.learner.method
    weights = method.weights(model.trained.calibration) if isinstance(method, Combines) else {}
    return {name: f"{100 * weight:.0f} %" for name, weight in weights.items()}


def _threshold_of(images: ScoredImages, model: TrainedModel | None) -> float | None:
    """The threshold that a file was written with: exact with the model's calibration set, else about.

    It is the score of a calibration image, and lies between the highest score below it and the lowest above.
    """
    below, above = images.scores_N[~images.is_anomaly_N], images.scores_N[images.is_anomaly_N]
    least, most = max(below, default=-np.inf), min(above, default=np.inf)
    if model is not None:
        possible = [model.normal.threshold(FALSE_POSITIVE_RATE), *np.sort(model.normal.scores_N)]
        return next((float(value) for value in possible if least <= value < most), None)
    return float(least + most) / 2 if len(below) and len(above) else None


def _write(
    path: Path,
    images: ScoredImages,
    threshold: float | None,
    model: TrainedModel | None,
    page: dict[str, Any],
    is_labelled: bool = True,
    normal: str = "",
) -> Path:
    check_output_file(path, html.is_ours, "page")
    order, names = np.argsort(-images.scores_N, kind="stable"), _short(images.paths)
    labels, why = score_measures.labels_of(images.paths, normal) if is_labelled else (None, "")
    seen_N, about = np.zeros(len(names), bool), ""
    if is_labelled and model:
        seen_N, about = training_files.trained_on(model, images.paths)
    elif labels:
        about = "Without --model it is unknown whether the model was trained on some of these."
    if is_labelled and not any(map(os.path.exists, images.paths)):
        gone = f"None of the images is there, seen from {Path.cwd()}: run itae report where itae score ran."
        about += f" {gone}"
        _LOG.warning(gone)
    is_new_N = ~seen_N
    is_defect_N = None
    if labels is not None:
        is_defect_N = np.array([not score_measures.is_normal(label, normal) for label in labels])
    if is_defect_N is not None and len(set(is_defect_N[is_new_N])) < 2:
        kind = "normal" if is_defect_N[is_new_N].all() else "other"
        is_defect_N, why = None, f"the model was trained on all of the {kind} images"
    galleries = {"oddest": order[:_ODDEST]}
    if is_defect_N is not None:
        galleries["defects"] = order[(is_new_N & is_defect_N)[order]][::-1][:_MISTAKEN]
        galleries["normal"] = order[(is_new_N & ~is_defect_N)[order]][:_MISTAKEN]
    elif is_labelled and threshold is not None:
        galleries["nearest"] = np.argsort(np.abs(images.scores_N - threshold), kind="stable")[:_MISTAKEN]
    pictures = _pictures(images, np.unique(np.concatenate(list(galleries.values()))), model)
    shown = is_new_N if is_new_N.any() else ~is_new_N
    kinds = None if is_defect_N is None else is_defect_N[shown]
    page |= {
        "images": images,
        "names": names,
        "labels": labels,
        "order": order[:_MOST_ROWS].tolist(),
        "thumbnails": _thumbnails(images, order[:_MOST_THUMBNAILS], model),
        "columns": (model.experiment.method if model else MethodConfig()).component_titles(images.components),
        "threshold": threshold,
        "galleries": {name: [pictures[i] for i in found.tolist()] for name, found in galleries.items()},
        "model": model,
        "weights": {} if model is None else _weights(model),
        "colour_bar": html.embed(anomaly_map.colour_bar(), "png"),
        "normal": None if model is None else np.quantile(model.normal.scores_N, [0.5, 1]),
        "measured": _measure(images, labels, is_new_N, is_defect_N, model),
        "why_not_measured": why,
        "about_training": about,
        "histogram": html.png(figures.threshold_histogram(images.scores_N[shown], kinds, threshold)),
    }
    with writing(path):
        write_text(path, html.render("scores.html", **page))
    return path


def _measure(images: ScoredImages, labels, is_new_N, is_defect_N, model) -> dict[str, Any] | None:
    """What the labels say of the scores, leaving out the images that the model was trained on."""
    if is_defect_N is None:
        return None
    new = np.flatnonzero(is_new_N)
    scores, is_defect, paths = images.scores_N[new], is_defect_N[new], [images.paths[i] for i in new]
    return score_measures.of_images(np.array(labels)[new], is_defect, scores, images.is_anomaly_N[new]) | {
        "roc": html.png(figures.roc_curves([("AUROC in %", is_defect, scores)])),
        "has_masks": any(map(score_measures.mask_file, paths)),
        "has_folder_of_masks": any(map(score_measures.has_folder_of_masks, paths)),
        "pixels": score_measures.of_pixels(model, paths, is_defect) if model else None,
    }


def _pictures(
    images: ScoredImages, positions: np.ndarray, model: TrainedModel | None
) -> dict[int, dict[str, Any]]:
    """Pictures of images by their position, of those that are where they were."""
    shown, seen, pixels, whole = {}, [], [], _reader(model)
    for i in positions.tolist():
        entry: dict[str, Any] = {"index": i}
        try:
            path = Path(images.paths[i])
            entry["picture"] = html.embed(html.thumbnail(whole.read(path)))
            if model:
                pixels.append(model.reader.read(path))
                seen.append((entry, path))
        except UnreadableImageError as error:
            entry["missing"] = error.reason
        shown[i] = entry
    if model is None or not pixels:
        return shown
    views = model.trained.illustrate(np.stack(pixels))
    for position, (entry, path) in enumerate(seen):
        if "maps" in views:
            map_HxW = views["maps"][position]
            laid_over = score.laid_over(model, path, map_HxW)
            heatmap = html.thumbnail(score.heatmap(*laid_over, model.normal.usual_peak))
            mask = score_measures.read_mask(str(path), whole)
            if mask is not None:
                heatmap = anomaly_map.outline(heatmap, mask, figures.OUTLINE)
            entry |= {"heatmap": html.embed(heatmap), "has_mask": mask is not None}
            entry["peak"] = anomaly_map.smooth(map_HxW).max()
        if "inputs" in views:
            both = views["inputs"], views["outputs"]
            given, made = ([html.embed(one, "png") for one in tiles[:, position]] for tiles in both)
            titles = model.experiment.method.example_titles(len(given))
            entry["restored"] = list(zip(titles, given, made, strict=True))
    return shown


def _reader(model: TrainedModel | None, **options: Any) -> Reader:
    """Reads images as large as the model takes."""
    return Reader(max_side=model.reader.max_side if model else Reader.max_side, **options)


def _thumbnails(images: ScoredImages, positions: np.ndarray, model: TrainedModel | None) -> dict[int, str]:
    """Small pictures of images by their position, of those that are where they were."""
    small = _reader(model, size=_THUMBNAIL_SIDE, fit="letterbox")

    def picture(i: int) -> str:
        with contextlib.suppress(UnreadableImageError):
            return html.embed(small.read(Path(images.paths[i])))
        return ""

    with ThreadPoolExecutor(cpu_cores()) as pool:
        return dict(zip(positions.tolist(), pool.map(picture, positions.tolist()), strict=True))


def _short(paths: Sequence[str]) -> list[str]:
    """The paths below the folder that holds them all."""
    if not all(os.path.dirname(path) for path in paths):
        return list(paths)
    root = os.path.commonpath([os.path.dirname(os.path.abspath(path)) for path in paths])
    return [os.path.relpath(os.path.abspath(path), root) for path in paths]
