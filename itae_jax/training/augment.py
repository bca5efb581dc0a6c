"""Training augmentations, on the device: what the paper takes over from ResNet and DenseNet.

Each is a pure function of one image and a random key; the restoration target is the augmented
image, so the network never sees where the original lay.
"""

import jax
import jax.numpy as jnp

from itae_jax.errors import RequestError

SHIFT_PIXELS = 4


def flip(key: jax.Array, image_HxWxC: jax.Array) -> jax.Array:
    """Left-right mirror image with probability 1/2."""
    return jnp.where(jax.random.bernoulli(key), image_HxWxC[:, ::-1], image_HxWxC)


def shift(key: jax.Array, image_HxWxC: jax.Array) -> jax.Array:
    """A random crop of the image's own size after reflecting 4 pixels at each border."""
    pad = (SHIFT_PIXELS, SHIFT_PIXELS)
    padded = jnp.pad(image_HxWxC, (pad, pad, (0, 0)), mode="reflect")
    dy, dx = jax.random.randint(key, (2,), 0, 2 * SHIFT_PIXELS + 1)
    return jax.lax.dynamic_slice(padded, (dy, dx, jnp.zeros_like(dy)), image_HxWxC.shape)


_REGISTRY = {"flip": flip, "shift": shift}


def get(name: str):
    """The augmentation of that name, several joined by `+`, or `none`: (key, image) -> image.

    Raises:
      RequestError: a part of the name is unknown.
    """
    parts = [] if name == "none" else [part.strip() for part in name.split("+")]
    for part in parts:
        if part not in _REGISTRY:
            raise RequestError(
                f"train.augment={name!r}: {part!r} is not an augmentation; "
                f"choose none, or from {', '.join(_REGISTRY)}, joined by +"
            )

    def augment(key: jax.Array, image_HxWxC: jax.Array) -> jax.Array:
        for number, part in enumerate(parts):
            image_HxWxC = _REGISTRY[part](jax.random.fold_in(key, number), image_HxWxC)
        return image_HxWxC

    return augment
