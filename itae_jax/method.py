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
from itae_jax.config import Experiment
from itae_jax.data.images import Images
from itae_jax.errors import RequestError


@dataclasses.dataclass(frozen=True)
class Scores:
    """Anomaly scores of N images, higher = more anomalous, and what they are made of."""

    scores_N: np.ndarray
    details: dict[str, np.ndarray]


class ITAE:
    """The Inverse-Transform AutoEncoder for images of one shape; one compiled program for all fits.

    Raises:
      RequestError: the transform, the network or the devices cannot do what the experiment asks.
    """

    def __init__(self, experiment: Experiment, image_shape: tuple[int, int, int]):
        self.experiment = experiment
        self.transform = transforms.get(experiment.transform.name)
        height, width, channels = image_shape
        self.transform.try_on(image_shape)
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
        self.trainer = train.Trainer(model, self.transform, image_shape, experiment.train, experiment.compute)
        self.pixel_dtype = models.parameter_dtype(dtype).name
        self.restore = jax.jit(lambda variables, inputs: model.apply(variables, inputs))

    def fit(
        self,
        images: Images,
        seeds: tuple[int, ...],
        on_report: Callable[[train.Report, Callable[[], "FittedITAE"]], None],
    ) -> "FittedITAE":
        """Trains on normal images.

        `on_report` gets each report and a function that gives the method as fitted so far.
        """

        def report(values, state):
            on_report(values, lambda: FittedITAE(self, images, state))

        every = self.experiment.evaluate.every_epochs
        return FittedITAE(self, images, self.trainer.train(images, seeds, report, every))


class FittedITAE:
    """A trained network and the normaliser of Eq. 3 over its whole training set.

    `num_train` is how many training images could be read.
    """

    def __init__(self, method: ITAE, normal_images: Images, state: train.TrainState):
        self._method = method
        self._state = state
        variables = {"params": state.params, "batch_stats": state.batch_stats}
        self._restore = Partial(method.restore, variables)
        errors_NxT = self._errors(normal_images)
        self.num_train = int((~np.isnan(errors_NxT).all(axis=1)).sum())
        self.normal_errors_T = evaluate.normal_errors(errors_NxT)

    def _errors(self, images: Images) -> np.ndarray:
        config = self._method.experiment.evaluate
        return evaluate.restoration_errors(
            self._restore,
            images,
            self._method.transform,
            config.error,
            batch_size=max(1, config.batch_size * 32 * 32 // math.prod(images.image_shape[:2])),
            devices=self._method.trainer.devices,
            dtype=self._method.pixel_dtype,
        )

    def score(self, images: Images) -> Scores:
        """Eq. 3, with the error of each transform as details; NaN for images that cannot be read."""
        errors_NxT = self._errors(images)
        details = {f"error_{i}": errors for i, errors in enumerate(errors_NxT.T)}
        return Scores(evaluate.anomaly_scores(errors_NxT, self.normal_errors_T), details)

    def save(self, directory: Path) -> None:
        """Writes network and normaliser."""
        checkpoint.save(
            directory,
            {
                "params": self._state.params,
                "batch_stats": self._state.batch_stats,
                "step": self._state.step,
                "normal_errors": self.normal_errors_T,
            },
        )

    def illustrate(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """What the network saw and made of it: uint8 `inputs` and `outputs`, both T x N x H x W x C."""
        transform = self._method.transform
        inputs_TxN = transform.apply_all(train.to_float(jax.numpy.asarray(images)))
        restored = self._restore(inputs_TxN.reshape(-1, *inputs_TxN.shape[2:]))
        outputs_TxN = restored.reshape(transform.count, *images.shape)
        return {"inputs": _to_uint8(inputs_TxN), "outputs": _to_uint8(outputs_TxN)}


def _to_uint8(images: jax.Array) -> np.ndarray:
    return np.clip(np.rint((np.asarray(images) + 1) * 127.5), 0, 255).astype(np.uint8)
