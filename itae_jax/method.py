"""ITAE as a method: `fit` on normal images, then `score` any.

`run` knows a method by these two calls; `save` and `illustrate` keep what a report shows.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Iterator
from pathlib import Path

import jax
import numpy as np
from jax.tree_util import Partial

from itae_jax import checkpoint, evaluate, models, parallel, train, transforms
from itae_jax.config import DataConfig, Experiment
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
        self.image_shape = tuple(image_shape)
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
            on_report(values, lambda: self._fitted(images, state))

        every = self.experiment.evaluate.every_epochs
        return self._fitted(images, self.trainer.train(images, seeds, report, every))

    def _fitted(self, normal_images: Images, state: train.TrainState) -> "FittedITAE":
        variables = {"params": state.params, "batch_stats": state.batch_stats}
        unscaled = FittedITAE(self, variables, np.ones(self.transform.count), state.step)
        errors_NxT = unscaled.errors(normal_images)
        return dataclasses.replace(
            unscaled,
            normal_errors_T=evaluate.normal_errors(errors_NxT),
            num_train=int((~np.isnan(errors_NxT).all(axis=1)).sum()),
        )

    def load(self, directory: Path) -> "FittedITAE":
        """What `FittedITAE.save` wrote, by a method of the same experiment.

        Raises:
          RequestError: it is not there, damaged, or of another network.
        """
        state = self.trainer.state_shapes()
        like = {
            "params": state.params,
            "batch_stats": state.batch_stats,
            "step": state.step,
            "normal_errors": jax.ShapeDtypeStruct((self.transform.count,), np.float64),
        }
        like = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), like)
        try:
            saved = checkpoint.restore(directory, like)
            for expected, found in zip(jax.tree.leaves(like), jax.tree.leaves(saved), strict=True):
                if expected.shape != found.shape:
                    raise ValueError(f"an array of shape {found.shape} where {expected.shape} is expected")
        except Exception as error:  # Orbax raises whatever the damage leads it to
            why = str(error).partition("\n")[0] or type(error).__name__
            raise RequestError(f"{directory}: is damaged or of another network ({why}); fit it again") from None
        variables = {"params": saved["params"], "batch_stats": saved["batch_stats"]}
        return FittedITAE(self, variables, saved["normal_errors"], saved["step"])

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
    """A trained network and the normaliser of Eq. 3 over its whole training set.

    Attributes:
      variables: parameters and batch statistics of the network.
      normal_errors_T: the normaliser.
      step: how many steps it was trained for.
      num_train: how many training images could be read; 0 for one that was loaded.
    """

    method: ITAE
    variables: dict
    normal_errors_T: np.ndarray
    step: jax.Array | int
    num_train: int = 0

    @property
    def _restore(self) -> Partial:
        return Partial(self.method.restore, self.variables)

    def _options(self, images: Images) -> dict:
        config = self.method.experiment.evaluate
        return {
            "error": config.error,
            "batch_size": max(1, config.batch_size * 32 * 32 // math.prod(images.image_shape[:2])),
            "devices": self.method.trainer.devices,
            "dtype": self.method.pixel_dtype,
        }

    def errors(self, images: Images) -> np.ndarray:
        """N x T restoration errors; rows of NaN for images that cannot be read."""
        return evaluate.restoration_errors(
            self._restore, images, self.method.transform, **self._options(images)
        )

    def batch_errors(self, images: Images) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """(positions B, errors B x T), a batch at a time; what cannot be read is left out."""
        return evaluate.batch_errors(self._restore, images, self.method.transform, **self._options(images))

    def error_maps(self, images: Images) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """(positions B, errors B x T, maps B x H x W of Eq. 3 at every pixel), a batch at a time.

        What cannot be read is left out.
        """
        options = self._options(images)
        batches = evaluate.batch_errors(self._restore, images, self.method.transform, **options, maps=True)
        for positions, errors_BxT, maps_BxTxHxW in batches:
            yield positions, errors_BxT, evaluate.normalised_maps(maps_BxTxHxW, self.normal_errors_T)

    def scores_of(self, errors_NxT: np.ndarray) -> np.ndarray:
        """Eq. 3."""
        return evaluate.anomaly_scores(errors_NxT, self.normal_errors_T)

    def score(self, images: Images) -> Scores:
        """Eq. 3, with the error of each transform as details; NaN for images that cannot be read."""
        errors_NxT = self.errors(images)
        details = {f"error_{i}": errors for i, errors in enumerate(errors_NxT.T)}
        return Scores(self.scores_of(errors_NxT), details)

    def save(self, directory: Path) -> None:
        """Writes network and normaliser."""
        checkpoint.save(
            directory,
            {
                **self.variables,
                "step": self.step,
                "normal_errors": self.normal_errors_T,
            },
        )

    def illustrate(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """What the network saw and made of it: uint8 `inputs` and `outputs`, both T x N x H x W x C."""
        transform = self.method.transform
        inputs_TxN = transform.apply_all(train.to_float(jax.numpy.asarray(images)))
        restored = self._restore(inputs_TxN.reshape(-1, *inputs_TxN.shape[2:]))
        outputs_TxN = restored.reshape(transform.count, *images.shape)
        return {"inputs": _to_uint8(inputs_TxN), "outputs": _to_uint8(outputs_TxN)}


def _to_uint8(images: jax.Array) -> np.ndarray:
    return np.clip(np.rint((np.asarray(images) + 1) * 127.5), 0, 255).astype(np.uint8)
