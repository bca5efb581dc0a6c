"""The files of a run directory.

config.json          the experiment, and the environment that it ran in
results.csv          a row for every finished (normal class, seed); see `results`
metrics.jsonl        metrics while training, and the test AUROC where `evaluate.every_epochs` asks for it
unreadable.csv       the images that cannot be read, where there are any
paper.csv            the paper's numbers for this data set, where it has them
class_<k>/seed_<s>/  scores.csv, illustrations.npz and state/; checkpoints/ while training

An experiment of several variants has such a directory for each, OUT/<variant>/, and their order in
OUT/variants.json.
"""

import contextlib
import json
from collections.abc import Collection, Iterator
from pathlib import Path

from itae_jax import environment, experiment, files
from itae_jax.errors import RequestError
from itae_jax.experiment import Experiment

_ORDER = "variants.json"
_REPORT = ("report.html", "report.md", "report.csv", "figures")
_WRITTEN = ("results.csv", "metrics.jsonl", "unreadable.csv", "paper.csv", *_REPORT)


def of_job(out: Path, normal_class: int, seed: int) -> Path:
    """The directory of one training."""
    return out / f"class_{normal_class}" / f"seed_{seed}"


def check_same_experiment(out: Path, wanted: Experiment) -> None:
    """Raises RequestError if `out` holds anything but results of this experiment."""
    if not (out / "config.json").exists():
        _check_free(out)
        return
    different = experiment.differences(_recorded(out / "config.json"), wanted)
    if different and not _is_untouched(out):
        raise RequestError(
            f"--out {out}: holds results of another config ({experiment.as_text(different)}); "
            "undo the change or name another directory"
        )


def _recorded(path: Path) -> Experiment:
    try:
        if b'"environment"' not in path.read_bytes():
            raise RequestError(f"{path}: not written by a run")
        return experiment.read_record(path)
    except (OSError, RequestError) as error:
        raise RequestError(f"--out {path.parent}: {error}; name another directory") from None


def _check_free(out: Path) -> None:
    """Raises RequestError if a directory that is not of a run holds what a run would write over."""
    if out.exists() and not out.is_dir():
        raise RequestError(f"--out {out}: is a file; name a directory")
    there = [out / name for name in _WRITTEN if (out / name).exists()] + sorted(out.glob("class_*"))
    if there:
        raise RequestError(f"--out {out}: holds {there[0].name}, not of a run; name another directory")


def _is_untouched(out: Path) -> bool:
    """Whether no training has started here; the config may then change."""
    return not (out / "results.csv").exists() and not any(out.glob("class_*"))


@contextlib.contextmanager
def opened(out: Path, wanted: Experiment) -> Iterator[None]:
    """Makes and locks a run directory, and writes its config.json; RequestError if another run holds it."""
    with files.writing(out, "--out"):
        out.mkdir(parents=True, exist_ok=True)
    with files.locked(out):
        check_same_experiment(out, wanted)
        if _is_untouched(out):
            record = experiment.as_tree(wanted) | {"environment": environment.describe()}
            with files.writing(out, "--out"):
                files.write_text(out / "config.json", json.dumps(record, indent=2) + "\n")
        yield


def of_variants(out: Path, experiments: Collection[str]) -> dict[str, Path]:
    """The run directory of each variant, or `out` itself; RequestError if it holds the other kind."""
    if "" in experiments:
        if (out / _ORDER).exists():
            raise RequestError(f"--out {out}: holds an experiment of several variants; name another directory")
        return {"": out}
    if (out / "config.json").exists():
        raise RequestError(f"--out {out}: holds an experiment without variants; name another directory")
    if not any((out / name / "config.json").exists() for name in experiments):
        _check_free(out)
    return {variant: out / variant for variant in experiments}


def add_variants(out: Path, experiments: Collection[str]) -> None:
    """Adds variants to the order that `out` keeps."""
    if "" in experiments or not out.is_dir():
        return
    order = list(dict.fromkeys([*_order(out), *experiments]))
    if order != _order(out):
        files.write_text(out / _ORDER, json.dumps(order) + "\n")


def expand(directory: Path) -> list[Path]:
    """The run directories with results inside an experiment of variants; else the directory itself."""
    if (directory / "results.csv").exists():
        return [directory]
    there = sorted(path.parent.name for path in directory.glob("*/results.csv"))
    order = [variant for variant in _order(directory) if variant in there]
    return [directory / name for name in dict.fromkeys([*order, *there])] or [directory]


def unfinished(directory: Path) -> list[str]:
    """The variants of a directory without a finished training."""
    return [variant for variant in _order(directory) if not (directory / variant / "results.csv").exists()]


def _order(out: Path) -> list[str]:
    path = out / _ORDER
    if not path.exists():
        return []
    try:
        order = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise RequestError(f"{path}: is damaged ({error})") from None
    if not isinstance(order, list) or not all(isinstance(name, str) for name in order):
        raise RequestError(f"{path}: is damaged (expected a list of names)")
    return order
