"""The networks, by name."""

import flax.linen as nn
import jax.numpy as jnp

from itae_jax.config import ModelConfig
from itae_jax.models.layers import parameter_dtype
from itae_jax.models.resnet_unet import ResNetUNet
from itae_jax.models.unet import UNet

__all__ = ["ResNetUNet", "UNet", "build", "min_side", "parameter_dtype"]

_NETWORKS = {"unet": UNet, "resnet34_unet": ResNetUNet}


def min_side(config: ModelConfig) -> int:
    """The least height and width that a network takes."""
    return _NETWORKS[config.name].MIN_SIDE


def build(config: ModelConfig, out_channels: int, dtype: str, axis_name: str | None = None) -> nn.Module:
    """The network of a config, restoring images of `out_channels`."""
    return _NETWORKS[config.name](
        width=config.width,
        out_channels=out_channels,
        output=config.output,
        axis_name=axis_name,
        dtype=jnp.dtype(dtype),
    )
