"""`itae fit`: trains on a folder of normal images and writes a model.

While it works, the model is in MODEL.partial, with checkpoints and `started.json`: the settings and images of
the fit. The same command resumes there; another one starts anew.
"""

import dataclasses
import functools
import json
import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from itae_jax import experiment, files
from itae_jax.data import LazyImages, folders
from itae_jax.data.images import lazy
from itae_jax.data.reader import Look, Reader
from itae_jax.detection import model as models
from itae_jax.detection import training_files
from itae_jax.detection.choose import Choice, choose, look_at
from itae_jax.detection.model import TrainedModel
from itae_jax.detection.threshold import NormalScores
from itae_jax.errors import RequestError
from itae_jax.experiment import Experiment
from itae_jax.progress import Progress
from itae_jax.training.checkpoint import Checkpoints
from itae_jax.training.learner import Learner
from itae_jax.training.log import MetricsLog, add_unreadable

_LEAST_IMAGES = 8
_STARTED, _CHECKPOINTS = "started.json", "checkpoints"
# Settings that fit chooses itself, or that only `itae run` uses.
_ONLY_RUN = (
    *("name", "variant", "runs", "classes", "paper_table", "data.name", "data.root", "data.superclasses"),
    *("data.limit_train", "data.limit_test", "evaluate.every_epochs"),
)


def fit(
    source: Path,
    out: Path,
    assignments: Sequence[str],
    progress: Progress,
    holdout: float,
    minutes: float,
) -> bool:
    """Fits a model on the images below a folder and writes it atomically; resumes an interrupted fit.

    Args:
      assignments: `section.field=value`, instead of what would be chosen.
      holdout: the share of calibration images.
      minutes: the time to train, from which the number of epochs follows if it is not assigned.

    Returns:
      False if the model exists already.
    """
    if not 0 < minutes < math.inf:
        raise RequestError(f"--minutes {minutes}: expected a finite number above 0")
    out = Path(os.path.realpath(out))
    paths, looks = _images_in(source, holdout)
    base = experiment.override(Experiment(), assignments)
    asked = _asked(base, assignments)
    held_out, training = training_files.divided(len(paths), holdout, base.seed)
    choices = choose(looks, asked, len(training), base.method, jax.default_backend() != "cpu")
    place: dict[str, Any] = {"name": "fit", "data.name": "folder", "data.root": str(source.resolve())}
    place["train.checkpoint_minutes"] = 1.0
    chosen = {choice.field: choice.value for choice in choices}
    settings = experiment.from_flat({"method.name": base.method.NAME} | place | chosen | asked)
    data = settings.data
    shape = data.image_size, data.image_size, data.channels
    settings, learner = models.prepare(settings, shape, len(training))
    timed = "train.epochs" not in asked
    details = {"num_images": len(paths), "holdout": holdout, "files": training_files.digest(source, paths)}
    details |= {"minutes": minutes} if timed else {}
    if models.is_model(out):
        _check_same(out, settings, details)
        return False
    models.check_free(out)
    if os.path.ismount(out):
        raise RequestError(f"--out {out}: is a mount point; name a directory in it")

    unreadable: dict[str, str] = {}
    reader = Reader(data.image_size, data.channels, data.fit, data.max_side)
    images = lazy(data, reader.read, paths, shape, unreadable)
    for line in _introduction(source, len(paths), looks, len(held_out), choices, asked):
        progress.say(line)
    work = out.with_name(out.name + ".partial")
    there = {path.name for path in work.iterdir()} if work.is_dir() else set()
    ours = {name for name in there if name == ".lock" or name.startswith(_STARTED)}
    if work.is_symlink() or (there - ours and _STARTED not in there):
        raise RequestError(f"{work}: is in the way, and not of an interrupted fit; name another --out")
    with files.writing(out, "--out"):
        work.mkdir(parents=True, exist_ok=True)
        with files.locked(work, out):
            started = _started(work, settings, details, timed)
            if not (started and models.is_model(work)):
                if timed:
                    learner = learner.with_epochs(started or _epochs(learner, minutes, len(training)))
                settings = dataclasses.replace(settings, train=learner.trainer.config)
                if not started:
                    _start(work, settings, details, progress)
                parts = images.select(training), images.select(held_out)
                _train(work, settings, learner, *parts, details, progress)
            add_unreadable(work / "unreadable.csv", unreadable)
            os.replace(work, out)
            for name in (_STARTED, ".lock", _CHECKPOINTS):
                files.remove(out / name)
    if unreadable:
        listed = out / "unreadable.csv"
        progress.say(f"images that cannot be read and are left out: {len(unreadable)}, listed in {listed}")
    return True


def _images_in(source: Path, holdout: float) -> tuple[list[Path], list[Look]]:
    """Finds the images and looks at some of them."""
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
    return paths, looks


