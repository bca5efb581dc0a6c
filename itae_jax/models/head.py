"""A restoring network with a head that locates what was erased."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from itae_jax.models.unet import UNet


class RestoreAndLocate(nn.Module):
    """A restorer, and a U-Net that sees its input and its restoration and says where they should differ.

    After DRAEM (Zavrtanik, Kristan and Skocaj, ICCV 2021). Call as `UNet`; returns the restorations, B x H x
    W x C, and a logit for each pixel, B x H x W. No gradient of the head reaches the restorer.

    Attributes:
      restorer: a network as `models.build` makes it.
      head_width: channels of the first block of the head.
    """

    restorer: nn.Module
    head_width: int

    @nn.compact
    def __call__(self, x, *, train: bool = False):
        restored = self.restorer(x, train=train)
        seen = jnp.concatenate([x, jax.lax.stop_gradient(restored).astype(x.dtype)], -1)
        options = {"axis_name": self.restorer.axis_name, "dtype": self.restorer.dtype}
        logits = UNet(self.head_width, 1, "linear", name="head", **options)(seen, train=train)
        return restored, logits[..., 0]
