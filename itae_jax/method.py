"""ITAE as a method: `fit` on normal images, then `score` any.

`run` knows a method by these two calls; `save` and `illustrate` keep what a report shows.
"""

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
from jax.tree_util import Partial

from itae_jax import checkpoint, evaluate, models, parallel, train, transforms
from itae_jax.checkpoint import Checkpoints
from itae_jax.config import Experiment
from itae_jax.data.images import Images, as_images, check_shape
from itae_jax.errors import RequestError
from itae_jax.trainer import Report, Trainer


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
        self.transform = transforms.get(experiment.transform.name)
        height, width, channels = image_shape
        self.transform.check_size(height, width)
        least = models.min_side(experiment.model)
        if min(height, width) < least:
            raise RequestError(
                f"images of {height}x{width} are too small for model.name={experiment.model.name}; "
                f"set data.image_size to {least} or more"
            )
        dtype = experiment.compute.dtype
        if dtype == "float64" and not jax.config.jax_enable_x64:
            raise RequestError("compute.dtype='float64': set the environment variable JAX_ENABLE_X64=1")
        model = models.build(experiment.model, channels, dtype, parallel.AXIS)
        self.trainer = Trainer(model, self.transform, image_shape, experiment.train, experiment.compute)
        self.pixel_dtype = models.parameter_dtype(dtype).name
        self.restore = jax.jit(lambda variables, inputs: model.apply(variables, inputs))

    def fit(
        self,
        images: Images,
        seeds: tuple[int, ...],
        on_report: Callable[[Report, Callable[[], "FittedITAE"]], None],
        checkpoints: Checkpoints | None = None,
    ) -> "FittedITAE":
        """Trains on normal images, from the newest of the `checkpoints` if there is one.

        `on_report` gets each report and a function that gives the method as fitted so far.
        """

        def report(values, state):
            on_report(values, lambda: self._fitted(state, images))

        every = self.experiment.evaluate.every_epochs
        return self._fitted(self.trainer.train(images, seeds, report, every, checkpoints), images)

    def _fitted(self, state: train.TrainState, images: Images) -> "FittedITAE":
        """The state with its normaliser: the mean error of Eq. 3 over the whole training set."""
        variables = {"params": state.params, "batch_stats": state.batch_stats}
        errors = self.errors(variables, images)
        normal_errors = {kind: evaluate.normal_errors(errors_NxT) for kind, errors_NxT in errors.items()}
        num_train = int((~np.isnan(errors["l1"]).all(axis=1)).sum())
        return FittedITAE(self, variables, normal_errors, num_train)

    def load(self, directory: Path) -> tuple["FittedITAE", dict]:
        """What `FittedITAE.save` wrote, and its facts.

        Raises:
          DamagedError: a file is missing or changed.
          RequestError: it is of another network.
        """
        shapes = self.trainer.state_shapes()
        like = {
            "params": shapes.params,
            "batch_stats": shapes.batch_stats,
            "normal_errors": {
                kind: jax.ShapeDtypeStruct((self.transform.count,), np.float64) for kind in evaluate.ERRORS
            },
        }
        tree, facts = checkpoint.restore(directory, like, {"num_train": int})
        variables = {
            key: parallel.replicate(tree[key], self.trainer.devices) for key in ("params", "batch_stats")
        }
        return FittedITAE(self, variables, tree["normal_errors"], facts["num_train"]), facts

    def errors(self, variables: dict, images: Images) -> dict[str, np.ndarray]:
        """Restoration errors N x T of each kind; NaN for what cannot be read.

        Raises:
          RequestError: images of another shape than the method's.
        """
        check_shape(images, self.trainer.image_shape)
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


@dataclasses.dataclass(frozen=True)
class FittedITAE:
    """A trained network and the normaliser of Eq. 3.

    Attributes:
      variables: the parameters and batch statistics.
      normal_errors: the normaliser for each kind of error.
      num_train: over how many training images; those that cannot be read do not count.
    """

    method: ITAE
    variables: dict
    normal_errors: dict[str, np.ndarray]
    num_train: int

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

    def error_maps(self, images: Images | np.ndarray) -> np.ndarray:
        """Where each image is anomalous: N x H x W; the mean of a map is the image's score."""
        images, method = as_images(images), self.method
        return evaluate.error_maps(
            self._restore,
            images,
            method.transform,
            self.normal_errors_T,
            self._error,
            **method.scoring_options(images.image_shape),
        )

    def score_memory_bytes(self, image_shape: tuple[int, int, int]) -> int | None:
        """What scoring takes on each device; see `evaluate.memory_bytes`."""
        options = self.method.scoring_options(image_shape)
        return evaluate.memory_bytes(self._restore, image_shape, self.method.transform, **options)

    def save(self, directory: Path, facts: dict | None = None) -> None:
        """Writes network and normaliser, with facts that JSON can hold."""
        tree = {**self.variables, "normal_errors": self.normal_errors}
        checkpoint.save(directory, tree, {**(facts or {}), "num_train": self.num_train})

    def illustrate(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """What the network saw and made of it.

        uint8 `inputs` and `outputs`, both T x N x H x W x C, and `maps`, N x H x W: see `error_maps`.
        """
        transform = self.method.transform
        originals = train.to_float(jax.numpy.asarray(images))
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
