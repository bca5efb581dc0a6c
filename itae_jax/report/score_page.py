"""Scores as one self-contained HTML page: histogram, the oddest images, a table that can be sorted."""

import csv
import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from itae_jax import config
from itae_jax.config import Experiment
from itae_jax.data import ArrayImages
from itae_jax.data.images import UnreadableImageError
from itae_jax.detection import anomaly_map as heatmaps
from itae_jax.detection import model as trained
from itae_jax.detection import score, training_files
from itae_jax.detection.model import NormalScores, TrainedModel
from itae_jax.errors import RequestError
from itae_jax.files import write_text, writing
from itae_jax.report import figures, pictures, score_measures
from itae_jax.report import html as pages
from itae_jax.runs.results import read_metrics

_ODDEST = 12
_MOST_ROWS = 2000  # of the table; a page of a hundred thousand rows helps nobody


@dataclasses.dataclass(frozen=True)
class ScoredImages:
    """The rows of a file of scores.

    Attributes:
      paths: of the images that could be read.
      scores_N, errors_NxT: their scores, and what these are made of.
      is_anomaly_N: whether the score was above the threshold.
      unreadable: path and reason of the others.
    """

    paths: list[str]
    scores_N: np.ndarray
    is_anomaly_N: np.ndarray
    errors_NxT: np.ndarray
    unreadable: list[tuple[str, str]]


def read_scores(path: Path) -> ScoredImages:
    """Reads what `itae score` wrote.

    Raises:
      RequestError: it is not such a file, or holds no score.
    """
    try:
        with path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
            rows = list(csv.reader(file))
        header, *rows = rows or [[]]
        count = len(header) - 4
        expected = ["path", "score", "is_anomaly", *(f"error_{i}" for i in range(count)), "reason"]
        if count < 1 or header != expected:
            raise ValueError("its columns are not path,score,is_anomaly,error_0,...,reason")
        if any(len(row) != len(header) for row in rows):
            raise ValueError("a row is cut short")
        scored = [row for row in rows if not row[-1]]
        numbers = np.array([[float(cell) for cell in row[1:-1]] for row in scored])
        if not np.isfinite(numbers).all():
            raise ValueError("a number is not finite")
    except (OSError, ValueError, csv.Error) as error:
        raise RequestError(f"{path}: {error}; name a file that itae score wrote") from None
    if not scored:
        raise RequestError(f"{path}: no image in it has a score")
    unreadable = [(row[0], row[-1]) for row in rows if row[-1]]
    return ScoredImages(
        [row[0] for row in scored], numbers[:, 0], numbers[:, 1].astype(bool), numbers[:, 2:], unreadable
    )


def write_for_scores(scores: Path, model: Path | None, false_alarms: float | None, transform: str = "") -> Path:
    """Writes the page of a file of scores beside it, with the ending .html.

    Args:
      model: the model that scored; with it come restorations and heat maps, without it the images alone.
      false_alarms: the share of normal images that may be called anomalies; what the file says if None.

    Raises:
      RequestError: a file that is none, a rate without a model.
    """
    if scores.suffix == ".html":
        raise RequestError(f"{scores}: the page would take its place; give the scores another ending")
    if false_alarms is not None and model is None:
        raise RequestError("--false-alarms needs --model MODEL, whose held-out images give the threshold")
    images = read_scores(scores)
    loaded = None if model is None else trained.load(model, transform)
    if loaded and loaded.normal.errors_NxT.shape[1] != images.errors_NxT.shape[1]:
        raise RequestError(f"--model {model}: is not the model that wrote {scores}")
    if false_alarms is not None:
        threshold = loaded.normal.threshold(false_alarms)
        images = dataclasses.replace(images, is_anomaly_N=images.scores_N > threshold)
    else:
        threshold = _threshold_of(images, loaded and loaded.normal)
    page = _page(images, threshold, loaded) | _measures(images, threshold, loaded)
    page |= {"title": _printable(scores.name), "what": "images", "settings": {}}
    return _write(scores.with_suffix(".html"), page)


