"""A sweep: one experiment for several normal classes and seeds, its results as files.

In the output directory:
  config.json    the experiment and the environment it ran in
  results.csv    a row for every finished (normal class, seed), appended whole
  metrics.jsonl  loss and rate while training, and the AUROC where `evaluate.every_epochs` asks
  paper.csv      the paper's numbers for this data set, where it has them
  class_<k>/seed_<s>/  scores.csv, illustrations.npz, and the trained state
"""

import contextlib
import csv
import dataclasses
import json
import os
import platform
import subprocess
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Protocol

import numpy as np

from itae_jax import config, data, evaluate
from itae_jax.config import Experiment
from itae_jax.errors import RequestError

COLUMNS = [
    *("experiment", "dataset", "method", "normal_class", "normal_class_name", "seed", "epochs", "auroc"),
    *("num_train", "num_test", "train_seconds", "score_seconds", "device"),
    *("dtype", "width", "transform", "data_copy", "commit"),
]
_ILLUSTRATED = 8


class Progress(Protocol):
    """Who is told how a sweep goes."""

    def start(self, jobs: int, epochs: int) -> None:
        """So many trainings of so many epochs follow."""

    def epoch(self, name: str, epoch: int, loss: float, rate: float) -> None:
        """The training of class `name` has done `epoch` epochs."""

    def finished(self, row: dict[str, str]) -> None:
        """A row of results.csv was written."""


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

    _check_same_experiment(out, experiment)
    dataset = data.load(experiment.data)
    chosen = range(len(dataset.class_names)) if classes is None else map(dataset.class_index, classes)
    jobs = list(dict.fromkeys((normal_class, seed) for normal_class in chosen for seed in seeds))
    splits = {}
    for normal_class, _ in jobs:
        limits = experiment.data.limit_train, experiment.data.limit_test
        splits[normal_class] = data.one_class_split(dataset, normal_class, *limits)
        _check_split(splits[normal_class], dataset.class_names[normal_class], experiment)
    method = ITAE(experiment, dataset.image_shape)
    paper = _paper_rows(experiment, dataset, paper_directory)

    todo = [job for job in jobs if job not in _read_results(out)]
    if todo:
        _create(out)
        _write_text(out / "config.json", json.dumps(_record(experiment), indent=2) + "\n")
        if paper:
            _write_csv(out / "paper.csv", list(paper[0]), paper)
        progress.start(len(todo), experiment.train.epochs)
    for normal_class, seed in todo:
        _run_job(experiment, out, dataset, splits[normal_class], normal_class, seed, method, progress)
    results = _read_results(out)
    return [results[job] for job in jobs], len(todo)


def _run_job(experiment, out, dataset, split, normal_class, seed, method, progress) -> None:
    name = dataset.class_names[normal_class]
    directory = out / f"class_{normal_class}" / f"seed_{seed}"
    directory.mkdir(parents=True, exist_ok=True)

    def on_report(report, fitted_so_far):
        progress.epoch(name, report.epoch, report.loss, report.learning_rate)
        entry = {"normal_class": normal_class, "seed": seed, **dataclasses.asdict(report)}
        if experiment.evaluate.every_epochs:
            scores = fitted_so_far().score(split.test_images).scores_N
            entry["auroc"] = evaluate.auroc(split.is_anomaly, scores)
        with (out / "metrics.jsonl").open("a") as file:
            file.write(json.dumps(entry) + "\n")

    start = time.perf_counter()
    fitted = method.fit(split.train_images, (seed, normal_class), on_report)
    trained = time.perf_counter()
    scores = fitted.score(split.test_images)
    scored = time.perf_counter()

    rows = [
        {"id": split.test_ids[i], "label": split.test_labels[i], "score": repr(float(scores.scores_N[i]))}
        | {key: repr(float(values[i])) for key, values in scores.details.items()}
        for i in range(len(split.test_images))
    ]
    _write_csv(directory / "scores.csv", list(rows[0]), rows)
    fitted.save(directory / "state")
    shown = _to_illustrate(split, normal_class)
    np.savez_compressed(
        directory / "illustrations.npz",
        labels=split.test_labels[shown],
        originals=split.test_images[shown],
        **fitted.illustrate(split.test_images[shown]),
    )
    row = {
        "experiment": experiment.name,
        "dataset": dataset.name,
        "method": experiment.method,
        "normal_class": normal_class,
        "normal_class_name": name,
        "seed": seed,
        "epochs": experiment.train.epochs,
        "auroc": f"{evaluate.auroc(split.is_anomaly, scores.scores_N):.6f}",
        "num_train": len(split.train_images),
        "num_test": len(split.test_images),
        "train_seconds": f"{trained - start:.2f}",
        "score_seconds": f"{scored - trained:.2f}",
        "device": describe_devices(method.trainer.devices),
        "dtype": experiment.compute.dtype,
        "width": experiment.model.width,
        "transform": experiment.transform.name,
        "data_copy": dataset.source,
        "commit": _commit(),
    }
    finished = list(_read_results(out).values())
    _write_csv(out / "results.csv", COLUMNS, [*finished, row])
    progress.finished({key: str(value) for key, value in row.items()})


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


