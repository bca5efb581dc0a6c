"""ITAE in JAX: anomaly detection by restoring what was erased.

The public names below are imported when they are first used, so that importing the package, and
`itae --help`, stay fast.
"""

import importlib

__version__ = "0.1.0"

_PUBLIC = {
    "Dataset": "itae_jax.data",
    "ITAEDetector": "itae_jax.detection.detector",
    "Experiment": "itae_jax.config",
    "RequestError": "itae_jax.errors",
    "Transform": "itae_jax.transforms",
    "UNet": "itae_jax.models",
    "anomaly_scores": "itae_jax.evaluate.restoration",
    "auroc": "itae_jax.evaluate.restoration",
    "frame_normality": "itae_jax.evaluate.restoration",
    "restoration_errors": "itae_jax.evaluate.restoration",
}

__all__ = sorted(_PUBLIC)


def __getattr__(name: str):
    if name in _PUBLIC:
        return getattr(importlib.import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'itae_jax' has no attribute {name!r}")


def __dir__():
    return sorted([*globals(), *_PUBLIC])
