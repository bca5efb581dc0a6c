"""What the names of folders and the masks of defects say of scores."""

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from itae_jax.data import LazyImages, mvtec_ad
from itae_jax.data.dataset import sample
from itae_jax.data.images import UnreadableImageError
from itae_jax.data.reader import Reader
from itae_jax.detection.model import TrainedModel
from itae_jax.evaluate import metrics

_NORMAL_NAMES = ("good", "normal")
_MOST_PIXELS = 2**24


def labels_of(paths: Sequence[str], normal: str = "") -> tuple[list[str] | None, str]:
    """Returns the folder of each image below their common one, or None and why those are no labels.

    `normal` is the name of the folder of normal images; empty for good or normal.
    """
    parents = [os.path.dirname(os.path.abspath(path)) for path in paths]
    root = os.path.commonpath(parents)
    labels = [os.path.relpath(parent, root).split(os.sep)[0] for parent in parents]
    kinds, names = {is_normal(label, normal) for label in labels}, sorted(set(labels))
    expected = normal or " or ".join(_NORMAL_NAMES)
    if "." in labels:
        return None, f"the images do not lie in folders by kind, one of them called {expected}"
    if True not in kinds:
        found = f"{', '.join(names[:5])}{', ...' * (len(names) > 5)}"
        remedy = "" if normal else "; --normal NAME names the one of normal images"
        return None, f"no folder is called {expected}: {found}{remedy}"
    if False not in kinds:
        return None, f"all folders are of normal images: {', '.join(names)}"
    return labels, ""


def is_normal(label: str, normal: str = "") -> bool:
    """Returns whether a folder of this name holds normal images; `normal` as of `labels_of`."""
    return label == normal if normal else label.lower() in _NORMAL_NAMES


def of_images(
    labels_N: np.ndarray, is_defect_N: np.ndarray, scores_N: np.ndarray, is_above_N: np.ndarray
) -> dict[str, Any]:
    """Measures the scores by the labels, as a whole and folder by folder; nothing is chosen by it.

    `chance` has what a guess reaches: of the best F1, by flagging all images.
    """
    normal_labels, kinds = set(labels_N[~is_defect_N]), []
    for label in sorted(set(labels_N), key=lambda label: (label not in normal_labels, label)):
        inside = labels_N == label
        kinds.append({"label": label, "count": inside.sum(), "above": is_above_N[inside].mean()})
        if label not in normal_labels:
            compared = inside | ~is_defect_N
            kinds[-1]["auroc"] = metrics.auroc(is_defect_N[compared], scores_N[compared])
    share, auroc = is_defect_N.mean(), metrics.auroc(is_defect_N, scores_N)
    return {
        "kinds": kinds,
        "num_defects": is_defect_N.sum(),
        "num_found": (is_defect_N & is_above_N).sum(),
        "num_normal": (~is_defect_N).sum(),
        "num_false_alarms": (~is_defect_N & is_above_N).sum(),
        "auroc": auroc,
        "interval": metrics.auroc_interval(auroc, (~is_defect_N).sum(), is_defect_N.sum()),
        "chance": {"auroc": 0.5, "average_precision": share, "best_f1": 2 * share / (1 + share)},
        **metrics.of_images(is_defect_N, scores_N),
    }


def read_mask(path: str, reader: Reader) -> np.ndarray | None:
    """Reads the mask of an image's defect; None without one, if it cannot be read, or if it marks nothing."""
    file = mask_file(path)
    with contextlib.suppress(UnreadableImageError):
        if file and (mask := reader.read_mask(file)).any():
            return mask
    return None


def mask_file(path: str) -> Path | None:
    """Returns the file that marks an image's defect, in folders laid out as those of MVTec AD."""
    category = _category(path)
    return category and mvtec_ad.mask_of(category, Path(os.path.abspath(path)))


def has_folder_of_masks(path: str) -> bool:
    """Returns whether the data set of an image has a folder for masks."""
    category = _category(path)
    return category is not None and (category / "ground_truth").is_dir()


def _category(path: str) -> Path | None:
    parents = Path(os.path.abspath(path)).parents
    return next((parent.parent for parent in parents if parent.name == "test"), None)


def of_pixels(
    model: TrainedModel, paths: Sequence[str], is_defect_N: np.ndarray, most_pixels: int = _MOST_PIXELS
) -> dict[str, Any] | None:
    """Measures the pixels of the model's anomaly maps by the masks; None without masks.

    Normal images have no defect anywhere. Defects without a mask and black bars do not count. Of images
    with more than `most_pixels` together, some are drawn.
    """
    is_marked = is_defect_N & np.array([mask_file(path) is not None for path in paths])
    marked, normal = np.flatnonzero(is_marked), np.flatnonzero(~is_defect_N)
    if not len(marked) or not model.trained.learner.has_maps:
        return None
    height, width, _ = model.image_shape
    most = max(2, most_pixels // (height * width))
    drawn = marked[sample(len(marked), most // 2)]
    kept = np.concatenate([drawn, normal[sample(len(normal), most - len(drawn))]])
    images = LazyImages(model.reader.read, tuple(Path(paths[i]) for i in kept), model.image_shape)
    masks, maps = [], []
    for positions, _, maps_BxHxW in model.trained.measure(images, maps=True):
        for position, map_HxW in zip(positions, np.asarray(maps_BxHxW), strict=True):
            index = kept[position]
            mask = read_mask(paths[index], model.reader) if is_marked[index] else np.zeros_like(map_HxW, bool)
            if mask is not None and mask.shape == map_HxW.shape:
                masks.append(mask)
                maps.append(model.reader.without_bars(map_HxW, images.keys[position]))
    found = metrics.of_pixels(masks, maps)
    if not found:
        return None
    num_marked, num_left_out = sum(mask.any() for mask in masks), len(marked) + len(normal) - len(masks)
    counts = {"marked": num_marked, "normal": len(masks) - num_marked, "left_out": num_left_out}
    return found | counts | {"height": height, "width": width, "limit": metrics.AUPRO_LIMIT}
