"""A sweep: one experiment for several normal classes and seeds."""

import contextlib
import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from itae_jax import config, data, environment, files, parallel
from itae_jax.config import Experiment
from itae_jax.data import Images
from itae_jax.errors import DamagedError, DivergedError, RequestError, UntrainableError
from itae_jax.evaluate import metrics as measures
from itae_jax.methods.itae import ITAE, FittedITAE
from itae_jax.report import paper
from itae_jax.runs import results, reuse
from itae_jax.training import processes
from itae_jax.training import signals as interrupt
from itae_jax.training.checkpoint import Checkpoints
from itae_jax.training.profiling import Profile

_ILLUSTRATED = 11


class Progress(Protocol):
    """Who is told how a sweep goes."""

    def start(self, jobs: int, epochs: int) -> None:
        """So many trainings of so many epochs follow."""

    def step(self, name: str, seed: int, epochs: float) -> None:
        """The training of class `name` has done so many epochs, the last of them in part."""

    def epoch(self, name: str, seed: int, epoch: int, loss: float, rate: float) -> None:
        """The training of class `name` has done `epoch` epochs."""

    def finished(self, row: dict[str, str]) -> None:
        """A row of results.csv was written."""

    def say(self, text: str) -> None:
        """Something that the user should know, in a line."""

    def unreadable(self, rows: list[dict[str, str]], path: Path) -> None:
        """Images were left out because they cannot be read; `path` lists them."""


def run(
    experiment: Experiment,
    out: Path,
    classes: Sequence[str] | None,
    seeds: Sequence[int],
    progress: Progress,
    paper_file: Path | None = None,
    profile: Profile | None = None,
    reused: Sequence[Path] = (),
) -> tuple[list[dict[str, str]], int]:
    """Runs what is not finished yet of classes x seeds.

    Args:
      classes: indices or names; all if None.
      paper_file: CSV file of the paper's numbers, copied into the run directory.
      profile: records some of the steps.
      reused: directories of other runs, whose trainings are taken where they would be the same.

    Returns:
      All rows of results.csv that were asked for, and how many of them are new.

    Raises:
      RequestError: before anything is written, if the request cannot be carried out; later, if a reused
        run turns out to be damaged.
    """
    processes.together(lambda: results.check_same_experiment(out, experiment))
    others = processes.together(lambda: reuse.read(reused) if processes.is_leader() else [])
    dataset = data.load(experiment.data)
    chosen = dataset.trainable if classes is None else map(dataset.class_index, classes)
    jobs = list(dict.fromkeys((normal_class, seed) for normal_class in chosen for seed in seeds))
    limits = experiment.data.limit_train, experiment.data.limit_test
    splits = {normal_class: dataset.split(normal_class, *limits) for normal_class in dict(jobs)}
    for normal_class, split in splits.items():
        _check_split(split, dataset.class_names[normal_class], experiment)
    processes.together(lambda: _check_same_data(out, dataset.source))
    processes.check_same(
        lambda: {
            "config": config.to_json(experiment),
            "classes and seeds": repr(jobs),
            "data": repr([dataset.source, *((k, _names_of(split)) for k, split in splits.items())]),
        }
    )
    method = ITAE(experiment, dataset.image_shape)
    method.trainer.after_call = profile and profile.after_call
    printed = _paper_rows(experiment, dataset, paper_file)

    missing = len(_todo(jobs, out))
    if not missing and processes.from_leader(not printed or (out / "paper.csv").exists()):
        return _rows_of(jobs, out), 0
    with contextlib.ExitStack() as held:
        processes.together(lambda: held.enter_context(results.begun(out, experiment)))
        wanted = dataset.source, dataset.class_names, jobs
        processes.together(lambda: reuse.take(others, experiment, *wanted, out, progress.say))
        todo = _todo(jobs, out)
        if printed:
            files.write_csv(out / "paper.csv", printed)
        if todo:
            progress.start(len(todo), experiment.train.epochs)
        for normal_class, seed in todo:
            _Job(experiment, out, dataset, splits[normal_class], normal_class, seed, method, progress).run()
            results.add_unreadable(out / "unreadable.csv", dataset.unreadable)
            if parallel.is_any(interrupt.requested(), method.trainer.devices):
                raise KeyboardInterrupt
        if dataset.unreadable:
            progress.unreadable(files.read_csv(out / "unreadable.csv"), out / "unreadable.csv")
    return _rows_of(jobs, out), missing


def _check_same_data(out: Path, source: str) -> None:
    for row in results.read_results(out).values():
        if row["data_copy"] != source:
            raise RequestError(
                f"--out {out}: holds results of other data ({row['data_copy']}; now {source}); "
                "name another directory"
            )


def _names_of(split: data.OneClassSplit) -> tuple:
    """What two processes have to find alike: how many images, and in which order which."""
    order = [str(key) for key in getattr(split.train_images, "keys", ())]
    return len(split.train_images), len(split.test_images), order, split.test_ids


def _todo(jobs, out: Path) -> list[tuple[int, int]]:
    """The jobs that are not finished, as the first process finds them."""
    finished = results.read_results(out)
    return [tuple(job) for job in processes.from_leader([job for job in jobs if job not in finished])]


def _rows_of(jobs, out: Path) -> list[dict[str, str]]:
    """The rows of the jobs; processes but the first know of the new ones alone."""
    rows = results.read_results(out)
    return [rows[job] for job in jobs if job in rows]


