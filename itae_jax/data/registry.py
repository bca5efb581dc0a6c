"""Every data set by name: what it is, how to get it, whether it is there, and how it is read."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

from itae_jax.config import DataConfig
from itae_jax.data import digits, folders, mvtec_ad, shanghaitech, tfds
from itae_jax.data.dataset import Dataset, InspectionDataset
from itae_jax.errors import RequestError

SUPERCLASSES = Path(__file__).parent / "imagenet_superclasses.csv"


@dataclasses.dataclass(frozen=True)
class Entry:
    """A data set that `data.name` can name.

    Attributes:
      about, size, licence, get: for people.
      load: config -> data set.
      there: root -> what can be read from there right now, in a few words; empty for nothing.
      preparable: whether `itae data prepare` knows it.
    """

    about: str
    size: str
    licence: str
    get: str
    load: Callable[[DataConfig], Dataset | InspectionDataset]
    there: Callable[[str], str]
    preparable: bool = False


def _is_tree(root: str) -> bool:
    return bool(root) and (folders.expanded(root) / "train").is_dir()


def _classes_of_tree(root: str) -> list[str]:
    """The folders to train on; of a tree that is told by its classes alone, it may be another set's."""
    return folders.subfolders(folders.expanded(root) / "train") if _is_tree(root) else []


def _in_tfds(name: str, root: str) -> str:
    return "prepared" if tfds.is_prepared(name, root) else ""


def _from_tfds(name: str, *, channels: int, label: str = "label") -> dict:
    """28x28 and 32x32 sets: padded with black to 32x32 if they are smaller."""

    def load(config: DataConfig) -> Dataset:
        reader = folders.reader_of(config, fit="pad", size=32, channels=channels)
        return tfds.load(config, name, label=label, reader=reader)

    return {"load": load, "there": lambda root: _in_tfds(name, root), "preparable": True}


def _from_tfds_or_tree(name: str, classes: Sequence[str], **options) -> dict:
    """The same, or a tree whose folders have the names of the classes, in any case and with any separators."""
    from_tfds = _from_tfds(name, channels=3, **options)

    def load(config: DataConfig) -> Dataset:
        if not _is_tree(config.root):
            return from_tfds["load"](config)
        return folders.load_tree(config, name=name, classes=classes, fit="pad", size=32, channels=3)

    def there(root: str) -> str:
        is_such_a_tree = folders.are_named(_classes_of_tree(root), classes)
        return f"a tree of {len(classes)} classes" if is_such_a_tree else _in_tfds(name, root)

    return from_tfds | {"load": load, "there": there}


def _load_imagenet(config: DataConfig) -> Dataset:
    superclasses = folders.read_superclasses(SUPERCLASSES)
    if _is_tree(config.root):
        return folders.load_tree(
            config, name="imagenet2012", superclasses=superclasses, fit="crop", size=128, channels=3
        )
    reader = folders.reader_of(config, fit="crop", size=128, channels=3)
    return tfds.load(config, "imagenet2012", reader=reader, test_split="validation", superclasses=superclasses)


def _imagenet_there(root: str) -> str:
    wnids = folders.read_superclasses(SUPERCLASSES)
    found = wnids.keys() & set(_classes_of_tree(root))
    return f"a tree of {len(found)} of the {len(wnids)} classes" if found else _in_tfds("imagenet2012", root)


def _mvtec_ad_there(root: str) -> str:
    found = mvtec_ad.categories(folders.expanded(root)) if root else {}
    return ", ".join(found)


def _tree_there(root: str) -> str:
    count = len(_classes_of_tree(root))
    return f"a tree of {count} class{'es' * (count != 1)}" if count else ""


CIFAR10 = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
CIFAR100 = [
    "aquatic_mammals",
    "fish",
    "flowers",
    "food_containers",
    "fruit_and_vegetables",
    "household_electrical_devices",
    "household_furniture",
    "insects",
    "large_carnivores",
    "large_man-made_outdoor_things",
    "large_natural_outdoor_scenes",
    "large_omnivores_and_herbivores",
    "medium_mammals",
    "non-insect_invertebrates",
    "people",
    "reptiles",
    "small_mammals",
    "trees",
    "vehicles_1",
    "vehicles_2",
]
_PREPARE = "itae data prepare {0} --root DIR, then data.root=DIR"
_MANUAL = "itae data prepare {0} --root DIR --manual-dir {1}, then data.root=DIR"

