"""The skip-connected autoencoder of the paper's Table 10."""

from collections.abc import Sequence
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from itae_jax.models.cpu_conv import halve
from itae_jax.models.layers import BatchNorm, Conv, double_bilinear, parameter_dtype


class DoubleConv(nn.Module):
    """Twice (3x3 convolution, batch normalisation, ReLU)."""

    features: int
    axis_name: str | None = None
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x, *, train: bool):
        for _ in range(2):
            x = Conv(self.features, normalised=True, dtype=self.dtype)(x)
            x = nn.relu(BatchNorm(axis_name=self.axis_name, dtype=self.dtype)(x, train=train))
        return x


class UNet(nn.Module):
    """Table 10: an encoder of 1, 2, 4, 8, 8 times `width` channels and a decoder of 4, 2, 1, 1 times.

    13.4 million parameters at the paper's width of 64. Takes any height and width from 16 up: halving drops
    the last row or column of an odd side, and the decoder repeats its edge to fit the skip connection.

    Call with B x H x W x C inputs and `train`; returns B x H x W x out_channels. With `train=True` the
    collection `batch_stats` has to be mutable. Parameters, statistics and the output are float32 (or float64).
    A mutable collection `features` gets "middle" and "deepest", see `sow_means`: B x 6 width, B x 8 width.
    """

    MIN_SIDE: ClassVar[int] = 16  # four halvings must leave a pixel

    width: int = 64  # channels of the first block
    out_channels: int = 3
    output: str = "tanh"  # for images in [-1, 1], or "linear"
    axis_name: str | None = None  # over which the batch is spread, for statistics of the whole batch
    dtype: jnp.dtype = jnp.float32  # of the activations

    @nn.compact
    def __call__(self, x, *, train: bool = False):
        check_side(self, x)

        def block(factor, x):
            features = factor * self.width
            return DoubleConv(features, axis_name=self.axis_name, dtype=self.dtype)(x, train=train)

        x, skips = block(1, x.astype(self.dtype)), []
        for factor in (2, 4, 8, 8):
            skips.append(x)
            x = block(factor, halve(x))
        sow_means(self, skips[1:3], x)
        for factor in (4, 2, 1, 1):
            x = block(factor, join(skips.pop(), x))
        x = Conv(self.out_channels, dtype=self.dtype)(x).astype(parameter_dtype(self.dtype))
        return jnp.tanh(x) if self.output == "tanh" else x


def sow_means(network: nn.Module, middle: Sequence[jax.Array], deepest: jax.Array) -> None:
    """Puts the means over the pixels of an encoder's maps into the collection `features`, where it is mutable.

    `middle` are the maps of its second and third level, which end up in one array.
    """
    if not network.is_initializing():
        for name, maps in (("middle", middle), ("deepest", [deepest])):
            means = [x_BxHxWxC.mean((1, 2), dtype=parameter_dtype(x_BxHxWxC.dtype)) for x_BxHxWxC in maps]
            network.sow("features", name, jnp.concatenate(means, -1))


def check_side(network, x_BxHxWxC: jax.Array) -> None:
    """Raises ValueError for images smaller than `network.MIN_SIDE`."""
    height, width = x_BxHxWxC.shape[1:3]
    if min(height, width) < network.MIN_SIDE:
        needed = f"{type(network).__name__}: each side needs at least {network.MIN_SIDE} pixels"
        raise ValueError(f"images of {height}x{width} are too small for {needed}")


def join(skip_BxHxWxC: jax.Array, x: jax.Array) -> jax.Array:
    """Joins a skip connection and x, doubled and fitted to its size, along the channels."""
    return jnp.concatenate([skip_BxHxWxC, fit_to(double_bilinear(x), skip_BxHxWxC.shape[1:3])], axis=-1)


def fit_to(x_BxHxWxC: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Cuts off rows and columns, or repeats the last ones, so that the map has this height and width."""
    x_BxHxWxC = x_BxHxWxC[:, : shape[0], : shape[1]]
    missing = [wanted - have for wanted, have in zip(shape, x_BxHxWxC.shape[1:3], strict=True)]
    if not any(missing):
        return x_BxHxWxC
    return jnp.pad(x_BxHxWxC, ((0, 0), (0, missing[0]), (0, missing[1]), (0, 0)), mode="edge")
