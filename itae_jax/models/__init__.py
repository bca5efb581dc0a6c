"""The networks, by name."""

import flax.linen as nn
import jax.numpy as jnp

from itae_jax.models.head import RestoreAndLocate
from itae_jax.models.layers import parameter_dtype
from itae_jax.models.resnet_unet import ResNetUNet
from itae_jax.models.unet import UNet

__all__ = ["NETWORKS", "ResNetUNet", "RestoreAndLocate", "UNet", "build", "min_side", "parameter_dtype"]

NETWORKS: dict[str, type[UNet] | type[ResNetUNet]] = {"unet": UNet, "resnet34_unet": ResNetUNet}


def min_side(name: str) -> int:
    """Returns the least height and width that a network takes."""
    return NETWORKS[name].MIN_SIDE


def build(
    name: str,
    *,
    width: int,
    out_channels: int,
    output: str = "tanh",
    dtype: str = "float32",
    axis_name: str | None = None,
) -> nn.Module:
    """Builds a network of `NETWORKS`; for the other arguments see `UNet`."""
    return NETWORKS[name](width, out_channels, output, axis_name, jnp.dtype(dtype))
