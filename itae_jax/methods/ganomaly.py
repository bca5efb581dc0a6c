"""GANomaly (Akcay et al., ACCV 2018): an adversarial autoencoder with a second encoder.

The score is the distance between the code of an image and the code of its restoration.
"""

import dataclasses
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from itae_jax import parallel
from itae_jax.config import MethodConfig, setting
from itae_jax.errors import RequestError
from itae_jax.evaluate.restoration import LEAST_NORMAL_ERROR
from itae_jax.methods.method import Spec, State
from itae_jax.models.layers import BatchNorm, parameter_dtype

_INNER_SIDE = 4  # the encoder halves until the shorter side is at most this
_LEAST_DISCRIMINATOR_LOSS = 1e-5  # below it the discriminator starts anew
_GENERATOR, _DISCRIMINATOR = "generator", "discriminator"


@dataclasses.dataclass(frozen=True)
class GANomalyConfig(MethodConfig):
    """Settings of GANomaly; both sides are trained by Adam with a first momentum of 0.5."""

    NAME: ClassVar[str] = "ganomaly"
    TRAIN: ClassVar[dict[str, Any]] = dict(
        epochs=15, batch_size=64, learning_rate=2e-4, halve_every_epochs=10**6
    )

    channels: int = setting(64, "channels of the first convolution", least=1, most=4096, reduces=True)
    latent: int = setting(100, "numbers that the encoder keeps of an image", least=1, most=65_536)
    adversarial: float = setting(1.0, "weight of the distance of the features", least=0, most=1e6)
    contextual: float = setting(50.0, "weight of the absolute error of the restoration", least=0, most=1e6)
    encoder: float = setting(1.0, "weight of the squared distance of the codes", least=0, most=1e6)

    @property
    def title(self) -> str:
        return "GANomaly"

    def paper_name(self, table: str, grey: bool, score: str = "") -> str:
        is_theirs = dataclasses.replace(self, channels=type(self).channels) == type(self)()
        return "GANomaly" if is_theirs and table in ("table1", "table2") and not score else ""

    def square_only(self, asked: dict[str, Any]) -> bool:
        return True


class _Network(nn.Module):
    """Base of the networks: 4x4 kernels of N(0, 0.02), batch normalisation, no biases."""

    channels: int
    shape: tuple[int, int, int]  # of the images
    dtype: jnp.dtype

    @property
    def levels(self) -> int:
        """How often the sides are halved."""
        return max(1, int(np.ceil(np.log2(min(self.shape[:2]) / _INNER_SIDE))))

    def options(self) -> dict[str, Any]:
        wide = parameter_dtype(self.dtype)
        kernel = nn.initializers.normal(0.02)
        return {"use_bias": False, "dtype": self.dtype, "param_dtype": wide, "kernel_init": kernel}

    def normalised(self, x, train: bool):
        return BatchNorm(axis_name=parallel.AXIS, dtype=self.dtype)(x, train=train)


class Encoder(_Network):
    """Images, B x H x W x C, to their features in front of the last layer and its `outputs`, B x outputs."""

    outputs: int = 1

    @nn.compact
    def __call__(self, x, *, train: bool):
        x = x.astype(self.dtype)
        for level in range(self.levels):
            features = self.channels * 2**level
            x = nn.Conv(features, (4, 4), (2, 2), padding=1, **self.options())(x)
            x = nn.leaky_relu(self.normalised(x, train) if level else x, 0.2)
        code = nn.Conv(self.outputs, x.shape[1:3], padding="VALID", **self.options())(x)
        return x.astype(parameter_dtype(self.dtype)), code[:, 0, 0].astype(parameter_dtype(self.dtype))


class Decoder(_Network):
    """Codes, B x L, to images, B x H x W x C in [-1, 1]."""

    @nn.compact
    def __call__(self, code, *, train: bool):
        height, width, channels = self.shape
        sides = height >> self.levels, width >> self.levels
        x = code.astype(self.dtype)[:, None, None]
        features = self.channels * 2 ** (self.levels - 1)
        x = nn.ConvTranspose(features, sides, padding="VALID", **self.options())(x)
        for level in range(self.levels - 2, -1, -1):
            x = nn.relu(self.normalised(x, train))
            x = nn.ConvTranspose(self.channels * 2**level, (4, 4), (2, 2), **self.options())(x)
        x = nn.relu(self.normalised(x, train))
        x = nn.ConvTranspose(channels, (4, 4), (2, 2), **self.options())(x)
        return jnp.tanh(x.astype(parameter_dtype(self.dtype)))


