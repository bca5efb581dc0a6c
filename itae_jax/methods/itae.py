"""The Inverse-Transform AutoEncoder: erase, restore, score by how badly the restoration fails.

The plain autoencoder is the same with the transform `identity`.
"""

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import optax

from itae_jax import models, parallel, transforms
from itae_jax.config import MethodConfig, setting
from itae_jax.errors import RequestError
from itae_jax.evaluate import restoration
from itae_jax.methods.method import Spec, State

_ANGLES = ("0°", "90°", "180°", "270°")


@dataclasses.dataclass(frozen=True)
class ITAEConfig(MethodConfig):
    """Settings of ITAE; the defaults are the paper's."""

    NAME: ClassVar[str] = "itae"
    TRAIN: ClassVar[dict[str, Any]] = dict(epochs=500, batch_size=32, learning_rate=0.1, halve_every_epochs=50)
    BENCH: ClassVar[tuple[dict[str, Any], ...]] = ({"width": 16}, {"width": 32}, {"width": 64})

    transform: str = setting("gray+rotate", "erasing transforms, joined by +; itae transforms shows them")
    network: str = setting("unet", "the network", choices=("unet", "resnet34_unet"))
    width: int = setting(64, "channels of the network's first block", least=1, most=4096, reduces=True)
    output: str = setting("tanh", "activation of the last layer", choices=("tanh", "linear"))
    loss: str = setting("l2", "training loss: squared (Eq. 2) or absolute error", choices=("l2", "l1"))
    error: str = setting("l1", "restoration error that scores (Eq. 3)", choices=restoration.ERRORS)
    transforms_per_image: str = setting(
        "one", "one drawn transform of each image a step, or all", choices=("one", "all")
    )
    momentum: float = setting(0.0, "of SGD", least=0, most=1)
    weight_decay: float = setting(0.0, "of SGD", least=0, most=1e6)

    @property
    def title(self) -> str:
        own = [name for name in ("loss", "error") if getattr(self, name) != getattr(type(self), name)]
        return ", ".join([self.transform, *(f"{name}={getattr(self, name)}" for name in own)])

    @property
    def own_score(self) -> str:
        return f"score_{self.error}"

    @property
    def foreign_code(self) -> str:
        return self.transform if ":" in self.transform else ""

    def paper_name(self, table: str, grey: bool, score: str = "") -> str:
        error = score.removeprefix("score_") or self.error
        if table == "table5":
            return f"{self.loss}->{error}" if self.transform == "gray+rotate" else ""
        if (self.loss, error, self.output, self.transforms_per_image) != ("l2", "l1", "tanh", "one"):
            return ""
        if table == "table4":
            names = {"scale": "AE+S", "gray": "AE+G", "rotate": "AE+R", "gray+rotate": "AE+G+R"}
        else:  # on grey images graying erases nothing, and rotation alone is the paper's set
            names = {"gray+rotate": "ITAE"} | ({"rotate": "ITAE"} if grey else {})
        return ({"identity": "AE"} | names).get(self.transform, "")

    def score_titles(self, table: str) -> dict[str, str]:
        if table != "table5":
            return {}
        return {f"score_{error}": f"{self.loss} loss, {error} score" for error in restoration.ERRORS}

    def suggest(self, channels: int, accelerator: bool) -> list[tuple[str, Any, str]]:
        grey = "rotate", "grey images have no colour to erase"
        transform = grey if channels == 1 else ("gray+rotate", "the paper's set for colour images")
        width = (64, "the paper's") if accelerator else (16, "what a CPU can do; the paper's is 64")
        return [("method.transform", *transform), ("method.width", *width)]

    def example_titles(self, count: int) -> list[str]:
        parts = [name.strip() for name in self.transform.split("+")]
        if count == len(_ANGLES) and parts.count("rotate") == 1 and set(parts) <= {"gray", "rotate"}:
            return list(_ANGLES)
        return super().example_titles(count)


