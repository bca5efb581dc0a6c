"""ITAE as an outlier detector of scikit-learn's kind."""

import dataclasses
import math
from numbers import Integral
from pathlib import Path

import numpy as np
from sklearn.base import BaseEstimator, OutlierMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from itae_jax import config, models, transforms
from itae_jax.config import Experiment
from itae_jax.data import ArrayImages
from itae_jax.detection import arrays
from itae_jax.detection import model as trained
from itae_jax.detection.model import NormalScores, TrainedModel
from itae_jax.errors import RequestError
from itae_jax.methods import itae as method


class _ParameterAlone:
    """A parameter with the name of one of scikit-learn's methods: kept, but not there as an attribute.

    scikit-learn takes whatever has an attribute `transform` for a transformer and calls it.
    """

    def __set_name__(self, owner, name):
        self._name = name

    def __set__(self, instance, value):
        vars(instance)[self._name] = value

    def __get__(self, instance, owner=None):
        raise AttributeError(f"{self._name} is a parameter here: get_params()[{self._name!r}]")


class ITAEDetector(OutlierMixin, BaseEstimator):
    """The Inverse-Transform AutoEncoder with scikit-learn's conventions and signs.

    Trained on normal images, N x H x W or N x H x W x C uint8 with 1 or 3 channels. Images with sides
    below 16 pixels are enlarged by a whole factor, each pixel repeated. On a CPU, call
    `itae_jax.parallel.use_cpu_cores()` before anything else to make use of all cores.

    Args:
      transform: what is erased, as in `transform.name`; rotation needs square images.
      width: channels of the network's first block; 64 is the paper's.
      epochs: passes over the training images; 500 are the paper's.
      contamination: the share of normal images that may be called anomalous, in (0, 0.5]. It can be
        changed after fitting.
      random_state: decides initialisation, order, all random draws, and which images are held out.
      image_shape: makes `fit` and the rest take rows of numbers, N x n_features: (H, W) or (H, W, C)
        for rows that are images of that shape, laid out in C order; "square" for rows of any length,
        laid out in the smallest square of one channel that holds them, the rest of it black. Rows of
        uint8 are pixels; of any other numbers the least and greatest of the training rows, over all
        features, become black and white, and what lies beyond them later is cut off.
      holdout: the share of images that are not trained on, from whose scores the threshold is
        computed. With 0 it is computed from the training images, as scikit-learn's own detectors do
        it; these score lower than new normal images, so that there will be more false alarms.
      batch_size: images a step; of fewer training images all make up a batch.
      learning_rate: of SGD, halved after every 50 epochs.
      augment: as in `train.augment`: "none", or of flip and shift.
      settings: any other fields of the config: {"train.halve_every_epochs": 10, "model.output": "linear"}.
      verbose: 1 prints the loss ten times.

    Attributes:
      model_: the `TrainedModel`.
      offset_: decision_function is score_samples minus this; follows `contamination`.
      n_features_in_: of rows, how many numbers each has.
      pixel_range_: of rows, the numbers that are black and white.
    """

    def __init__(
        self,
        transform="gray+rotate",
        width=64,
        epochs=500,
        contamination=0.1,
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

    transform = _ParameterAlone()

    def get_params(self, deep=True) -> dict:
        """All parameters by name."""
        del deep  # none of them has parameters of its own
        return {name: vars(self)[name] for name in self._get_param_names()}

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = self.image_shape is not None
        tags.input_tags.three_d_array = self.image_shape is None
        return tags

    def fit(self, X, y=None):
        """Trains on normal images or rows; `y` is ignored.

        Raises:
          RequestError: a ValueError that says in one line what is wrong with the images or a parameter.
        """
        del y
        self._check_parameters()
        images_NxHxWxC = self._images(X, fitting=True)
        count = len(images_NxHxWxC)
        held_out = 0 if self.holdout == 0 else max(1, round(self.holdout * count))
        if count - held_out < 1 or count < 2:
            raise RequestError(f"n_samples = {count}: expected at least 2 images, one of them to hold out")
        seed = self.random_state
        if not isinstance(seed, Integral):
            seed = check_random_state(seed).randint(2**31 - 1)
        order = np.random.default_rng(int(seed)).permutation(count)
        normal, training = np.sort(order[:held_out]), np.sort(order[held_out:])

        experiment = method.fitting(self._experiment(int(seed)), len(training))
        itae = method.of(experiment, images_NxHxWxC.shape[1:])
        fitted = itae.fit(ArrayImages(images_NxHxWxC[training]), (int(seed),), self._report)
        normal = normal if held_out else training
        scores = NormalScores.measure(fitted, ArrayImages(images_NxHxWxC[normal]), [str(i) for i in normal])
        details = {"detector": self._details()}
        self.model_ = TrainedModel(experiment, images_NxHxWxC.shape[1:], fitted, scores, details)
        return self

    def _check_parameters(self) -> None:
        if not 0 < self.contamination <= 0.5:
            raise RequestError(f"contamination={self.contamination}: expected a number in (0, 0.5]")
        if not 0 <= self.holdout < 1:
            raise RequestError(f"holdout={self.holdout}: expected a number in [0, 1)")
        if isinstance(self.random_state, Integral) and not 0 <= self.random_state < 2**32:
            raise RequestError(f"random_state={self.random_state}: expected 0 to 4294967295")

    def _experiment(self, seed: int) -> Experiment:
        fields = {
            "name": "detector",
            "seed": seed,
            "transform.name": self.get_params()["transform"],
            "model.width": self.width,
            "train.epochs": self.epochs,
            "train.batch_size": self.batch_size,
            "train.learning_rate": self.learning_rate,
            "train.augment": self.augment,
            "evaluate.batch_size": 64,
        }
        plain = {key: int(value) if isinstance(value, Integral) else value for key, value in fields.items()}
        return config.from_flat(plain | (self.settings or {}))

    def _report(self, report, fitted_so_far) -> None:
        tenth = max(1, self.epochs // 10)
        if self.verbose and (report.epoch % tenth == 0 or report.epoch == self.epochs):
            print(f"epoch {report.epoch}/{self.epochs}  loss {report.loss:.4f}", flush=True)

    def anomaly_scores(self, X) -> np.ndarray:
        """Eq. 3 for every image: N numbers, higher = more anomalous, 1 = the mean of the training images."""
        check_is_fitted(self)
        return self.model_.fitted.score(ArrayImages(self._images(X))).scores_N

    def score_samples(self, X) -> np.ndarray:
        """The anomaly scores with scikit-learn's sign: higher = more normal."""
        return -self.anomaly_scores(X)

    def decision_function(self, X) -> np.ndarray:
        """`score_samples` minus `offset_`: negative for what is called an anomaly."""
        return self.score_samples(X) - self.offset_

    def predict(self, X) -> np.ndarray:
        """+1 for normal, -1 for anomalous."""
        return np.where(self.decision_function(X) < 0, -1, 1)

    @property
    def offset_(self) -> float:
        """The threshold with scikit-learn's sign."""
        check_is_fitted(self)
        scores_N = self.model_.normal.scores_N
        if self.holdout == 0:
            return -float(np.quantile(scores_N, 1 - self.contamination))
        return -trained.threshold(scores_N, self.contamination)

    def error_maps(self, X) -> np.ndarray:
        """Where the error is: N x H x W, Eq. 3 at every pixel; each map's mean is the image's score."""
        check_is_fitted(self)
        images_NxHxWxC = self._images(X)
        factor = self._factor
        maps_NxHxW = self.model_.fitted.error_maps(images_NxHxWxC)
        count, height, width = maps_NxHxW.shape
        blocks = maps_NxHxW.reshape(count, height // factor, factor, width // factor, factor)
        return blocks.mean((2, 4))

    def _images(self, X, fitting: bool = False) -> np.ndarray:
        """N x H x W x C uint8, sides of 16 or more."""
        images_NxHxWxC = arrays.as_pictures(X) if self.image_shape is None else self._rows(X, fitting)
        shape = images_NxHxWxC.shape[1:]
        if fitting:
            self._check_size(*shape[:2])
            least = models.min_side(self._experiment(0).model.name)
            self._factor = max(1, math.ceil(least / min(shape[:2])))
        factor = self._factor
        if not fitting and self.model_.image_shape != (factor * shape[0], factor * shape[1], shape[2]):
            height, width, channels = self.model_.image_shape
            raise RequestError(
                f"images of {arrays.by(shape)}: this detector was fitted on images of "
                f"{arrays.by((height // factor, width // factor, channels))}"
            )
        return images_NxHxWxC.repeat(factor, axis=1).repeat(factor, axis=2)

    def _check_size(self, height: int, width: int) -> None:
        name = self._experiment(0).transform.name
        if transforms.get(name).square_only and height != width:
            raise RequestError(
                f"images of {height}x{width}: transform={name!r} needs square ones; crop or pad them, "
                "or choose a transform without rotation"
            )

    def _rows(self, X, fitting: bool) -> np.ndarray:
        rows_NxF = validate_data(self, X, reset=fitting)
        if fitting:
            self._row_shape = arrays.row_shape(self.image_shape, self.n_features_in_)
            self.pixel_range_ = arrays.pixel_range(rows_NxF)
        return arrays.rows_as_pictures(rows_NxF, self.pixel_range_, self._row_shape)

    def save(self, directory: str | Path) -> None:
        """Writes a new directory that `load` and the command line read, whole or not at all.

        Raises:
          RequestError: it is there and not empty, or cannot be written.
        """
        check_is_fitted(self)
        details = self.model_.details | {"detector": self._details()}
        dataclasses.replace(self.model_, details=details).save(Path(directory))

    def _details(self) -> dict:
        details = {
            "contamination": float(self.contamination),
            "holdout": float(self.holdout),
            "factor": self._factor,
        }
        if self.image_shape is not None:
            shape = self.image_shape if isinstance(self.image_shape, str) else list(map(int, self.image_shape))
            details["rows"] = {
                "image_shape": shape,
                "n_features": int(self.n_features_in_),
                "pixel_range": list(self.pixel_range_),
            }
        return details

    @classmethod
    def load(cls, directory: str | Path, transform: str = "") -> "ITAEDetector":
        """The detector that `save` wrote, or one of a model that `itae fit` made.

        Nothing in the directory is executed; a model with a transform of your own, module:attribute, asks
        for its name in `transform`, and its code runs. The parameters are those of the model; `contamination`
        can be set anew.

        Raises:
          RequestError: there is no model, or it is damaged.
        """
        model = trained.load(Path(directory), transform)
        flat, defaults = config.flatten(model.experiment), config.flatten(cls()._experiment(0))
        parameters = {name: flat.pop(field) for name, field in _FIELDS.items()}
        for ours in ("name", "data.name", "data.root"):
            flat.pop(ours)
        settings = {field: value for field, value in flat.items() if value != defaults[field]}
        saved = model.details.get("detector", {})
        try:
            detector = cls(
                **parameters,
                settings=settings or None,
                contamination=saved.get("contamination", 0.1),
                holdout=saved.get("holdout", 0.2),
            )
            detector._factor = int(saved.get("factor", 1))
            if "rows" in saved:
                rows = saved["rows"]
                shape = rows["image_shape"]
                detector.image_shape = shape if isinstance(shape, str) else tuple(shape)
                detector.n_features_in_ = int(rows["n_features"])
                detector.pixel_range_ = tuple(map(float, rows["pixel_range"]))
                detector._row_shape = arrays.row_shape(detector.image_shape, detector.n_features_in_)
            detector._check_parameters()
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise RequestError(f"{directory}: its details are damaged ({error}); fit the model again") from None
        detector.model_ = model
        return detector


_FIELDS = {
    "transform": "transform.name",
    "width": "model.width",
    "epochs": "train.epochs",
    "random_state": "seed",
    "batch_size": "train.batch_size",
    "learning_rate": "train.learning_rate",
    "augment": "train.augment",
}
