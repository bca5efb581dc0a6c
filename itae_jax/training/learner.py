"""A method on devices: trains, then scores any number of images, with one compiled program for all fits."""

import dataclasses
import functools
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import flax.errors
import jax
import jax.numpy as jnp
import numpy as np

from itae_jax import methods, parallel
from itae_jax.config import ComputeConfig, EvaluateConfig, MethodConfig, TrainConfig
from itae_jax.data.images import Images, as_images, check_shape
from itae_jax.errors import DivergedError, RequestError
from itae_jax.evaluate.batches import over_batches, shared_evenly
from itae_jax.methods.method import Calibration, Combines, Localises, Measured, Restores
from itae_jax.models import parameter_dtype
from itae_jax.training import augment, checkpoint, loop
from itae_jax.training.checkpoint import Checkpoints
from itae_jax.training.loop import Report
from itae_jax.training.trainer import Trainer
from itae_jax.transforms import to_float

_LOOKED_AT, _NEARLY_ALL = 8, (0.1, 99.9)  # training images looked at, and percentiles of their pixels
_LEAST_CONTRAST = 20  # grey levels
_FEW_STEPS = 50
# Images of 32x32 to score at a time. On a CPU more are no faster, and a single image is padded to so many.
_BATCH, _CPU_BATCH = 256, 64
_FACTS = {"num_train": int, "train_seconds": float}


class Measurement(NamedTuple):
    """What was measured of the images at `positions`, in their order; maps where they were asked for."""

    positions: np.ndarray
    measured: Measured
    maps_BxHxW: np.ndarray | None


@dataclasses.dataclass(frozen=True)
class Scores:
    """Anomaly scores of N images, higher = more anomalous, and the method's components by name."""

    scores_N: np.ndarray
    columns: dict[str, np.ndarray]


