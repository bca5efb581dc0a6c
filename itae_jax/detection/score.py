"""`itae score`: scores of any number of images, one row each, and heat maps."""

import collections
import contextlib
import csv
import dataclasses
import functools
import itertools
import math
import os
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path

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
    """The result of scoring.

    Attributes:
      threshold: the score above which an image is called an anomaly.
      rate: the share of normal images that are expected above it.
      asked_rate: the share that was asked for; below `rate` if the calibration images are too few.
      num_calibration, num_scored, num_anomalies, num_unreadable: counts of images.
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
            lines.append(f"images that cannot be read: {self.num_unreadable}; the column reason says why")
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

    Raises:
      RequestError: there is no model or no image, the model has no anomaly maps, or a file cannot be written.
    """
    check_output_file(out, _is_scores)
    threshold(np.zeros(1), false_positive_rate)  # refuses a wrong rate before anything is read
    named = _sources(source, heatmap_directory)
    first = next(named, None)
    if first is None:
        raise RequestError(_no_images(source))
    model = models.load(model_directory, trust)
    model.check_takes_files(model_directory)
    if heatmap_directory and not model.trained.learner.has_maps:
        name = model.experiment.method.NAME
        raise RequestError(
            f"--heatmaps: the method of {model_directory}, {name}, has no anomaly maps; leave it out"
        )
    limit, components = model.normal.threshold(false_positive_rate), model.trained.learner.method.components
    counts = collections.Counter[str]()
    named = itertools.chain([first], named)
    with (
        writing(out),
        atomic_path(out) as partial,
        partial.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file,
        ThreadPoolExecutor(cpu_cores()) as pool,
    ):
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["path", "score", "is_anomaly", *components, "reason"])
        while chunk := list(itertools.islice(named, _AT_A_TIME)):
            for path, numbers, reason in _scored(model, chunk, heatmap_directory, pool, progress):
                is_anomaly = numbers[0] > limit
                texts = [repr(numbers[0]), int(is_anomaly), *map(repr, numbers[1:])]
                writer.writerow([path, *([""] * len(texts) if reason else texts), reason])
                counts.update(unreadable=bool(reason), scored=not reason, anomalies=is_anomaly)
    return Summary(
        out,
        limit,
        max(false_positive_rate, model.normal.least_rate),
        false_positive_rate,
        len(model.normal.ids),
        counts["scored"],
        counts["anomalies"],
        counts["unreadable"],
    )


def _is_scores(path: Path) -> bool:
    with path.open("rb") as file:
        return file.readline().startswith(b"path,score,is_anomaly,")


def _no_images(source: str) -> str:
    if source == "-":
        return "-: no path on standard input; give one a line"
    return f"{source}: no images in it; the endings read are {', '.join(sorted(folders.SUFFIXES))}"


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


def _scored(
    model: TrainedModel,
    named: Sequence[tuple[Path, Path]],
    heatmap_directory: Path | None,
    pool: Executor,
    progress: Progress,
) -> Iterator[tuple[Path, list[float], str]]:
    """Yields the path of each image, its score and components, and why it has none; draws heat maps."""
    unreadable: dict[str, str] = {}
    components = model.trained.learner.method.components
    images = LazyImages(model.read, [path for path, _ in named], model.image_shape, unreadable)
    numbers_NxC = np.full((len(named), 1 + len(components)), np.nan)
    for positions, measured, maps_BxHxW in model.trained.measure(images, maps=heatmap_directory is not None):
        found = model.trained.score_of(measured)
        numbers_NxC[positions] = np.column_stack(
            [found.scores_N, *(found.columns[name] for name in components)]
        )
        if heatmap_directory and maps_BxHxW is not None:
            paths, names = zip(*(named[position] for position in positions), strict=True)
            targets = [heatmap_directory / f"{name}.png" for name in names]
            list(pool.map(functools.partial(_draw, model), paths, targets, maps_BxHxW))
        progress.scored(len(positions))
    for (path, _), numbers in zip(named, numbers_NxC.tolist(), strict=True):
        reason = unreadable.get(str(path), "its score is not a number") if math.isnan(numbers[0]) else ""
        yield path, numbers, reason


def _draw(model: TrainedModel, path: Path, target: Path, map_HxW: np.ndarray) -> None:
    from PIL import Image

    with contextlib.suppress(UnreadableImageError):  # removed since it was scored
        picture = Image.fromarray(draw(model, path, map_HxW))
        target.parent.mkdir(parents=True, exist_ok=True)
        picture.save(target)


def draw(model: TrainedModel, path: Path, map_HxW: np.ndarray) -> np.ndarray:
    """Draws the heat map of an image file at the file's size: H x W x 3 uint8."""
    image = Reader(channels=3, max_side=model.reader.max_side).read(path)
    over = model.reader.lay_over(anomaly_map.smooth(map_HxW), image.shape[1], image.shape[0])
    return anomaly_map.overlay(image, over, model.normal.usual_peak)
