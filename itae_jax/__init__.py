"""ITAE in JAX: anomaly detection by restoring what was erased.

The public names below are imported when they are first used, so that `import itae_jax` and `itae --help`
stay fast.
"""

import importlib
from typing import Any

__version__ = "0.1.0"

_MODULES = ("data", "evaluate", "models", "transforms")
_NAMES = {
    "Dataset": "itae_jax.data",
    "Experiment": "itae_jax.experiment",
    "ITAEDetector": "itae_jax.detection.detector",
    "RequestError": "itae_jax.errors",
    "Transform": "itae_jax.transforms",
    "UNet": "itae_jax.models",
    "anomaly_scores": "itae_jax.evaluate",
    "auroc": "itae_jax.evaluate",
    "frame_normality": "itae_jax.evaluate",
    "restoration_errors": "itae_jax.evaluate",
}

__all__ = sorted([*_MODULES, *_NAMES])


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'itae_jax' has no attribute {name!r}")
    module_name = _NAMES.get(name, f"itae_jax.{name}")
    try:
        module = importlib.import_module(module_name)
    except AttributeError as error:  # Python would say no more than "cannot import name"
        raise ImportError(f"importing {module_name} failed: AttributeError: {error}") from error
    return getattr(module, name) if name in _NAMES else module


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
