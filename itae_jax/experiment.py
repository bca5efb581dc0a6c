"""Experiment files: Python with a function `get_config()` or `get_configs()`, or the config.json of a run."""

import dataclasses
import json
import runpy
from pathlib import Path
from typing import Any

from itae_jax.config import Experiment, from_json
from itae_jax.errors import RequestError


def read_record(path: Path) -> Experiment:
    """The experiment of a run's config.json, without the environment that it ran in.

    Raises:
      RequestError: it cannot be read.
    """
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(tree, dict):
            tree.pop("environment", None)
        return from_json(json.dumps(tree))
    except json.JSONDecodeError as error:
        raise RequestError(f"{path}: not a config: {error}") from None
    except (OSError, ValueError, RecursionError) as error:
        raise RequestError(f"{path}: {error}") from None


def load(path: Path) -> dict[str, Experiment]:
    """The experiments of a file by variant; under "" the only one, where it has no variants.

    The file is Python, or the config.json of a run, which is then repeated.

    Raises:
      RequestError: no such file, one that fails, or without `get_config` or `get_configs` that return
        what they should.
    """
    if not path.is_file():
        raise RequestError(f"{path}: no such experiment file")
    if path.suffix == ".json":
        return {"": read_record(path)}
    if path.suffix != ".py":
        raise RequestError(
            f"{path}: an experiment is a Python file with a function get_config(), or the config.json of a run"
        )
    try:
        functions = runpy.run_path(str(path))
        if callable(functions.get("get_configs")):
            return _named_variants(functions["get_configs"]())
        if not callable(functions.get("get_config")):
            raise RequestError("an experiment file needs a function get_config()")
        experiment = functions["get_config"]()
        if not isinstance(experiment, Experiment):
            raise RequestError(f"get_config() returned {type(experiment).__name__}, expected Experiment")
        return {"": experiment}
    except RequestError as error:
        raise RequestError(f"{path}: {error}") from None
    except SyntaxError as error:
        raise RequestError(f"{path}: line {error.lineno}: {error.msg}") from None
    except (Exception, SystemExit) as error:  # whatever the user's own code does
        raise RequestError(f"{path}: {type(error).__name__}: {error}") from None


def _named_variants(experiments: Any) -> dict[str, Experiment]:
    if not isinstance(experiments, dict) or not experiments:
        raise RequestError("get_configs() returned no dictionary of experiments by variant")
    for variant, experiment in experiments.items():
        if not isinstance(experiment, Experiment) or not isinstance(variant, str) or not variant:
            raise RequestError(f"get_configs()[{variant!r}]: expected a name and an Experiment")
    if len({experiment.name for experiment in experiments.values()}) > 1:
        raise RequestError("get_configs(): the variants of an experiment share its name")
    return {
        variant: dataclasses.replace(experiment, variant=variant) for variant, experiment in experiments.items()
    }
