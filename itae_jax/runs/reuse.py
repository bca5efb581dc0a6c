"""Trainings that another run has done already are taken over, so that one serves several tables."""

import dataclasses
import shutil
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from itae_jax import config
from itae_jax.config import Experiment
from itae_jax.errors import RequestError
from itae_jax.runs import job_files, results, variants
from itae_jax.runs import read as finished
from itae_jax.runs.read import RunResults


def read(directories: Sequence[Path]) -> list[RunResults]:
    """The runs in these directories, each with its variants.

    Raises:
      RequestError: one holds no finished training.
    """
    return [finished.read(path) for directory in directories for path in variants.expand(directory)]


def take(
    runs: Iterable[RunResults],
    experiment: Experiment,
    source: str,
    class_names: Sequence[str],
    jobs: Sequence[tuple[int, int]],
    out: Path,
    say: Callable[[str], None],
) -> None:
    """Copies into `out` what these runs hold of the jobs, where it was made as it would be made now.

    That is by the same config but for names, of the same data. A row keeps the device and commit that it
    was made with. What was not trained to its end is not taken.

    Args:
      source: the data, as a row of results.csv tells.
      class_names: those of the data; a copy of the same name and size may be of others.
      jobs: (normal class, seed) of each training that is wanted.
      say: told of each in a line.

    Raises:
      RequestError: files of a training that would be taken are missing or damaged.
    """
    for run in runs:
        if run.rows[0]["data_copy"] != source or not _is_the_same(run.experiment, experiment):
            continue
        wanted = set(jobs) - results.read_results(out).keys()
        for row in run.measured:
            job = int(row["normal_class"]), int(row["seed"])
            if job in wanted and class_names[job[0]] == row["normal_class_name"]:
                _copy(run, row, job, experiment, out)
                say(
                    f"class {row['normal_class_name']}  seed {row['seed']}  taken from {run.job_directory(row)}"
                )


def _is_the_same(theirs: Experiment, ours: Experiment) -> bool:
    """Whether both give the same results; where the same data lie may differ."""
    data = dataclasses.replace(theirs.data, root=ours.data.root)
    names = {"name": ours.name, "variant": ours.variant, "paper_table": ours.paper_table}
    return not config.differences(dataclasses.replace(theirs, data=data, **names), ours)


def _copy(
    run: RunResults, row: dict[str, str], job: tuple[int, int], experiment: Experiment, out: Path
) -> None:
    """The row comes last: a copy that is cut short before it is made again. Damaged files are not copied."""
    there, here = run.job_directory(row), results.job_directory(out, *job)
    if not there.is_dir():
        raise RequestError(f"{there}: is missing, though results.csv tells of it; leave it out of --reuse")
    root = run.directories[row["normal_class"], row["seed"]]
    unreadable = results.read_unreadable(root / "unreadable.csv")
    job_files.check(there, row)
    shutil.rmtree(here, ignore_errors=True)
    shutil.copytree(there, here)
    of_job = {"normal_class": job[0], "seed": job[1]}
    metrics = results.Metrics(out / "metrics.jsonl", of_job)
    for entry in results.read_metrics(root / "metrics.jsonl"):
        if entry.items() >= of_job.items():
            metrics.add(entry)
    results.add_unreadable(out / "unreadable.csv", unreadable)
    results.add_result(out, row | {"experiment": experiment.name, "variant": experiment.variant})