class Learner:
    """A method for images of one shape, compiled; RequestError if the method or the devices cannot do this."""

    def __init__(
        self,
        config: MethodConfig,
        train: TrainConfig,
        evaluate: EvaluateConfig,
        compute: ComputeConfig,
        image_shape: tuple[int, int, int],
    ):
        if compute.dtype == "float64" and not jax.config.jax_enable_x64:  # type: ignore[attr-defined]
            raise RequestError("compute.dtype='float64': set the environment variable JAX_ENABLE_X64=1")
        self.config, self.image_shape, self._evaluate = config, image_shape, evaluate
        self._arguments = config, train, evaluate, compute, image_shape
        self.method = methods.build(config, image_shape, compute.dtype)
        self.trainer = Trainer(self.method, train, compute)
        self._dtype = parameter_dtype(compute.dtype)
        self._try_crops(train.augment)
        self.has_maps = hasattr(self.method, "anomaly_map")

    def __reduce__(self):
        return _on_this_machine, self._arguments

    def _try_crops(self, augmentation: str) -> None:
        """Raises RequestError if the method cannot train on the crops that an augmentation makes."""
        image = jax.ShapeDtypeStruct(self.image_shape, self._dtype)
        shape = jax.eval_shape(augment.get(augmentation), jax.random.key(0), image).shape
        if shape == self.image_shape:
            return
        variables = self.trainer.state_shapes().method.variables
        try:
            jax.eval_shape(self.method.measure, variables, jax.ShapeDtypeStruct((1, *shape), self._dtype))
        except (TypeError, ValueError, flax.errors.FlaxError):
            why = f"{self.config.NAME} cannot train on parts of {shape[0]}x{shape[1]}"
            raise RequestError(f"train.augment={augmentation}: {why}; crop larger ones, or none") from None

    def with_epochs(self, epochs: int) -> "Learner":
        """The same compiled method for another number of epochs."""
        other = object.__new__(Learner)  # copy.copy would return the cached one
        vars(other).update(vars(self))
        other.trainer = self.trainer.with_epochs(epochs)
        config, _, evaluate, compute, shape = self._arguments
        other._arguments = config, other.trainer.config, evaluate, compute, shape
        return other

    def warnings(self, images: Images) -> Iterator[str]:
        """Says that training on these images takes few steps, and that the pixels of an image hardly differ."""
        train = self.trainer.config
        steps = len(images) // train.batch_size * train.epochs
        if steps < _FEW_STEPS and not self.config.ONE_PASS:
            yield f"only {steps} steps of training: too few to learn much; raise train.epochs"
        some = images.select(np.arange(0, len(images), math.ceil(len(images) / _LOOKED_AT)))
        spans = [
            np.ptp(np.percentile(image, _NEARLY_ALL))
            for _, batch in some.batches(_LOOKED_AT)
            for image in batch
        ]
        if spans and np.median(spans) < _LEAST_CONTRAST:
            differ = f"most pixels of an image differ by only {np.median(spans):.0f} of 255 levels"
            yield f"{differ}; if these are files of 16 bits that hold 8 or 12, convert them"

    @functools.cached_property
    def _measure(self) -> Callable:
        def measure(variables, images_uint8):
            return self.method.measure(variables, to_float(images_uint8, self._dtype))

        return parallel.split_batch(measure, self.trainer.devices, replicated_result=False)

    @functools.cached_property
    def _measure_and_map(self) -> Callable:
        assert isinstance(self.method, Localises)
        measure_of, map_of = self.method.measure, self.method.anomaly_map

        def measure(variables_and_calibration, images_uint8):
            variables, calibration = variables_and_calibration
            images = to_float(images_uint8, self._dtype)  # XLA computes what both need once
            return measure_of(variables, images), map_of(variables, calibration, images)

        return parallel.split_batch(measure, self.trainer.devices, replicated_result=False)

    @functools.cached_property
    def _examples(self) -> Callable | None:
        return jax.jit(self.method.examples) if isinstance(self.method, Restores) else None

    def fit(
        self,
        images: Images,
        seeds: tuple[int, ...],
        on_report: Callable[[Report, Callable[[], "Trained"]], None],
        checkpoints: Checkpoints | None = None,
        on_step: Callable[[float], None] = lambda epochs: None,
        calibrated_on: Images | None = None,
    ) -> "Trained":
        """Trains on normal images, from the newest checkpoint if there is one; raises what `loop.train` raises.

        `on_report` gets each report and a function that returns the method as trained so far; `on_step` the
        number of epochs done, more often. Calibrates on the same images unless others are given.
        """
        check_shape(images, self.image_shape)

        def report(values, state):
            on_report(values, lambda: self._calibrated(state.method.variables, images))

        start = time.perf_counter()
        every = self._evaluate.every_epochs
        state = loop.train(self.trainer, images, seeds, report, every, checkpoints, on_step)
        trained = self._calibrated(state.method.variables, images if calibrated_on is None else calibrated_on)
        seconds = time.perf_counter() - start if checkpoints is None else checkpoints.seconds()
        return dataclasses.replace(trained, train_seconds=seconds)

    def _calibrated(self, variables: Any, images: Images) -> "Trained":
        measured = gather(self.measure(variables, images))
        _check_finite(measured)
        calibration = self.method.calibrate(measured)
        _check_finite(calibration)
        return Trained(self, variables, calibration, len(next(iter(measured.values()))))

    def measure(
        self, variables: Any, images: Images, calibration: Calibration | None = None, one_by_one: bool = False
    ) -> Iterator[Measurement]:
        """Measures images a batch at a time, in order and without unreadable ones; maps need a calibration.

        `one_by_one` makes small batches, by a program of their own, whose rounding may differ: a single image
        waits for no others then, nor for their padding.
        """
        check_shape(images, self.image_shape)
        batch_size = len(self.trainer.devices) if one_by_one else self._batch_size
        if calibration is None:
            measure = functools.partial(self._measure, variables)
            for positions, measured in over_batches(measure, images, batch_size):
                yield Measurement(positions, measured, None)
            return
        whole = variables, parallel.replicate(self._floats(calibration), self.trainer.devices)
        measure = functools.partial(self._measure_and_map, whole)
        for positions, (measured, maps) in over_batches(measure, images, batch_size):
            yield Measurement(positions, measured, np.asarray(maps, np.float32))

    def _floats(self, calibration: Calibration) -> Calibration:
        return {name: np.asarray(value, self._dtype) for name, value in calibration.items()}

    @property
    def _batch_size(self) -> int:
        on_cpu = self.trainer.devices[0].platform == "cpu"
        size = self._evaluate.batch_size or (_CPU_BATCH if on_cpu else _BATCH)
        size = max(1, size * 32 * 32 // math.prod(self.image_shape[:2]))
        return shared_evenly(size, len(self.trainer.devices))

    def memory_bytes(self, variables: Any) -> int | None:
        """The memory that scoring takes on each device by XLA's account; None if it is not known."""
        batch = np.zeros((self._batch_size, *self.image_shape), np.uint8)
        return self._measure.memory_bytes(variables, batch)  # type: ignore[attr-defined]

    def read(self, directory: Path) -> tuple[dict, dict]:
        """The arrays and facts that `Trained.save` wrote, for `trained`; see `checkpoint.restore`."""
        like = {"variables": self.trainer.state_shapes().method.variables}
        return checkpoint.restore(directory, like, _FACTS, free="calibration")

    def trained(self, arrays: dict, facts: dict) -> "Trained":
        """The trained method of what `read` returns."""
        like = self.trainer.state_shapes().method.variables
        variables = parallel.replicate(checkpoint.fill(like, arrays["variables"]), self.trainer.devices)
        return Trained(self, variables, arrays["calibration"], **{name: facts[name] for name in _FACTS})


def _check_finite(arrays: dict[str, Any]) -> None:
    if not all(np.isfinite(values).all() for values in arrays.values()):
        raise DivergedError("the measurements of the training images are not finite; lower train.learning_rate")


def gather(measurements: Iterator[Measurement]) -> Measured:
    """All measurements as one, a row for each readable image."""
    parts = [one.measured for one in measurements]
    if not parts:
        raise RequestError("none of the images can be read")
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


@functools.lru_cache(maxsize=8)
def learner_for(
    config: MethodConfig,
    train: TrainConfig,
    evaluate: EvaluateConfig,
    compute: ComputeConfig,
    image_shape: tuple[int, int, int],
) -> Learner:
    """Returns a cached Learner, so that fitting or loading again compiles nothing anew."""
    return Learner(config, train, evaluate, compute, image_shape)


def _on_this_machine(
    config: MethodConfig,
    train: TrainConfig,
    evaluate: EvaluateConfig,
    compute: ComputeConfig,
    image_shape: tuple[int, int, int],
) -> Learner:
    """Makes the Learner of a pickle on the devices that there are here."""
    if parallel.is_forked():  # an error here would be lost, and the process that waits would hang
        return _InFork()  # type: ignore[return-value]
    train, compute = fit_batch(train, dataclasses.replace(compute, devices=0), train.batch_size)
    return learner_for(config, train, evaluate, compute, image_shape)


class _InFork:
    """Stands for the Learner of a pickle where JAX would hang; any use says so."""

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("__"):
            parallel.check_not_forked()
        raise AttributeError(name)


@dataclasses.dataclass(frozen=True, eq=False)
class Trained:
    """A trained method."""

    learner: Learner
    variables: Any  # what the network learned
    calibration: Calibration  # what scoring needs to know of the training images
    num_train: int  # readable training images
    train_seconds: float = 0.0  # calibration included

    def __getstate__(self):
        return {**vars(self), "variables": jax.tree.map(np.asarray, self.variables)}

    def __setstate__(self, state):
        if not parallel.is_forked():  # there JAX would hang; a call says so
            state["variables"] = parallel.replicate(state["variables"], state["learner"].trainer.devices)
        vars(self).update(state)

    def measure(
        self, images: np.ndarray | Images, maps: bool = False, one_by_one: bool = False
    ) -> Iterator[Measurement]:
        """See `Learner.measure`; with anomaly maps if asked for and the method has them."""
        calibration = self.calibration if maps and self.learner.has_maps else None
        return self.learner.measure(self.variables, as_images(images), calibration, one_by_one)

    def combined(self, normal: Measured, ratings: dict[str, float]) -> "Trained":
        """The same with scores weighed by their ratings; see `Combines`."""
        assert isinstance(self.learner.method, Combines)
        calibration = self.learner.method.combined(self.calibration, normal, ratings)
        return dataclasses.replace(self, calibration=calibration)

    def score_of(self, measured: Measured) -> Scores:
        """The scores of what was measured."""
        method, calibration = self.learner.method, self.calibration
        columns = method.columns(measured, calibration)
        if isinstance(method, Combines):  # whose columns cost most of the score
            return Scores(method.combine(columns, calibration), columns)
        own = columns.get(self.learner.config.own_score)  # computed already
        return Scores(method.score(measured, calibration) if own is None else own, columns)

    def score(self, images: np.ndarray | Images) -> Scores:
        """The scores of N images; NaN for unreadable ones."""
        images = as_images(images)
        scores_N = np.full(len(images), np.nan)
        columns = {name: np.full(len(images), np.nan) for name in self.learner.method.components}
        for positions, measured, _ in self.measure(images):
            found = self.score_of(measured)
            scores_N[positions] = found.scores_N
            for name, values in found.columns.items():
                columns[name][positions] = values
        return Scores(scores_N, columns)

    def anomaly_maps(self, images: np.ndarray | Images) -> np.ndarray:
        """N x H x W float32, 1 = the mean over the training images; NaN for unreadable images."""
        images = as_images(images)
        maps_NxHxW = np.full((len(images), *images.image_shape[:2]), np.nan, np.float32)
        for positions, _, maps_BxHxW in self.measure(images, maps=True):
            maps_NxHxW[positions] = maps_BxHxW
        return maps_NxHxW

    def illustrate(self, images_NxHxWxC: np.ndarray) -> dict[str, np.ndarray]:
        """uint8 `inputs` and `outputs`, T x N x H x W x C, and `maps`, as far as the method has them.

        Inputs of other than 1 or 3 channels, which no picture can show, become their mean.
        """
        shown: dict[str, np.ndarray] = {}
        if examples := self.learner._examples:
            calibration = self.learner._floats(self.calibration)
            inputs, outputs = examples(self.variables, calibration, to_float(jnp.asarray(images_NxHxWxC)))
            if inputs.shape[-1] not in (1, 3):
                inputs = inputs.mean(-1, keepdims=True)
            shown |= {"inputs": _to_uint8(inputs), "outputs": _to_uint8(outputs)}
        if self.learner.has_maps:
            shown["maps"] = self.anomaly_maps(images_NxHxWxC)
        return shown

    def memory_bytes(self) -> int | None:
        """See `Learner.memory_bytes`."""
        return self.learner.memory_bytes(self.variables)

    def save(self, directory: Path) -> None:
        """Writes variables and calibration atomically."""
        tree = {"variables": self.variables, "calibration": self.calibration}
        checkpoint.save(directory, tree, {name: getattr(self, name) for name in _FACTS})


def _to_uint8(images: jax.Array) -> np.ndarray:
    return np.clip(np.rint((np.asarray(images) + 1) * 127.5), 0, 255).astype(np.uint8)


def fit_batch(train: TrainConfig, compute: ComputeConfig, num_images: int) -> tuple[TrainConfig, ComputeConfig]:
    """The settings for few images: a batch of them all, and only as many devices as can share it evenly."""
    size, devices = min(train.batch_size, num_images), compute.devices
    available = len(jax.local_devices())
    if not devices and size % available:
        devices = max(n for n in range(1, available) if size % n == 0)
    return dataclasses.replace(train, batch_size=size), dataclasses.replace(compute, devices=devices)
