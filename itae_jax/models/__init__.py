"""The networks, by name."""

import jax.numpy as jnp

from itae_jax.config import ModelConfig
from itae_jax.models.layers import parameter_dtype
from itae_jax.models.unet import MIN_SIDE, UNet

__all__ = ["MIN_SIDE", "UNet", "build", "parameter_dtype"]


def build(config: ModelConfig, out_channels: int, dtype: str, axis_name: str | None = None) -> UNet:
    """The network of a config, restoring images of `out_channels`."""
    return UNet(
        width=config.width,
        out_channels=out_channels,
        output=config.output,
        axis_name=axis_name,
        dtype=jnp.dtype(dtype),
    )
