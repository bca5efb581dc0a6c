"""A sweep: one experiment for several normal classes and seeds."""

import dataclasses
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from itae_jax import config, data, evaluate, measures, results
from itae_jax.config import Experiment
from itae_jax.errors import RequestError

_ILLUSTRATED = 11


class Progress(Protocol):
    """Who is told how a sweep goes."""

    def start(self, jobs: int, epochs: int) -> None:
        """So many trainings of so many epochs follow."""

    def epoch(self, name: str, seed: int, epoch: int, loss: float, rate: float) -> None:
        """The training of class `name` has done `epoch` epochs."""

    def finished(self, row: dict[str, str]) -> None:
        """A row of results.csv was written."""

    def unreadable(self, rows: list[dict[str, str]], path: Path) -> None:
        """Images were left out because they cannot be read; `path` lists them."""


def run(
    experiment: Experiment,
    out: Path,
    classes: Sequence[str] | None,
    seeds: Sequence[int],
    progress: Progress,
    paper_directory: Path | None = None,
) -> tuple[list[dict[str, str]], int]:
    """Runs what is not finished yet of classes x seeds.

    Args:
      classes: indices or names; all if None.
      paper_directory: where `<experiment.paper_table>.csv` holds the paper's numbers.

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
    paper = _paper_rows(experiment, dataset, paper_directory)

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
    name = dataset.class_names[normal_class]
    directory = results.job_directory(out, normal_class, seed)
    directory.mkdir(parents=True, exist_ok=True)
    _forget_metrics(out / "metrics.jsonl", normal_class, seed)

    train_images, test_images = split.train_images.in_memory(), split.test_images.in_memory()

    def on_report(report, fitted_so_far):
        progress.epoch(name, seed, report.epoch, report.loss, report.learning_rate)
        entry = {"normal_class": normal_class, "seed": seed, **dataclasses.asdict(report)}
        if experiment.evaluate.every_epochs:
            entry["auroc"] = _auroc(split, fitted_so_far().score(test_images).scores_N)
        with (out / "metrics.jsonl").open("a") as file:
            file.write(json.dumps(entry) + "\n")

    start = time.perf_counter()
    fitted = method.fit(train_images, (seed, normal_class), on_report)
    trained = time.perf_counter()
    scores = fitted.score(test_images)
    scored = time.perf_counter()

    readable = np.flatnonzero(~np.isnan(scores.scores_N))
    rows = [
        {"id": split.test_ids[i], "label": split.test_labels[i], "score": repr(float(scores.scores_N[i]))}
        | {key: repr(float(values[i])) for key, values in scores.details.items()}
        for i in readable
    ]
    results.write_csv(directory / "scores.csv", rows)
    fitted.save(directory / "state")
    _write_illustrations(directory / "illustrations.npz", split, test_images, readable, fitted)
    row = {
        "experiment": experiment.name,
        "dataset": dataset.name,
        "method": experiment.method,
        "normal_class": normal_class,
        "normal_class_name": name,
        "seed": seed,
        "epochs": experiment.train.epochs,
        "auroc": f"{_auroc(split, scores.scores_N):.6f}",
        "num_train": fitted.num_train,
        "num_test": len(readable),
        "train_seconds": f"{trained - start:.2f}",
        "score_seconds": f"{scored - trained:.2f}",
        "device": results.describe_devices(method.trainer.devices),
        "dtype": experiment.compute.dtype,
        "width": experiment.model.width,
        "transform": experiment.transform.name,
        "normal_label": split.normal_label,
        "settings": config.settings(experiment),
        "data_copy": dataset.source,
        "commit": results.source_commit(),
        **measures.columns(split, test_images, scores, fitted),
        "variant": experiment.variant,
    }
    results.add_result(out, row)
    progress.finished({key: str(value) for key, value in row.items()})


def _forget_metrics(path: Path, normal_class: int, seed: int) -> None:
    """Drops what a training that did not finish has left, before it starts anew."""
    if not path.exists():
        return
    lines = path.read_text().splitlines(keepends=True)
    if lines and not lines[-1].endswith("\n"):
        lines.pop()
    ours = f'{{"normal_class": {normal_class}, "seed": {seed}, '
    results.write_text(path, "".join(line for line in lines if not line.startswith(ours)))


def _check_split(split: data.OneClassSplit, name: str, experiment: Experiment) -> None:
    if len(split.train_images) < experiment.train.batch_size:
        raise RequestError(
            f"class {name!r} has {len(split.train_images)} training images, less than "
            f"train.batch_size={experiment.train.batch_size}; lower the batch size"
        )
    if split.is_anomaly.all() or not split.is_anomaly.any():
        raise RequestError(
            f"the {len(split.is_anomaly)} test images for class {name!r} are all of one kind, "
            "so AUROC is not defined; raise data.limit_test"
        )


def _auroc(split: data.OneClassSplit, scores_N: np.ndarray) -> float:
    return evaluate.auroc(*measures.judged(split, scores_N))


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


def _paper_rows(experiment: Experiment, dataset: data.Dataset, directory: Path | None) -> list[dict]:
    if not experiment.paper_table or directory is None:
        return []
    path = directory / f"{experiment.paper_table}.csv"
    if not path.is_file():
        raise RequestError(f"paper_table={experiment.paper_table!r}: there is no {path}")
    return [row for row in results.read_csv(path) if results.is_same_dataset(row["dataset"], dataset.name)]
