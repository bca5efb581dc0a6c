"""MVTec AD, and whatever is laid out like it, read as it lies on disk.

<category>/train/good/*.png
<category>/test/{good,<defect>}/*.png
<category>/ground_truth/<defect>/<name>_mask.png
"""

from pathlib import Path

import numpy as np

from itae_jax.config import DataConfig
from itae_jax.data import folders, images
from itae_jax.data.dataset import InspectionDataset, OneClassSplit
from itae_jax.errors import RequestError

# In the order of the paper's Table 8.
CATEGORIES = (
    *("bottle", "capsule", "grid", "leather", "pill", "tile", "transistor", "zipper", "cable", "carpet"),
    *("hazelnut", "metal_nut", "screw", "toothbrush", "wood"),
)
_SIZE = 256


def categories(root: Path) -> dict[str, Path]:
    """The folders of the categories in `root`, those of the paper first; or `root`, if it is one itself."""
    if (root / "train" / "good").is_dir():
        return {root.name: root}
    if not root.is_dir():
        return {}
    there = [name for name in folders.subfolders(root) if (root / name / "train" / "good").is_dir()]
    known = [name for name in CATEGORIES if name in there]
    return {name: root / name for name in [*known, *(name for name in there if name not in known)]}


def load(config: DataConfig) -> InspectionDataset:
    """The categories below `data.root`, or the one that `data.root` itself is.

    Images are stretched to a square of `data.image_size` (256 by default; the published ones are square).

    Raises:
      RequestError: no category there, or one without images.
    """
    root = folders.root_of(config)
    found = categories(root)
    if not found:
        raise RequestError(
            f"data.root={root}: expected folders <category>/train/good in it, "
            f"found {', '.join(folders.subfolders(root)[:5]) or 'nothing'}"
        )
    normal = {name: folders.find_images(folder / "train" / "good") for name, folder in found.items()}
    for name, paths in normal.items():
        if not paths:
            raise RequestError(f"{found[name] / 'train' / 'good'}: no images in it")
    everything = [path for paths in normal.values() for path in paths]
    reader = folders.make_reader(config, everything, fit="stretch", size=_SIZE)
    unreadable: dict[str, str] = {}
    options = folders.lazy_options(config, unreadable)

    def read_mask(path: Path) -> np.ndarray | None:
        try:
            return reader.read_mask(path)
        except images.UnreadableImageError as error:
            unreadable[error.name] = error.reason
            return None

    def split_of(folder: Path, train: list[Path]) -> OneClassSplit:
        test = folders.find_images(folder / "test")
        labels = tuple(path.relative_to(folder / "test").parts[0] for path in test)
        if not test:
            raise RequestError(f"{folder / 'test'}: no images in it")
        return OneClassSplit(
            train_images=images.files(train, reader, reader_shape, **options),
            test_images=images.files(test, reader, reader_shape, **options),
            test_labels=labels,
            test_ids=tuple(path.relative_to(root).as_posix() for path in test),
            normal_label="good",
            test_masks=tuple(mask_of(folder, path) for path in test),
            read_mask=read_mask,
        )

    reader_shape = (reader.size, reader.size, reader.channels)
    return InspectionDataset(
        name="mvtec_ad" if set(found) <= set(CATEGORIES) else root.name,
        source=f"folder {root.name}: {len(everything)} normal training images of {', '.join(found)}",
        splits={name: lambda name=name: split_of(found[name], normal[name]) for name in found},
        image_shape=reader_shape,
        unreadable=unreadable,
    )


def mask_of(category: Path, image: Path) -> Path | None:
    """The file that marks the defect of a test image, if there is one."""
    relative = image.relative_to(category / "test")
    mask = category / "ground_truth" / relative.parent / f"{image.stem}_mask.png"
    return mask if mask.is_file() else None
