"""`itae score`: scores of any number of images, one row each, heat maps, anomaly maps and masks."""

import codecs
import collections
import contextlib
import csv
import dataclasses
import functools
import itertools
import math
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path
from typing import TextIO

import numpy as np

from itae_jax.data import LazyImages, folders, reader
from itae_jax.data.images import UnreadableImageError
from itae_jax.data.reader import Reader
from itae_jax.detection import anomaly_map
from itae_jax.detection import model as models
from itae_jax.detection.model import TrainedModel
from itae_jax.detection.threshold import threshold
from itae_jax.environment import cpu_cores
from itae_jax.errors import RequestError
from itae_jax.files import STDOUT, atomic_path, check_output_file, claim, csv_lines, writing
from itae_jax.progress import Progress

_ROWS = 256  # of a heat map that are drawn at a time, to save memory
_LARGE = 2**23  # pixels; larger images are drawn one at a time, to save memory
_AT_A_TIME = 1024  # paths held in memory, with the images of one batch

Drawn = tuple[Path, Path, np.ndarray]  # an image's path, its pictures' name, its anomaly map


@dataclasses.dataclass(frozen=True)
class Summary:
    """The result of scoring.

    Attributes:
      threshold: the score above which an image is called an anomaly.
      false_positive_rate: the share of normal images that are expected above it.
      asked_false_positive_rate: the share that was asked for, which is less if the calibration images are few.
      num_calibration, num_scored, num_anomalies, num_unreadable: counts of images.
      num_undrawn, undrawn_reason: images whose maps cannot be written, and why, of the first.
      others: counts of the files in the folders that are not read, by their endings.
    """

    out: Path
    threshold: float
    false_positive_rate: float
    asked_false_positive_rate: float
    num_calibration: int
    num_scored: int
    num_anomalies: int
    num_unreadable: int
    num_undrawn: int
    undrawn_reason: str
    others: dict[str, int]

    def __str__(self):
        share, asked = 100 * self.false_positive_rate, 100 * self.asked_false_positive_rate
        lines = [
            f"threshold {self.threshold:.4f}: at most {share:.1f} % of normal images are expected "
            f"above it, by {self.num_calibration} calibration images"
        ]
        if self.false_positive_rate > self.asked_false_positive_rate:
            needed = math.ceil(1 / self.asked_false_positive_rate - 1 - 1e-9)
            lines.append(
                f"a false-positive rate of {asked:g} % needs {needed} calibration images; "
                "itae calibrate takes more"
            )
        listed = "" if self.out == STDOUT else f", listed in {self.out}"
        lines.append(f"{self.num_anomalies} of {self.num_scored} images are above it{listed}")
        if self.num_unreadable:
            lines.append(f"images that cannot be read: {self.num_unreadable}; the column reason says why")
        if self.num_undrawn:
            lines.append(f"images whose maps cannot be written: {self.num_undrawn} ({self.undrawn_reason})")
        if self.others:
            lines.append(folders.about_others(self.others))
        return "\n".join(lines)


