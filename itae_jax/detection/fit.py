"""`itae fit`: chooses a method and settings for a folder of normal images, trains, and writes a model.

While it works, the model is in MODEL.partial, with checkpoints and `started.json`: the request, the ratings of
the candidates and the number of epochs. The same command resumes there; another one is refused.
"""

import dataclasses
import functools
import math
import os
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from itae_jax import experiment, files
from itae_jax.data import LazyImages, folders
from itae_jax.data.images import UnreadableImageError, lazy
from itae_jax.data.reader import Look, Reader
from itae_jax.detection import model as models
from itae_jax.detection import objects, surrogates, training_files
from itae_jax.detection.candidates import Candidate, best, candidates, rated, set_aside
from itae_jax.detection.choose import asked_for, look_at
from itae_jax.detection.model import TrainedModel
from itae_jax.detection.objects import Variety
from itae_jax.detection.started import CHECKPOINTS, STARTED, Started, differences
from itae_jax.detection.threshold import NormalScores
from itae_jax.errors import DivergedError, RequestError
from itae_jax.experiment import Experiment
from itae_jax.methods.method import Combines
from itae_jax.progress import Progress
from itae_jax.training import tensorboard
from itae_jax.training.checkpoint import Checkpoints
from itae_jax.training.learner import Learner
from itae_jax.training.log import MetricsLog, about_unreadable, add_unreadable

_LEAST_IMAGES = 8
_ASKED = 20  # images asked why they cannot be read
_POOR = 0.55  # AUROC
_SHARE_TRIED = 0.06  # of the time
_MOST_TRIED, _RATED_BRIEFLY = 500, 32  # images on which it trains in that time, and on which it is rated
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
    scalars: Path | None = None,
) -> bool:
    """Fits a model on the images below a folder and writes it atomically; resumes an interrupted fit.

    Args:
      assignments: `section.field=value`, instead of what would be chosen.
      holdout: the share of calibration images.
      minutes: the time to choose and to train, from which the number of epochs follows if it is not assigned.
      scalars: gets TensorBoard's event file, in a directory named like the model.

    Returns:
      False if the model exists already.
    """
    if not 0 < minutes < math.inf:
        raise RequestError(f"--minutes {minutes}: expected a finite number above 0")
    out = Path(os.path.realpath(out))
    if scalars:
        tensorboard.check_installed()
    base = experiment.override(Experiment(), assignments)
    paths, looks, others = _images_in(source, holdout, base.data.max_side)
    asked = _asked(base, assignments)
    held_out, training = training_files.divided(len(paths), holdout, base.seed)
    decisive = experiment.decisive(base)
    request = {field: value for field, value in asked.items() if field in decisive and field != "seed"}
    details = {"num_images": len(paths), "holdout": holdout, "files": training_files.digest(source, paths)}
    given = None if "train.epochs" in asked else minutes
    details |= {"minutes": given, "asked": request}
    if models.is_model(out):
        old, _, old_details = models.read_config(out)
        if different := differences(old_details, old.seed, details, base.seed):
            remedy = "undo the change or name another directory"
            raise RequestError(f"--out {out}: holds another model ({different}); {remedy}")
        return False
    models.check_free(out)
    if os.path.ismount(out):
        raise RequestError(f"--out {out}: is a mount point; name a directory in it")
    accelerator = jax.default_backend() != "cpu"
    to_compare = candidates(looks, asked, len(training), base.method, accelerator)
    folder = _Folder(source, paths, training, training[:0], held_out, asked)
    learners = [folder.prepare(candidate)[1] for candidate in to_compare]  # refuses wrong settings
    if len(to_compare) > 1 or isinstance(learners[0].method, Combines):
        folder.rating, folder.training = set_aside(training, base.seed)
    introduction = _introduction(source, len(paths), looks, len(held_out), given, asked)
    for line in filter(None, (*introduction, others)):
        progress.say(line)
    work = out.with_name(out.name + ".partial")
    there = {path.name for path in work.iterdir()} if work.is_dir() else set()
    ours = {name for name in there if name == ".lock" or name.startswith(STARTED)}
    if work.is_symlink() or (there - ours and STARTED not in there):
        raise RequestError(f"{work}: is in the way, and not of an interrupted fit; name another --out")
    events = None
    if scalars:
        if not {out, work}.isdisjoint([scalars.resolve(), *scalars.resolve().parents]):
            raise RequestError(f"--tensorboard {scalars}: lies in --out; name another directory")
        events = tensorboard.EventFile(scalars / out.name, out)
        tensorboard.claim([events])
    with files.writing(out, "--out"):
        work.mkdir(parents=True, exist_ok=True)
        with files.locked(work, out):
            started = Started.read(work, base.seed, details)
            if not (started.epochs and models.is_model(work)):
                _choose_and_train(work, folder, to_compare, started, progress, events)
            os.replace(work, out)
            for name in (STARTED, ".lock", CHECKPOINTS):
                files.remove(out / name)
    if left_out := about_unreadable(out / "unreadable.csv"):
        progress.say(left_out)
    return True


