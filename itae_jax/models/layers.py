"""The layers of the networks: convolution with bias, batch normalisation, bilinear doubling.

They compute what PyTorch's layers compute with PyTorch's defaults, which the paper trained with, on arrays
whose channels come last.
"""

import math
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.linen.dtypes import promote_dtype
from jax import lax

from itae_jax.models.cpu_conv import LAYOUT, conv3x3


def parameter_dtype(activation_dtype) -> jnp.dtype:
    """Returns the type of parameters, statistics and losses: float32, or float64 if the activations are."""
    return jnp.dtype("float64" if jnp.dtype(activation_dtype) == "float64" else "float32")


def _parameter(module: nn.Module, name: str, init: Callable, shape: tuple[int, ...], dtype: Any) -> jax.Array:
    """Does what `module.param` does, but does not trace `init` again to check the shape of what is there."""
    if module.has_variable("params", name):
        return module.get_variable("params", name)
    return module.param(name, init, shape, dtype)


class Conv(nn.Module):
    """A convolution with zero padding of half its size, and PyTorch's initialisation of kernel and bias.

    That is uniform in +-1/sqrt(fan in). If batch normalisation follows, which subtracts the bias again, no
    gradient of the bias is computed.
    """

    features: int
    size: int = 3  # side of the square kernel, odd
    stride: int = 1
    use_bias: bool = True
    normalised: bool = False  # whether batch normalisation follows
    dtype: jnp.dtype = jnp.float32  # of arithmetic and output; parameters have `parameter_dtype`

    @nn.compact
    def __call__(self, x):
        channels = x.shape[-1]
        bound = (self.size**2 * channels) ** -0.5
        param_dtype = parameter_dtype(self.dtype)

        def init(key, shape, dtype):
            return jax.random.uniform(key, shape, dtype, -bound, bound)

        kernel = _parameter(self, "kernel", init, (self.size, self.size, channels, self.features), param_dtype)
        x, kernel = promote_dtype(x, kernel, dtype=self.dtype)
        if self.is_initializing():  # only the shape matters, which is traced faster
            rows, columns = (-(-side // self.stride) for side in x.shape[1:3])
            x = jnp.zeros((x.shape[0], rows, columns, self.features), self.dtype)
        elif self.size == 3 and self.stride == 1:
            x = conv3x3(x, kernel)
        else:
            padding, strides = [(self.size // 2, self.size // 2)] * 2, (self.stride, self.stride)
            x = lax.conv_general_dilated(x, kernel, strides, padding, dimension_numbers=LAYOUT)
        if not self.use_bias:
            return x
        bias = _parameter(self, "bias", init, (self.features,), param_dtype)
        if self.normalised:
            bias = lax.stop_gradient(bias)
        return x + bias.astype(self.dtype).reshape(1, 1, 1, -1)


class BatchNorm(nn.Module):
    """Batch normalisation over all axes but the last: eps 1e-5, running average 0.9 old + 0.1 new.

    As in PyTorch, the batch is normalised by its biased variance, and the running average takes the unbiased
    one (Flax's own layer takes the biased one for both).
    """

    axis_name: str | None = None  # over which the batch is spread, for statistics of the whole batch
    dtype: jnp.dtype = jnp.float32  # of the output; statistics are computed in float32 at least

    @nn.compact
    def __call__(self, x, *, train: bool):
        features = x.shape[-1:]
        stat_dtype = parameter_dtype(self.dtype)
        scale = _parameter(self, "scale", nn.initializers.ones, features, stat_dtype)
        bias = _parameter(self, "bias", nn.initializers.zeros, features, stat_dtype)
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, features, stat_dtype)
        running_var = self.variable("batch_stats", "var", jnp.ones, features, stat_dtype)

        if self.is_initializing():
            return x.astype(self.dtype)
        wide = x.astype(stat_dtype)
        if train:
            moments = jnp.stack([wide.mean((0, 1, 2)), jnp.square(wide).mean((0, 1, 2))])
            count = x.size // x.shape[-1]
            if self.axis_name is not None:
                moments = lax.pmean(moments, self.axis_name)
                count *= lax.axis_size(self.axis_name)
            mean = moments[0]
            var = jnp.maximum(moments[1] - jnp.square(mean), 0.0)
            unbiased = var * (count / max(count - 1, 1))
            running_mean.value = 0.9 * running_mean.value + 0.1 * mean
            running_var.value = 0.9 * running_var.value + 0.1 * unbiased
        else:
            mean, var = running_mean.value, running_var.value

        factor = scale * lax.rsqrt(var + 1e-5)
        offset = bias - mean * factor
        shape = (1, 1, 1, -1)
        return (wide * factor.reshape(shape) + offset.reshape(shape)).astype(self.dtype)


def _double(x: jax.Array, axis: int) -> jax.Array:
    """Doubles an axis by linear interpolation with aligned end points."""
    shape, size = x.shape, x.shape[axis]
    x = x.reshape(-1, size, math.prod(shape[axis + 1 :]))
    # Of inputs 0 to n - 1, output 2i lies i/(2n - 1) before input i and 2i + 1 lies (n - 1 - i)/(2n - 1) after.
    back = jnp.asarray(np.arange(size).reshape(1, -1, 1) / (2 * size - 1), x.dtype)
    ahead = back[:, ::-1]
    before, after = jnp.pad(x[:, :-1], ((0, 0), (1, 0), (0, 0))), jnp.pad(x[:, 1:], ((0, 0), (0, 1), (0, 0)))
    pair = x * (1 - back) + before * back, x * (1 - ahead) + after * ahead
    return jnp.stack(pair, 2).reshape(*shape[:axis], 2 * size, *shape[axis + 1 :])


def double_bilinear(x_BxHxWxC: jax.Array) -> jax.Array:
    """Doubles B x H x W x C to B x 2H x 2W x C by bilinear interpolation; corner pixels stay in the corners.

    As `torch.nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)`, which the U-Net uses that
    the paper's Table 10 repeats line by line.
    """
    return _double(_double(x_BxHxWxC, 1), 2)
