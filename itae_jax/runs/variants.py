"""Experiments of several variants: which are run, and where their results go.

Each variant is a run directory of its own, OUT/<variant>/; OUT/variants.json keeps their order.
"""

import dataclasses
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from itae_jax import config, files
from itae_jax import experiment as experiment_files
from itae_jax.config import Experiment
from itae_jax.errors import RequestError

_ORDER = "variants.json"


def load(path: Path, assignments: Iterable[str], chosen: Sequence[str] | None) -> dict[str, Experiment]:
    """The experiments of a file, overridden by the assignments; of its variants the chosen ones.

    Raises:
      RequestError: as `experiment_files.load` and `config.override`; there is no such variant; the
        overrides leave two variants alike.
    """
    experiments = experiment_files.load(path)
    unknown = [name for name in chosen or () if name not in experiments or not name]
    if unknown:
        there = ", ".join(filter(None, experiments)) or "none"
        raise RequestError(f"--variants: {path} has no variant {unknown[0]!r}; its variants: {there}")
    assignments = list(assignments)
    if path.suffix == ".json" and not any(text.startswith("transform.name=") for text in assignments):
        _check_names_no_code(path, experiments)
    overridden = {
        variant: config.override(experiment, assignments)
        for variant, experiment in experiments.items()
        if chosen is None or variant in chosen
    }
    first_of: dict[Experiment, str] = {}
    for variant, experiment in overridden.items():
        other = first_of.setdefault(dataclasses.replace(experiment, variant=""), variant)
        if other != variant:
            raise RequestError(
                f"--set: leaves the variants {other} and {variant} alike; choose one by --variants"
            )
    return overridden


def _check_names_no_code(path: Path, experiments: dict[str, Experiment]) -> None:
    """A record may come from anybody: code that it names runs only if the user names it too."""
    for experiment in experiments.values():
        name = experiment.transform.name
        if ":" in name:
            raise RequestError(
                f"{path}: was run with the transform {name}, code that is not part of itae_jax; if you know "
                f"and trust it, add --set transform.name={name}"
            )


def directories(out: Path, experiments: dict[str, Experiment]) -> dict[str, Path]:
    """The run directory of each variant; `out` itself for an experiment without.

    Raises:
      RequestError: `out` holds results of the other kind of experiment.
    """
    if "" in experiments:
        if (out / _ORDER).exists():
            raise RequestError(f"--out {out}: holds an experiment of several variants; name another directory")
        return {"": out}
    if (out / "config.json").exists():
        raise RequestError(f"--out {out}: holds an experiment without variants; name another directory")
    return {variant: out / variant for variant in experiments}


def remember(out: Path, experiments: dict[str, Experiment]) -> None:
    """Notes that `out` holds these variants, after those that it holds already."""
    if "" in experiments or not out.is_dir():
        return
    order = list(dict.fromkeys([*_order(out), *experiments]))
    if order != _order(out):
        files.write_text(out / _ORDER, json.dumps(order) + "\n")


def expand(directory: Path) -> list[Path]:
    """The run directories with results in a directory that holds several; else the directory itself."""
    if (directory / "results.csv").exists():
        return [directory]
    there = sorted(path.parent.name for path in directory.glob("*/results.csv"))
    order = [variant for variant in _order(directory) if variant in there]
    return [directory / name for name in dict.fromkeys([*order, *there])] or [directory]


def unfinished(directory: Path) -> list[str]:
    """The variants that `directory` holds, by its list, without a finished training."""
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