def _asked(base: Experiment, assignments: Sequence[str]) -> dict[str, Any]:
    """Returns the settings that were given; a 0 or an empty text of `data` leaves the choice open."""
    values = experiment.flatten(base)
    asked = {field: values[field] for field in (text.partition("=")[0] for text in assignments)}
    if only_run := [field for field in _ONLY_RUN if field in asked]:
        raise RequestError(f"--set {only_run[0]}: is only for itae run")
    return {field: value for field, value in asked.items() if value or not field.startswith("data.")}


def _check_same(out: Path, settings: Experiment, details: dict) -> None:
    """Raises RequestError if the model at `out` is of other settings or images."""
    old, _, old_details = models.read_config(out)
    before, after = {"seed": old.seed, **old_details}, {"seed": settings.seed, **details}
    different = experiment.differences(old, settings, _not_compared("minutes" in details))
    different |= {key: (before.get(key), after[key]) for key in after if before.get(key) != after[key]}
    other_files = different.pop("files", None)
    if different or other_files:
        text = experiment.as_text(different) or "it was fitted on other images"
        raise RequestError(
            f"--out {out}: holds another model ({text}); undo the change or name another directory"
        )


def _introduction(
    source: Path, count: int, looks: Sequence[Look], num_held_out: int, choices: Sequence[Choice], asked: dict
) -> Iterator[str]:
    """Says in a few lines what was found, what was chosen, and why."""
    sizes = sorted((look.width * look.height, f"{look.width}x{look.height}") for look in looks)
    (_, least), (_, most) = sizes[0], sizes[-1]
    yield f"{count} images in {source}, {least if least == most else f'{least} to {most}'} pixels"
    share = f"{100 * num_held_out / count:.0f} %"
    yield f"{num_held_out} of them ({share}) are calibration images: not trained on, they give the threshold"
    yield "chosen, change any by --set FIELD=VALUE:"
    for choice in choices:
        yield f"  {f'{choice.field}={choice.value}':<28} {choice.reason}"
    if asked:
        yield "as asked: " + " ".join(f"{field}={value}" for field, value in asked.items())


def _not_compared(timed: bool) -> list[str]:
    """Settings in which a fit and its repetition may differ: epochs that follow from the time."""
    return ["data.root", "train.epochs"] if timed else ["data.root"]


def _identity(settings: Experiment, details: dict, timed: bool) -> dict[str, Any]:
    decisive = experiment.decisive(settings) | dict.fromkeys(_not_compared(timed), "")
    return {"settings": decisive, "seed": settings.seed, **details}


def _started(work: Path, settings: Experiment, details: dict, timed: bool) -> int:
    """The epochs of an interrupted fit of these settings and images; 0 if there is none."""
    try:
        before = json.loads((work / _STARTED).read_text(encoding="utf-8"))
        epochs = before.pop("epochs")
        return epochs if before == _identity(settings, details, timed) else 0
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return 0


def _start(work: Path, settings: Experiment, details: dict, progress: Progress) -> None:
    """Removes what another fit left, and notes what this one is."""
    if any((work / _CHECKPOINTS).glob("*")):
        progress.say(f"{work}: holds an interrupted fit of other settings or images; starting anew")
    for path in work.iterdir():
        if path.name not in (".lock", _STARTED):
            files.remove(path)
    note = {"epochs": settings.train.epochs, **_identity(settings, details, "minutes" in details)}
    files.write_text(work / _STARTED, json.dumps(note))


def _epochs(learner: Learner, minutes: float, num_images: int) -> int:
    """How many passes over the images take so many minutes on these devices."""
    steps = num_images // learner.trainer.config.batch_size
    return max(1, round(60 * minutes / (steps * learner.trainer.seconds_per_step(learner.image_shape))))


def _train(
    work: Path,
    settings: Experiment,
    learner: Learner,
    training: LazyImages,
    held_out: LazyImages,
    details: dict,
    progress: Progress,
) -> None:
    """Trains, from the newest checkpoint if there is one, and writes the model into `work`."""
    train = settings.train
    log = MetricsLog(work / "metrics.jsonl", {})
    every, kept = train.checkpoint_minutes, train.keep_checkpoints
    checkpoints = Checkpoints(work / _CHECKPOINTS, every, kept, progress.say)

    def on_report(report, trained_so_far):
        progress.epoch("", report.epoch, report.loss, report.learning_rate)
        log.add({"epoch": report.epoch, **report.metrics, "learning_rate": report.learning_rate})

    on_step = functools.partial(progress.step, "")
    progress.start(1, train.epochs)
    trained = learner.fit(training.in_memory(), (settings.seed,), on_report, checkpoints, on_step)
    normal = NormalScores.measure(trained, held_out, [str(path) for path in held_out.keys])
    details = details | {"num_train": trained.num_train, "num_held_out": len(normal.ids)}
    TrainedModel(settings, learner.image_shape, trained, normal, details).write(work)
    progress.finished(
        f"Calibration scores: median {np.median(normal.scores_N):.2f}, maximum {normal.scores_N.max():.2f} "
        f"(training mean = {trained.mean_score:.2f})"
    )
