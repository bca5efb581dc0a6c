"""A sweep: one experiment, trained and scored for several normal classes and seeds."""

import contextlib
import dataclasses
import functools
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np

from itae_jax import data, environment, files, parallel
from itae_jax.data import Images, LazyImages
from itae_jax.data.dataset import Dataset, OneClassSplit
from itae_jax.errors import DamagedError, DivergedError, RequestError, UntrainableError
from itae_jax.evaluate import metrics
from itae_jax.experiment import Experiment, to_json
from itae_jax.progress import Progress
from itae_jax.runs import directory, results, reuse
from itae_jax.runs.results import Result
from itae_jax.training import processes, signals, tensorboard
from itae_jax.training.checkpoint import Checkpoints
from itae_jax.training.learner import Learner, Scores, Trained
from itae_jax.training.log import MetricsLog, about_unreadable, add_unreadable, read_unreadable

_ILLUSTRATED = 11


def run(
    experiment: Experiment,
    out: Path,
    classes: Sequence[str] | None,
    seeds: Sequence[int],
    progress: Progress,
    paper_rows: Callable[[Dataset], list[dict[str, str]]] = lambda dataset: [],
    after_call: Callable[[Any], None] | None = None,
    reused: Sequence[Path] = (),
    scalars: Path | None = None,
) -> tuple[list[Result], int]:
    """Runs what is not finished yet of classes x seeds.

    Args:
      classes: indices or names; None: all.
      paper_rows: the paper's numbers for a data set, which go into the run directory.
      after_call: gets the metrics of each call to the devices.
      reused: directories of other runs, whose trainings are taken where they would be the same.
      scalars: gets TensorBoard's event files, in a directory for each training.

    Returns:
      All results that were asked for, and how many of them are new.

    Raises:
      RequestError: before anything is written, if the request cannot be carried out; later, if a reused
        run turns out to be damaged.
    """
    processes.together(lambda: directory.check_same_experiment(out, experiment))
    scalars = scalars if processes.is_leader() else None
    processes.together(lambda: _check_tensorboard(scalars, out) if scalars else None)
    others = processes.together(lambda: reuse.read(reused) if processes.is_leader() else [])
    dataset = data.load(experiment.data)
    chosen = dataset.trainable if classes is None else map(dataset.class_index, classes)
    jobs = list(dict.fromkeys((normal_class, seed) for normal_class in chosen for seed in seeds))
    limits = experiment.data.limit_train, experiment.data.limit_test
    splits = {normal_class: dataset.split(normal_class, *limits) for normal_class in dict(jobs)}
    for normal_class, split in splits.items():
        if len(split.train_images) < experiment.train.batch_size:
            raise RequestError(
                f"class {dataset.class_names[normal_class]!r} has {len(split.train_images)} training images, "
                f"less than train.batch_size={experiment.train.batch_size}; lower the batch size"
            )
    processes.together(lambda: _check_same_data(out, dataset))

    def decided() -> dict[str, str]:
        names = [dataset.source, *((k, _names_of(split)) for k, split in splits.items())]
        return {"config": to_json(experiment), "classes and seeds": repr(jobs), "data": repr(names)}

    processes.check_same(decided)
    sections = experiment.method, experiment.train, experiment.evaluate, experiment.compute
    learner = Learner(*sections, dataset.image_shape)
    learner.trainer.after_call = after_call
    printed = paper_rows(dataset)

    todo = _todo(jobs, out)
    missing = len(todo)
    if not missing and processes.from_leader(not printed or (out / "paper.csv").exists()):
        return _results_of(jobs, out), 0
    events = {job: tensorboard.EventFile(directory.of_job(scalars, *job), out) for job in todo if scalars}
    processes.together(lambda: tensorboard.claim(events.values()))
    with contextlib.ExitStack() as held:
        processes.together(lambda: held.enter_context(directory.opened(out, experiment)))
        processes.together(lambda: reuse.take(others, experiment, dataset, jobs, out, progress.say))
        todo = _todo(jobs, out)
        if printed:
            files.write_csv(out / "paper.csv", printed)
        if todo:
            progress.start(len(todo), experiment.train.epochs)
            fewest = min((splits[normal_class].train_images for normal_class, _ in todo), key=len)
            for warning in learner.warnings(fewest):
                progress.say(warning)
        for normal_class, seed in todo:
            job = _Job(experiment, out, dataset, splits[normal_class], normal_class, seed, learner, progress)
            job.run(events.get((normal_class, seed)))
            add_unreadable(out / "unreadable.csv", dataset.unreadable)
            if parallel.is_any(signals.requested(), learner.trainer.devices):
                raise KeyboardInterrupt
        if dataset.unreadable:
            path = out / "unreadable.csv"
            progress.say(f"{about_unreadable(path)}:")
            for name, reason in list(read_unreadable(path).items())[:5]:
                progress.say(f"  {name}: {reason}")
    return _results_of(jobs, out), missing


def _check_tensorboard(scalars: Path, out: Path) -> None:
    tensorboard.check_installed()
    if out.resolve() in (scalars.resolve(), *scalars.resolve().parents):
        raise RequestError(f"--tensorboard {scalars}: lies in --out; name another directory")


