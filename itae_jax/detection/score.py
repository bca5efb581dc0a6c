"""`itae score`: scores of any number of images, one row each, and heat maps."""

import csv
import dataclasses
import itertools
import math
import os
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from itae_jax.data import LazyImages, folders
from itae_jax.data.images import UnreadableImageError
from itae_jax.data.reader import Reader
from itae_jax.detection import anomaly_map
from itae_jax.detection import model as models
from itae_jax.detection.model import TrainedModel
from itae_jax.detection.threshold import threshold
from itae_jax.environment import cpu_cores
from itae_jax.errors import RequestError
from itae_jax.files import atomic_path, check_output_file, writing
from itae_jax.progress import Progress

_AT_A_TIME = 1024  # paths in memory; the images of one batch at a time are


@dataclasses.dataclass(frozen=True)
class Summary:
    """The result of scoring: counts of images, and the share of normal ones expected above the threshold.

    `asked_rate`, the share that was asked for, is below `rate` if the calibration images are too few.
    """

    out: Path
    threshold: float
    rate: float
    asked_rate: float
    num_calibration: int
    num_scored: int
    num_anomalies: int
    num_unreadable: int

    def __str__(self):
        lines = [
            f"threshold {self.threshold:.4f}: at most {100 * self.rate:.1f} % of normal images are expected "
            f"above it, by {self.num_calibration} calibration images"
        ]
        if self.rate > self.asked_rate:
            needed = math.ceil(1 / self.asked_rate - 1 - 1e-9)
            lines.append(
                f"a false-positive rate of {100 * self.asked_rate:g} % needs {needed} calibration images; "
                "fit with more images or a larger --holdout"
            )
        lines.append(f"{self.num_anomalies} of {self.num_scored} images are above it, listed in {self.out}")
        if self.num_unreadable:
            lines.append(f"{self.num_unreadable} images cannot be read; the column reason says why")
        return "\n".join(lines)


def score(
    model_directory: Path,
    source: str,
    out: Path,
    heatmap_directory: Path | None,
    false_positive_rate: float,
    progress: Progress,
    trust: str = "",
) -> Summary:
    """Scores images and writes a CSV file atomically.

    Args:
      source: a folder, an image file, or `-` for paths on standard input, one a line.
      out: the file, with the columns path, score, is_anomaly (0 or 1), the method's components, reason. An
        unreadable image has a reason and nothing else. Rows are in the order of the paths, which in a folder
        is that of their names.
      heatmap_directory: gets a PNG of each image's own size, named like the image below `source`.
      false_positive_rate: the share of normal images that may be called anomalies.
      trust: see `model.load`.
    """
    check_output_file(out, _is_scores)
    threshold(np.zeros(1), false_positive_rate)  # refuses a wrong rate before anything is read
    named = _sources(source, heatmap_directory)
    first = next(named, None)
    if first is None:
        if source == "-":
            raise RequestError("-: no path on standard input; give one a line")
        endings = ", ".join(sorted(folders.SUFFIXES))
        raise RequestError(f"{source}: no images in it; the endings read are {endings}")
    model = models.load(model_directory, trust)
    model.check_takes_files(model_directory)
    if heatmap_directory and not model.trained.learner.has_maps:
        method = f"the method of {model_directory}, {model.experiment.method.NAME},"
        raise RequestError(f"--heatmaps: {method} has no anomaly maps; leave it out")
    scorer = _Scorer(model, heatmap_directory, false_positive_rate, progress)
    text: dict[str, Any] = {"newline": "", "encoding": "utf-8", "errors": "surrogateescape"}
    with writing(out), atomic_path(out) as partial, partial.open("w", **text) as file:
        scorer.write(itertools.chain([first], named), file)
    rate = max(false_positive_rate, model.normal.least_rate)
    return Summary(out, scorer.threshold, rate, false_positive_rate, len(model.normal.ids), *scorer.counts)


def _is_scores(path: Path) -> bool:
    with path.open("rb") as file:
        return file.readline().startswith(b"path,score,is_anomaly,")


