"""The wide residual network (Zagoruyko and Komodakis, BMVC 2016) that GeoTrans classifies transforms with."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from itae_jax.models.cpu_conv import conv3x3
from itae_jax.models.layers import BatchNorm, parameter_dtype

_FIRST = 16  # channels of the first convolution


class WideResNet(nn.Module):
    """A classifier with three groups of blocks, at full, half and quarter resolution.

    Call with images, B x H x W x C, and `train`; returns logits, B x classes. Each block normalises before it
    convolves. Kernels are drawn from a truncated normal distribution of variance 2 / fan-in (He et al., ICCV
    2015).

    Attributes:
      depth: 6 n + 4 layers, with n blocks in each group.
      widen: the groups have 16, 32 and 64 channels times this.
    """

    depth: int
    widen: int
    classes: int
    axis_name: str | None = None  # see `BatchNorm`
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x, *, train: bool):
        wide = parameter_dtype(self.dtype)
        options: dict[str, Any] = {"use_bias": False, "dtype": self.dtype, "param_dtype": wide}
        options["kernel_init"] = nn.initializers.he_normal()

        def conv(x, features, size, stride):
            padding = size // 2
            own: dict[str, Any] = {"conv_general_dilated": _stride_one} if (size, stride) == (3, 1) else {}
            layer = nn.Conv(features, (size, size), (stride, stride), padding, **own, **options)
            return layer(x)

        def normalised(x):
            return nn.relu(BatchNorm(axis_name=self.axis_name, dtype=self.dtype)(x, train=train))

        x = conv(x.astype(self.dtype), _FIRST, 3, 1)
        for group in range(3):
            features = _FIRST * self.widen * 2**group
            for block in range((self.depth - 4) // 6):
                stride = 2 if group and not block else 1
                inner = normalised(x)
                passed = x if x.shape[-1] == features else conv(inner, features, 1, stride)
                inner = normalised(conv(inner, features, 3, stride))
                x = passed + conv(inner, features, 3, 1)
        x = normalised(x).astype(wide).mean((1, 2))
        return nn.Dense(self.classes, kernel_init=options["kernel_init"], dtype=wide, param_dtype=wide)(x)


def _stride_one(x, kernel, *_, **__) -> jax.Array:
    return conv3x3(x, kernel)