def _check_same_data(out: Path, dataset: Dataset) -> None:
    for result in results.read(out / "results.csv").values():
        if (result.data_source, result.coverage) != (dataset.source, dataset.coverage):
            raise RequestError(
                f"--out {out}: holds results of other data ({result.data_source}; now {dataset.source}); "
                "name another directory"
            )


def _names_of(split: OneClassSplit) -> tuple:
    """What two processes must find alike: how many images, which, and in which order."""
    order = [str(key) for key in getattr(split.train_images, "keys", ())]
    return len(split.train_images), len(split.test_images), order, split.test_ids


def _todo(jobs: Sequence[tuple[int, int]], out: Path) -> list[tuple[int, int]]:
    """The jobs that are not finished, as process 0 finds them."""
    finished = results.read(out / "results.csv")
    todo = processes.from_leader([job for job in jobs if job not in finished])
    return [(normal_class, seed) for normal_class, seed in todo]


def _results_of(jobs: Sequence[tuple[int, int]], out: Path) -> list[Result]:
    """The results of the jobs; processes other than 0 know only the new ones."""
    found = results.read(out / "results.csv")
    return [found[job] for job in jobs if job in found]


@dataclasses.dataclass(frozen=True)
class _Job:
    """One class with one seed of a sweep."""

    experiment: Experiment
    out: Path
    dataset: Dataset
    split: OneClassSplit
    normal_class: int
    seed: int
    learner: Learner
    progress: Progress

    @property
    def name(self) -> str:
        return f"class {self.dataset.class_names[self.normal_class]}  seed {self.seed}"

    @property
    def directory(self) -> Path:
        return directory.of_job(self.out, self.normal_class, self.seed)

    def run(self, events: tensorboard.EventFile | None) -> None:
        """Trains and scores, from whatever an interrupted run left, and adds the result to results.csv."""
        job = {"normal_class": self.normal_class, "seed": self.seed}
        log = MetricsLog(self.out / "metrics.jsonl", job, events)
        train_images, test_images = self.split.train_images.in_memory(), self.split.test_images.in_memory()
        self.directory.mkdir(parents=True, exist_ok=True)
        result = self._unmeasured(len(train_images), len(test_images))
        try:
            result = self._measured(result, self._fit(train_images, test_images, log), test_images)
        except (DivergedError, UntrainableError) as error:
            result = dataclasses.replace(result, status="failed", note=str(error))
        log.finish({"epoch": result.epochs, "final_auroc": result.auroc})
        results.add(self.out / "results.csv", result)
        outcome = result.note if result.auroc is None else f"AUROC {result.auroc:.4f}"
        if result.train_seconds is not None:
            seconds = f"{result.train_seconds:.2f} s with compiling and calibration"
            outcome += f"  trained in {seconds}, scored in {result.score_seconds:.3f} s"
        self.progress.finished(f"{self.name}  {outcome}")

    def _unmeasured(self, num_train: int, num_test: int) -> Result:
        """What is known before training."""
        return Result(
            experiment=self.experiment.name,
            dataset=self.dataset.name,
            method=self.experiment.method.NAME,
            normal_class=self.normal_class,
            normal_class_name=self.dataset.class_names[self.normal_class],
            seed=self.seed,
            epochs=self.experiment.train.epochs,
            auroc=None,
            num_train=num_train,
            num_test=num_test,
            train_seconds=None,
            score_seconds=None,
            device=environment.describe_devices(self.learner.trainer.devices),
            dtype=self.experiment.compute.dtype,
            normal_label=self.split.normal_label,
            data_source=self.dataset.source,
            coverage=self.dataset.coverage,
            num_videos=len(set(self.split.video_ids)) or None,
            commit=environment.source_commit(),
            variant=self.experiment.variant,
        )

    def _fit(self, train_images: Images, test_images: Images, log: MetricsLog) -> Trained:
        """The method as an earlier run trained it, if it came that far; else trains it."""
        state, settings = self.directory / "state", self.experiment.train
        found = processes.arrays_from_leader(lambda: self._read(state))
        if found is not None:
            return self.learner.trained(*found)
        kept = settings.checkpoint_minutes, settings.keep_checkpoints
        checkpoints = Checkpoints(self.directory / "checkpoints", *kept, self.progress.say)

        def on_report(report, trained_so_far):
            self.progress.epoch(self.name, report.epoch, report.loss, report.learning_rate)
            entry = {"epoch": report.epoch, **report.metrics, "learning_rate": report.learning_rate}
            if self.experiment.evaluate.every_epochs:
                is_anomaly, scores = _judged(self.split, trained_so_far().score(test_images).scores_N)
                entry["auroc"] = None if _why_undefined(is_anomaly) else metrics.auroc(is_anomaly, scores)
            log.add(entry)

        seeds, on_step = (self.seed, self.normal_class), functools.partial(self.progress.step, self.name)
        trained = self.learner.fit(train_images, seeds, on_report, checkpoints, on_step)
        if processes.is_leader():
            trained.save(state)
            checkpoints.remove()
        return trained

    def _read(self, state: Path) -> tuple | None:
        try:
            return self.learner.read(state) if state.exists() else None
        except DamagedError as error:
            self.progress.say(f"{error}; training again")
            return None

    def _measured(self, result: Result, trained: Trained, test_images: Images) -> Result:
        """Scores the test images, writes what a report shows, and returns the measures."""
        self.progress.say(f"{self.name}  scoring {len(test_images)} test images")
        # A resumed run has not compiled scoring yet.
        trained.score(test_images.select(np.arange(len(test_images))[:1]))
        start = time.perf_counter()
        scores = trained.score(test_images)
        seconds = time.perf_counter() - start
        readable = np.flatnonzero(~np.isnan(scores.scores_N))
        _write_scores(self.directory / "scores.csv", self.split, scores, readable)
        if len(readable):
            path = self.directory / "illustrations.npz"
            _write_illustrations(path, self.split, test_images, readable, trained)
        result = dataclasses.replace(
            result,
            num_train=trained.num_train,
            num_test=len(readable),
            train_seconds=trained.train_seconds,
            score_seconds=seconds,
        )
        return _with_measures(result, self.split, test_images, scores, trained)


