"""Four virtual CPU devices, strict dtype and rank promotion, and what several tests share."""

import contextlib
import csv
import functools
import gc
import os
import shutil
from importlib import metadata
from pathlib import Path

# All of this has to come before the first JAX computation.
os.environ["JAX_PLATFORMS"] = "cpu"
# The tests compile more than they compute: unoptimised code compiles three times faster, and so does code
# without XLA's fusion emitters, which can be switched off up to JAX 0.10.
_FLAGS = ["--xla_force_host_platform_device_count=4", "--xla_backend_optimization_level=0"]
_FLAGS += ["--xla_cpu_use_fusion_emitters=false"] * metadata.version("jax").startswith("0.10.")
os.environ["XLA_FLAGS"] = " ".join(_FLAGS)

# Tests, the processes that they start, and later runs compile each program once.
os.environ["JAX_COMPILATION_CACHE_DIR"] = str(Path(__file__).parent.parent / ".pytest_cache" / "programs")
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"

import jax
import numpy as np
import pytest
import tiny_net
from filelock import FileLock

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")
# Looking for garbage among JAX's many objects, and at all that is imported here, takes time.
gc.set_threshold(100_000, 20, 100)

from itae_jax import experiment, methods, models, parallel
from itae_jax.training.learner import Learner, learner_for
from itae_jax.training.trainer import Trainer

gc.freeze()

TINY_SETTINGS = {
    "ganomaly": ["method.channels=4", "method.latent=8"],
    "geotrans": ["method.widen=1"],
    "itae": ["method.transform=rotate", "method.width=4"],
    "vae": ["method.channels=4", "method.latent=8"],
}
"""Settings that make a method small; a method without an entry is tested at its defaults."""


def tiny(method="itae", *assignments):
    """The experiment of a tiny method on batches of 8."""
    settings = [f"method.name={method}", *TINY_SETTINGS.get(method, []), "train.batch_size=8"]
    return experiment.override(experiment.Experiment(), [*settings, "evaluate.batch_size=8", *assignments])


def make_learner(one, image_shape=(16, 16, 1)):
    """The learner of an experiment."""
    return Learner(one.method, one.train, one.evaluate, one.compute, image_shape)


def update_on_two_devices(method):
    """A method's update, a batch shared by two devices: (state, keys B, rate, images) -> (state, metrics)."""

    def update(state, keys_B, rate, images):
        places = parallel.example_indices(len(images))
        return method.update(state, keys_B[places], rate, images)

    return parallel.split_batch(update, jax.devices()[:2], replicated_result=True, whole=3)


def rows_of(path):
    """The rows of a CSV file."""
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def contents(directory):
    """The content of every file below a directory."""
    return {path: path.read_bytes() for path in sorted(directory.rglob("*")) if path.is_file()}


def to_torch(images_BxHxWxC):
    """A tensor with the channels in front."""
    import torch

    return torch.tensor(np.asarray(images_BxHxWxC)).permute(0, 3, 1, 2)


def one_line(capsys):
    """The one line that a command printed to stderr."""
    error = capsys.readouterr().err
    assert error.startswith("itae: ") and error.count("\n") == 1, error
    return error


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture(scope="session")
def bars():
    """40 images of upright bars, brighter at the top, so that their orientation can be seen."""
    images = np.zeros((40, 16, 16, 1), np.uint8)
    for image, column in zip(images, np.random.default_rng(0).integers(2, 12, 40), strict=True):
        image[:, column : column + 3, 0] = np.linspace(255, 80, 16)[:, None]
    return images


@pytest.fixture(scope="session")
def scripts():
    """Makes experiments/scripts/ importable."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(Path(__file__).parent.parent / "experiments" / "scripts")
        yield


@contextlib.contextmanager
def training_tiny_networks():
    """Makes ITAE train a TinyNet; forgets cached learners before and after."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(models, "build", tiny_net.build)
        learner_for.cache_clear()
        yield
    learner_for.cache_clear()


@pytest.fixture(scope="module")
def tiny_network():
    """Makes ITAE train a TinyNet, for tests of what surrounds the network."""
    with training_tiny_networks():
        yield


def once(tmp_path_factory, name, make):
    """Makes a directory by the first of the test processes that needs it, and returns it."""
    root = tmp_path_factory.getbasetemp()
    place = (root.parent if "PYTEST_XDIST_WORKER" in os.environ else root) / name
    with FileLock(f"{place}.lock"):
        if not place.exists():
            try:
                with training_tiny_networks():
                    make(place)
            except BaseException:
                shutil.rmtree(place, ignore_errors=True)
                raise
    return place


SMALL_RUN = ["train.epochs=2", "method.width=4", "data.limit_train=48", "data.limit_test=120"]
SMALL_RUN += ["evaluate.batch_size=8"]


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory):
    """A run of two digits by SMALL_RUN, which tests must not change; they need `tiny_network`, too."""
    from itae_jax import cli

    def run(out):
        assert cli.main(["run", "digits", "--classes", "6,8", "--out", str(out), "--set", *SMALL_RUN]) == 0

    return once(tmp_path_factory, "finished_run", run)


@pytest.fixture(scope="session")
def make_trainer():
    """(method, image shape, assignments) -> Trainer on one device, of ITAE with a TinyNet."""

    def make(method="itae", *assignments, shape=(16, 16, 1)):
        one = tiny(method, "compute.devices=1", *assignments)
        with training_tiny_networks():
            return Trainer(methods.build(one.method, shape, one.compute.dtype), one.train, one.compute)

    return make


@pytest.fixture
def refused(capsys):
    """Runs a command that must end with code 2 and one line on stderr; returns the line."""

    def run(*command):
        from itae_jax import cli

        capsys.readouterr()
        assert cli.main([*map(str, command)]) == 2
        return one_line(capsys)

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
    "itae": [*_SMALL, "method.width=2", "method.transform=rotate"],
    "defects": [*_SMALL, "method.width=2"],
    "vae": [*_SMALL, "method.name=vae", "method.channels=2", "method.latent=2"],
    "ganomaly": [*_SMALL, "method.name=ganomaly", "method.channels=2", "method.latent=2"],
    "pca": [*_SMALL, "method.name=pca"],
}
SMALL_FIT = SMALL_FITS["itae"]
SMALL_DETECTOR = {
    "transform": "rotate",
    "width": 2,
    "epochs": 1,
    "batch_size": 8,
    "settings": {"evaluate.batch_size": 8},
}


@pytest.fixture(scope="session")
def small_model_of(tmp_path_factory):
    """Name of a method -> a model that `itae fit` made of the 20 images beside it; tests must not change it.

    ITAE's is a TinyNet, so tests need `tiny_network`, too.
    """
    from itae_jax import cli

    images = once(tmp_path_factory, "good", lambda folder: save_images(folder, 20))

    def fit(method, out):
        assert cli.main(["fit", str(images), "--out", str(out), *SMALL_FITS[method]]) == 0

    return lambda method: once(tmp_path_factory, f"model_{method}", functools.partial(fit, method))


@pytest.fixture(scope="session")
def small_model(small_model_of):
    """The ITAE model of `small_model_of`."""
    return small_model_of("itae")