def write_for_model(directory: Path, false_alarms: float | None, transform: str = "") -> Path:
    """Writes report.html into a model: its held-out normal images as it scores them, and its settings.

    Raises:
      RequestError: it is damaged.
    """
    model = trained.load(directory, transform)
    threshold = model.normal.threshold(0.05 if false_alarms is None else false_alarms)
    normal = model.normal
    images = ScoredImages(list(normal.ids), normal.scores_N, normal.scores_N > threshold, normal.errors_NxT, [])
    page = _page(images, threshold, model)
    flat, defaults = config.flatten(model.experiment), config.flatten(Experiment())
    settings = {key: value for key, value in flat.items() if value != defaults[key] and key != "name"}
    page |= {
        "title": _printable(directory.absolute().name),
        "what": "normal images that were held out",
        "settings": settings,
        "measured": None,
        "why_not_measured": "",
        "about_training": "",
        "histogram": pages.png(figures.threshold_histogram(normal.scores_N, None, threshold)),
    }
    entries = read_metrics(directory / "metrics.jsonl")
    if entries:
        page["loss"] = pages.png(figures.loss_curve(entries))
    return _write(directory / "report.html", page)


def _threshold_of(images: ScoredImages, normal: NormalScores | None) -> float | None:
    """The threshold that a file was written with: exact with the model's held-out images, else about.

    It lies between the highest score that is normal and the lowest that is not, and is the score of one
    of the held-out images.
    """
    below, above = images.scores_N[~images.is_anomaly_N], images.scores_N[images.is_anomaly_N]
    least, most = max(below, default=-np.inf), min(above, default=np.inf)
    if normal is not None:
        possible = [normal.threshold(0.05), *np.sort(normal.scores_N)]  # the default rate's first
        return next((float(value) for value in possible if least <= value < most), None)
    return float(least + most) / 2 if len(below) and len(above) else None


def _page(images: ScoredImages, threshold: float | None, model: TrainedModel | None) -> dict:
    order = np.argsort(-images.scores_N, kind="stable")
    names = _short(images.paths)
    return {
        "count": len(images.paths),
        "num_anomalies": int(images.is_anomaly_N.sum()),
        "threshold": threshold,
        "unreadable": [(_printable(path), reason) for path, reason in images.unreadable],
        "rows": [
            _entry(images, i, names) | {"errors": images.errors_NxT[i].tolist()} for i in order[:_MOST_ROWS]
        ],
        "num_errors": images.errors_NxT.shape[1],
        "oddest": _oddest(images, order[:_ODDEST], names, model),
        "has_model": model is not None,
        "loss": None,
    }


def _entry(images: ScoredImages, i: int, names: Sequence[str]) -> dict:
    return {
        "name": names[i],
        "index": i,
        "score": images.scores_N[i],
        "is_anomaly": bool(images.is_anomaly_N[i]),
    }


def _measures(images: ScoredImages, threshold: float | None, model: TrainedModel | None) -> dict:
    """What the page tells by the labels, but for the images that the model was trained on; or why nothing."""
    labels, why = score_measures.labels_of(images.paths)
    seen_N, about_training = np.zeros(len(images.paths), bool), ""
    if model:
        seen_N, about_training = training_files.trained_on(model, images.paths)
    elif labels:
        about_training = "Without --model it is not known whether the model was trained on some of these."
    new = np.flatnonzero(~seen_N)
    is_defect, measured = None, None
    if labels:
        is_defect = np.array([not score_measures.is_normal(labels[i]) for i in new], bool)
        if is_defect.all() or not is_defect.any():
            why = f"the model was trained on all of the {'normal' if is_defect.all() else 'other'} images"
            is_defect = None
        else:
            measured = _measured(images, labels, new, is_defect, model)
    shown = new if len(new) else np.arange(len(seen_N))
    return {
        "labels": [_printable(label) for label in labels or ()],
        "measured": measured,
        "why_not_measured": _printable(why),
        "about_training": _printable(about_training),
        "histogram": pages.png(figures.threshold_histogram(images.scores_N[shown], is_defect, threshold)),
    }


