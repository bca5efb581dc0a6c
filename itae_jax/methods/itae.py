"""ITAE as a method: `fit` on normal images, then `score` any.

`run` knows a method by these two calls; `save` and `illustrate` keep what a report shows.
"""

import dataclasses
import functools
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import jax
import numpy as np
from jax.tree_util import Partial

from itae_jax import models, parallel, transforms
from itae_jax.config import DataConfig, Experiment
from itae_jax.data.images import Images, as_images, check_shape
from itae_jax.errors import DivergedError, RequestError
from itae_jax.evaluate import restoration as evaluate
from itae_jax.training import checkpoint
from itae_jax.training import step as train
from itae_jax.training.checkpoint import Checkpoints
from itae_jax.training.loop import Report
from itae_jax.training.trainer import Trainer


@dataclasses.dataclass(frozen=True)
class Scores:
    """Anomaly scores of N images, higher = more anomalous, and what they are made of.

    `by_error` holds the scores by each kind of restoration error; `scores_N` is one of them.
    """

    scores_N: np.ndarray
    details: dict[str, np.ndarray]
    by_error: dict[str, np.ndarray]


class ITAE:
    """The Inverse-Transform AutoEncoder for images of one shape; one compiled program for all fits.

    Raises:
      RequestError: the transform, the network or the devices cannot do what the experiment asks.
    """

    def __init__(self, experiment: Experiment, image_shape: tuple[int, int, int]):
        self.experiment = experiment
        self.image_shape = tuple(image_shape)
        self.transform = transforms.get(experiment.transform.name)
        height, width, channels = image_shape
        self.transform.try_on(image_shape)
        network = experiment.model
        least = models.min_side(network.name)
        if min(height, width) < least:
            raise RequestError(
                f"images of {height}x{width} are too small for model.name={network.name}; "
                f"set data.image_size to {least} or more"
            )
        dtype = experiment.compute.dtype
        if dtype == "float64" and not jax.config.jax_enable_x64:
            raise RequestError("compute.dtype='float64': set the environment variable JAX_ENABLE_X64=1")
        model = models.build(
            network.name,
            width=network.width,
            out_channels=channels,
            output=network.output,
            dtype=dtype,
            axis_name=parallel.AXIS,
        )
        self.trainer = Trainer(model, self.transform, image_shape, experiment.train, experiment.compute)
        self.pixel_dtype = models.parameter_dtype(dtype).name
        self.restore = jax.jit(lambda variables, inputs: model.apply(variables, inputs))

    def fit(
        self,
        images: Images,
        seeds: tuple[int, ...],
        on_report: Callable[[Report, Callable[[], "FittedITAE"]], None],
        checkpoints: Checkpoints | None = None,
        on_step: Callable[[float], None] = lambda epochs: None,
    ) -> "FittedITAE":
        """Trains on normal images, from the newest of the `checkpoints` if there is one.

        `on_report` gets each report and a function that gives the method as fitted so far; `on_step`
        how many epochs are done, more often.
        """

        def report(values, state):
            on_report(values, lambda: self._fitted(state, images))

        start = time.perf_counter()
        every = self.experiment.evaluate.every_epochs
        state = self.trainer.train(images, seeds, report, every, checkpoints, on_step)
        fitted = self._fitted(state, images)
        seconds = time.perf_counter() - start if checkpoints is None else checkpoints.seconds()
        return dataclasses.replace(fitted, train_seconds=seconds)

    def _fitted(self, state: train.TrainState, images: Images) -> "FittedITAE":
        """The state with its normaliser: the mean error of Eq. 3 over the whole training set."""
        variables = {"params": state.params, "batch_stats": state.batch_stats}
        errors = self.errors(variables, images)
        normal_errors = {kind: evaluate.normal_errors(errors_NxT) for kind, errors_NxT in errors.items()}
        if not np.isfinite(list(normal_errors.values())).all():
            raise DivergedError("the restoration errors of the training images are not finite numbers")
        num_train = int((~np.isnan(errors["l1"]).all(axis=1)).sum())
        return FittedITAE(self, variables, normal_errors, num_train)

    def load(self, directory: Path) -> "FittedITAE":
        """What `FittedITAE.save` wrote, by a method of the same experiment.

        Raises:
          DamagedError: a file is missing or changed.
          RequestError: it is of another network.
        """
        return self.fitted(*self.read(directory))

    def read(self, directory: Path) -> tuple[dict, dict]:
        """The arrays and facts of which `fitted` makes what `load` gives; raises what it does."""
        facts = {"num_train": int, "train_seconds": float}
        return checkpoint.restore(directory, self.fitted_shapes(), facts)

    def fitted_shapes(self) -> dict:
        """The shapes and types of the arrays that `read` gives."""
        shapes = self.trainer.state_shapes()
        return {
            "params": shapes.params,
            "batch_stats": shapes.batch_stats,
            "normal_errors": {
                kind: jax.ShapeDtypeStruct((self.transform.count,), np.float64) for kind in evaluate.ERRORS
            },
        }

    def fitted(self, arrays: dict, facts: dict) -> "FittedITAE":
        """A fitted method of what `read` gives."""
        variables = {
            key: parallel.replicate(arrays[key], self.trainer.devices) for key in ("params", "batch_stats")
        }
        return FittedITAE(self, variables, arrays["normal_errors"], facts["num_train"], facts["train_seconds"])

    def errors(self, variables: dict, images: Images) -> dict[str, np.ndarray]:
        """Restoration errors N x T of each kind; NaN for what cannot be read.

        Raises:
          RequestError: images of another shape than the method's.
        """
        check_shape(images, self.image_shape)
        options = self.scoring_options(images.image_shape)
        return evaluate.all_restoration_errors(
            Partial(self.restore, variables), images, self.transform, **options
        )

    def scoring_options(self, image_shape: tuple[int, int, int]) -> dict:
        """The options of `evaluate.restoration_errors` and its kin for images of this shape."""
        of_32x32 = self.experiment.evaluate.batch_size
        return {
            "batch_size": max(1, of_32x32 * 32 * 32 // math.prod(image_shape[:2])),
            "devices": self.trainer.devices,
            "dtype": self.pixel_dtype,
        }

    def __reduce__(self):
        return of, (self.experiment, self.image_shape)


def of(experiment: Experiment, image_shape: tuple[int, int, int]) -> ITAE:
    """An ITAE for these images that is kept, so that fitting or loading again compiles nothing anew."""
    same = dataclasses.replace(experiment, name="kept", seed=0, paper_table="", data=DataConfig())
    return _kept(same, tuple(image_shape))


_kept = functools.lru_cache(maxsize=8)(ITAE)


def fitting(experiment: Experiment, num_images: int) -> Experiment:
    """The experiment for so many training images: a batch is not more than them.

    Where the devices cannot share the batch evenly, and no number of them is asked for, fewer are used.
    """
    size, devices = min(experiment.train.batch_size, num_images), experiment.compute.devices
    available = len(jax.local_devices())
    if not devices and size % available:
        devices = math.gcd(size, available)
    return dataclasses.replace(
        experiment,
        train=dataclasses.replace(experiment.train, batch_size=size),
        compute=dataclasses.replace(experiment.compute, devices=devices),
    )


@dataclasses.dataclass(frozen=True, eq=False)
class FittedITAE:
    """A trained network and the normaliser of Eq. 3.

    Attributes:
      variables: the parameters and batch statistics.
      normal_errors: the normaliser for each kind of error.
      num_train: over how many training images; those that cannot be read do not count.
      train_seconds: what training took, scoring of the training images included.
    """

    method: ITAE
    variables: dict
    normal_errors: dict[str, np.ndarray]
    num_train: int
    train_seconds: float = 0.0

    @property
    def normal_errors_T(self) -> np.ndarray:
        """The normaliser for the kind of error that the scores are made of."""
        return self.normal_errors[self._error]

    @property
    def _error(self) -> str:
        return self.method.experiment.evaluate.error

    @property
    def _restore(self) -> Partial:
        return Partial(self.method.restore, self.variables)

    def score(self, images: Images) -> Scores:
        """Eq. 3, with the error of each transform as details; NaN for images that cannot be read."""
        errors = self.method.errors(self.variables, images)
        by_error = {
            kind: evaluate.anomaly_scores(errors_NxT, self.normal_errors[kind])
            for kind, errors_NxT in errors.items()
        }
        details = {f"error_{i}": values for i, values in enumerate(errors[self._error].T)}
        details |= {f"score_{kind}": scores for kind, scores in by_error.items()}
        return Scores(by_error[self._error], details, by_error)

    def scores_of(self, errors_NxT: np.ndarray) -> np.ndarray:
        """Eq. 3."""
        return evaluate.anomaly_scores(errors_NxT, self.normal_errors_T)

    def batch_errors(self, images: Images) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """(positions B, errors B x T), a batch at a time; what cannot be read is left out."""
        check_shape(images, self.method.image_shape)
        options = self.method.scoring_options(images.image_shape)
        for positions, errors in evaluate.batch_errors(self._restore, images, self.method.transform, **options):
            yield positions, errors[self._error]

    def batch_maps(self, images: Images) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """(positions B, errors B x T, maps B x H x W), a batch at a time; see `evaluate.batch_maps`."""
        check_shape(images, self.method.image_shape)
        options = self.method.scoring_options(images.image_shape)
        arguments = self._restore, images, self.method.transform, self.normal_errors_T, self._error
        return evaluate.batch_maps(*arguments, **options)

    def error_maps(self, images: Images | np.ndarray) -> np.ndarray:
        """Where each image is anomalous: N x H x W, the mean of a map being the image's score.

        Maps of NaN stand for images that cannot be read.
        """
        images = as_images(images)
        maps_NxHxW = np.full((len(images), *images.image_shape[:2]), np.nan, np.float32)
        for positions, _, maps_BxHxW in self.batch_maps(images):
            maps_NxHxW[positions] = maps_BxHxW
        return maps_NxHxW

    def score_memory_bytes(self, image_shape: tuple[int, int, int]) -> int | None:
        """What scoring takes on each device; see `evaluate.memory_bytes`."""
        options = self.method.scoring_options(image_shape)
        return evaluate.memory_bytes(self._restore, image_shape, self.method.transform, **options)

    def save(self, directory: Path) -> None:
        """Writes network and normaliser."""
        tree = {**self.variables, "normal_errors": self.normal_errors}
        checkpoint.save(directory, tree, {"num_train": self.num_train, "train_seconds": self.train_seconds})

    def illustrate(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """What the network saw and made of it.

        uint8 `inputs` and `outputs`, both T x N x H x W x C, and `maps`, N x H x W: see `error_maps`.
        """
        transform = self.method.transform
        originals = transforms.to_float(jax.numpy.asarray(images))
        inputs_TxN = transform.apply_all(originals)
        restored = self._restore(inputs_TxN.reshape(-1, *inputs_TxN.shape[2:]))
        outputs_TxN = restored.reshape(transform.count, *images.shape)
        errors = evaluate.pixel_errors(outputs_TxN.astype(originals.dtype), originals)[self._error]
        return {
            "inputs": _to_uint8(inputs_TxN),
            "outputs": _to_uint8(outputs_TxN),
            "maps": np.asarray(evaluate.maps_of(errors, self.normal_errors_T.astype(errors.dtype))),
        }


def _to_uint8(images: jax.Array) -> np.ndarray:
    return np.clip(np.rint((np.asarray(images) + 1) * 127.5), 0, 255).astype(np.uint8)
