"""ITAE as an outlier detector of scikit-learn's kind."""

import dataclasses
import logging
import math
import time
from collections.abc import Callable, Mapping
from numbers import Integral
from pathlib import Path

import numpy as np
from sklearn.base import BaseEstimator, OutlierMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from itae_jax import experiment, models, transforms
from itae_jax.config import FALSE_POSITIVE_RATE
from itae_jax.data import ArrayImages
from itae_jax.data.reader import Reader
from itae_jax.detection import arrays, export
from itae_jax.detection import model as model_directory
from itae_jax.detection.model import TrainedModel
from itae_jax.detection.threshold import NormalScores, threshold
from itae_jax.errors import RequestError
from itae_jax.experiment import Experiment
from itae_jax.methods.itae import ITAEConfig

_LOG = logging.getLogger(__name__)
_LONG = 5  # minutes
# The settings that are parameters.
_FIELDS = {
    "transform": "method.transform",
    "width": "method.width",
    "epochs": "train.epochs",
    "random_state": "seed",
    "batch_size": "train.batch_size",
    "learning_rate": "train.learning_rate",
    "augment": "train.augment",
}


def _itae(settings: Experiment, where: str) -> ITAEConfig:
    """Returns the settings of ITAE; refuses those of another method."""
    if not isinstance(settings.method, ITAEConfig):
        raise RequestError(f"{where}ITAEDetector cannot use method.name={settings.method.NAME}; itae fit can")
    return settings.method


class _HiddenParameter:
    """A parameter that is no attribute: scikit-learn would call an attribute `transform` as a method."""

    def __set_name__(self, owner, name):
        self._name = name

    def __set__(self, instance, value):
        vars(instance)[self._name] = value

    def __get__(self, instance, owner=None):
        raise AttributeError(f"{self._name} is a parameter here: get_params()[{self._name!r}]")


