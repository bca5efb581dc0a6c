"""CIFAR-10 and CIFAR-100 (its 20 coarse classes), prepared by TFDS or as a tree of folders.

The folders of a tree have the names of the classes, in any case and with any separators.
"""

from typing import Any

from itae_jax.config import DataConfig
from itae_jax.data import folders, tfds
from itae_jax.data.dataset import Dataset, Spec

CIFAR10_CLASSES = (*("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),)
CIFAR100_CLASSES = (
    *("aquatic_mammals", "fish", "flowers", "food_containers", "fruit_and_vegetables"),
    *("household_electrical_devices", "household_furniture", "insects", "large_carnivores"),
    *("large_man-made_outdoor_things", "large_natural_outdoor_scenes", "large_omnivores_and_herbivores"),
    *("medium_mammals", "non-insect_invertebrates", "people", "reptiles", "small_mammals", "trees"),
    *("vehicles_1", "vehicles_2"),
)
_GEOMETRY: dict[str, Any] = {"fit": "pad", "size": 32, "channels": 3}


def _spec(name: str, contents: str, size: str, classes: tuple[str, ...], label: str) -> Spec:
    def load(config: DataConfig) -> Dataset:
        if folders.is_tree(config.root):
            return folders.load_tree(config, name=name, classes=classes, **_GEOMETRY)
        return tfds.load(config, name, label=label, **_GEOMETRY)

    def there(root: str) -> str:
        if folders.are_named(folders.training_folders(root), classes):
            return f"a tree of {len(classes)} classes"
        return tfds.there(name, root)

    folder = label.replace("label", "class").replace("_", " ")
    get = f"{tfds.HOW_TO_GET.format(name)}; or a tree DIR/{{train,test}}/<{folder}>/"
    about, size = f"photographs, 32x32, {contents}", f"50,000 + 10,000 images, {size}"
    return Spec(name, about, size, "none stated", get, load, there, preparable=True)


CIFAR10 = _spec("cifar10", "10 classes", "170 MB", CIFAR10_CLASSES, "label")
CIFAR100 = _spec("cifar100", "the 20 coarse classes", "169 MB", CIFAR100_CLASSES, "coarse_label")