CATALOGUE = {
    "digits": Entry(
        "handwritten digits, 8x8, grey, 10 classes",
        "1,797 images",
        "BSD-3-Clause",
        "comes with scikit-learn",
        digits.load,
        lambda root: "with scikit-learn",
    ),
    "mnist": Entry(
        "handwritten digits, 28x28, grey, 10 classes",
        "60,000 + 10,000 images, 12 MB",
        "CC BY-SA 3.0",
        _PREPARE.format("mnist"),
        **_from_tfds("mnist", channels=1),
    ),
    "fashion_mnist": Entry(
        "clothes, 28x28, grey, 10 classes",
        "60,000 + 10,000 images, 31 MB",
        "MIT",
        _PREPARE.format("fashion_mnist"),
        **_from_tfds("fashion_mnist", channels=1),
    ),
    "cifar10": Entry(
        "photographs, 32x32, 10 classes",
        "50,000 + 10,000 images, 170 MB",
        "none stated",
        _PREPARE.format("cifar10") + "; or a tree DIR/{train,test}/<class>/",
        **_from_tfds_or_tree("cifar10", CIFAR10),
    ),
    "cifar100": Entry(
        "photographs, 32x32, the 20 coarse classes",
        "50,000 + 10,000 images, 169 MB",
        "none stated",
        _PREPARE.format("cifar100") + "; or a tree DIR/{train,test}/<coarse class>/",
        **_from_tfds_or_tree("cifar100", CIFAR100, label="coarse_label"),
    ),
    "imagenet2012": Entry(
        "photographs, 10 superclasses of 56 classes (the paper's Table 7)",
        "about 73,000 + 2,800 images, of 155 GB",
        "ImageNet's terms of access",
        "a tree DIR/{train,val}/<wnid>/*.JPEG by data.root=DIR; or "
        + _MANUAL.format("imagenet2012", "ARCHIVES"),
        _load_imagenet,
        _imagenet_there,
        preparable=True,
    ),
    "mvtec_ad": Entry(
        "industrial inspection, 15 categories with defect masks",
        "3,629 + 1,725 images, 5 GB",
        "CC BY-NC-SA 4.0",
        "unpack the published archive, data.root=DIR with DIR/<category>/{train,test,ground_truth}",
        mvtec_ad.load,
        _mvtec_ad_there,
    ),
    "shanghaitech": Entry(
        "surveillance video, single frames of 480x480",
        "274,515 + 42,883 frames",
        "for research, on request from its authors",
        _MANUAL.format("shanghaitech", "UNPACKED"),
        shanghaitech.load,
        lambda root: _in_tfds("shanghaitech", root),
        preparable=True,
    ),
    "folder": Entry(
        "your own images: DIR/{train,test}/<class>/...",
        "any",
        "yours",
        "data.root=DIR; data.superclasses=FILE joins folders to classes",
        folders.load,
        _tree_there,
    ),
}


def load(config: DataConfig) -> Dataset | InspectionDataset:
    """The data set of a config, its limits not applied.

    Raises:
      RequestError: no data set of that name, or it cannot be read.
    """
    if config.name not in CATALOGUE:
        raise RequestError(f"data.name={config.name!r}: choose from {', '.join(CATALOGUE)}")
    return CATALOGUE[config.name].load(config)


def prepare(name: str, root: str, manual_dir: str) -> Path:
    """Puts a data set of TFDS's catalogue into `root`; returns its directory.

    Raises:
      RequestError: it is not one of those, or could not be prepared.
    """
    able = [key for key, entry in CATALOGUE.items() if entry.preparable]
    if name not in able:
        more = f"; {name}: {CATALOGUE[name].get}" if name in CATALOGUE else ""
        raise RequestError(f"itae data prepare {name}: choose from {', '.join(able)}{more}")
    return tfds.prepare(name, root, manual_dir)
