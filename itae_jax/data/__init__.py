"""Data sets by name, and the one-class protocol."""

from itae_jax.data.dataset import Dataset, OneClassSplit
from itae_jax.data.images import ArrayImages, Images, LazyImages, as_images
from itae_jax.data.registry import CATALOGUE, load, prepare

__all__ = [
    "CATALOGUE",
    "ArrayImages",
    "Dataset",
    "Images",
    "LazyImages",
    "OneClassSplit",
    "as_images",
    "load",
    "prepare",
]
