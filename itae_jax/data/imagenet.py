"""ImageNet's 56 classes that make the ten superclasses of the paper's Table 7."""

from pathlib import Path
from typing import Any

from itae_jax.config import DataConfig
from itae_jax.data import folders, tfds
from itae_jax.data.dataset import Dataset, Spec

SUPERCLASSES = Path(__file__).parent / "imagenet_superclasses.csv"
_NAME = "imagenet2012"


def load(config: DataConfig) -> Dataset:
    """Loads a tree of the published folders, or what TFDS has prepared."""
    options: dict[str, Any] = {"fit": "crop", "size": 128, "channels": 3}
    options["superclasses"] = folders.read_superclasses(SUPERCLASSES)
    if folders.is_tree(config.root):
        return folders.load_tree(config, name=_NAME, **options)
    return tfds.load(config, _NAME, test_split="validation", **options)


def _there(root: str) -> str:
    wnids = folders.read_superclasses(SUPERCLASSES)
    found = wnids.keys() & set(folders.training_folders(root))
    return f"a tree of {len(found)} of the {len(wnids)} classes" if found else tfds.there(_NAME, root)


SPEC = Spec(
    name=_NAME,
    about="photographs, 10 superclasses of 56 classes (the paper's Table 7)",
    size="about 73,000 + 2,800 images, of 155 GB",
    licence="ImageNet's terms of access",
    get="a tree DIR/{train,val}/<wnid>/*.JPEG by data.root=DIR; or "
    + tfds.HOW_TO_UNPACK.format(_NAME, "ARCHIVES"),
    load=load,
    there=_there,
    preparable=True,
)