def _measured(images: ScoredImages, labels: list[str], new: np.ndarray, is_defect: np.ndarray, model) -> dict:
    scores, paths = images.scores_N[new], [images.paths[i] for i in new]
    names = np.array([_printable(labels[i]) for i in new])
    roc = figures.roc_curves([("AUROC in %", is_defect, scores)])
    roc.set_size_inches(5, 3)
    return score_measures.of_images(names, scores, images.is_anomaly_N[new]) | {
        "roc": pages.png(roc),
        "has_masks": any(score_measures.mask_file(path) for path in paths),
        "pixels": score_measures.of_pixels(model, paths, is_defect) if model else None,
    }


def _oddest(images: ScoredImages, order: np.ndarray, names: Sequence[str], model) -> list[dict]:
    """Pictures of the images with the highest scores; of those that are where they were."""
    from itae_jax.data import reader as decode

    shown = []
    whole = decode.Reader(channels=3)
    for i in order:
        entry = _entry(images, i, names)
        try:
            entry["picture"] = pages.jpeg(whole.read(Path(images.paths[i])))
            if model:
                entry["pixels"] = score.read_of_shape(model)(Path(images.paths[i]))
        except UnreadableImageError as error:
            entry["missing"] = error.reason
        shown.append(entry)
    seen = [entry for entry in shown if "pixels" in entry]
    if seen:
        _add_restorations(seen, images, model)
    return shown


def _add_restorations(entries: list[dict], images: ScoredImages, model: TrainedModel) -> None:
    pixels_NxHxWxC = np.stack([entry.pop("pixels") for entry in entries])
    name, count = model.experiment.transform.name, images.errors_NxT.shape[1]
    titles = [title or name for title in pictures.member_titles(name, count)]
    titles = [f"{name} {title}" if title.isdecimal() else title for title in titles]
    for positions, _, maps_BxHxW in model.fitted.batch_maps(ArrayImages(pixels_NxHxWxC)):
        for position, map_HxW in zip(positions, maps_BxHxW, strict=True):
            path = Path(images.paths[entries[position]["index"]])
            mask, heatmap = _mask_of(path), pages.thumbnail(score.draw(model, path, map_HxW))
            heatmap = heatmap if mask is None else heatmaps.outline(heatmap, mask)
            entries[position]["heatmap"] = pages.jpeg(heatmap)
            entries[position]["has_mask"] = mask is not None
    views = model.fitted.illustrate(pixels_NxHxWxC)
    for position, entry in enumerate(entries):
        errors_T = images.errors_NxT[entry["index"]]
        entry["restored"] = [
            {"title": title, "given": pages.tile(given), "made": pages.tile(made), "error": float(error)}
            for title, given, made, error in zip(
                titles, views["inputs"][:, position], views["outputs"][:, position], errors_T, strict=True
            )
        ]


def _mask_of(path: Path) -> np.ndarray | None:
    """The mask at its file's size, if the image has one that marks anything."""
    from itae_jax.data import reader as decode

    file = score_measures.mask_file(str(path))
    try:
        mask = None if file is None else decode.Reader().read_mask(file)
    except UnreadableImageError:
        return None
    return None if mask is None or not mask.any() else mask


def _short(paths: Sequence[str]) -> list[str]:
    """The paths below the folder that holds them all."""
    if not all(os.path.dirname(path) for path in paths):
        return [_printable(path) for path in paths]
    root = os.path.commonpath([os.path.dirname(os.path.abspath(path)) for path in paths])
    return [_printable(os.path.relpath(os.path.abspath(path), root)) for path in paths]


def _printable(text: str) -> str:
    """The text with whatever is not UTF-8 in a file's name replaced."""
    return text.encode("utf-8", "replace").decode()


def _write(path: Path, page: dict) -> Path:
    with writing(path):
        write_text(path, pages.render("scores.html", **page))
    return path
