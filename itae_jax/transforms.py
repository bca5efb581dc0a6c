"""Erasing transforms: the set T of the paper, as pure functions of one image.

A transform has T members f_0 ... f_{T-1}, each of which takes information away from an image. The
network is trained to bring it back. `get` looks one up by name; `+` composes: `gray+rotate` first
grays and then rotates, and has 1 x 4 members.
"""

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from itae_jax.errors import RequestError


def _same_channels(channels: int) -> int:
    return channels


@dataclasses.dataclass(frozen=True)
class Transform:
    """A set of T erasing functions of an image.

    Attributes:
      name: what configs call it; no `+`, which composes.
      count: T, the number of members.
      erase: (image H x W x C, index in [0, T)) -> image of the same height, width and dtype; pure,
        traceable, the index possibly traced. Pixels are floats in [-1, 1] and stay there.
      out_channels: channels of the result for an image of c channels.
      square_only: whether height and width have to agree.
      erases: what is taken away, in a few words.
    """

    name: str
    count: int
    erase: Callable[[jax.Array, jax.Array | int], jax.Array]
    out_channels: Callable[[int], int] = _same_channels
    square_only: bool = False
    erases: str = ""

    def check_size(self, height: int, width: int) -> None:
        """Raises RequestError if images of this size cannot be transformed."""
        if self.square_only and height != width:
            raise RequestError(
                f"transform {self.name!r} needs square images, these are {height}x{width}; "
                "set data.image_size to make them square, or choose another transform.name"
            )

    def apply(self, image_HxWxC: jax.Array, index: jax.Array | int) -> jax.Array:
        """f_index(image): H x W x C floats to H x W x out_channels(C), same dtype."""
        if image_HxWxC.ndim != 3:
            raise ValueError(f"expected one image, H x W x C; got shape {image_HxWxC.shape}")
        if isinstance(index, int) and not 0 <= index < self.count:
            raise IndexError(f"transform {self.name!r} has members 0 to {self.count - 1}, not {index}")
        _require_float(image_HxWxC)
        self.check_size(*image_HxWxC.shape[:2])
        return _erase(self, image_HxWxC, index)

    def apply_each(self, images_BxHxWxC: jax.Array, index_B: jax.Array) -> jax.Array:
        """f_{index_b}(image_b) for every image of a batch: B x H x W x C'."""
        _require_float(images_BxHxWxC)
        self.check_size(*images_BxHxWxC.shape[1:3])
        return _erase_each(self, images_BxHxWxC, index_B)

    def apply_all(self, images_BxHxWxC: jax.Array) -> jax.Array:
        """Every member on every image: B x H x W x C floats to T x B x H x W x C'."""
        _require_float(images_BxHxWxC)
        self.check_size(*images_BxHxWxC.shape[1:3])
        return _erase_all(self, images_BxHxWxC)


@functools.partial(jax.jit, static_argnums=0)
def _erase(transform, image, index):
    return transform.erase(image, index)


@functools.partial(jax.jit, static_argnums=0)
def _erase_each(transform, images, index):
    return jax.vmap(transform.erase)(images, index)


@functools.partial(jax.jit, static_argnums=0)
def _erase_all(transform, images):
    over_batch = jax.vmap(transform.erase, in_axes=(0, None))
    return jax.vmap(over_batch, in_axes=(None, 0))(images, jnp.arange(transform.count))


def _require_float(images) -> None:
    if not jnp.issubdtype(images.dtype, jnp.floating):
        raise TypeError(
            f"transforms take floats in [-1, 1], got {images.dtype}; convert uint8 by x / 127.5 - 1"
        )


def _identity(image, index):
    del index
    return image


def _gray(image, index):
    """The plain mean over channels, not luma weights."""
    del index
    return image.mean(axis=-1, keepdims=True, dtype=image.dtype)


def _rotate(image, index):
    """index quarter turns anticlockwise."""
    turns = [functools.partial(jnp.rot90, k=k) for k in range(4)]
    return jax.lax.switch(index, turns, image)


def _scale(image, index):
    """Half the resolution by averaging 2 x 2 pixels, then bilinearly back to the size it had."""
    del index
    height, width, channels = image.shape
    even = jnp.pad(image, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    blocks = even.reshape(even.shape[0] // 2, 2, even.shape[1] // 2, 2, channels)
    half = blocks.mean((1, 3), dtype=image.dtype)
    return jax.image.resize(half, image.shape, "bilinear").astype(image.dtype)


_REGISTRY: dict[str, Transform] = {}


def register(transform: Transform) -> Transform:
    """Makes a transform known by its name, and returns it.

    Raises:
      ValueError: the name is taken or is no word, or count is below 1.
    """
    if not transform.name or not transform.name.replace("_", "").isalnum():
        raise ValueError(f"transform name {transform.name!r}: use letters, digits and underscores")
    if transform.name in _REGISTRY:
        raise ValueError(f"a transform named {transform.name!r} is registered already")
    if transform.count < 1:
        raise ValueError(f"transform {transform.name!r} has count {transform.count}, expected >= 1")
    _REGISTRY[transform.name] = transform
    return transform


def names() -> list[str]:
    """The registered names, in order of registration."""
    return list(_REGISTRY)


def get(name: str) -> Transform:
    """The transform of that name, or the composition of several joined by `+`, first to last.

    Raises:
      RequestError: a part of the name is not registered.
    """
    parts = [part.strip() for part in name.split("+")]
    for part in parts:
        if part not in _REGISTRY:
            raise RequestError(
                f"transform.name={name!r}: {part!r} is not a transform; "
                f"choose from {', '.join(names())}, or join several with +"
            )
    return functools.reduce(_compose, (_REGISTRY[part] for part in parts))


@functools.cache
def _compose(first: Transform, second: Transform) -> Transform:
    """First `first`, then `second`; member i is (i // second.count, i % second.count)."""

    def erase(image, index):
        image = first.erase(image, index // second.count)
        return second.erase(image, index % second.count)

    return Transform(
        name=f"{first.name}+{second.name}",
        count=first.count * second.count,
        erase=erase,
        out_channels=lambda channels: second.out_channels(first.out_channels(channels)),
        square_only=first.square_only or second.square_only,
        erases=f"{first.erases}; {second.erases}",
    )


register(Transform("identity", 1, _identity, erases="nothing: the plain autoencoder"))
register(Transform("gray", 1, _gray, out_channels=lambda channels: 1, erases="colour"))
register(Transform("rotate", 4, _rotate, square_only=True, erases="orientation (0, 90, 180, 270 degrees)"))
register(Transform("scale", 1, _scale, erases="detail finer than two pixels"))
