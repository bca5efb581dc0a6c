"""The networks, by name."""

import flax.linen as nn
import jax.numpy as jnp

from itae_jax.models.layers import parameter_dtype
from itae_jax.models.resnet_unet import ResNetUNet
from itae_jax.models.unet import UNet

__all__ = ["ResNetUNet", "UNet", "build", "min_side", "parameter_dtype"]

_NETWORKS = {"unet": UNet, "resnet34_unet": ResNetUNet}


def min_side(name: str) -> int:
    """The least height and width that a network takes."""
    return _NETWORKS[name].MIN_SIDE


def build(name: str, *, width: int, out_channels: int, output: str, dtype: str, axis_name: str | None = None):
    """The network of a name, restoring images of `out_channels`."""
    return _NETWORKS[name](
        width=width, out_channels=out_channels, output=output, axis_name=axis_name, dtype=jnp.dtype(dtype)
    )
