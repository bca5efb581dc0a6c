"""The paper's transforms: graying, rotation, the plain autoencoder's identity, and the ablation's scaling."""

import functools

import jax
import jax.numpy as jnp

from itae_jax.transforms.transform import Transform


def _identity(image, index):
    del index
    return image


def _gray(image, index):
    """The plain mean over channels, not luma weights."""
    del index
    return image.mean(axis=-1, keepdims=True, dtype=image.dtype)


def _rotate(image, index):
    """`index` quarter turns anticlockwise."""
    turns = [functools.partial(jnp.rot90, k=k) for k in range(4)]
    return jax.lax.switch(index, turns, image)


def _scale(image, index):
    """Half the resolution by averaging 2 x 2 pixels, then bilinearly back to the original size."""
    del index
    height, width, channels = image.shape
    even = jnp.pad(image, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    blocks = even.reshape(even.shape[0] // 2, 2, even.shape[1] // 2, 2, channels)
    half = blocks.mean((1, 3), dtype=image.dtype)
    return jax.image.resize(half, image.shape, "bilinear").astype(image.dtype)


IDENTITY = Transform("identity", 1, _identity, invertible=True, erases="nothing: the plain autoencoder")
GRAY = Transform("gray", 1, _gray, out_channels=lambda channels: 1, erases="colour")
ROTATE = Transform("rotate", 4, _rotate, square_only=True, erases="orientation (0, 90, 180, 270 degrees)")
SCALE = Transform("scale", 1, _scale, erases="detail finer than two pixels")
