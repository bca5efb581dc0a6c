"""Takes trainings from other runs, so that one training serves several tables."""

import dataclasses
import shutil
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from itae_jax import experiment
from itae_jax.data.dataset import Dataset
from itae_jax.errors import RequestError
from itae_jax.experiment import Experiment
from itae_jax.runs import directory, results
from itae_jax.runs import read as finished
from itae_jax.runs.read import RunResults
from itae_jax.runs.results import Result
from itae_jax.training.log import add_unreadable, copy_metrics, read_unreadable


def read(directories: Sequence[Path]) -> list[RunResults]:
    """The runs in these directories, each with its variants; RequestError if one has no finished training."""
    return [finished.read(run) for path in directories for run in directory.expand(path)]


def take(
    runs: Iterable[RunResults],
    wanted: Experiment,
    dataset: Dataset,
    jobs: Sequence[tuple[int, int]],
    out: Path,
    say: Callable[[str], None],
) -> None:
    """Copies into `out` the finished trainings among the jobs that have the same config and data.

    Names may differ. A result keeps the device and commit of its training.

    Args:
      jobs: (normal class, seed) of each training that is wanted.
      say: gets a line for each.

    Raises:
      RequestError: files of a training that would be taken are missing or damaged.
    """
    for run in runs:
        first = run.results[0]
        same_data = (first.data_source, first.coverage) == (dataset.source, dataset.coverage)
        if not same_data or not experiment.gives_the_same(run.experiment, wanted):
            continue
        missing = set(jobs) - results.read(out / "results.csv").keys()
        for result in run.measured:
            name = result.normal_class_name
            if result.job in missing and dataset.class_names[result.normal_class] == name:
                _copy(run, result, wanted, out)
                say(f"class {name}  seed {result.seed}  taken from {run.job_directory(result)}")


def _copy(run: RunResults, result: Result, wanted: Experiment, out: Path) -> None:
    """Copies one training; adds its result last, so that an interrupted copy is made again."""
    there, here = run.job_directory(result), directory.of_job(out, *result.job)
    if not there.is_dir():
        raise RequestError(f"{there}: is missing, though results.csv lists it; leave it out of --reuse")
    root = run.directories[result.job]
    unreadable = read_unreadable(root / "unreadable.csv")
    finished.check_files(run, result)
    shutil.rmtree(here, ignore_errors=True)
    shutil.copytree(there, here)
    of_job = {"normal_class": result.normal_class, "seed": result.seed}
    copy_metrics(root / "metrics.jsonl", out / "metrics.jsonl", of_job)
    add_unreadable(out / "unreadable.csv", unreadable)
    renamed = dataclasses.replace(result, experiment=wanted.name, variant=wanted.variant)
    results.add(out / "results.csv", renamed)