def _judged(split: OneClassSplit, scores_N: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(is anomaly, score) of the readable test images; of video normalised within each (Eq. 4)."""
    readable = ~np.isnan(scores_N)
    scores_R = scores_N[readable]
    if split.video_ids:
        scores_R = 1 - metrics.frame_normality(scores_R, np.asarray(split.video_ids)[readable])
    return split.is_anomaly[readable], scores_R


def _why_undefined(is_anomaly_N: np.ndarray) -> str:
    """Why test images have no AUROC; empty if they have one."""
    if is_anomaly_N.any() and not is_anomaly_N.all():
        return ""
    if not len(is_anomaly_N):
        return "AUROC is not defined: no test image can be read"
    kind = "anomalous" if is_anomaly_N.any() else "normal"
    return f"AUROC is not defined: the {len(is_anomaly_N)} test images are all {kind}"


def _with_measures(
    result: Result, split: OneClassSplit, test_images: Images, scores: Scores, trained: Trained
) -> Result:
    is_anomaly, judged = _judged(split, scores.scores_N)
    if why := _why_undefined(is_anomaly):
        return dataclasses.replace(result, status="undefined", note=why)
    further = {
        name.removeprefix("score_"): metrics.auroc(*_judged(split, values_N))
        for name, values_N in scores.columns.items()
        if name.startswith("score_")
    }
    measures: dict[str, Any] = metrics.of_images(is_anomaly, judged)
    readable = np.flatnonzero(~np.isnan(scores.scores_N))
    masks = split.masks(readable)
    if trained.learner.has_maps and any(mask is not None and mask.any() for mask in masks):
        known = readable[[mask is not None for mask in masks]]
        maps = list(trained.anomaly_maps(test_images.select(known)))
        if split.without_bars and isinstance(split.test_images, LazyImages):
            paths = split.test_images.select(known).keys
            maps = [split.without_bars(one, path) for one, path in zip(maps, paths, strict=True)]
        measures |= metrics.of_pixels([mask for mask in masks if mask is not None], maps)
    memory = trained.memory_bytes()
    return dataclasses.replace(
        result,
        auroc=metrics.auroc(is_anomaly, judged),
        num_anomalous=int(is_anomaly.sum()),
        score_memory_mib=None if memory is None else memory / 2**20,
        further_aurocs=further,
        **measures,
    )


def _write_scores(path: Path, split: OneClassSplit, scores: Scores, readable: np.ndarray) -> None:
    rows = [
        {"id": split.test_ids[i], "label": split.test_labels[i], "score": repr(float(scores.scores_N[i]))}
        | {key: repr(float(values[i])) for key, values in scores.columns.items()}
        for i in readable
    ]
    files.write_csv(path, rows, ["id", "label", "score", *scores.columns])


def _write_illustrations(
    path: Path, split: OneClassSplit, test_images: Images, readable: np.ndarray, trained: Trained
) -> None:
    """Writes two normal test images and the first one of some other labels, as the method sees them."""
    labels = np.asarray(split.test_labels)[readable]
    normal = readable[labels == split.normal_label][:2]
    _, first = np.unique(labels, return_index=True)
    other = readable[[i for i in first if labels[i] != split.normal_label]]
    spread = np.linspace(0, len(other) - 1, min(len(other), _ILLUSTRATED - len(normal))).astype(int)
    shown = np.concatenate([normal, other[spread]])
    (_, originals), *_ = test_images.batches(len(shown), shown)
    masks = split.masks(shown)
    np.savez_compressed(
        path,
        labels=np.asarray(split.test_labels)[shown],
        is_anomaly=split.is_anomaly[shown],
        originals=originals,
        masks=np.stack([np.zeros(originals.shape[1:3], bool) if mask is None else mask for mask in masks]),
        **cast(Any, trained.illustrate(originals)),
    )