def score(
    model_directory: Path,
    sources: Sequence[str],
    out: Path,
    heatmap_directory: Path | None,
    false_positive_rate: float,
    progress: Progress,
    trust: str = "",
    map_directory: Path | None = None,
) -> Summary:
    """Scores images and writes a CSV file atomically, or rows to standard output as soon as they are known.

    Args:
      sources: folders and image files, or `-` alone for paths on standard input, one a line. With `out` at
        standard output each is scored before the next is read.
      out: the file, or `files.STDOUT`, with the columns path, score, is_anomaly (0 or 1), p_value, the method's
        components, reason. An unreadable image has a reason and nothing else. Rows are in the order of the
        paths, which in a folder is that of their names.
      heatmap_directory: gets a PNG of each image's own size, named like the image below the only source, else
        below the working directory.
      false_positive_rate: the share of normal images that may be called anomalies.
      trust: see `model.load`.
      map_directory: gets each anomaly map as .npy, float32 of the model's size, and a mask of the image's own
        size as .mask.png, 255 where the smoothed map exceeds the peaks of all normal images but the share
        `false_positive_rate`, else 0.

    Raises:
      RequestError: there is no model or no image, no image can be read, which the file says, too, the model has
        no anomaly maps, or a file cannot be written.
    """
    if out != STDOUT:
        check_output_file(out, _is_scores)
    threshold(np.zeros(1), false_positive_rate)  # refuses a wrong rate before anything is read
    drawn = {"--heatmaps": heatmap_directory, "--maps": map_directory}
    directories = {option: directory for option, directory in drawn.items() if directory}
    others: collections.Counter[str] = collections.Counter()
    named = _named(sources, directories, others)
    model = models.load(model_directory, trust)
    model.check_takes_files(model_directory)
    if directories and not model.trained.learner.has_maps:
        name, option = model.experiment.method.NAME, next(iter(directories))
        raise RequestError(
            f"{option}: the method of {model_directory}, {name}, has no anomaly maps; leave it out"
        )
    limit, components = model.normal.threshold(false_positive_rate), model.trained.learner.method.components
    for option, directory in directories.items():
        claim(directory, option)
    counts, undrawn_reason = collections.Counter[str](), ""
    draw = None
    if directories:
        draw = functools.partial(_draw, model, directories, model.normal.peak(false_positive_rate))
    one_by_one = out == STDOUT and "-" in sources
    with _opened(out) as file, ThreadPoolExecutor(cpu_cores()) as pool:
        writer = csv.writer(csv_lines(file))
        writer.writerow(["path", "score", "is_anomaly", "p_value", *components, "reason"])
        while chunk := list(itertools.islice(named, 1 if one_by_one else _AT_A_TIME)):
            undrawn: list[str] = []
            rows = _scored(model, chunk, draw, undrawn, pool, progress, one_by_one)
            for path, numbers, reason in rows:
                is_anomaly = numbers[0] > limit
                texts = [repr(numbers[0]), int(is_anomaly), *map(repr, numbers[1:])]
                writer.writerow([path, *([""] * len(texts) if reason else texts), reason])
                counts.update(unreadable=int(bool(reason)), scored=int(not reason), anomalies=int(is_anomaly))
            counts.update(undrawn=len(undrawn))
            undrawn_reason = undrawn_reason or next(iter(undrawn), "")
        if not counts:
            raise RequestError(_no_images(sources, others))
    if not counts["scored"]:
        listed = "" if out == STDOUT else f" of {out}"
        raise RequestError(f"no image can be read; the column reason{listed} says why")
    return Summary(
        out,
        limit,
        max(false_positive_rate, model.normal.least_rate),
        false_positive_rate,
        len(model.normal.ids),
        counts["scored"],
        counts["anomalies"],
        counts["unreadable"],
        counts["undrawn"],
        undrawn_reason,
        dict(others),
    )


@contextlib.contextmanager
def _opened(out: Path) -> Iterator[TextIO]:
    """Yields a file that replaces `out` at the end, or standard output; each line is written at once."""
    with contextlib.ExitStack() as stack:
        if out != STDOUT:
            stack.enter_context(writing(out))
            target: int | Path = stack.enter_context(atomic_path(out))
        elif sys.__stdout__ is None:
            raise RequestError("--out -: standard output is closed; name a file")
        else:
            target = os.dup(sys.__stdout__.fileno())  # sys.stdout may stand for standard error
        yield stack.enter_context(
            open(target, "w", buffering=1, newline="", encoding="utf-8", errors="surrogateescape")
        )


def _is_scores(path: Path) -> bool:
    with path.open("rb") as file:
        return file.readline().removeprefix(codecs.BOM_UTF8).startswith(b"path,score,is_anomaly,")


def _no_images(sources: Sequence[str], others: dict[str, int]) -> str:
    if "-" in sources:
        return "-: no path on standard input; give one a line"
    endings = "; ".join(filter(None, (f"the endings read are {folders.ENDINGS}", folders.about_others(others))))
    return f"{', '.join(sources)}: no images in it; {endings}"


def _named(
    sources: Sequence[str], directories: dict[str, Path], others: collections.Counter[str]
) -> Iterator[tuple[Path, Path]]:
    """Yields the path of each image and the relative path of its pictures in the directories of the options.

    `others` counts the files that are not read.
    """
    if "-" in sources:
        if len(sources) > 1:
            raise RequestError("-: stands alone; give paths there or on standard input")
        if sys.stdin is None:
            raise RequestError("-: standard input is closed; give paths, one a line")
        stripped = (line.removeprefix(codecs.BOM_UTF8).rstrip(b"\r\n") for line in sys.stdin.buffer)
        lines = (os.fsdecode(line) for line in stripped)
        return ((Path(line), _relative(line)) for line in lines if line and not _is_mask(line, others))
    roots = [Path(source) for source in sources]
    for root, source in zip(roots, sources, strict=True):
        _check_source(root, source, directories)
    each = list(
        itertools.chain.from_iterable(
            folders.each_image(root, others) if root.is_dir() else [root] for root in roots
        )
    )
    if len(roots) > 1:
        once = {os.path.abspath(path): path for path in each}
        return ((path, _relative(str(path))) for path in once.values())
    base = roots[0] if roots[0].is_dir() else roots[0].parent
    return ((path, path.relative_to(base)) for path in each)