@dataclasses.dataclass(frozen=True)
class _Job:
    """One class with one seed of a sweep."""

    experiment: Experiment
    out: Path
    dataset: data.Dataset | data.InspectionDataset
    split: data.OneClassSplit
    normal_class: int
    seed: int
    method: ITAE
    progress: Progress

    @property
    def name(self) -> str:
        return self.dataset.class_names[self.normal_class]

    @property
    def directory(self) -> Path:
        return results.job_directory(self.out, self.normal_class, self.seed)

    def run(self) -> None:
        """Trains and scores, from whatever an interrupted run left, and adds the row to results.csv."""
        train_images, test_images = self.split.train_images.in_memory(), self.split.test_images.in_memory()
        self.directory.mkdir(parents=True, exist_ok=True)
        row = self._common() | {"num_train": len(train_images), "num_test": len(test_images)}
        try:
            row |= self._measured(self._fit(train_images, test_images), test_images)
        except (DivergedError, UntrainableError) as error:
            row["note"] = f"{results.FAILED}{error}"
        results.add_result(self.out, row)
        self.progress.finished({column: str(row.get(column, "")) for column in results.COLUMNS})

    def _common(self) -> dict:
        """The columns that are known before training."""
        experiment = self.experiment
        return {
            **results.columns_of(experiment),
            "dataset": self.dataset.name,
            "normal_class": self.normal_class,
            "normal_class_name": self.name,
            "seed": self.seed,
            "device": environment.describe_devices(self.method.trainer.devices),
            "normal_label": self.split.normal_label,
            "data_copy": self.dataset.source,
            "commit": environment.source_commit(),
            "variant": experiment.variant,
        }

    def _fit(self, train_images: Images, test_images: Images) -> FittedITAE:
        """The method as an earlier run fitted it, if it came as far as that, or trained now."""
        state, settings = self.directory / "state", self.experiment.train
        found = processes.arrays_from_leader(lambda: self._read(state))
        if found is not None:
            return self.method.fitted(*found)
        checkpoints = Checkpoints(
            self.directory / "checkpoints",
            settings.checkpoint_minutes,
            settings.keep_checkpoints,
            self.progress.say,
        )
        job = {"normal_class": self.normal_class, "seed": self.seed}
        metrics = results.Metrics(self.out / "metrics.jsonl", job)

        def on_report(report, fitted_so_far):
            self.progress.epoch(self.name, self.seed, report.epoch, report.loss, report.learning_rate)
            entry = dataclasses.asdict(report)
            if self.experiment.evaluate.every_epochs:
                entry["auroc"] = measures.auroc(self.split, fitted_so_far().score(test_images).scores_N)
            metrics.add(entry)

        def on_step(epochs):
            self.progress.step(self.name, self.seed, epochs)

        fitted = self.method.fit(train_images, (self.seed, self.normal_class), on_report, checkpoints, on_step)
        if processes.is_leader():
            fitted.save(state)
            checkpoints.remove()
        return fitted

    def _read(self, state: Path) -> tuple | None:
        try:
            return self.method.read(state) if state.exists() else None
        except DamagedError as error:
            self.progress.say(f"{error}; training again")
            return None

    def _measured(self, fitted: FittedITAE, test_images: Images) -> dict:
        """Scores the test images, writes what there is to look at, and returns the columns on it."""
        # A run that goes on from its state has not compiled scoring yet.
        fitted.score(test_images.select(np.arange(len(test_images))[:1]))
        start = time.perf_counter()
        scores = fitted.score(test_images)
        seconds = time.perf_counter() - start
        readable = np.flatnonzero(~np.isnan(scores.scores_N))
        _write_scores(self.directory / "scores.csv", self.split, scores, readable)
        if len(readable):
            _write_illustrations(
                self.directory / "illustrations.npz", self.split, test_images, readable, fitted
            )
        return {
            "num_train": fitted.num_train,
            "num_test": len(readable),
            "train_seconds": f"{fitted.train_seconds:.2f}",
            "score_seconds": f"{seconds:.3f}",
            **measures.columns(self.split, test_images, scores, fitted),
        }


def _check_split(split: data.OneClassSplit, name: str, experiment: Experiment) -> None:
    if len(split.train_images) < experiment.train.batch_size:
        raise RequestError(
            f"class {name!r} has {len(split.train_images)} training images, less than "
            f"train.batch_size={experiment.train.batch_size}; lower the batch size"
        )


def _write_scores(path: Path, split: data.OneClassSplit, scores, readable: np.ndarray) -> None:
    rows = [
        {"id": split.test_ids[i], "label": split.test_labels[i], "score": repr(float(scores.scores_N[i]))}
        | {key: repr(float(values[i])) for key, values in scores.details.items()}
        for i in readable
    ]
    files.write_csv(path, rows, ["id", "label", "score", *scores.details])


def _write_illustrations(path: Path, split: data.OneClassSplit, test_images, readable, fitted) -> None:
    """Two normal test images and the first one of each of some other labels, as the method sees them."""
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
        has_mask=np.array([mask is not None for mask in masks]),
        masks=np.stack([np.zeros(originals.shape[1:3], bool) if mask is None else mask for mask in masks]),
        **fitted.illustrate(originals),
    )


def _paper_rows(experiment: Experiment, dataset: data.Dataset, path: Path | None) -> list[dict]:
    if not experiment.paper_table or path is None:
        return []
    if not path.is_file():
        raise RequestError(f"paper_table={experiment.paper_table!r}: there is no {path}")
    return [row for row in paper.read(path) if paper.is_same_dataset(row["dataset"], dataset.name)]
