"""MVTec AD, and other data laid out like it, read as it lies on disk.

<category>/train/good/*.png
<category>/test/{good,<defect>}/*.png
<category>/ground_truth/<defect>/<name>_mask.png, or <name> or <name>_mask with any ending

The folder of normal images may have another name than good if it is the only one in train. Images in test
itself, beside the folders, are listed as unreadable: they have no kind.
"""

import glob
from pathlib import Path

import numpy as np

from itae_jax.config import DataConfig
from itae_jax.data import folders, images
from itae_jax.data.dataset import Dataset, OneClassSplit, Spec
from itae_jax.errors import RequestError

# In the order of the paper's Table 8.
CATEGORIES = (
    *("bottle", "capsule", "grid", "leather", "pill", "tile", "transistor", "zipper", "cable", "carpet"),
    *("hazelnut", "metal_nut", "screw", "toothbrush", "wood"),
)
_SIZE = 256


def categories(root: Path) -> dict[str, Path]:
    """Returns the folder to train on of each category in `root`, the paper's first, or of `root` itself."""
    if not root.is_dir():
        return {}
    if normal := _normal_folder(root):
        return {root.absolute().name: normal}
    there = {name: normal for name in folders.subfolders(root) if (normal := _normal_folder(root / name))}
    known = [name for name in CATEGORIES if name in there]
    return {name: there[name] for name in dict.fromkeys([*known, *there])}


def _normal_folder(category: Path) -> Path | None:
    """Where the normal training images are; None if this is no category."""
    train = category / "train"
    names = folders.subfolders(train) if train.is_dir() else []
    return train / "good" if "good" in names else train / names[0] if len(names) == 1 else None


def load(config: DataConfig) -> Dataset:
    """Loads the categories below `data.root`, or the one that `data.root` itself is.

    Stretches images to `data.image_size` (256 by default; the published ones are square).
    """
    root = folders.root_of(config)
    found = categories(root)
    if not found:
        raise RequestError(
            f"data.root={root}: expected <category>/train/good in it, or one folder of any name in train, "
            f"found {', '.join(folders.subfolders(root)[:5]) or 'nothing'}"
        )
    unreadable: dict[str, str] = {}
    normal = {name: folders.find_and_list(folder, unreadable) for name, folder in found.items()}
    for name, paths in normal.items():
        if not paths:
            raise RequestError(f"{found[name]}: no images in it")
    everything = [path for paths in normal.values() for path in paths]
    reader = folders.make_reader(config, fit="stretch", size=_SIZE, paths=everything)
    for folder in found.values():
        beside = [folder.parent / name for name in folders.subfolders(folder.parent) if name != folder.name]
        unreadable |= dict.fromkeys(
            map(str, beside), f"is not trained on: {folder.name} holds the normal images"
        )
        stray = folders.images_beside_folders(folder.parent)
        unreadable |= dict.fromkeys(map(str, stray), f"is not in {folder.name}")

    def read_mask(path: Path) -> np.ndarray | None:
        try:
            mask = reader.read_mask(path)
        except images.UnreadableImageError as error:
            unreadable[error.name] = error.reason
            return None
        if not mask.any():
            unreadable[str(path)] = (
                "marks nothing at this size: it is black, too faint, or cut off by data.fit=crop"
            )
        return mask

    def make_split(index: int, limit_train: int, limit_test: int) -> OneClassSplit:
        name, label = names[index], found[names[index]].name
        folder = found[name].parent.parent
        test = [
            path
            for path in folders.find_and_list(folder / "test", unreadable)
            if path.parent != folder / "test"
        ]
        if not test:
            raise RequestError(f"{folder / 'test'}: no images in folders in it")
        if label not in folders.subfolders(folder / "test"):
            remedy = "normal test images go into a folder of the same name"
            raise RequestError(f"{folder / 'test'}: no folder {label}, as in train; {remedy}")
        stray = folders.images_beside_folders(folder / "test")
        unreadable.update(dict.fromkeys(map(str, stray), "is in no folder that names its kind"))
        masks = tuple(mask_of(folder, path) for path in test)
        marks = folder / "ground_truth"
        known = {path.relative_to(folder / "test").with_suffix("") for path in test}
        there = [path.relative_to(marks) for path in folders.find_images(marks)] if marks.is_dir() else []
        unused = [path for path in there if known.isdisjoint(map(path.with_name, _names(path)))]
        if marks.is_dir() and not any(masks):
            unreadable[str(marks)] = "holds no mask of a test image"
        elif unused:
            unreadable[str(marks)] = f"holds masks of no test image: {len(unused)}, such as {unused[0]}"
        return OneClassSplit(
            train_images=images.lazy(config, reader.read, normal[name], reader.shape, unreadable),
            test_images=images.lazy(config, reader.read, test, reader.shape, unreadable),
            test_labels=tuple(path.relative_to(folder / "test").parts[0] for path in test),
            test_ids=tuple(path.relative_to(root).as_posix() for path in test),
            normal_label=label,
            test_masks=masks,
            read_mask=read_mask,
            without_bars=reader.without_bars,
        ).limited(limit_train, limit_test)

    names, root_name = tuple(found), root.absolute().name
    published = set(names) <= set(CATEGORIES)
    return Dataset(
        name="mvtec_ad" if published else root_name,
        source=f"folder {root_name}: {len(everything)} normal training images of {', '.join(names)}",
        class_names=names,
        trainable=tuple(range(len(names))),
        image_shape=reader.shape,
        make_split=make_split,
        coverage="complete" if published else "own",
        unreadable=unreadable,
    )


def _names(mask: Path) -> tuple[str, str]:
    """The names, without an ending, that an image of this mask may have."""
    return mask.stem.removesuffix("_mask"), mask.stem


def mask_of(category: Path, image: Path) -> Path | None:
    """Returns the file that marks the defect of a test image, if there is one."""
    relative = image.relative_to(category / "test")
    place, names = category / "ground_truth" / relative.parent, (f"{image.stem}_mask", image.stem)
    usual = place / f"{names[0]}.png"
    if usual.is_file():
        return usual
    alike = sorted(place.glob(f"{glob.escape(image.stem)}*"))
    masks = (path for path in alike if path.stem in names and path.suffix.lower() in folders.SUFFIXES)
    return next(masks, None)


SPEC = Spec(
    name="mvtec_ad",
    about="industrial inspection, 15 categories with defect masks",
    size="3,629 + 1,725 images, 5 GB",
    licence="CC BY-NC-SA 4.0",
    get="unpack the published archive, data.root=DIR with DIR/<category>/{train,test,ground_truth}",
    load=load,
    there=lambda root: ", ".join(categories(folders.expanded(root))) if root else "",
)
