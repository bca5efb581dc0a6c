"""Data sets by name, and the one-class protocol."""

from itae_jax.config import DataConfig
from itae_jax.data import digits
from itae_jax.data.one_class import Dataset, OneClassSplit, one_class_split
from itae_jax.errors import RequestError

__all__ = ["Dataset", "OneClassSplit", "load", "names", "one_class_split"]

_LOADERS = {"digits": digits.load}


def names() -> list[str]:
    """The data sets that `load` knows."""
    return list(_LOADERS)


def load(config: DataConfig) -> Dataset:
    """The data set of a config, its limits not applied.

    Raises:
      RequestError: no data set of that name.
    """
    if config.name not in _LOADERS:
        raise RequestError(f"data.name={config.name!r}: choose from {', '.join(_LOADERS)}")
    return _LOADERS[config.name](config)