def _images_in(source: Path, holdout: float, max_side: int) -> tuple[list[Path], list[Look], str]:
    """Finds the images, looks at some of them, and says which other files there are."""
    if not 0 < holdout < 1:
        raise RequestError(f"--holdout {holdout}: expected a share between 0 and 1")
    paths, others = folders.find_normal_images(source)
    if len(paths) < _LEAST_IMAGES:
        needed = f"at least {_LEAST_IMAGES} are needed; endings read: {folders.ENDINGS}"
        raise RequestError(f"{source}: {len(paths)} images in it, {needed}")
    looks = look_at(paths, max_side)
    if not looks:
        reasons = Counter(_why_unreadable(path, max_side) for path in paths[:_ASKED])
        (reason, _), *_ = reasons.most_common(1)
        raise RequestError(f"{source}: none of the {len(paths)} images there can be read; mostly: {reason}")
    return paths, looks, others


def _why_unreadable(path: Path, max_side: int) -> str:
    try:
        Reader(max_side=max_side).read(path)
    except UnreadableImageError as error:
        return error.reason
    return "unknown"


def _asked(base: Experiment, assignments: Sequence[str]) -> dict[str, Any]:
    given = [text.partition("=")[0] for text in assignments]
    if only_run := [field for field in _ONLY_RUN if field in given]:
        raise RequestError(f"--set {only_run[0]}: is only for itae run")
    return asked_for(base, assignments)


def _introduction(
    source: Path, count: int, looks: Sequence[Look], num_held_out: int, minutes: float | None, asked: dict
) -> Iterator[str]:
    """Says in a few lines what was found and asked for."""
    sizes = sorted((look.width * look.height, f"{look.width}x{look.height}") for look in looks)
    (_, least), (_, most) = sizes[0], sizes[-1]
    yield f"{count} images in {source}, {least if least == most else f'{least} to {most}'} pixels"
    share = f"{100 * num_held_out / count:.0f} %"
    yield f"{num_held_out} of them ({share}) are calibration images: not trained on, they give the threshold"
    if minutes is not None:
        yield f"choosing and training take about {minutes:g} minute{'s' * (minutes != 1)} (--minutes)"
    if asked:
        yield "as asked: " + " ".join(f"{field}={value}" for field, value in asked.items())


@dataclasses.dataclass
class _Folder:
    """The images of a fit, and what was asked of it."""

    source: Path
    paths: list[Path]
    training: np.ndarray
    rating: np.ndarray  # images that rate, and are not trained on
    held_out: np.ndarray
    asked: dict[str, Any]
    unreadable: dict[str, str] = dataclasses.field(default_factory=dict)

    def prepare(self, candidate: Candidate) -> tuple[Experiment, Learner]:
        """The settings of a candidate and its compiled method."""
        place = {"name": "fit", "data.name": "folder", "data.root": str(self.source.resolve())}
        chosen = {choice.field: choice.value for choice in candidate.choices}
        kept = {"train.checkpoint_minutes": 1.0}
        settings = experiment.from_flat(place | kept | chosen | candidate.settings | self.asked)
        return models.prepare(settings, self.reader(settings).shape, len(self.training))

    def reader(self, settings: Experiment) -> Reader:
        return folders.make_reader(settings.data, fit="stretch")

    def variety(self, settings: Experiment) -> Variety | None:
        """How much the training images differ; None if too few can be read."""
        reader = Reader(objects.SIDE, 1, "stretch", settings.data.max_side)
        some = [self.paths[index] for index in self.training[:: math.ceil(len(self.training) / objects.MOST)]]
        images = lazy(settings.data, reader.read, some, reader.shape, self.unreadable).in_memory()
        read = [batch for _, batch in images.batches(objects.MOST)]
        return objects.variety(np.concatenate(read)) if read else None

    def images(self, settings: Experiment) -> LazyImages:
        reader = self.reader(settings)
        return lazy(settings.data, reader.read, self.paths, reader.shape, self.unreadable)


