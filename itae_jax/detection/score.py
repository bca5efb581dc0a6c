"""`itae score`: scores of any number of images, a row each, and heat maps of them."""

import contextlib
import csv
import dataclasses
import itertools
import math
import os
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

import numpy as np

from itae_jax.data import LazyImages, folders
from itae_jax.data import reader as decode
from itae_jax.data.images import UnreadableImageError
from itae_jax.detection import anomaly_map as heatmaps
from itae_jax.detection import model as trained
from itae_jax.detection.model import TrainedModel
from itae_jax.environment import cpu_cores
from itae_jax.errors import RequestError
from itae_jax.files import check_output_file, writing

_AT_A_TIME = 1024  # paths in hand; images are read and forgotten a batch at a time


class Progress(Protocol):
    """Who is told how scoring goes."""

    def scored(self, count: int) -> None:
        """So many more images are scored."""


@dataclasses.dataclass(frozen=True)
class Summary:
    """What came of scoring.

    Attributes:
      threshold: the score above which an image is called an anomaly.
      rate: the share of normal images that are expected above it.
      asked_rate: the share that was asked for, which too few held-out images cannot tell of.
      num_normal: how many held-out normal images it was computed from.
      num_scored, num_anomalies, num_unreadable: counts of images.
    """

    out: Path
    threshold: float
    rate: float
    asked_rate: float
    num_normal: int
    num_scored: int
    num_anomalies: int
    num_unreadable: int

    def __str__(self):
        lines = [
            f"threshold {self.threshold:.4f}: at most {100 * self.rate:.1f} % of normal images are expected "
            f"above it, by {self.num_normal} that were held out",
            f"{self.num_anomalies} of {self.num_scored} images are above it, listed in {self.out}",
        ]
        if self.rate > self.asked_rate:
            needed = math.ceil(1 / self.asked_rate - 1 - 1e-9)
            lines.insert(
                1,
                f"{100 * self.asked_rate:g} % were asked for, which takes {needed} held-out images; "
                "fit with more images or a larger --holdout",
            )
        if self.num_unreadable:
            lines.append(f"{self.num_unreadable} images cannot be read; the column reason says why")
        return "\n".join(lines)


def score(
    model_directory: Path,
    source: str,
    out: Path,
    heatmap_directory: Path | None,
    false_alarms: float,
    progress: Progress,
    transform: str = "",
) -> Summary:
    """Scores images and writes a CSV file, whole or not at all.

    Args:
      source: a folder, an image file, or `-` for paths on standard input, one a line.
      out: the file, with the columns path, score, is_anomaly (0 or 1), error_<i> of each member of the
        transform, reason. What cannot be read has a reason and nothing else. Rows are in the order of
        the paths, which in a folder is that of their names.
      heatmap_directory: gets a PNG of each image's own size, named like the image below `source`.
      false_alarms: the share of normal images that may be called anomalies.
      transform: as `trained.load` has it.

    Raises:
      RequestError: there is no model, no image, or the files cannot be written.
    """
    check_output_file(out, _is_scores)
    trained.threshold(np.zeros(1), false_alarms)  # refuses a rate that is none, before anything is read
    named = _sources(source, heatmap_directory)
    first = next(named, None)
    if first is None:
        raise RequestError(_nothing(source))
    model = trained.load(model_directory, transform)
    model.check_takes_files(model_directory)
    scorer = _Scorer(model, heatmap_directory, false_alarms, progress)
    partial = out.with_name(f".{out.name}.{os.getpid()}.partial")
    try:
        with writing(out), partial.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
            scorer.write(itertools.chain([first], named), file)
        os.replace(partial, out)
    finally:
        with contextlib.suppress(OSError):
            partial.unlink()
    rate = max(false_alarms, model.normal.least_rate)
    return Summary(out, scorer.threshold, rate, false_alarms, len(model.normal.ids), *scorer.counts)


def _is_scores(path: Path) -> bool:
    with path.open("rb") as file:
        return file.readline().startswith(b"path,score,is_anomaly,")


def _nothing(source: str) -> str:
    if source == "-":
        return "-: no path on standard input; give one a line"
    return f"{source}: no images in it; the endings read are {', '.join(sorted(folders.SUFFIXES))}"