def _check_source(root: Path, source: str, directories: dict[str, Path]) -> None:
    if not source or not (root.is_file() or root.is_dir() or root.is_symlink()):
        raise RequestError(f"{source or 'IMAGES'}: no such folder or file")
    if place := folders.data_set_in(root, "test", "ground_truth") or folders.data_set_of_masks(root):
        raise RequestError(f"{place}: holds masks in ground_truth; score {place / 'test'}")
    folder = root if root.is_dir() else root.parent
    for option, directory in directories.items():
        within = [directory.resolve(), *directory.resolve().parents] if root.is_dir() else [directory.resolve()]
        if folder.resolve() in within:
            raise RequestError(
                f"{option} {directory}: lies in {folder}, so its pictures would be scored next time; "
                "name a directory outside it"
            )


def _is_mask(path: str, others: collections.Counter[str]) -> bool:
    """Whether a path on standard input is of a mask, which `others` counts."""
    if folders.data_set_of_masks(Path(path)) is None:
        return False
    others["masks in ground_truth"] += 1
    return True


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
    draw: Callable[[Drawn], str] | None,
    undrawn: list[str],
    pool: Executor,
    progress: Progress,
    one_by_one: bool,
) -> Iterator[tuple[Path, list[float], str]]:
    """Yields each image's path, its score, p-value and components, and why it has none; draws its pictures.

    Yields the rows of a batch before the next one is drawn. Adds to `undrawn` why pictures cannot be written.
    Without `draw` there are none.
    """
    unreadable: dict[str, str] = {}
    components = model.trained.learner.method.components
    images = LazyImages(model.reader.read, [path for path, _ in named], model.image_shape, unreadable)
    numbers_NxC = np.full((len(named), 2 + len(components)), np.nan)

    def rows(start: int, end: int) -> Iterator[tuple[Path, list[float], str]]:
        for (path, _), numbers in zip(named[start:end], numbers_NxC[start:end].tolist(), strict=True):
            reason = unreadable.get(str(path), "its score is not a number") if math.isnan(numbers[0]) else ""
            yield path, numbers, reason

    done = 0
    for positions, measured, maps_BxHxW in model.trained.measure(images, draw is not None, one_by_one):
        found = model.trained.score_of(measured)
        columns = [found.columns[name] for name in components]
        numbers_NxC[positions] = np.column_stack(
            [found.scores_N, model.normal.p_values(found.scores_N), *columns]
        )
        if draw and maps_BxHxW is not None:
            small, large = list[Drawn](), list[Drawn]()
            for position, map_HxW in zip(positions, maps_BxHxW, strict=True):
                path, name = named[position]
                (large if reader.count_pixels(path) > _LARGE else small).append((path, name, map_HxW))
            undrawn += filter(None, [*pool.map(draw, small), *map(draw, large)])
        progress.scored(len(positions))
        yield from rows(done, positions[-1] + 1)
        done = positions[-1] + 1
    yield from rows(done, len(named))


def _draw(model: TrainedModel, directories: dict[str, Path], peak: float, drawn: Drawn) -> str:
    """Writes an image's pictures, with a mask above `peak`; returns why they cannot be written, or nothing."""
    from PIL import Image

    path, name, map_HxW = drawn
    full = model.normal.usual_peak
    try:
        image, over_HxW = laid_over(model, path, map_HxW)
        if directory := directories.get("--heatmaps"):
            picture = Image.fromarray(heatmap(image, over_HxW, full))
            picture.save(_new(directory / f"{name}.png"), compress_level=1)  # quick, and a sixth larger
        if directory := directories.get("--maps"):
            np.save(_new(directory / f"{name}.npy"), map_HxW)
            Image.fromarray(np.uint8(255) * (over_HxW > peak)).save(_new(directory / f"{name}.mask.png"))
    except UnreadableImageError as error:  # removed since it was scored
        return str(error)
    except OSError as error:
        return f"{error.filename or name}: {error.strerror or error}"
    return ""


def _new(path: Path) -> Path:
    """Makes room for a file; a link there would be followed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    return path


def laid_over(model: TrainedModel, path: Path, map_HxW: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns an image file, H x W x 3 uint8, and its anomaly map, smoothed and of the same size."""
    image = Reader(channels=3, max_side=model.reader.max_side).read(path)
    return image, model.reader.lay_over(anomaly_map.smooth(map_HxW), image.shape[1], image.shape[0])


def heatmap(image_HxWx3: np.ndarray, map_HxW: np.ndarray, full: float) -> np.ndarray:
    """Does what `anomaly_map.overlay` does, in less memory."""
    drawn = np.empty_like(image_HxWx3)
    for start in range(0, len(drawn), _ROWS):
        rows = slice(start, start + _ROWS)
        drawn[rows] = anomaly_map.overlay(image_HxWx3[rows], map_HxW[rows], full)
    return drawn
