"""Four virtual CPU devices, strict dtype and rank promotion; has to come before JAX computes."""

import atexit
import contextlib
import os
import tempfile
from pathlib import Path

os.environ["JAX_PLATFORMS"] = "cpu"
# Unoptimised code compiles three times faster, and the tests compile more than they compute.
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=4 --xla_backend_optimization_level=0"

# What several tests and the processes that they start compile alike is compiled once.
_cache = tempfile.TemporaryDirectory()
atexit.register(_cache.cleanup)  # left to itself it warns
os.environ["JAX_COMPILATION_CACHE_DIR"] = _cache.name
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"

import jax
import numpy as np
import pytest
import tiny_net

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")

from itae_jax import models, transforms
from itae_jax.config import ComputeConfig, TrainConfig
from itae_jax.methods import itae as method
from itae_jax.training.trainer import Trainer


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture(scope="session")
def scripts():
    """Makes the scripts of experiments/ importable."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(Path(__file__).parent.parent / "experiments")
        yield


@contextlib.contextmanager
def training_tiny_networks():
    """Within it every experiment trains a TinyNet, and what is kept of others is forgotten."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(models, "build", tiny_net.build)
        method._kept.cache_clear()
        yield
    method._kept.cache_clear()


@pytest.fixture(scope="module")
def tiny_network():
    """Makes every experiment train a TinyNet, for tests of what surrounds the training."""
    with training_tiny_networks():
        yield


@pytest.fixture(scope="session")
def make_trainer():
    """(transform name, image shape, devices, steps per call, dtype, train fields) -> Trainer of a TinyNet."""

    def make(transform="rotate", shape=(16, 16, 1), *, devices=1, steps_per_call=0, dtype="float32", **fields):
        model = tiny_net.TinyNet(shape[-1], dtype)
        compute = ComputeConfig(dtype=dtype, devices=devices, steps_per_call=steps_per_call)
        return Trainer(model, transforms.get(transform), shape, TrainConfig(batch_size=8, **fields), compute)

    return make


# What `itae fit` is given in tests: few channels, small images, one pass.
SMALL_FIT = ["--epochs", "1", "--size", "16"]
SMALL_FIT += ["--set", "model.width=2", "train.batch_size=8", "train.augment=none", "evaluate.batch_size=8"]


@pytest.fixture(scope="session")
def small_model(tmp_path_factory):
    """What `itae fit` made of 20 grey images of noise: a TinyNet, so its users need `tiny_network`, too.

    Tests look at it and leave it as it is.
    """
    from PIL import Image

    from itae_jax import cli

    root, rng = tmp_path_factory.mktemp("fit"), np.random.default_rng(0)
    (root / "good").mkdir()
    for number in range(20):
        Image.fromarray(rng.integers(0, 256, (20, 20), np.uint8)).save(root / "good" / f"{number}.png")
    with training_tiny_networks():
        assert cli.main(["fit", str(root / "good"), "--out", str(root / "model"), *SMALL_FIT]) == 0
    return root / "model"
