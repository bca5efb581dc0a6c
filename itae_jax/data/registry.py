"""Every data set by its name. To add one, write its file and add its specification here."""

import logging
from pathlib import Path

from itae_jax.config import DataConfig
from itae_jax.data import cifar, digits, folders, imagenet, mnist, mvtec_ad, shanghaitech, tfds
from itae_jax.data.dataset import Dataset
from itae_jax.errors import RequestError

_LOG = logging.getLogger(__name__)
_SPECS = (
    *(digits.SPEC, mnist.MNIST, mnist.FASHION_MNIST, cifar.CIFAR10, cifar.CIFAR100),
    *(imagenet.SPEC, mvtec_ad.SPEC, shanghaitech.SPEC, folders.SPEC),
)
CATALOGUE = {spec.name: spec for spec in _SPECS}


def load(config: DataConfig) -> Dataset:
    """Loads the data set of a config, without its limits."""
    if config.name not in CATALOGUE:
        raise RequestError(f"data.name={config.name!r}: choose from {', '.join(CATALOGUE)}")
    dataset = CATALOGUE[config.name].load(config)
    _LOG.info("data: %s", dataset.source)
    return dataset


def prepare(name: str, root: str, manual_dir: str) -> Path:
    """Prepares a data set by TFDS in `root`; returns its directory."""
    preparable = [key for key, spec in CATALOGUE.items() if spec.preparable]
    if name not in preparable:
        more = f"; {name}: {CATALOGUE[name].get}" if name in CATALOGUE else ""
        raise RequestError(f"itae data prepare {name}: choose from {', '.join(preparable)}{more}")
    return tfds.prepare(name, root, manual_dir)
