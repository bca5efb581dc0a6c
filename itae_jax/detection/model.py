"""A trained model as a directory: what fitting writes, and scoring, reports and exports read.

config.json        the experiment, the shape of the images, versions; checked when it is read
state/             network and normaliser, by Orbax
normal_scores.csv  scores of normal images that were held out, from which thresholds are computed
metrics.jsonl      loss and rate while training, where it was fitted from files
unreadable.csv     the images that were left out because they cannot be read, where there were any
"""

import csv
import dataclasses
import json
import math
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from itae_jax import config, environment, files
from itae_jax.config import Experiment
from itae_jax.data import Images
from itae_jax.data import reader as decode
from itae_jax.detection import anomaly_map as heatmaps
from itae_jax.errors import RequestError
from itae_jax.files import writing
from itae_jax.methods import itae as method
from itae_jax.methods.itae import FittedITAE

_FORMAT = 1
_MOST_SIDE = 16_384


def is_model(directory: Path) -> bool:
    """Whether there is a trained model, finished ones being the only ones there are."""
    return (directory / "normal_scores.csv").is_file() and (directory / "config.json").is_file()


@dataclasses.dataclass(frozen=True)
class NormalScores:
    """What normal images that were not trained on score.

    Attributes:
      ids: texts that name them, their paths if they are files.
      scores_N: Eq. 3.
      peaks_N: the highest value of each one's smoothed error map.
      errors_NxT: what the scores are made of.
    """

    ids: tuple[str, ...]
    scores_N: np.ndarray
    peaks_N: np.ndarray
    errors_NxT: np.ndarray

    @classmethod
    def measure(cls, fitted: FittedITAE, images: Images, ids: Sequence[str]) -> "NormalScores":
        """The scores of these images; those that cannot be read are left out."""
        positions, errors, peaks = [], [], []
        for positions_B, errors_BxT, maps_BxHxW in fitted.batch_maps(images):
            positions += positions_B.tolist()
            errors.append(errors_BxT)
            peaks += [float(heatmaps.smooth(map_HxW).max()) for map_HxW in maps_BxHxW]
        if not positions:
            raise RequestError(f"none of the {len(images)} images held out can be read")
        errors_NxT = np.concatenate(errors)
        return cls(
            tuple(ids[position] for position in positions),
            fitted.scores_of(errors_NxT),
            np.asarray(peaks),
            errors_NxT,
        )

    @property
    def least_rate(self) -> float:
        """The lowest false-alarm rate that so many images can tell of."""
        return 1 / (len(self.ids) + 1)

    @property
    def usual_peak(self) -> float:
        """The value that only one in twenty normal images exceeds anywhere: full strength of a heat map."""
        return threshold(self.peaks_N, 0.05)

    def threshold(self, false_alarms: float) -> float:
        """The score above which an image is called an anomaly."""
        return threshold(self.scores_N, false_alarms)


def threshold(normal_scores_N: np.ndarray, false_alarms: float) -> float:
    """The least score that a new normal image exceeds with probability `false_alarms` or less.

    It is the k-th lowest of the N scores, k = ceil((N + 1) (1 - rate)): a new normal image, being
    like these, is equally likely to come at any of N + 1 places among them. Below a rate of
    1 / (N + 1) it is the highest of them, and the rate is 1 / (N + 1).

    Raises:
      RequestError: a rate that is not between 0 and 1.
    """
    if not 0 < false_alarms < 1:
        raise RequestError(f"a false-alarm rate of {false_alarms}: expected a number between 0 and 1")
    count = len(normal_scores_N)
    rank = math.ceil((count + 1) * (1 - false_alarms) - 1e-9)
    return float(np.sort(normal_scores_N)[min(max(rank, 1), count) - 1])


@dataclasses.dataclass(frozen=True)
class TrainedModel:
    """A fitted method with what is needed to use it on new images.

    Attributes:
      experiment: `data` says how files become images.
      image_shape: (height, width, channels) of the images that it takes.
      normal: scores of normal images that were held out.
      details: whatever else whoever fitted it wants to keep; JSON values.
    """

    experiment: Experiment
    image_shape: tuple[int, int, int]
    fitted: FittedITAE
    normal: NormalScores
    details: dict = dataclasses.field(default_factory=dict)

    @property
    def reader(self) -> decode.Reader:
        """How image files become images of the model's shape; those of other sizes if it is not square."""
        height, width, channels = self.image_shape
        data = self.experiment.data
        return decode.Reader(height if height == width else 0, channels, data.fit or "letterbox", data.max_side)

    def check_takes_files(self, directory: Path) -> None:
        """Raises RequestError for a model of rows or tiny images, which only a detector prepares for it."""
        detector = self.details.get("detector", {})
        if "rows" in detector or detector.get("factor", 1) > 1:
            raise RequestError(f"{directory}: was fitted on rows or tiny images; use ITAEDetector.load")

    def write(self, directory: Path) -> None:
        """Writes the files into a directory that is there."""
        count = self.normal.errors_NxT.shape[1]
        columns = ["path", "score", "peak", *(f"error_{i}" for i in range(count))]
        numbers = np.column_stack([self.normal.scores_N, self.normal.peaks_N, self.normal.errors_NxT])
        rows = [
            dict(zip(columns, [name, *map(repr, line.tolist())], strict=True))
            for name, line in zip(self.normal.ids, numbers, strict=True)
        ]
        self.fitted.save(directory / "state")
        files.write_csv(directory / "normal_scores.csv", rows, columns)
        record = {
            "format": _FORMAT,
            "experiment": dataclasses.asdict(self.experiment),
            "image_shape": list(self.image_shape),
            "details": self.details,
            "environment": environment.describe(),
        }
        files.write_text(directory / "config.json", json.dumps(record, indent=2) + "\n")

    def save(self, directory: Path) -> None:
        """Writes a new directory, whole or not at all.

        Raises:
          RequestError: it is there already, or cannot be written.
        """
        check_free(directory)
        partial = partial_of(directory)
        partial = partial.with_name(f"{partial.name}.{os.getpid()}")  # the other may be a fit under way
        try:
            with writing(directory):
                partial.mkdir(parents=True)
                self.write(partial)
                os.replace(partial, directory)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


