"""Erasing transforms: the set T of the paper, as pure functions of one image.

A transform has T members f_0 ... f_{T-1}, each of which takes information away from an image. The
network is trained to bring it back. `get` looks one up by name; `+` composes: `gray+rotate` first
grays and then rotates, and has 1 x 4 members. `module:attribute` names one of the user's own.
"""

from itae_jax.transforms.registry import get, names, register
from itae_jax.transforms.transform import Transform, compose, to_float

__all__ = ["Transform", "compose", "get", "names", "register", "to_float"]
