"""A trained model as a directory: what fitting writes, and scoring, reports and exports read.

config.json        settings, image shape, details of the fit, versions
state/             what was learned and calibrated, see `training.checkpoint`
normal_scores.csv  scores of the calibration images, see `threshold`
metrics.jsonl      loss and learning rate by epoch, if it was fitted from files
unreadable.csv     images that cannot be read and were left out, if any
"""

import dataclasses
import json
from pathlib import Path
from typing import Any

from itae_jax import environment, experiment, files
from itae_jax.data.reader import Reader
from itae_jax.detection.threshold import NormalScores
from itae_jax.errors import RequestError
from itae_jax.experiment import Experiment
from itae_jax.training.learner import Learner, Trained, fit_batch, learner_for

_FORMAT = 8
_MOST_SIDE = 16 * 16_384  # the greatest data.aspect times the greatest data.image_size
_SCORES = "normal_scores.csv"


@dataclasses.dataclass(frozen=True)
class TrainedModel:
    """A trained method and what is needed to use it on new images.

    Attributes:
      experiment: the settings; `data` says how files become images.
      image_shape: (height, width, channels) of the images that it takes.
      normal: scores of the calibration images.
      details: further JSON values of whoever fitted it.
    """

    experiment: Experiment
    image_shape: tuple[int, int, int]
    trained: Trained
    normal: NormalScores
    details: dict = dataclasses.field(default_factory=dict)

    @property
    def reader(self) -> Reader:
        """Makes images of the model's shape from files."""
        height, width, channels = self.image_shape
        data = self.experiment.data
        size, fit = min(height, width), data.fit or "letterbox"
        return Reader(size, channels, fit, data.max_side, width / height)

    def summary(self, false_positive_rate: float) -> dict[str, Any]:
        """Returns in JSON values what it was made of, and its threshold at a false-positive rate."""
        return {
            "method": self.experiment.method.NAME,
            "image_shape": self.image_shape,
            "epochs": self.experiment.train.epochs,
            "train_seconds": self.trained.train_seconds,
            "num_train": self.trained.num_train,
            "num_calibration": len(self.normal.ids),
            "threshold": self.normal.threshold(false_positive_rate),
            "false_positive_rate": max(false_positive_rate, self.normal.least_rate),
            "surrogate_auroc": self.details.get("surrogate_auroc"),
            "candidates": self.details.get("ratings", {}),
        }

    def check_takes_files(self, directory: Path) -> None:
        """Raises RequestError for a model of rows, which only a detector can prepare for it."""
        if "rows" in self.details.get("detector", {}):
            raise RequestError(f"{directory}: was fitted on rows of numbers; use ITAEDetector.load")

    def write(self, directory: Path) -> None:
        """Writes the files into an existing directory."""
        self.trained.save(directory / "state")
        self.normal.write(directory / _SCORES)
        record = {
            "format": _FORMAT,
            "experiment": experiment.as_tree(self.experiment),
            "image_shape": list(self.image_shape),
            "details": self.details | {_SCORES: files.sha256(directory / _SCORES)},
            "environment": environment.describe(),
        }
        files.write_text(directory / "config.json", json.dumps(record, indent=2) + "\n")

    def save(self, directory: Path) -> None:
        """Writes a new or empty directory atomically."""
        check_free(directory)
        with files.writing(directory), files.atomic_path(directory.absolute()) as partial:
            partial.mkdir(parents=True)
            self.write(partial)


def prepare(
    settings: Experiment, image_shape: tuple[int, int, int], num_images: int
) -> tuple[Experiment, Learner]:
    """Returns the settings for so many training images, see `fit_batch`, and the learner for them."""
    train, compute = fit_batch(settings.train, settings.compute, num_images)
    learner = learner_for(settings.method, train, settings.evaluate, compute, image_shape)
    return dataclasses.replace(settings, train=train, compute=compute), learner


def is_model(directory: Path) -> bool:
    """Returns whether a directory holds a trained model."""
    return not _missing(directory)


def _missing(directory: Path) -> str:
    return next((name for name in ("config.json", _SCORES) if not (directory / name).is_file()), "")


def check_free(directory: Path) -> None:
    """Raises RequestError unless a model can be written to this path."""
    if directory.exists() and not directory.is_dir():
        raise RequestError(f"{directory}: is a file; name a directory")
    if directory.is_dir() and any(directory.iterdir()):
        raise RequestError(f"{directory}: is not empty; name a new directory for the model")


def read_config(directory: Path) -> tuple[Experiment, tuple[int, int, int], dict]:
    """Reads the settings, the image shape and the details of a model."""
    if missing := _missing(directory):
        remedy = "itae fit IMAGES --out MODEL makes one"
        raise RequestError(f"{directory}: no trained model there, {missing} is missing; {remedy}")
    path = directory / "config.json"
    try:
        record = json.loads(path.read_text(encoding="utf-8-sig"))
        if record["format"] != _FORMAT:
            raise RequestError(f"its format is {record['format']!r}, this version reads {_FORMAT}")
        settings = experiment.from_tree(record["experiment"])
        shape = height, width, channels = record["image_shape"]
        if channels not in (1, 3) or not all(type(n) is int and 0 < n <= _MOST_SIDE for n in shape):
            expected = f"height and width of 1 to {_MOST_SIDE} pixels, and 1 or 3 channels"
            raise RequestError(f"image_shape {record['image_shape']}: expected {expected}")
        details = record["details"]
        detector = details.get("detector", {}) if isinstance(details, dict) else None
        if not isinstance(detector, dict) or type(detector.get("factor", 1)) is not int:
            raise RequestError("details: expected a JSON object")
        return settings, (height, width, channels), details
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        reason = f"lacks {error}" if isinstance(error, KeyError) else error
        raise RequestError(f"{path}: {reason}; fit the model again") from None


def load(directory: Path, trust: str = "") -> TrainedModel:
    """Reads a model; runs no code that it names but `trust`, the user's own as module:attribute."""
    settings, image_shape, details = read_config(directory)
    code = settings.method.foreign_code
    if code and code != trust:
        raise RequestError(
            f"{directory}: was fitted with {code}, code that is not part of itae_jax; if you know and trust "
            f"it, add --trust {code} (in Python trust={code!r})"
        )
    here = dataclasses.replace(settings, compute=dataclasses.replace(settings.compute, devices=0))
    _, learner = prepare(here, image_shape, settings.train.batch_size)
    if details.get(_SCORES) != files.sha256(directory / _SCORES):
        raise RequestError(f"{directory / _SCORES}: was changed since it was written; fit the model again")
    normal = NormalScores.read(directory / _SCORES)
    try:
        trained = learner.trained(*learner.read(directory / "state"))
    except RequestError as error:
        raise RequestError(f"{error}; fit the model again") from None
    return TrainedModel(settings, image_shape, trained, normal, details)
