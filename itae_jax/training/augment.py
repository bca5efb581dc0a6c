"""Training augmentations, computed on the device: those that the paper adopts from ResNet and DenseNet.

Each is a pure function of a random key and one image. The augmented image is also the restoration target,
so the network never learns where the original was.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from itae_jax.errors import RequestError

SHIFT_PIXELS = 4

Augmentation = Callable[[jax.Array, jax.Array], jax.Array]  # (key, image H x W x C) -> image H x W x C


def flip(key: jax.Array, image_HxWxC: jax.Array) -> jax.Array:
    """Mirrors left to right with probability 1/2."""
    return jnp.where(jax.random.bernoulli(key), image_HxWxC[:, ::-1], image_HxWxC)


def shift(key: jax.Array, image_HxWxC: jax.Array) -> jax.Array:
    """Crops the image's own size at random, after reflecting 4 pixels at each border."""
    pad = (SHIFT_PIXELS, SHIFT_PIXELS)
    padded = jnp.pad(image_HxWxC, (pad, pad, (0, 0)), mode="reflect")
    dy, dx = jax.random.randint(key, (2,), 0, 2 * SHIFT_PIXELS + 1)
    return jax.lax.dynamic_slice(padded, (dy, dx, jnp.zeros_like(dy)), image_HxWxC.shape)


_REGISTRY = {"flip": flip, "shift": shift}


def get(name: str) -> Augmentation:
    """Returns the augmentation of that name, several joined by `+`, or that of `none`."""
    parts = [] if name == "none" else [part.strip() for part in name.split("+")]
    for part in parts:
        if part not in _REGISTRY:
            choices = f"choose none, or from {', '.join(_REGISTRY)}, joined by +"
            raise RequestError(f"train.augment={name!r}: {part!r} is not an augmentation; {choices}")

    def augment(key: jax.Array, image_HxWxC: jax.Array) -> jax.Array:
        for number, part in enumerate(parts):
            image_HxWxC = _REGISTRY[part](jax.random.fold_in(key, number), image_HxWxC)
        return image_HxWxC

    return augment
