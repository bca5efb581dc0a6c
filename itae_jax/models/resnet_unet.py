"""The network for ShanghaiTech: a ResNet-34 encoder with a skip-connected decoder."""

from typing import Any, ClassVar

import flax.linen as nn
import jax.numpy as jnp

from itae_jax.models.layers import BatchNorm, Conv, double_bilinear, parameter_dtype
from itae_jax.models.unet import DoubleConv, check_side, fit_to, join, sow_means


class BasicBlock(nn.Module):
    """Two 3x3 convolutions, the first with the stride, and a shortcut around them."""

    features: int
    stride: int = 1
    axis_name: str | None = None
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x, *, train: bool):
        def norm(y):
            return BatchNorm(axis_name=self.axis_name, dtype=self.dtype)(y, train=train)

        def conv(y, size, stride):
            return Conv(self.features, size, stride, use_bias=False, dtype=self.dtype)(y)

        y = nn.relu(norm(conv(x, 3, self.stride)))
        y = norm(conv(y, 3, 1))
        if self.stride != 1 or x.shape[-1] != self.features:
            x = norm(conv(x, 1, self.stride))
        return nn.relu(x + y)


class ResNetUNet(nn.Module):
    """ResNet-34 (stem, stages of 3, 4, 6, 3 basic blocks) and a decoder over its five resolutions.

    The paper says no more than "ResNet34 as our encoder". Trained from scratch; at width 64 the encoder has
    the channels of ResNet-34. Attributes and call are those of `UNet`; each side needs 32 pixels.
    """

    MIN_SIDE: ClassVar[int] = 32

    width: int = 64
    out_channels: int = 3
    output: str = "tanh"
    axis_name: str | None = None
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x, *, train: bool = False):
        check_side(self, x)
        shared: dict[str, Any] = {"axis_name": self.axis_name, "dtype": self.dtype}
        size = x.shape[1:3]
        x = Conv(self.width, 7, 2, use_bias=False, dtype=self.dtype)(x.astype(self.dtype))
        x = nn.relu(BatchNorm(**shared)(x, train=train))
        skips = [x]
        x = nn.max_pool(x, window_shape=(3, 3), strides=(2, 2), padding=((1, 1), (1, 1)))
        for factor, blocks in ((1, 3), (2, 4), (4, 6), (8, 3)):
            for block in range(blocks):
                stride = 2 if block == 0 and factor > 1 else 1
                x = BasicBlock(factor * self.width, stride, **shared)(x, train=train)
            skips.append(x)
        x = skips.pop()
        sow_means(self, skips[1:3], x)
        for factor in (4, 2, 1, 1):
            x = DoubleConv(factor * self.width, **shared)(join(skips.pop(), x), train=train)
        x = DoubleConv(self.width, **shared)(fit_to(double_bilinear(x), size), train=train)
        x = Conv(self.out_channels, dtype=self.dtype)(x).astype(parameter_dtype(self.dtype))
        return jnp.tanh(x) if self.output == "tanh" else x
