"""Training augmentations, computed on the device: those that the paper adopts from ResNet and DenseNet.

Each is a pure function of a random key and one image. The augmented image is also the restoration target,
so the network never learns where the original was.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from itae_jax.errors import RequestError

SHIFT_PIXELS = 4
LIGHT, _LIGHT_CELLS = 0.2, 3  # the greatest change of brightness, and the cells along each side of its field

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


def light(key: jax.Array, image_HxWxC: jax.Array) -> jax.Array:
    """Adds a smooth random field to all channels alike, at most 0.2 of [-1, 1]: uneven light is normal."""
    field_key, amount_key = jax.random.split(key)
    cells = jax.random.uniform(field_key, (_LIGHT_CELLS, _LIGHT_CELLS), "float32", -1, 1)
    field_HxW = jax.image.resize(cells, image_HxWxC.shape[:2], "linear")
    added_HxW = LIGHT * jax.random.uniform(amount_key, (), "float32") * field_HxW
    return (image_HxWxC + added_HxW[..., None].astype(image_HxWxC.dtype)).clip(-1, 1)


def crop(side: int) -> Augmentation:
    """Returns the augmentation that cuts out a random square of this side; smaller images stay as they are."""

    def cut(key: jax.Array, image_HxWxC: jax.Array) -> jax.Array:
        size = [min(side, length) for length in image_HxWxC.shape[:2]]
        free = jnp.asarray([length - kept + 1 for length, kept in zip(image_HxWxC.shape, size, strict=False)])
        top, left = jax.random.randint(key, (2,), 0, free)
        return jax.lax.dynamic_slice(image_HxWxC, (top, left, 0), (*size, image_HxWxC.shape[2]))

    return cut


_REGISTRY = {"flip": flip, "shift": shift, "light": light}


def _find(part: str) -> Augmentation | None:
    side = part.removeprefix("crop")
    return crop(int(side)) if side != part and side.isdecimal() and int(side) else _REGISTRY.get(part)


def get(name: str) -> Augmentation:
    """Returns the augmentation of that name, several joined by `+`, or that of `none`."""
    parts = [] if name == "none" else [part.strip() for part in name.split("+")]
    found = [(part, _find(part)) for part in parts]
    for part, known in found:
        if known is None:
            choices = f"choose none, or from {', '.join(_REGISTRY)}, crop64 (any side), joined by +"
            raise RequestError(f"train.augment={name!r}: {part!r} is not an augmentation; {choices}")
    functions = [known for _, known in found if known is not None]

    def augment(key: jax.Array, image_HxWxC: jax.Array) -> jax.Array:
        for number, function in enumerate(functions):
            image_HxWxC = function(jax.random.fold_in(key, number), image_HxWxC)
        return image_HxWxC

    return augment
