"""Data sets by name, and the one-class protocol."""

from itae_jax.data.catalogue import CATALOGUE, load, prepare
from itae_jax.data.images import ArrayImages, Images, LazyImages, as_images
from itae_jax.data.one_class import Dataset, InspectionDataset, OneClassSplit

__all__ = [
    "CATALOGUE",
    "ArrayImages",
    "Dataset",
    "Images",
    "InspectionDataset",
    "LazyImages",
    "OneClassSplit",
    "as_images",
    "load",
    "prepare",
]
