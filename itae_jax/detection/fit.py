"""`itae fit`: a folder of normal images to a trained model, with settings chosen by looking at them."""

import dataclasses
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import jax
import numpy as np

from itae_jax import config, files
from itae_jax.config import Experiment, TrainConfig
from itae_jax.data import folders, images
from itae_jax.data import reader as decode
from itae_jax.detection import model as trained
from itae_jax.detection import training_files
from itae_jax.detection.model import NormalScores, TrainedModel
from itae_jax.errors import RequestError
from itae_jax.files import writing
from itae_jax.methods import itae as method
from itae_jax.runs import results
from itae_jax.training.checkpoint import Checkpoints

HOLDOUT = 0.2
_LEAST_IMAGES = 8
_LOOKED_AT = 200
_SQUARE = 1.1  # up to here a crop to the middle loses less than a tenth of an image
# Affordable on the machine at hand; the paper's network and training where there is an accelerator.
_CPU = {"side": 64, "width": 16, "steps": 2000}
_ACCELERATOR = {"side": 128, "width": 64, "steps": None}
_PAPER_EPOCHS = 500
_BEGUN = "begun.json"  # in the directory of an unfinished model: what is being fitted


class Progress(Protocol):
    """Who is told how a fit goes."""

    def say(self, text: str) -> None:
        """A line for the reader."""

    def start(self, epochs: int) -> None:
        """A training of so many epochs begins."""

    def step(self, epochs: float) -> None:
        """So many epochs are done, the last of them in part."""

    def epoch(self, epoch: int, loss: float, rate: float) -> None:
        """So many epochs are done."""


@dataclasses.dataclass(frozen=True)
class Choice:
    """A field of the config, the value chosen for it, and why."""

    field: str
    value: object
    reason: str


def look_at(paths: Sequence[Path]) -> list[decode.Look]:
    """A glance at up to 200 of the files, evenly spread; what cannot be read is left out."""
    spread = np.linspace(0, len(paths) - 1, min(len(paths), _LOOKED_AT)).astype(int)
    looks = (decode.look(paths[i]) for i in spread)
    return [look for look in looks if look is not None]


