"""A restoring network with a head that locates what was erased."""

import flax.linen as nn
import jax
import jax.numpy as jnp


class RestoreAndLocate(nn.Module):
    """A restorer, and a head that sees its input and its restoration and says where they should differ.

    After DRAEM (Zavrtanik, Kristan and Skocaj, ICCV 2021). Call as `UNet`; returns the restorations, B x H x
    W x C, and a logit for each pixel, B x H x W. No gradient of the head reaches the restorer.

    Attributes:
      restorer, head: networks as `models.build` makes them; the head has one channel and a linear output.
    """

    restorer: nn.Module
    head: nn.Module

    def __call__(self, x, *, train: bool = False):
        restored = self.restorer(x, train=train)
        seen = jnp.concatenate([x, jax.lax.stop_gradient(restored).astype(x.dtype)], -1)
        return restored, self.head(seen, train=train)[..., 0]