def _choose_and_train(
    work: Path,
    folder: _Folder,
    to_compare: list[Candidate],
    started: Started,
    progress: Progress,
    events: tensorboard.EventFile | None,
) -> None:
    """Chooses a candidate, unless that was done, and trains it into `work`."""
    chosen = next((candidate for candidate in to_compare if candidate.title == started.chosen), None)
    if chosen is None:
        chosen = _choose(folder, to_compare, started, progress)
    if chosen.for_objects:  # no surrogates rate it
        folder.training, folder.rating = np.union1d(folder.training, folder.rating), folder.rating[:0]
    settings, learner = folder.prepare(chosen)
    if (minutes := started.details["minutes"]) is not None:
        left = max(60 * minutes - started.seconds, 6 * minutes)
        learner = learner.with_epochs(started.epochs or _epochs(learner, left, len(folder.training)))
    settings = dataclasses.replace(settings, train=learner.trainer.config)
    if not started.epochs:
        started.epochs = settings.train.epochs
        started.write()
    details = started.details | ({"ratings": started.ratings} if started.ratings else {})
    _train(work, settings, learner, folder, details, progress, events)


def _choose(folder: _Folder, to_compare: list[Candidate], started: Started, progress: Progress) -> Candidate:
    """Rates the candidates that are not yet rated, where there are several, and notes the best one."""
    for_defects = [candidate for candidate in to_compare if not candidate.for_objects]
    for_objects = to_compare[len(for_defects) :]
    start, variety = time.monotonic(), None
    if for_objects and len(folder.rating):
        variety = folder.variety(folder.prepare(for_defects[0])[0])
        started.seconds += time.monotonic() - start
    may_be_objects = variety is not None and variety.of_objects
    most_rated = len(folder.rating) if may_be_objects else _RATED_BRIEFLY
    chosen = for_defects[0]
    if len(folder.rating) and (may_be_objects or len(for_defects) > 1):
        for candidate in for_defects:
            if candidate.title not in started.ratings:
                start = time.monotonic()
                try:
                    rating = _try(folder, candidate, started, progress, most_rated)
                except DivergedError as error:
                    progress.say(f"{candidate.title}: {error}")
                    rating = 0.0
                started.ratings[candidate.title] = rating
                started.seconds += time.monotonic() - start
                started.write()
        title = best(started.ratings)
        chosen = next(candidate for candidate in for_defects if candidate.title == title)
        if may_be_objects and 0 < started.ratings[title] < _POOR:
            chosen = for_objects[0]
    started.chosen = chosen.title
    started.write()
    for line in _about_choice(started.ratings, chosen, variety, for_defects[0]):
        progress.say(line)
    return chosen


def _try(folder: _Folder, candidate: Candidate, started: Started, progress: Progress, most_rated: int) -> float:
    """Trains a candidate for a short time; returns its rating."""
    progress.say(f"trying: {candidate.title}")
    minutes, seed = started.details["minutes"], started.seed
    settings, learner = folder.prepare(candidate)
    most = max(_MOST_TRIED, 2 * settings.train.batch_size)  # so that half of these are a batch
    some = folder.training[:: math.ceil(len(folder.training) / most)]
    epochs = (
        _epochs(learner, 60 * minutes * _SHARE_TRIED, len(some))
        if minutes
        else math.ceil(_SHARE_TRIED * settings.train.epochs)
    )
    learner = learner.with_epochs(epochs)
    images = folder.images(settings).select(some).in_memory()
    few = images.select(np.arange(len(images))[:: math.ceil(len(images) / _RATED_BRIEFLY)])
    trained = learner.fit(images, (seed,), lambda *_: None, calibrated_on=few)
    rating = folder.rating[:: math.ceil(len(folder.rating) / most_rated)]
    return rated(trained, folder.images(settings).select(rating), folder.reader(settings), seed)[1]


