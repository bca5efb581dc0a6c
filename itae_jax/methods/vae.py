"""The variational autoencoder (Kingma and Welling 2014), scored by its negative evidence lower bound.

The ITAE paper's Table 1 quotes one of unknown architecture. This one has 3x3 convolutions of stride 2 with
64, 128 and 256 channels, batch normalisation and ReLU, a latent of 256, and a mirrored decoder.
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
from itae_jax.methods.method import Spec, State
from itae_jax.models.layers import BatchNorm, parameter_dtype

_LEAST_SIDE = 8
_LEAST_VARIANCE = 1e-12


@dataclasses.dataclass(frozen=True)
class VAEConfig(MethodConfig):
    """Settings of the VAE; it is trained by Adam."""

    NAME: ClassVar[str] = "vae"
    TRAIN: ClassVar[dict[str, Any]] = dict(
        epochs=100, batch_size=32, learning_rate=1e-3, halve_every_epochs=100
    )

    channels: int = setting(64, "channels of the first convolution", least=1, most=4096)
    latent: int = setting(256, "numbers that the encoder keeps of an image", least=1, most=65_536)
    kl_weight: float = setting(1.0, "weight of the Kullback-Leibler divergence", least=0, most=1e6)

    @property
    def title(self) -> str:
        return "VAE"

    def paper_name(self, table: str, grey: bool, score: str = "") -> str:
        return "VAE" if table == "table1" else ""


class _Network(nn.Module):
    """Encoder and decoder; returns the restored images, and mean and log-variance of the latent, B x L."""

    channels: int
    latent: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x_BxHxWxC, noise_BxL, *, train: bool = False):
        def block(x, layer):
            x = layer(x)
            x = BatchNorm(axis_name=parallel.AXIS, dtype=self.dtype)(x, train=train)
            return nn.relu(x)

        widths = [factor * self.channels for factor in (1, 2, 4)]
        wide = parameter_dtype(self.dtype)
        options: dict[str, Any] = {"dtype": self.dtype, "param_dtype": wide}
        x, sizes = x_BxHxWxC.astype(self.dtype), []
        for width in widths:
            sizes.append(x.shape[1:3])
            x = block(x, nn.Conv(width, (3, 3), (2, 2), use_bias=False, **options))
        inner = x.shape[1:]
        x = x.reshape(x.shape[0], -1)
        mean = nn.Dense(self.latent, param_dtype=wide, dtype=wide)(x)
        log_variance = nn.Dense(self.latent, param_dtype=wide, dtype=wide)(x)
        x = mean + jnp.exp(log_variance / 2) * noise_BxL
        x = nn.relu(nn.Dense(int(np.prod(inner)), **options)(x)).reshape(-1, *inner)
        for width, (height, side) in zip((widths[1], widths[0]), (sizes[2], sizes[1]), strict=True):
            layer = nn.ConvTranspose(width, (3, 3), (2, 2), use_bias=False, **options)
            x = block(x, lambda x, layer=layer: layer(x))[:, :height, :side]
        x = nn.ConvTranspose(x_BxHxWxC.shape[3], (3, 3), (2, 2), **options)(x)
        height, side = sizes[0]
        return jnp.tanh(x[:, :height, :side].astype(wide)), mean, log_variance


class VAE:
    """A VAE for images of one shape; see `Method`.

    Measured are, for each image, `reconstruction`: half the squared distance of image and restoration,
    and `kl`: the divergence of the latent from a standard normal. Their sum is the negative ELBO but for a
    constant, with a likelihood of unit variance. The latent is its mean when scoring.

    Raises:
      RequestError: images that are too small.
    """

    components: tuple[str, ...] = ("kl", "score_reconstruction")

    def __init__(self, config: VAEConfig, image_shape: tuple[int, int, int], dtype: str):
        if min(image_shape[:2]) < _LEAST_SIDE:
            raise RequestError(
                f"images of {image_shape[0]}x{image_shape[1]} are too small for method.name=vae; "
                f"set data.image_size to {_LEAST_SIDE} or more"
            )
        self._config, self._image_shape = config, image_shape
        self._network = _Network(config.channels, config.latent, jnp.dtype(dtype))
        self._dtype = parameter_dtype(dtype)

    def init(self, key: jax.Array) -> State:
        images, noise = jnp.zeros((1, *self._image_shape), self._dtype), jnp.zeros((1, self._config.latent))
        variables = dict(self._network.init(key, images, noise.astype(self._dtype)))
        return State(variables, optax.adam(0.0).init(variables["params"]))

    def update(
        self, state: State, keys_B: jax.Array, rate: jax.Array, images_BxHxWxC: jax.Array
    ) -> tuple[State, dict[str, jax.Array]]:
        """One step of Adam on the negative ELBO, with one draw of the latent for each image."""
        noise_BxL = jax.vmap(lambda key: jax.random.normal(key, (self._config.latent,), self._dtype))(keys_B)
        batch_stats = state.variables["batch_stats"]

        def loss_of(params):
            variables = {"params": params, "batch_stats": batch_stats}
            outputs, updated = self._network.apply(
                variables, images_BxHxWxC, noise_BxL, train=True, mutable=["batch_stats"]
            )
            parts = {name: values.mean() for name, values in self._parts(images_BxHxWxC, *outputs).items()}
            return self._negative_elbo(parts), (parts, updated["batch_stats"])

        (loss, (parts, batch_stats)), grads = jax.value_and_grad(loss_of, has_aux=True)(
            state.variables["params"]
        )
        metrics, grads = parallel.mean(({"loss": loss, **parts}, grads))
        with jax.numpy_dtype_promotion("standard"):  # Optax mixes floats with its integer count of steps
            updates, opt_state = optax.adam(rate).update(grads, state.opt_state)
        params = optax.apply_updates(state.variables["params"], updates)
        return State({"params": params, "batch_stats": batch_stats}, opt_state), metrics

    def _parts(self, images, restored, mean, log_variance) -> dict[str, jax.Array]:
        """The two parts of the negative ELBO, for each image."""
        divergence = jnp.exp(log_variance) + jnp.square(mean) - 1 - log_variance
        return {"reconstruction": jnp.square(restored - images).sum((1, 2, 3)) / 2, "kl": divergence.sum(1) / 2}

    def _negative_elbo(self, parts: dict[str, Any]) -> Any:
        return parts["reconstruction"] + self._config.kl_weight * parts["kl"]

    def _restored(self, variables: Any, images: jax.Array) -> Any:
        noise = jnp.zeros((images.shape[0], self._config.latent), self._dtype)
        return self._network.apply(variables, images, noise)

    def measure(self, variables: Any, images_BxHxWxC: jax.Array) -> dict[str, jax.Array]:
        return self._parts(images_BxHxWxC, *self._restored(variables, images_BxHxWxC))

    def calibrate(self, measured: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        mean = measured["reconstruction"].mean(dtype=np.float64)
        return {"reconstruction": np.maximum(mean, _LEAST_VARIANCE)}

    def score(self, measured: dict[str, Any], calibration: dict[str, np.ndarray]) -> Any:
        return self._negative_elbo(measured)

    def columns(self, measured: dict[str, Any], calibration: dict[str, np.ndarray]) -> dict[str, Any]:
        return {"kl": measured["kl"], "score_reconstruction": measured["reconstruction"]}

    def anomaly_map(self, variables: Any, calibration: dict[str, Any], images_BxHxWxC: jax.Array) -> jax.Array:
        """The squared error of each pixel, relative to the mean over the training images."""
        restored, *_ = self._restored(variables, images_BxHxWxC)
        errors_BxHxW = jnp.square(restored - images_BxHxWxC).sum(3) / 2
        height, width, _ = self._image_shape
        return errors_BxHxW * (height * width) / calibration["reconstruction"]

    def examples(
        self, variables: Any, calibration: dict[str, Any], images_BxHxWxC: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        restored, *_ = self._restored(variables, images_BxHxWxC)
        return images_BxHxWxC[None], restored[None]


METHOD = Spec(VAEConfig, VAE)