def partial_of(directory: Path) -> Path:
    """Where a model is while it is not finished: beside the directory that it will be."""
    directory = directory.absolute()
    return directory.with_name(directory.name + ".partial")


def check_free(directory: Path) -> None:
    """Raises RequestError unless a model can be written to this path."""
    if directory.exists() and not directory.is_dir():
        raise RequestError(f"{directory}: is a file; name a directory")
    if directory.is_dir() and any(directory.iterdir()):
        raise RequestError(f"{directory}: is not empty; name a new directory for the model")


def read_config(directory: Path) -> tuple[Experiment, tuple[int, int, int], dict]:
    """The experiment, the shape of the images and the details of a model's config.json.

    Raises:
      RequestError: there is no model, or one that this version does not understand.
    """
    if not is_model(directory):
        raise RequestError(f"{directory}: no trained model there; itae fit IMAGES --out MODEL makes one")
    path = directory / "config.json"
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        if record["format"] != _FORMAT:
            raise RequestError(f"its format is {record['format']!r}, this version reads {_FORMAT}")
        experiment = config.from_json(json.dumps(record["experiment"]))
        height, width, channels = record["image_shape"]
        if not all(type(n) is int and n > 0 for n in (height, width, channels)) or channels not in (1, 3):
            raise RequestError(f"image_shape {record['image_shape']}: expected height, width, 1 or 3 channels")
        if not isinstance(record["details"], dict):
            raise RequestError("details: expected a JSON object")
        detector = record["details"].get("detector", {})
        if not isinstance(detector, dict) or type(detector.get("factor", 1)) is not int:
            raise RequestError("details are damaged: detector: expected a JSON object")
        if max(height, width) > _MOST_SIDE:
            raise RequestError(f"image_shape {record['image_shape']}: more than {_MOST_SIDE} pixels a side")
        return experiment, (height, width, channels), record["details"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        reason = f"lacks {error}" if isinstance(error, KeyError) else error
        raise RequestError(f"{path}: {reason}; fit the model again") from None


def load(directory: Path, transform: str = "") -> TrainedModel:
    """Reads a model; nothing in it is executed, nor anything that it names.

    Args:
      transform: the model's transform, if it is the user's own `module:attribute`, whose code then runs.

    Raises:
      RequestError: there is none, it is damaged, or it names code that the user did not.
    """
    experiment, image_shape, details = read_config(directory)
    name = experiment.transform.name
    if ":" in name and name != transform:
        raise RequestError(
            f"{directory}: was fitted with the transform {name}, code that is not part of itae_jax; if you "
            f"know and trust it, add --transform {name} (in Python transform={name!r})"
        )
    here = dataclasses.replace(experiment, compute=dataclasses.replace(experiment.compute, devices=0))
    itae = method.of(method.fitting(here, experiment.train.batch_size), image_shape)
    normal = read_normal_scores(directory, itae.transform.count)
    try:
        fitted = itae.load(directory / "state")
    except RequestError as error:
        raise RequestError(f"{error}; fit the model again") from None
    return TrainedModel(experiment, image_shape, fitted, normal, details)


def read_normal_scores(directory: Path, count: int) -> NormalScores:
    """The scores of a model's held-out normal images, of a transform with `count` members.

    Raises:
      RequestError: they are damaged.
    """
    path = directory / "normal_scores.csv"
    columns = ["path", "score", "peak", *(f"error_{i}" for i in range(count))]
    try:
        rows = files.read_csv(path)
        if not path.read_bytes().endswith(b"\n"):
            raise ValueError("it is cut short")
        if not rows or any(list(row) != columns for row in rows):
            raise ValueError(f"expected rows under {','.join(columns)}")
        numbers = np.array([[float(row[column]) for column in columns[1:]] for row in rows])
        if not np.isfinite(numbers).all():
            raise ValueError("a number is not finite")
    except (OSError, csv.Error, ValueError, TypeError) as error:
        raise RequestError(f"{path}: is damaged ({error}); fit the model again") from None
    ids = tuple(row["path"] for row in rows)
    return NormalScores(ids, numbers[:, 0], numbers[:, 1], numbers[:, 2:])