def _about_choice(
    ratings: dict[str, float], chosen: Candidate, variety: Variety | None, usual: Candidate
) -> Iterator[str]:
    """Says what was compared and chosen, and why."""
    if ratings:
        yield "AUROC of normal images against surrogate anomalies made of them; this compares the candidates,"
        yield "and is no promise about real anomalies:"
        for title, rating in ratings.items():
            yield f"  {title:<28} {100 * rating:5.1f}{'  chosen' if title == chosen.title else ''}"
    if chosen.for_objects:
        yield "surrogate defects are hardly found, and the images look like photographs of objects:"
        yield f"  {variety}"
        yield "so other kinds of objects count as anomalies; if yours are defects:"
        yield f"  --set method.name={usual.settings['method.name']}"
    yield "chosen, change any by --set FIELD=VALUE:"
    for field, value in chosen.settings.items():
        yield f"  {field}={value}"
    for choice in chosen.choices:
        yield f"  {f'{choice.field}={choice.value}':<28} {choice.reason}"


def _epochs(learner: Learner, seconds: float, num_images: int) -> int:
    """How many passes over the images take so long on these devices; 1 for a method of one pass."""
    if learner.config.ONE_PASS:
        return 1
    steps = max(1, num_images // learner.trainer.config.batch_size)
    return max(1, round(seconds / (steps * learner.trainer.seconds_per_step(learner.image_shape))))


def _train(
    work: Path,
    settings: Experiment,
    learner: Learner,
    folder: _Folder,
    details: dict,
    progress: Progress,
    events: tensorboard.EventFile | None,
) -> None:
    """Trains, from the newest checkpoint if there is one, and writes the model into `work`."""
    train = settings.train
    log = MetricsLog(work / "metrics.jsonl", {}, events)
    every, kept = train.checkpoint_minutes, train.keep_checkpoints
    checkpoints = Checkpoints(work / CHECKPOINTS, every, kept, progress.say)

    def on_report(report, trained_so_far):
        progress.epoch("", report.epoch, report.loss, report.learning_rate)
        log.add({"epoch": report.epoch, **report.metrics, "learning_rate": report.learning_rate})

    on_step = functools.partial(progress.step, "")
    progress.start(1, train.epochs)
    images = folder.images(settings)
    training, held_out = images.select(folder.training).in_memory(), images.select(folder.held_out)
    for warning in learner.warnings(training):
        progress.say(warning)
    trained = learner.fit(training, (settings.seed,), on_report, checkpoints, on_step)
    log.finish({"epoch": train.epochs})
    progress.say("scoring the calibration images")
    rating, weigh = folder.rating, bool(len(folder.rating))
    if not weigh:  # none were set aside; nothing is fitted to the calibration set
        rating = folder.held_out[:: math.ceil(len(folder.held_out) / _RATED_BRIEFLY)]
    progress.say(f"rating by {len(rating) * len(surrogates.FAMILIES)} surrogate anomalies")
    reader, seed = folder.reader(settings), settings.seed
    trained, auroc, ratings = rated(trained, images.select(rating), reader, seed, weigh)
    progress.say(f"AUROC on surrogate anomalies {100 * auroc:.1f}; no promise about real ones")
    if auroc < _POOR:
        progress.say("chance is 50: the model may find few defects")
        if others := settings.method.FOR_OBJECTS:
            remedy = " ".join(f"{field}={value}" for field, value in others.items())
            progress.say(f"if anomalies are other kinds of objects, try --set {remedy}")
    if isinstance(learner.method, Combines):
        weights = learner.method.weights(trained.calibration).items()
        progress.say("the score combines:")
        for name, weight in weights:
            alone = f", AUROC alone {100 * ratings[name]:.1f}" if name in ratings else ""
            progress.say(f"  {name.removeprefix('score_'):<10} {100 * weight:2.0f} %{alone}")
    normal = NormalScores.measure(trained, held_out, [str(path.absolute()) for path in held_out.keys])
    counts = {"num_train": trained.num_train, "num_held_out": len(normal.ids)}
    details = details | {"surrogate_auroc": auroc} | counts
    add_unreadable(work / "unreadable.csv", folder.unreadable)
    TrainedModel(settings, learner.image_shape, trained, normal, details).write(work)
    progress.finished(
        f"Calibration scores: median {np.median(normal.scores_N):.2f}, maximum {normal.scores_N.max():.2f}"
    )