def choose(looks: Sequence[decode.Look], asked: dict, num_train: int, on_cpu: bool) -> list[Choice]:
    """Settings for images like these, but for the fields that were asked for.

    Args:
      looks: what the images look like.
      asked: values by field, which later choices depend on.
      num_train: how many images are trained on.
      on_cpu: whether there is no accelerator.
    """
    machine = _CPU if on_cpu else _ACCELERATOR
    sides = np.array([(look.width, look.height) for look in looks])
    ratio = float((sides.max(1) / sides.min(1)).max())
    grey = all(look.is_grey for look in looks)
    fit, why_fit = _fit(ratio)
    size, why_size = _size(sides, machine["side"], on_cpu)
    chosen = [
        Choice("data.channels", 1 if grey else 3, "they are grey" if grey else "they have colours"),
        Choice("data.fit", fit, why_fit),
        Choice("data.image_size", size, why_size),
    ]
    values = {choice.field: choice.value for choice in chosen} | asked
    if values["data.channels"] == 1:
        chosen.append(Choice("transform.name", "rotate", "grey images have no colour to erase"))
    else:
        chosen.append(Choice("transform.name", "gray+rotate", "the paper's set for colour images"))
    why = "mirror images count as normal; if they must not: --set train.augment=shift"
    chosen.append(Choice("train.augment", "flip+shift", why))
    why = "what a CPU can do; the paper's is 64" if on_cpu else "the paper's"
    chosen.append(Choice("model.width", machine["width"], why))

    batch = TrainConfig.batch_size
    if num_train < 2 * batch:
        batch = max(1, num_train // 4)
        chosen.append(Choice("train.batch_size", batch, f"a quarter of the {num_train} that are trained on"))
    batch = min(values.get("train.batch_size", batch), num_train)
    epochs, why = _PAPER_EPOCHS, "the paper's"
    if machine["steps"]:
        epochs = min(epochs, -(-machine["steps"] // (num_train // batch)))
        steps = epochs * (num_train // batch)
        why = f"{steps} steps, what a CPU can do; the paper's are {_PAPER_EPOCHS} epochs"
    chosen.append(Choice("train.epochs", epochs, why))
    epochs = values.get("train.epochs", epochs)
    halve = TrainConfig.halve_every_epochs
    if epochs <= halve:
        chosen.append(Choice("train.halve_every_epochs", max(1, epochs * 5 // 6), "one halving near the end"))
    return [choice for choice in chosen if choice.field not in asked]


def _fit(ratio: float) -> tuple[str, str]:
    if ratio <= _SQUARE:
        return "crop", "they are square, or nearly; rotation needs square ones"
    return "letterbox", (
        f"one side is up to {ratio:.1f} times the other; rotation needs square ones, black bars cut nothing off"
    )


def _size(sides_Nx2: np.ndarray, most: int, on_cpu: bool) -> tuple[int, str]:
    shorter = int(np.median(sides_Nx2.min(1)))
    size = next((side for side in (128, 64, 32) if side <= min(most, shorter)), 32)
    if size < most or shorter == most:
        return size, f"half of them have a shorter side of {shorter} or more"
    return size, "what a CPU can do; larger shows finer defects" if on_cpu else "larger shows finer defects"


def fit(
    source: Path,
    out: Path,
    assignments: Sequence[str],
    progress: Progress,
    holdout: float = HOLDOUT,
) -> bool:
    """Fits a model on the images below a folder and writes it, whole or not at all.

    Args:
      source: folder of normal images, of any sizes and formats.
      out: directory of the model.
      assignments: `section.field=value` overrides of what is chosen.
      holdout: share of the images that is kept for the threshold.

    Returns:
      False if the model is there already.

    Raises:
      RequestError: before anything is written, if it cannot be done.
    """
    out = Path(os.path.realpath(out))
    if not 0 < holdout < 1:
        raise RequestError(f"--holdout {holdout}: expected a share between 0 and 1")
    if not source.is_dir():
        raise RequestError(f"{source}: no such folder; name the folder of the normal images")
    paths = folders.find_images(source)
    if len(paths) < _LEAST_IMAGES:
        endings = ", ".join(sorted(folders.SUFFIXES))
        raise RequestError(
            f"{source}: {len(paths)} images in it, at least {_LEAST_IMAGES} are needed; endings read: {endings}"
        )
    looks = look_at(paths)
    if not looks:
        raise RequestError(f"{source}: none of the {len(paths)} images there can be read")
    asked = _asked(assignments)
    held_out, training = training_files.divided(len(paths), holdout, asked.get("seed", 0))
    choices = choose(looks, asked, len(training), jax.default_backend() == "cpu")
    basis = {"name": "fit", "data.name": "folder", "data.root": str(source.resolve())}
    experiment = config.from_flat(basis | {choice.field: choice.value for choice in choices} | asked)
    experiment = method.fitting(experiment, len(training))
    details = {"num_images": len(paths), "holdout": holdout, "files": training_files.digest(source, paths)}
    if out.is_dir() and trained.is_model(out):
        _check_same(out, experiment, details)
        return False
    trained.check_free(out)
    if os.path.ismount(out):
        raise RequestError(f"--out {out}: is a mount point; name a directory in it")

    data = experiment.data
    shape = (data.image_size, data.image_size, data.channels)
    reader = folders.make_reader(data, fit=data.fit, size=data.image_size, channels=data.channels)
    itae = method.of(experiment, shape)
    unreadable: dict[str, str] = {}
    everything = images.lazy(data, reader.read, paths, shape, unreadable)

    for line in _told(source, paths, looks, choices, asked, len(held_out)):
        progress.say(line)
    work = trained.partial_of(out)
    there = {path.name for path in work.iterdir()} if work.is_dir() else set()
    if work.is_symlink() or (there - {".lock"} and _BEGUN not in there):
        raise RequestError(f"{work}: is in the way, and not of an interrupted fit; name another --out")
    with writing(out, "--out"):
        work.mkdir(parents=True, exist_ok=True)
        with files.locked(work, out):
            if not _is_done(work, experiment, details, progress):
                _train(work, experiment, itae, everything, training, held_out, details, progress)
            results.add_unreadable(work / "unreadable.csv", unreadable)
            os.replace(work, out)
            for name in (_BEGUN, ".lock", "checkpoints"):
                files.remove(out / name)
    if unreadable:
        listed = out / "unreadable.csv"
        progress.say(f"{len(unreadable)} images left out because they cannot be read, listed in {listed}")
    return True


def _is_done(work: Path, experiment: Experiment, details: dict, progress: Progress) -> bool:
    """Whether an interrupted fit came to its end; what cannot be gone on with is cleared away.

    What can is of the same config and files.
    """
    compared = config.compared(experiment) | {"data.root": ""}
    now = {"config": compared, "seed": experiment.seed, **details}
    begun = work / _BEGUN
    try:
        before = json.loads(begun.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        before = None
    left = Checkpoints(work / "checkpoints", 0, 1).steps()
    if before == now:
        return trained.is_model(work)
    if left:
        progress.say(f"{work}: holds an interrupted fit of other settings or images; starting anew")
    for name in ("checkpoints", "config.json", "normal_scores.csv", "state", "metrics.jsonl", "unreadable.csv"):
        files.remove(work / name)
    files.write_text(begun, json.dumps(now))
    return False


_OF_RUN = (
    *("method", "name", "paper_table", "data.name", "data.root", "data.superclasses"),
    *("data.limit_train", "data.limit_test", "evaluate.every_epochs"),
)


def _asked(assignments: Sequence[str]) -> dict:
    """The values asked for by field; 0 and empty leave the choice open."""
    values = config.flatten(config.override(Experiment(), assignments))
    asked = {field: values[field] for field in (text.partition("=")[0] for text in assignments)}
    for field in _OF_RUN:
        if field in asked:
            raise RequestError(f"--set {field}: has a meaning for itae run alone")
    return {field: value for field, value in asked.items() if value or not field.startswith("data.")}


def _check_same(out: Path, experiment: Experiment, details: dict) -> None:
    old, _, old_details = trained.read_config(out)
    different = [text for text in config.differences(old, experiment) if not text.startswith("data.root:")]
    different += [
        f"{key}: {old_details.get(key)} -> {value}"
        for key, value in details.items()
        if key != "files" and old_details.get(key) != value
    ]
    if not different and old_details.get("files") != details["files"]:
        different = ["it was fitted on other images"]
    if old.seed != experiment.seed:
        different.append(f"seed: {old.seed} -> {experiment.seed}")
    if different:
        raise RequestError(
            f"--out {out}: holds another model ({'; '.join(different)}); "
            "undo the change or name another directory"
        )


def _told(source, paths, looks, choices, asked, count) -> list[str]:
    """What was found, what was chosen and why, in a few lines."""
    areas = sorted((look.width * look.height, look.width, look.height) for look in looks)
    (_, *least), (_, *most) = areas[0], areas[-1]
    size = f"{least[0]}x{least[1]}" + ("" if least == most else f" to {most[0]}x{most[1]}")
    lines = [
        f"{len(paths)} images in {source}, {size} pixels",
        f"{count} of them ({100 * count / len(paths):.0f} %) are held out: their scores give the threshold",
        "chosen, each to be changed by --set FIELD=VALUE:",
    ]
    lines += [f"  {f'{choice.field}={choice.value}':<28} {choice.reason}" for choice in choices]
    if asked:
        lines.append("as asked: " + " ".join(f"{field}={value}" for field, value in asked.items()))
    return lines


def _train(work, experiment, itae, everything, training, held_out, details, progress) -> None:
    """Trains, from the newest checkpoint if there is one, scores what was held out, writes the model."""
    training_images = everything.select(training).in_memory()
    metrics = results.Metrics(work / "metrics.jsonl", {})
    settings = experiment.train
    checkpoints = Checkpoints(
        work / "checkpoints", settings.checkpoint_minutes, settings.keep_checkpoints, progress.say
    )
    progress.start(experiment.train.epochs)

    def on_report(report, fitted_so_far):
        progress.epoch(report.epoch, report.loss, report.learning_rate)
        metrics.add(dataclasses.asdict(report))

    fitted = itae.fit(training_images, (experiment.seed,), on_report, checkpoints, progress.step)
    names = [str(everything.keys[position]) for position in held_out]
    normal = NormalScores.measure(fitted, everything.select(held_out), names)
    progress.say(
        f"the {len(normal.ids)} held-out images score {np.median(normal.scores_N):.2f} in the middle and "
        f"{normal.scores_N.max():.2f} at most; 1 is the mean of the {fitted.num_train} trained on"
    )
    details = details | {"num_train": fitted.num_train, "num_held_out": len(normal.ids)}
    TrainedModel(experiment, itae.image_shape, fitted, normal, details).write(work)
