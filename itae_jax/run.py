"""A sweep: one experiment for several normal classes and seeds."""

import contextlib
import dataclasses
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from itae_jax import config, data, measures, results
from itae_jax.checkpoint import Checkpoints
from itae_jax.config import Experiment
from itae_jax.errors import DamagedError, DivergedError, RequestError

_ILLUSTRATED = 11


class Progress(Protocol):
    """Who is told how a sweep goes."""

    def start(self, jobs: int, epochs: int) -> None:
        """So many trainings of so many epochs follow."""

    def epoch(self, name: str, seed: int, epoch: int, loss: float, rate: float) -> None:
        """The training of class `name` has done `epoch` epochs."""

    def finished(self, row: dict[str, str]) -> None:
        """A row of results.csv was written."""

    def notice(self, text: str) -> None:
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
) -> tuple[list[dict[str, str]], int]:
    """Runs what is not finished yet of classes x seeds.

    Args:
      classes: indices or names; all if None.
      paper_file: CSV file of the paper's numbers, copied into the run directory.

    Returns:
      All rows of results.csv that were asked for, and how many of them are new.

    Raises:
      RequestError: before anything is written, if the request cannot be carried out.
    """
    from itae_jax.method import ITAE

    results.check_same_experiment(out, experiment)
    dataset = data.load(experiment.data)
    chosen = dataset.trainable if classes is None else map(dataset.class_index, classes)
    jobs = list(dict.fromkeys((normal_class, seed) for normal_class in chosen for seed in seeds))
    limits = experiment.data.limit_train, experiment.data.limit_test
    splits = {normal_class: dataset.split(normal_class, *limits) for normal_class in dict(jobs)}
    for normal_class, split in splits.items():
        _check_split(split, dataset.class_names[normal_class], experiment)
    method = ITAE(experiment, dataset.image_shape)
    paper = _paper_rows(experiment, dataset, paper_file)

    if all(job in results.read_results(out) for job in jobs):
        return _rows_of(jobs, out), 0
    results.create(out, experiment)
    with results.locked(out):
        finished = results.read_results(out)
        todo = [job for job in jobs if job not in finished]
        if paper:
            results.write_csv(out / "paper.csv", paper)
        progress.start(len(todo), experiment.train.epochs)
        for normal_class, seed in todo:
            _run_job(experiment, out, dataset, splits[normal_class], normal_class, seed, method, progress)
        if dataset.unreadable:
            rows = [{"image": name, "reason": why} for name, why in sorted(dataset.unreadable.items())]
            results.write_csv(out / "unreadable.csv", rows)
            progress.unreadable(rows, out / "unreadable.csv")
    return _rows_of(jobs, out), len(todo)


def _rows_of(jobs, out: Path) -> list[dict[str, str]]:
    rows = results.read_results(out)
    return [rows[job] for job in jobs]


def _run_job(experiment, out, dataset, split, normal_class, seed, method, progress) -> None:
    """Trains and scores one class with one seed, from whatever an interrupted run left of it."""
    train_images, test_images = split.train_images.in_memory(), split.test_images.in_memory()
    directory = results.job_directory(out, normal_class, seed)
    directory.mkdir(parents=True, exist_ok=True)
    row = {
        "experiment": experiment.name,
        "dataset": dataset.name,
        "method": experiment.method,
        "normal_class": normal_class,
        "normal_class_name": dataset.class_names[normal_class],
        "seed": seed,
        "epochs": experiment.train.epochs,
        "num_train": len(train_images),
        "num_test": len(test_images),
        "device": results.describe_devices(method.trainer.devices),
        "dtype": experiment.compute.dtype,
        "width": experiment.model.width,
        "transform": experiment.transform.name,
        "normal_label": split.normal_label,
        "settings": config.settings(experiment),
        "data_copy": dataset.source,
        "commit": results.source_commit(),
        "variant": experiment.variant,
    }
    try:
        fitted, train_seconds = _fit(
            experiment, out, train_images, test_images, split, row, directory, method, progress
        )
    except DivergedError as error:
        row |= {"note": f"{results.FAILED}{error}"}
    else:
        start = time.perf_counter()
        scores = fitted.score(test_images)
        seconds = time.perf_counter() - start
        readable = np.flatnonzero(~np.isnan(scores.scores_N))
        row |= {
            "num_train": fitted.num_train,
            "num_test": len(readable),
            "train_seconds": f"{train_seconds:.2f}",
            "score_seconds": f"{seconds:.2f}",
            **measures.columns(split, test_images, scores, fitted),
        }
        _write_scores(directory / "scores.csv", split, scores, readable)
        _write_illustrations(directory / "illustrations.npz", split, test_images, readable, fitted)
    results.add_result(out, row)
    progress.finished({column: str(row.get(column, "")) for column in results.COLUMNS})


def _fit(experiment, out, train_images, test_images, split, row, directory, method, progress):
    """The fitted method and the seconds that training took."""
    state = directory / "state"
    if state.exists():  # an earlier run came as far as this, but not to the row
        try:
            fitted, facts = method.load(state)
            return fitted, facts["train_seconds"]
        except DamagedError as error:
            progress.notice(f"{error}; training again")
    job = {"normal_class": row["normal_class"], "seed": row["seed"]}
    settings = experiment.train
    checkpoints = Checkpoints(
        directory / "checkpoints", settings.checkpoint_minutes, settings.keep_checkpoints, progress.notice
    )
    metrics = _Metrics(out / "metrics.jsonl", job)

    def on_report(report, fitted_so_far):
        progress.epoch(row["normal_class_name"], row["seed"], report.epoch, report.loss, report.learning_rate)
        entry = dataclasses.asdict(report)
        if experiment.evaluate.every_epochs:
            entry["auroc"] = measures.auroc(split, fitted_so_far().score(test_images).scores_N)
        metrics.add(entry)

    fitted = method.fit(train_images, (row["seed"], row["normal_class"]), on_report, checkpoints)
    fitted.save(state, {"train_seconds": checkpoints.seconds()})
    checkpoints.remove()
    return fitted, checkpoints.seconds()


class _Metrics:
    """The lines of one training in metrics.jsonl."""

    def __init__(self, path: Path, job: dict):
        self._path, self._job, self._going_on = path, job, False

    def add(self, entry: dict) -> None:
        """Adds a line; the first time without what an interrupted run wrote of this epoch and later ones."""
        if not self._going_on:
            self._forget_from(entry["epoch"])
            self._going_on = True
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({**self._job, **entry}) + "\n")

    def _forget_from(self, epoch: int) -> None:
        lines = self._path.read_text(encoding="utf-8").splitlines() if self._path.exists() else []
        kept = []
        for line in lines:
            with contextlib.suppress(ValueError):  # the run was killed while it wrote this one
                found = json.loads(line)
                if {key: found[key] for key in self._job} != self._job or found["epoch"] < epoch:
                    kept.append(line + "\n")
        results.write_text(self._path, "".join(kept))


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
    results.write_csv(path, rows, ["id", "label", "score", *scores.details])


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
    return [row for row in results.read_csv(path) if results.is_same_dataset(row["dataset"], dataset.name)]