def _sources(source: str, heatmap_directory: Path | None) -> Iterator[tuple[Path, Path]]:
    """(path, what its heat map is named after) of each image; the name leaves no directory."""
    if source == "-":
        if sys.stdin is None:
            raise RequestError("-: standard input is closed; give paths, one a line")
        lines = (os.fsdecode(line.rstrip(b"\r\n")) for line in sys.stdin.buffer)
        return ((Path(line), _name_of(line)) for line in lines if line)
    root = Path(source)
    if root.is_file():
        return iter([(root, Path(root.name))])
    if not source or not root.is_dir():
        raise RequestError(f"{source or 'IMAGES'}: no such folder or file")
    if heatmap_directory and heatmap_directory.resolve().is_relative_to(root.resolve()):
        raise RequestError(
            f"--heatmaps {heatmap_directory}: lies in {source}, so the heat maps would be scored themselves "
            "the next time; name a directory outside it"
        )
    return ((path, path.relative_to(root)) for path in folders.each_image(root))


def _name_of(path: str) -> Path:
    """The path itself where it stays below the working directory, else the absolute one without its root."""
    normal = Path(os.path.normpath(path))
    if normal.is_absolute() or ".." in normal.parts:
        normal = Path(os.path.abspath(path))
        return normal.relative_to(normal.anchor)
    return normal


class _Scorer:
    """Rows and heat maps, for one chunk of images after the other."""

    def __init__(self, model: TrainedModel, heatmap_directory: Path | None, false_alarms: float, progress):
        self._model, self._heatmaps, self._progress = model, heatmap_directory, progress
        self.threshold = model.normal.threshold(false_alarms)
        self._count = model.normal.errors_NxT.shape[1]
        self.counts = [0, 0, 0]  # scored, anomalies, unreadable

    def write(self, named: Iterable[tuple[Path, Path]], file) -> None:
        errors = [f"error_{i}" for i in range(self._count)]
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["path", "score", "is_anomaly", *errors, "reason"])
        named = iter(named)
        with ThreadPoolExecutor(cpu_cores()) as pool:
            while chunk := list(itertools.islice(named, _AT_A_TIME)):
                writer.writerows(self._rows(chunk, pool))

    def _rows(self, chunk: list[tuple[Path, Path]], pool) -> list[list]:
        unreadable: dict[str, str] = {}
        paths = tuple(path for path, _ in chunk)
        images = LazyImages(read_of_shape(self._model), paths, self._model.image_shape, unreadable)
        errors_NxT = np.full((len(chunk), self._count), np.nan)
        if self._heatmaps:
            for positions, errors_BxT, maps_BxHxW in self._model.fitted.batch_maps(images):
                errors_NxT[positions] = errors_BxT
                named = [chunk[position] for position in positions]
                list(pool.map(self._draw, named, maps_BxHxW))
                self._progress.scored(len(positions))
        else:
            for positions, errors_BxT in self._model.fitted.batch_errors(images):
                errors_NxT[positions] = errors_BxT
                self._progress.scored(len(positions))
        scores_N = self._model.fitted.scores_of(errors_NxT)
        return [self._row(*line, unreadable) for line in zip(paths, scores_N, errors_NxT, strict=True)]

    def _row(self, path: Path, score: float, errors_T: np.ndarray, unreadable: dict[str, str]) -> list:
        if np.isnan(score):
            self.counts[2] += 1
            return [path, "", "", *[""] * self._count, unreadable.get(str(path), "its score is no number")]
        is_anomaly = bool(score > self.threshold)
        self.counts[0] += 1
        self.counts[1] += is_anomaly
        return [path, repr(float(score)), int(is_anomaly), *map(repr, errors_T.tolist()), ""]

    def _draw(self, named: tuple[Path, Path], map_HxW: np.ndarray) -> None:
        from PIL import Image

        path, name = named
        try:
            picture = draw(self._model, path, map_HxW)
        except UnreadableImageError:
            return  # gone since it was scored
        target = self._heatmaps / name.with_name(name.name + ".png")
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(target)


def draw(model: TrainedModel, path: Path, map_HxW: np.ndarray) -> np.ndarray:
    """The heat map over the image of a file, at that file's size: H x W x 3 uint8."""
    whole = decode.Reader(channels=3, max_side=model.reader.max_side).read(path)
    over = model.reader.lay_over(heatmaps.smooth(map_HxW), whole.shape[1], whole.shape[0])
    return heatmaps.overlay(whole, over, model.normal.usual_peak)


def read_of_shape(model: TrainedModel):
    """path -> image of the model's shape; raises UnreadableImageError for one that has another."""
    reader = model.reader

    def read(path: Path) -> np.ndarray:
        image = reader.read(path)
        if image.shape != model.image_shape:
            sizes = [f"{shape[0]}x{shape[1]}" for shape in (image.shape, model.image_shape)]
            raise UnreadableImageError(str(path), f"is {sizes[0]}, the model takes {sizes[1]}")
        return image

    return read