class Generator(_Network):
    """Images to their restorations, their codes and the codes of their restorations."""

    latent: int = 100

    @nn.compact
    def __call__(self, x, *, train: bool):
        given = self.channels, self.shape, self.dtype
        _, code = Encoder(*given, self.latent, name="encoder")(x, train=train)
        restored = Decoder(*given, name="decoder")(code, train=train)
        _, again = Encoder(*given, self.latent, name="second_encoder")(restored, train=train)
        return restored, code, again


class GANomaly:
    """GANomaly for images of one shape; see `Method`. Scored in evaluation mode.

    Measured are `code`, the mean squared distance of the two codes, and `restoration`, the mean absolute error
    of the image. The calibration is the mean of each over the training images, which both are divided by.

    Raises:
      RequestError: images whose sides cannot be halved until the shorter is at most 4 pixels.
    """

    components: tuple[str, ...] = ("score_restoration",)

    def __init__(self, config: GANomalyConfig, image_shape: tuple[int, int, int], dtype: str):
        given = config.channels, image_shape, jnp.dtype(dtype)
        self._generator = Generator(*given, config.latent)
        self._discriminator = Encoder(*given)
        least, step = 2 * _INNER_SIDE, 2**self._generator.levels
        if min(image_shape[:2]) < least or image_shape[0] % step or image_shape[1] % step:
            height, width, _ = image_shape
            raise RequestError(
                f"images of {height}x{width}: method.name=ganomaly takes sides such as 32, 48, 64, 96 and 128; "
                "set data.image_size and data.aspect"
            )
        self._config, self._image_shape, self._dtype = config, image_shape, parameter_dtype(dtype)

    def init(self, key: jax.Array) -> State:
        networks = {_GENERATOR: self._generator, _DISCRIMINATOR: self._discriminator}
        variables: dict[str, Any] = {"params": {}, "batch_stats": {}}
        for name, key_of_one in zip(networks, jax.random.split(key), strict=True):
            made = self._made(networks[name], key_of_one)
            for collection in variables:
                variables[collection][name] = made[collection]
        optimiser = self._optimiser(0.0)
        opt_state = {name: optimiser.init(variables["params"][name]) for name in networks}
        return State(variables, opt_state)

    def _made(self, network: nn.Module, key: jax.Array) -> Any:
        return network.init(key, jnp.zeros((1, *self._image_shape), self._dtype), train=False)

    def _optimiser(self, rate) -> optax.GradientTransformation:
        return optax.adam(rate, b1=0.5)

    def update(
        self, state: State, keys_B: jax.Array, rate: jax.Array, images_BxHxWxC: jax.Array
    ) -> tuple[State, dict[str, jax.Array]]:
        """One step of Adam of the generator, and one of the discriminator as it was before."""
        params, stats = state.variables["params"], state.variables["batch_stats"]

        def discriminate(params_of_it, stats_of_it, images):
            variables = {"params": params_of_it, "batch_stats": stats_of_it}
            (features, logits), updated = self._discriminator.apply(
                variables, images, train=True, mutable=["batch_stats"]
            )
            return features, logits[:, 0], updated["batch_stats"]

        def loss_of_generator(params_of_it):
            variables = {"params": params_of_it, "batch_stats": stats[_GENERATOR]}
            (restored, code, again), updated = self._generator.apply(
                variables, images_BxHxWxC, train=True, mutable=["batch_stats"]
            )
            of_discriminator = params[_DISCRIMINATOR], stats[_DISCRIMINATOR]
            of_images, _, _ = discriminate(*of_discriminator, images_BxHxWxC)
            of_restored, _, _ = discriminate(*of_discriminator, restored)
            config = self._config
            loss = (
                config.adversarial * jnp.square(of_restored - of_images).mean()
                + config.contextual * jnp.abs(restored - images_BxHxWxC).mean()
                + config.encoder * jnp.square(again - code).mean()
            )
            return loss, (restored, updated["batch_stats"])

        (loss, (restored, stats_of_generator)), grads = jax.value_and_grad(loss_of_generator, has_aux=True)(
            params[_GENERATOR]
        )

        def loss_of_discriminator(params_of_it):
            _, of_images, updated = discriminate(params_of_it, stats[_DISCRIMINATOR], images_BxHxWxC)
            _, of_restored, updated = discriminate(params_of_it, updated, restored)
            is_real, is_made = jnp.ones_like(of_images), jnp.zeros_like(of_restored)
            real = optax.sigmoid_binary_cross_entropy(of_images, is_real).mean()
            made = optax.sigmoid_binary_cross_entropy(of_restored, is_made).mean()
            return (real + made) / 2, updated

        (other_loss, stats_of_discriminator), other_grads = jax.value_and_grad(
            loss_of_discriminator, has_aux=True
        )(params[_DISCRIMINATOR])
        losses = {"loss": loss, "discriminator_loss": other_loss}
        all_grads = {_GENERATOR: grads, _DISCRIMINATOR: other_grads}
        losses, all_grads = parallel.mean((losses, all_grads))

        new_params, new_opt_state = {}, {}
        with jax.numpy_dtype_promotion("standard"):  # Optax mixes floats with its integer count of steps
            for name, of_one in all_grads.items():
                updates, new_opt_state[name] = self._optimiser(rate).update(of_one, state.opt_state[name])
                new_params[name] = optax.apply_updates(params[name], updates)
        count = new_opt_state[_DISCRIMINATOR][0].count  # every device draws the same, and so does every seed
        new_params[_DISCRIMINATOR] = jax.lax.cond(
            losses["discriminator_loss"] < _LEAST_DISCRIMINATOR_LOSS,
            lambda: self._made(self._discriminator, jax.random.fold_in(jax.random.key(0), count))["params"],
            lambda: new_params[_DISCRIMINATOR],
        )
        new_stats = {_GENERATOR: stats_of_generator, _DISCRIMINATOR: stats_of_discriminator}
        return State({"params": new_params, "batch_stats": new_stats}, new_opt_state), losses

    def _outputs(self, variables: Any, images: jax.Array) -> Any:
        own = {collection: tree[_GENERATOR] for collection, tree in variables.items()}
        return self._generator.apply(own, images, train=False)

    def measure(self, variables: Any, images_BxHxWxC: jax.Array) -> dict[str, jax.Array]:
        restored, code, again = self._outputs(variables, images_BxHxWxC)
        error = jnp.abs(restored - images_BxHxWxC).mean((1, 2, 3))
        return {"code": jnp.square(again - code).mean(1), "restoration": error}

    def calibrate(self, measured: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        means = {name: values.mean(dtype=np.float64) for name, values in measured.items()}
        return {name: np.maximum(mean, LEAST_NORMAL_ERROR) for name, mean in means.items()}

    def score(self, measured: dict[str, Any], calibration: dict[str, np.ndarray]) -> Any:
        return measured["code"] / np.asarray(calibration["code"], measured["code"].dtype)

    def columns(self, measured: dict[str, Any], calibration: dict[str, np.ndarray]) -> dict[str, Any]:
        errors = measured["restoration"]
        return {"score_restoration": errors / np.asarray(calibration["restoration"], errors.dtype)}

    def anomaly_map(self, variables: Any, calibration: dict[str, Any], images_BxHxWxC: jax.Array) -> jax.Array:
        """The absolute error of each pixel, relative to the mean over the training images."""
        restored, *_ = self._outputs(variables, images_BxHxWxC)
        return jnp.abs(restored - images_BxHxWxC).mean(3) / calibration["restoration"]

    def examples(
        self, variables: Any, calibration: dict[str, Any], images_BxHxWxC: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        restored, *_ = self._outputs(variables, images_BxHxWxC)
        return images_BxHxWxC[None], restored[None]


METHOD = Spec(GANomalyConfig, GANomaly)