class ITAEDetector(OutlierMixin, BaseEstimator):
    """The Inverse-Transform AutoEncoder with scikit-learn's conventions and signs.

    Trains on normal images, N x H x W or N x H x W x C uint8 with 1 or 3 channels. Enlarges images with a
    side below 16 pixels by a whole factor, bilinearly. On a CPU, call `itae_jax.parallel.use_cpu_cores()`
    before anything else to use all cores.

    Args:
      transform: what is erased, see `itae transforms`; rotation needs square images.
      width: channels of the network's first block; the paper's is 64; 8 to 16 are what a CPU can do.
      epochs: passes over the training images; the paper's 500 take hours on a CPU, 20 to 50 are usual there.
      contamination: the share of normal images that may be called anomalous, in (0, 0.5]. It can be
        changed after fitting.
      random_state: decides initialisation, order, all random draws, and which images are held out.
      image_shape: takes rows of numbers, N x n_features, instead of images. (H, W) or (H, W, C): rows are
        images of that shape in C order. "square": a row of any length becomes the smallest square image of
        one channel that holds it, filled up with black. Rows of uint8 are pixels; of other numbers the
        least and greatest of the training rows become black and white, and later ones are clipped.
      holdout: the share of images that are not trained on; the threshold is computed from their scores.
        With 0 it is computed from the training images, as scikit-learn's own detectors do; they score
        lower than new normal images, so the false-positive rate will be higher than `contamination`.
      batch_size: images a step; fewer training images make up one batch.
      learning_rate: of SGD, halved after every 50 epochs.
      augment: "none", or "flip", "shift", "light", "cropN", joined by +.
      settings: any other settings: {"train.halve_every_epochs": 10, "method.output": "linear"}.
      verbose: 1 prints the loss about ten times.

    Attributes:
      model_: the `TrainedModel`.
      offset_: decision_function is score_samples minus this; follows `contamination`.
      n_features_in_: numbers in a row.
      pixel_range_: the numbers that are black and white in rows.
    """

    def __init__(
        self,
        transform="gray+rotate",
        width=64,
        epochs=500,
        contamination=FALSE_POSITIVE_RATE,
        random_state=0,
        image_shape=None,
        holdout=0.2,
        batch_size=32,
        learning_rate=0.1,
        augment="none",
        settings=None,
        verbose=0,
    ):
        self.transform = transform  # read by get_params()
        self.width = width
        self.epochs = epochs
        self.contamination = contamination
        self.random_state = random_state
        self.image_shape = image_shape
        self.holdout = holdout
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.augment = augment
        self.settings = settings
        self.verbose = verbose

    transform = _HiddenParameter()

    def get_params(self, deep=True) -> dict:
        """Returns all parameters by name."""
        return {name: vars(self)[name] for name in self._get_param_names()}

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = self.image_shape is not None
        tags.input_tags.three_d_array = self.image_shape is None
        return tags

    def fit(self, X, y=None):
        """Trains on normal images or rows; ignores `y`. Raises RequestError, a ValueError, for bad input."""
        self._check_parameters()
        images_NxHxWxC = self._images(X, fitting=True)
        count = len(images_NxHxWxC)
        if count < 2:
            raise RequestError(f"n_samples = {count}: expected at least 2 images, one of them to hold out")
        num_held_out = 0 if self.holdout == 0 else min(max(1, round(self.holdout * count)), count - 1)
        seed = self.random_state
        if not isinstance(seed, Integral):
            seed = check_random_state(seed).randint(2**31 - 1)
        order = np.random.default_rng(int(seed)).permutation(count)
        held_out, training = np.sort(order[:num_held_out]), np.sort(order[num_held_out:])

        shape = images_NxHxWxC.shape[1:]
        settings, learner = model_directory.prepare(self._experiment(int(seed)), shape, len(training))
        to_train = ArrayImages(images_NxHxWxC[training])
        for warning in learner.warnings(to_train):
            _LOG.warning(warning)
        trained = learner.fit(to_train, (int(seed),), self._reporter())
        normal = held_out if num_held_out else training
        scores = NormalScores.measure(trained, ArrayImages(images_NxHxWxC[normal]), [str(i) for i in normal])
        self.model_ = TrainedModel(settings, shape, trained, scores, {"detector": self._details()})
        return self

    def _check_contamination(self) -> None:
        if not isinstance(self.contamination, (int, float, np.number)) or not 0 < self.contamination <= 0.5:
            raise RequestError(f"contamination={self.contamination!r}: expected a number in (0, 0.5]")

    def _check_parameters(self) -> None:
        self._check_contamination()
        if not isinstance(self.holdout, (int, float, np.number)) or not 0 <= self.holdout < 1:
            raise RequestError(f"holdout={self.holdout!r}: expected a number in [0, 1)")
        for name in ("epochs", "batch_size", "learning_rate"):  # in a config 0 stands for the default
            if vars(self)[name] == 0:
                raise RequestError(f"{name}=0: expected a number above 0")
        settings = {} if self.settings is None else self.settings
        if not isinstance(settings, Mapping) or not all(isinstance(name, str) for name in settings):
            raise RequestError(f"settings={self.settings!r}: expected a dict such as {{'method.loss': 'l1'}}")
        if isinstance(self.random_state, Integral) and not 0 <= int(self.random_state) < 2**32:
            raise RequestError(f"random_state={self.random_state}: expected 0 to 4294967295")

    def _experiment(self, seed: int) -> Experiment:
        for name, field in _FIELDS.items():
            if field in (self.settings or {}):
                raise RequestError(f"settings: {field} is the parameter {name}; give it there")
        values = {field: self.get_params()[name] for name, field in _FIELDS.items()} | {"seed": seed}
        plain = {key: int(value) if isinstance(value, Integral) else value for key, value in values.items()}
        fixed = {"name": "detector"}
        return experiment.from_flat(fixed | plain | (self.settings or {}))

    def _reporter(self) -> Callable:
        tenth, times = max(1, self.epochs // 10), list[float]()

        def on_report(report, trained_so_far) -> None:
            times.append(time.monotonic())
            if len(times) == 2:  # the first epoch compiles
                minutes = (times[1] - times[0]) * (self.epochs - report.epoch) / 60
                if minutes > _LONG:
                    remedy = "fewer epochs or a smaller width take less"
                    _LOG.warning("training takes about %.0f more minutes; %s", minutes, remedy)
            if self.verbose and (report.epoch % tenth == 0 or report.epoch == self.epochs):
                print(f"epoch {report.epoch}/{self.epochs}  loss {report.loss:.4f}", flush=True)

        return on_report

    def anomaly_scores(self, X) -> np.ndarray:
        """Returns N scores, higher = more anomalous; of ITAE Eq. 3, with 1 as the mean of training images."""
        check_is_fitted(self)
        return self.model_.trained.score(self._images(X)).scores_N

    def score_samples(self, X) -> np.ndarray:
        """Returns the anomaly scores with scikit-learn's sign: higher = more normal."""
        return -self.anomaly_scores(X)

    def decision_function(self, X) -> np.ndarray:
        """Returns `score_samples` minus `offset_`: negative for an anomaly."""
        return self.score_samples(X) - self.offset_

    def predict(self, X) -> np.ndarray:
        """Returns +1 for normal, -1 for anomalous."""
        return np.where(self.decision_function(X) < 0, -1, 1)

    @property
    def offset_(self) -> float:
        """The threshold with scikit-learn's sign."""
        check_is_fitted(self)
        self._check_contamination()
        scores_N = self.model_.normal.scores_N
        if self.holdout == 0:
            return -float(np.quantile(scores_N, 1 - self.contamination))
        return -threshold(scores_N, self.contamination)

    @property
    def threshold_(self) -> float:
        """The anomaly score above which an image is called anomalous."""
        return -self.offset_

    def anomaly_maps(self, X) -> np.ndarray:
        """Returns the anomaly maps, N x H x W; of ITAE Eq. 3 at every pixel, whose mean is the score."""
        check_is_fitted(self)
        maps_NxHxW = self.model_.trained.anomaly_maps(self._images(X))
        count, height, width = maps_NxHxW.shape
        factor = self._factor
        return maps_NxHxW.reshape(count, height // factor, factor, width // factor, factor).mean((2, 4))

    def _images(self, X, fitting: bool = False) -> np.ndarray:
        """Returns N x H x W x C uint8, enlarged to what the network takes."""
        images_NxHxWxC = arrays.as_pictures(X) if self.image_shape is None else self._rows(X, fitting)
        shape = height, width, channels = images_NxHxWxC.shape[1:]
        if fitting:
            method = _itae(self._experiment(0), "settings: ")
            if height != width and transforms.get(method.transform).square_only:
                raise RequestError(
                    f"images of {height}x{width}: transform={method.transform!r} needs square ones; crop or "
                    "pad them, or choose a transform without rotation"
                )
            self._factor = max(1, math.ceil(models.min_side(method.network) / min(height, width)))
        factor = self._factor
        if not fitting and self.model_.image_shape != (factor * height, factor * width, channels):
            height, width, channels = self.model_.image_shape
            raise RequestError(
                f"images of {arrays.by(shape)}: this detector was fitted on images of "
                f"{arrays.by((height // factor, width // factor, channels))}"
            )
        if factor == 1:
            return images_NxHxWxC
        # `TrainedModel.reader` enlarges files of these images the same way.
        reader = Reader(factor * min(height, width), channels, "stretch", aspect=width / height)
        return np.stack([reader.fitted(image) for image in images_NxHxWxC])

    def _rows(self, X, fitting: bool) -> np.ndarray:
        rows_NxF = validate_data(self, X, reset=fitting)
        if fitting:
            self._row_shape = arrays.row_shape(self.image_shape, self.n_features_in_)
            self.pixel_range_ = arrays.pixel_range(rows_NxF)
        return arrays.rows_as_pictures(rows_NxF, self.pixel_range_, self._row_shape)

    def save(self, directory: str | Path) -> None:
        """Writes a new or empty directory atomically, which `load` reads.

        The command line reads it too, unless it was fitted on rows.
        """
        self._as_saved().save(Path(directory))

    def export(self, path: str | Path, kind: str = "") -> None:
        """Writes the scoring function or the weights as one file for use elsewhere, as `itae export` does.

        Args:
          kind: "jax", "onnx" or "safetensors"; empty: by the ending of `path`, else jax.
        """
        model = self._as_saved()
        if self.image_shape is not None:
            raise RequestError("a detector of rows of numbers cannot be exported; fit one on images")
        export.export(model, Path(path), kind)

    def _as_saved(self) -> TrainedModel:
        check_is_fitted(self)
        self._check_parameters()
        return dataclasses.replace(self.model_, details=self.model_.details | {"detector": self._details()})

    def _details(self) -> dict:
        shares = {"contamination": float(self.contamination), "holdout": float(self.holdout)}
        details = shares | {"factor": self._factor}
        if self.image_shape is not None:
            shape = self.image_shape if isinstance(self.image_shape, str) else list(map(int, self.image_shape))
            rows = {"image_shape": shape, "n_features": int(self.n_features_in_)}
            details["rows"] = rows | {"pixel_range": list(self.pixel_range_)}
        return details

    @classmethod
    def load(cls, directory: str | Path, trust: str = "") -> "ITAEDetector":
        """Reads what `save` or `itae fit` wrote, with its parameters; `contamination` can be changed.

        Executes nothing in it but `trust`: the model's transform if it is code of your own, module:attribute.
        """
        model = model_directory.load(Path(directory), trust)
        settings = model.experiment
        _itae(settings, f"{directory}: ")
        flat, defaults = experiment.flatten(settings), experiment.flatten(cls()._experiment(0))
        parameters = {name: flat.pop(field) for name, field in _FIELDS.items()}
        for place in ("name", "data.name", "data.root", "compute.devices"):
            flat.pop(place)
        others = {field: value for field, value in flat.items() if value != defaults[field]}
        saved = {"contamination": FALSE_POSITIVE_RATE, "holdout": 0.2, "factor": 1} | model.details.get(
            "detector", {}
        )
        try:
            detector = cls(**parameters, settings=others or None)
            detector.contamination, detector.holdout = saved["contamination"], saved["holdout"]
            detector._factor = saved["factor"]
            if "rows" in saved:
                rows, shape = saved["rows"], saved["rows"]["image_shape"]
                detector.image_shape = shape if isinstance(shape, str) else tuple(shape)
                detector.n_features_in_ = int(rows["n_features"])
                black, white = rows["pixel_range"]
                detector.pixel_range_ = float(black), float(white)
                detector._row_shape = arrays.row_shape(detector.image_shape, detector.n_features_in_)
            detector._check_parameters()
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise RequestError(f"{directory}: its details are damaged ({error}); fit the model again") from None
        detector.model_ = model
        return detector
