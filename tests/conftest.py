"""Four virtual CPU devices, strict dtype and rank promotion; has to come before JAX computes."""

import atexit
import contextlib
import functools
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
from itae_jax.training.learner import learner_for
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
    """ITAE trains a TinyNet inside; compiled learners are forgotten before and after."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(models, "build", tiny_net.build)
        learner_for.cache_clear()
        yield
    learner_for.cache_clear()


@pytest.fixture(scope="module")
def tiny_network():
    """ITAE trains a TinyNet, for tests of what surrounds the training."""
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


@pytest.fixture
def refused(capsys):
    """Runs a command that must end with code 2 and one line on stderr; returns the line."""

    def run(*command):
        from itae_jax import cli

        capsys.readouterr()
        assert cli.main([*map(str, command)]) == 2
        error = capsys.readouterr().err
        assert error.startswith("itae: ") and error.count("\n") == 1, error
        return error

    return run


def save_images(folder, count, seed=0, size=(20, 20), suffix=".png"):
    """Writes grey images of noise, dark on the left, (width, height) pixels."""
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    for number in range(count):
        pixels = rng.integers(100, 256, (size[1], size[0]), np.uint8)
        pixels[:, : size[0] // 2] //= 4
        Image.fromarray(pixels).save(folder / f"{number:03d}{suffix}")
    return folder


# Options of `itae fit` in tests, by method: small images, one pass, few channels.
_SMALL = ["--epochs", "1", "--size", "16", "--set", "train.batch_size=8", "train.augment=none"]
_SMALL += ["evaluate.batch_size=8"]
SMALL_FITS = {
    "itae": [*_SMALL, "method.width=2"],
    "vae": [*_SMALL, "method.name=vae", "method.channels=2", "method.latent=2"],
}
SMALL_FIT = SMALL_FITS["itae"]


@pytest.fixture(scope="session")
def small_model_of(tmp_path_factory):
    """Name of a method -> a model that `itae fit` made of the 20 images beside it; tests must not change it.

    ITAE's is a TinyNet, so tests need `tiny_network`, too.
    """
    from itae_jax import cli

    root = tmp_path_factory.mktemp("fit")
    images = save_images(root / "good", 20)

    @functools.cache
    def make(method):
        with training_tiny_networks():
            assert cli.main(["fit", str(images), "--out", str(root / method), *SMALL_FITS[method]]) == 0
        return root / method

    return make


@pytest.fixture(scope="session")
def small_model(small_model_of):
    """The ITAE model of `small_model_of`."""
    return small_model_of("itae")
