"""What a method is: pure functions over arrays, from which training and scoring are built.

Devices, epochs, files and checkpoints stay outside. Everything that runs, folders, reports and benchmarks
know of a method goes through this protocol and its settings' `MethodConfig`.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import flax.struct
import jax
import numpy as np

from itae_jax.config import MethodConfig

Measured = dict[str, Any]  # name -> array with a row for each image
Calibration = dict[str, np.ndarray]


@flax.struct.dataclass
class State:
    """What training changes: `variables`, which scoring needs, and `opt_state`, which it does not."""

    variables: Any
    opt_state: Any


class Method(Protocol):
    """A method for images of one shape. Images are B x H x W x C floats in [-1, 1].

    Attributes:
      components: its columns of scores.csv beside `score`. Each that begins with `score_` is a further
        anomaly score, whose AUROC becomes a column of results.csv.
    """

    components: tuple[str, ...]

    def init(self, key: jax.Array) -> State:
        """The state before training."""

    def update(
        self, state: State, keys_B: jax.Array, rate: jax.Array, images_BxHxWxC: jax.Array
    ) -> tuple[State, dict[str, jax.Array]]:
        """One training step on a slice of the batch; runs inside a function mapped over the devices.

        The random key of an image depends on the seed, the step and its place in the whole batch. Returns
        the new state and scalar metrics, `loss` among them; gradients, statistics and metrics are those of
        the whole batch, by `parallel.mean`.
        """

    def measure(self, variables: Any, images_BxHxWxC: jax.Array) -> Measured:
        """What scores are made of, each image by itself, in evaluation mode."""

    def calibrate(self, measured: Measured) -> Calibration:
        """What scoring needs to know of the training images, from their measurements, N rows each."""

    def score(self, measured: Measured, calibration: Calibration) -> Any:
        """N anomaly scores, higher = more anomalous; for NumPy and JAX arrays."""

    def columns(self, measured: Measured, calibration: Calibration) -> dict[str, Any]:
        """The components by name, N numbers each."""


@runtime_checkable
class Localises(Protocol):
    """A method that says where in an image the anomaly is."""

    def anomaly_map(self, variables: Any, calibration: Calibration, images_BxHxWxC: jax.Array) -> jax.Array:
        """B x H x W; 1 is the mean over the training images."""


@runtime_checkable
class Restores(Protocol):
    """A method that makes images which a report can show."""

    def examples(
        self, variables: Any, calibration: Calibration, images_BxHxWxC: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """What the network was given and what it made of it, both T x B x H x W x C in [-1, 1]."""


@runtime_checkable
class Combines(Protocol):
    """A method whose score combines some of its components, weighed by images that it did not train on."""

    members: tuple[str, ...]  # the components that it combines

    def combined(self, calibration: Calibration, normal: Measured, ratings: dict[str, float]) -> Calibration:
        """The calibration with weights.

        Args:
          normal: the components of normal images that were not trained on, N each.
          ratings: component -> AUROC, how well it tells anomalies of any kind from normal images.
        """

    def combine(self, columns: dict[str, Any], calibration: Calibration) -> Any:
        """The scores of N images from their components."""

    def weights(self, calibration: Calibration) -> dict[str, float]:
        """The weight of each component in the score; their sum is 1."""


@dataclasses.dataclass(frozen=True)
class Spec:
    """A method as the registry knows it.

    Attributes:
      config: the class of its settings.
      build: (settings, image shape, dtype of activations) -> method.
      torch_weights: (settings, variables) -> arrays under PyTorch's names, where that is defined.
      torch_reference: the same network in PyTorch for `itae bench`: (settings, channels) -> (module,
        channels of its input), or None where the settings have no counterpart.
    """

    config: type[MethodConfig]
    build: Callable[[Any, tuple[int, int, int], str], Method]
    torch_weights: Callable[[Any, Any], dict[str, np.ndarray]] | None = None
    torch_reference: Callable[[Any, int], Any] | None = None