class ITAE:
    """ITAE for images of one shape; see `Method`.

    Measured are the restoration errors "l1" and "l2", N x T; the calibration is their mean over the
    training images, the normaliser n_i of Eq. 3.

    Raises:
      RequestError: the transform or the network cannot take images of this shape.
    """

    def __init__(self, config: ITAEConfig, image_shape: tuple[int, int, int], dtype: str):
        self._config = config
        self._transform = transforms.get(config.transform)
        self._transform.try_on(image_shape)
        height, width, channels = image_shape
        least = models.min_side(config.network)
        if min(height, width) < least:
            raise RequestError(
                f"images of {height}x{width} are too small for method.network={config.network}; "
                f"set data.image_size to {least} or more"
            )
        options: dict[str, Any] = {"width": config.width, "output": config.output, "dtype": dtype}
        self._model = models.build(config.network, out_channels=channels, axis_name=parallel.AXIS, **options)
        self._parameter_dtype = models.parameter_dtype(dtype)
        self._input_shape = (1, height, width, self._transform.out_channels(channels))
        errors = [f"error_{index}" for index in range(self._transform.count)]
        self.components = (*errors, *(f"score_{kind}" for kind in restoration.ERRORS))

    def init(self, key: jax.Array) -> State:
        variables = dict(self._model.init(key, jnp.zeros(self._input_shape, self._parameter_dtype)))
        return State(variables, self._optimiser(0.0).init(variables["params"]))

    def _optimiser(self, rate) -> optax.GradientTransformation:
        # The rate is an argument of each step, so that one compiled step serves epochs of any length.
        decay = self._config.weight_decay
        return optax.chain(
            optax.add_decayed_weights(decay) if decay else optax.identity(),
            optax.sgd(rate, momentum=self._config.momentum or None),
        )

    def update(
        self, state: State, keys_B: jax.Array, rate: jax.Array, images_BxHxWxC: jax.Array
    ) -> tuple[State, dict[str, jax.Array]]:
        """Restores each image from one drawn member of the transform, or from all T, by SGD on Eq. 2."""
        inputs, targets = self._erase(keys_B, images_BxHxWxC)
        batch_stats = state.variables["batch_stats"]

        def loss_of(params):
            restored, updated = self._model.apply(
                {"params": params, "batch_stats": batch_stats}, inputs, train=True, mutable=["batch_stats"]
            )
            return restoration.loss(restored, targets, self._config.loss), updated["batch_stats"]

        (loss, batch_stats), grads = jax.value_and_grad(loss_of, has_aux=True)(state.variables["params"])
        loss, grads = parallel.mean((loss, grads))
        updates, opt_state = self._optimiser(rate).update(grads, state.opt_state, state.variables["params"])
        params = optax.apply_updates(state.variables["params"], updates)
        return State({"params": params, "batch_stats": batch_stats}, opt_state), {"loss": loss}

    def _erase(self, keys_B: jax.Array, originals: jax.Array) -> tuple[jax.Array, jax.Array]:
        count = self._transform.count
        if self._config.transforms_per_image == "all":
            inputs = self._transform.apply_all(originals)
            return inputs.reshape(-1, *inputs.shape[2:]), jnp.tile(originals, (count, 1, 1, 1))
        index_B = jax.vmap(lambda key: jax.random.randint(key, (), 0, count))(keys_B)
        return self._transform.apply_each(originals, index_B), originals

    def measure(self, variables: Any, images_BxHxWxC: jax.Array) -> dict[str, jax.Array]:
        _, restored = self.examples(variables, images_BxHxWxC)
        of_pixels = restoration.pixel_errors(restored, images_BxHxWxC)
        return {kind: values.mean((2, 3, 4)).T for kind, values in of_pixels.items()}

    def calibrate(self, measured: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {kind: restoration.normal_errors(errors_NxT) for kind, errors_NxT in measured.items()}

    def score(self, measured: dict[str, Any], calibration: dict[str, np.ndarray]) -> Any:
        kind = self._config.error
        return restoration.anomaly_scores(measured[kind], calibration[kind])

    def columns(self, measured: dict[str, Any], calibration: dict[str, np.ndarray]) -> dict[str, Any]:
        errors = {f"error_{index}": column for index, column in enumerate(measured[self._config.error].T)}
        scores = {
            f"score_{kind}": restoration.anomaly_scores(measured[kind], calibration[kind])
            for kind in restoration.ERRORS
        }
        return errors | scores

    def anomaly_map(self, variables: Any, calibration: dict[str, Any], images_BxHxWxC: jax.Array) -> jax.Array:
        """Eq. 3 at every pixel: the mean of a map is the image's score."""
        _, restored = self.examples(variables, images_BxHxWxC)
        errors = restoration.pixel_errors(restored, images_BxHxWxC)[self._config.error]
        return restoration.maps(errors, calibration[self._config.error])

    def examples(self, variables: Any, images_BxHxWxC: jax.Array) -> tuple[jax.Array, jax.Array]:
        def restore(inputs: jax.Array) -> Any:
            return self._model.apply(variables, inputs)

        return restoration.restore_all(restore, self._transform, images_BxHxWxC)


def _torch_weights(config: ITAEConfig, variables: Any) -> dict[str, np.ndarray]:
    if config.network != "unet":
        raise RequestError(f"method.network={config.network}: only the unet has a counterpart in PyTorch")
    from itae_jax.models import torch_weights

    return torch_weights.to_state_dict(variables)


def _torch_reference(config: ITAEConfig, channels: int) -> Any:
    if (config.network, config.output) != ("unet", "tanh"):
        return None
    from itae_jax.models.torch_unet import TorchUNet

    inputs = transforms.get(config.transform).out_channels(channels)
    return TorchUNet(config.width, inputs, channels), inputs


METHOD = Spec(ITAEConfig, ITAE, _torch_weights, _torch_reference)