def _sources(source: str, heatmap_directory: Path | None) -> Iterator[tuple[Path, Path]]:
    """Yields the path of each image and the relative path of its heat map."""
    if source == "-":
        if sys.stdin is None:
            raise RequestError("-: standard input is closed; give paths, one a line")
        lines = (os.fsdecode(line.rstrip(b"\r\n")) for line in sys.stdin.buffer)
        return ((Path(line), _relative(line)) for line in lines if line)
    root = Path(source)
    if root.is_file():
        return iter([(root, Path(root.name))])
    if not source or not root.is_dir():
        raise RequestError(f"{source or 'IMAGES'}: no such folder or file")
    if heatmap_directory and heatmap_directory.resolve().is_relative_to(root.resolve()):
        raise RequestError(
            f"--heatmaps {heatmap_directory}: lies in {source}, so the heat maps would be scored next time; "
            "name a directory outside it"
        )
    return ((path, path.relative_to(root)) for path in folders.each_image(root))


def _relative(path: str) -> Path:
    """Returns the path if it stays below the working directory, else the absolute path without its root."""
    normal = Path(os.path.normpath(path))
    if normal.is_absolute() or ".." in normal.parts:
        normal = Path(os.path.abspath(path))
        return normal.relative_to(normal.anchor)
    return normal


class _Scorer:
    """Writes rows and heat maps, one chunk of images after the other."""

    def __init__(self, model: TrainedModel, heatmaps: Path | None, rate: float, progress: Progress):
        self._model, self._heatmaps, self._progress = model, heatmaps, progress
        self.threshold = model.normal.threshold(rate)
        self._components = model.trained.learner.method.components
        self.counts = [0, 0, 0]  # scored, anomalies, unreadable

    def write(self, named: Iterable[tuple[Path, Path]], file: Any) -> None:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["path", "score", "is_anomaly", *self._components, "reason"])
        named = iter(named)
        with ThreadPoolExecutor(cpu_cores()) as pool:
            while chunk := list(itertools.islice(named, _AT_A_TIME)):
                writer.writerows(self._rows(chunk, pool))

    def _rows(self, chunk: list[tuple[Path, Path]], pool: Executor) -> list[list]:
        unreadable: dict[str, str] = {}
        paths, trained = tuple(path for path, _ in chunk), self._model.trained
        images = LazyImages(self._model.read, paths, self._model.image_shape, unreadable)
        numbers = np.full((len(chunk), 1 + len(self._components)), np.nan)
        for positions, measured, maps_BxHxW in trained.measure(images, maps=self._heatmaps is not None):
            found = trained.score_of(measured)
            columns = [found.scores_N, *(found.columns[name] for name in self._components)]
            numbers[positions] = np.column_stack(columns)
            if self._heatmaps and maps_BxHxW is not None:
                list(pool.map(self._draw, [chunk[position] for position in positions], maps_BxHxW))
            self._progress.scored(len(positions))
        return [
            self._row(path, score, components, unreadable.get(str(path), ""))
            for path, (score, *components) in zip(paths, numbers.tolist(), strict=True)
        ]

    def _row(self, path: Path, score: float, components: list[float], reason: str) -> list:
        if math.isnan(score):
            self.counts[2] += 1
            return [path, "", "", *[""] * len(components), reason or "its score is not a number"]
        is_anomaly = score > self.threshold
        self.counts[0] += 1
        self.counts[1] += is_anomaly
        return [path, repr(score), int(is_anomaly), *map(repr, components), ""]

    def _draw(self, paths: tuple[Path, Path], map_HxW: np.ndarray) -> None:
        from PIL import Image

        path, name = paths
        target = Path(f"{self._heatmaps}/{name}.png")
        try:
            picture = draw(self._model, path, map_HxW)
        except UnreadableImageError:
            return  # removed since it was scored
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(target)


def draw(model: TrainedModel, path: Path, map_HxW: np.ndarray) -> np.ndarray:
    """Draws the heat map of an image file at the file's size: H x W x 3 uint8."""
    image = Reader(channels=3, max_side=model.reader.max_side).read(path)
    over = model.reader.lay_over(anomaly_map.smooth(map_HxW), image.shape[1], image.shape[0])
    return anomaly_map.overlay(image, over, model.normal.usual_peak)
