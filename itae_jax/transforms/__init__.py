"""Erasing transforms: the set T of the paper, as pure functions of one image.

A transform has T members f_0 ... f_{T-1}, each of which erases information from an image; the network is
trained to restore it. `get` finds a transform by name; `+` composes: `gray+rotate` first grays and then
rotates, and has 1 x 4 members. `module:attribute` names one of the user's own.
"""

from itae_jax.transforms.registry import get, names, register
from itae_jax.transforms.transform import Transform, compose, to_float

__all__ = ["Transform", "compose", "get", "names", "register", "to_float"]