def _to_illustrate(split: data.OneClassSplit, normal_class: int) -> np.ndarray:
    """Indices of two normal test images and the first one of each of some other classes."""
    normal = np.flatnonzero(~split.is_anomaly)[:2]
    labels, first = np.unique(split.test_labels, return_index=True)
    other = first[labels != normal_class]
    spread = np.linspace(0, len(other) - 1, min(len(other), _ILLUSTRATED - len(normal))).astype(int)
    return np.concatenate([normal, other[spread]])


def _check_same_experiment(out: Path, experiment: Experiment) -> None:
    if out.exists() and not out.is_dir():
        raise RequestError(f"--out {out}: is a file; name a directory")
    path = out / "config.json"
    if not path.exists():
        if (out / "results.csv").exists():
            raise RequestError(f"--out {out}: has results.csv but no config.json; name another directory")
        return
    different = config.differences(read_config(path), experiment)
    if different:
        raise RequestError(
            f"--out {out}: holds results of another config ({'; '.join(different)}); "
            "undo the change or name another directory"
        )


def read_config(path: Path) -> Experiment:
    """The experiment of a run's config.json.

    Raises:
      RequestError: it cannot be read.
    """
    try:
        tree = json.loads(path.read_text())
        tree.pop("environment", None)
        return config.from_json(json.dumps(tree))
    except (OSError, ValueError, AttributeError) as error:
        raise RequestError(f"{path}: {error}") from None


def _read_results(out: Path) -> dict[tuple[int, int], dict[str, str]]:
    path = out / "results.csv"
    if not path.exists():
        return {}
    with path.open(newline="") as file:
        reader = csv.DictReader(file)
        if reader.fieldnames != COLUMNS:
            raise RequestError(f"{path}: its columns are not those of results.csv; name another --out")
        return {(int(row["normal_class"]), int(row["seed"])): row for row in reader}


def _paper_rows(experiment: Experiment, dataset: data.Dataset, directory: Path | None) -> list[dict]:
    if not experiment.paper_table or directory is None:
        return []
    path = directory / f"{experiment.paper_table}.csv"
    if not path.is_file():
        raise RequestError(f"paper_table={experiment.paper_table!r}: there is no {path}")
    with path.open(newline="") as file:
        return [row for row in csv.DictReader(file) if _plain(row["dataset"]) == _plain(dataset.name)]


def _plain(name: str) -> str:
    return "".join(filter(str.isalnum, name)).lower()


def _create(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RequestError(f"--out {out}: {error.strerror}; name a directory that can be written") from None


def _write_csv(path: Path, columns: Sequence[str], rows: Sequence[dict]) -> None:
    import io

    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    _write_text(path, buffer.getvalue())


def _write_text(path: Path, text: str) -> None:
    """Whole or not at all: a reader never sees half a file, nor does a run that was killed."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)


def _record(experiment: Experiment) -> dict:
    return dataclasses.asdict(experiment) | {"environment": describe_environment()}


def describe_environment() -> dict:
    """Versions, device and commit: what a result has to say of the machine it came from."""
    import jax

    packages = (
        "itae_jax",
        "jax",
        "jaxlib",
        "flax",
        "optax",
        "orbax-checkpoint",
        "numpy",
        "scikit-learn",
        "torch",
    )
    versions = {}
    for package in packages:
        with contextlib.suppress(ModuleNotFoundError):
            versions[package] = version(package)
    return {
        "versions": versions,
        "python": platform.python_version(),
        "device": describe_devices(jax.local_devices()),
        "commit": _commit(),
    }


def describe_devices(devices) -> str:
    kind = devices[0].device_kind
    if devices[0].platform == "cpu":
        with contextlib.suppress(OSError, StopIteration):
            lines = Path("/proc/cpuinfo").read_text().splitlines()
            kind = next(line for line in lines if line.startswith("model name")).split(":")[1].strip()
    return f"{len(devices)} x {kind}"


def _commit() -> str:
    """The commit of this source tree, `+` for uncommitted changes; empty outside a checkout."""
    here = Path(__file__).parent
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--abbrev=12", "--dirty=+", "--exclude=*"],
            cwd=here,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return ""
    return described.stdout.strip()
