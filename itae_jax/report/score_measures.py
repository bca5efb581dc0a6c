"""What is known of images beside their scores, labels and masks, and what that says of the scores."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from itae_jax.data import LazyImages, mvtec_ad
from itae_jax.data.dataset import sample
from itae_jax.data.images import UnreadableImageError
from itae_jax.detection import score
from itae_jax.detection.model import TrainedModel
from itae_jax.evaluate import metrics as measures
from itae_jax.evaluate import restoration as evaluate

_NORMAL_NAMES = ("good", "normal")
_MOST_PIXELS = 2**24  # measured at once; of more, images are drawn


def labels_of(paths: Sequence[str]) -> tuple[list[str] | None, str]:
    """(the folder of each image below the one that holds them all, why there are no such labels).

    There are some only where folders of normal images and others can be told apart.
    """
    parents = [os.path.dirname(os.path.abspath(path)) for path in paths]
    root = os.path.commonpath(parents)
    labels = [os.path.relpath(parent, root).split(os.sep)[0] for parent in parents]
    kinds = {is_normal(label) for label in labels}
    names = sorted(set(labels))
    if "." in labels:
        return None, "the images do not lie in folders by kind, one of them called good or normal"
    if True not in kinds:
        return None, f"no folder is called good or normal: {', '.join(names[:5])}{', ...' * (len(names) > 5)}"
    if False not in kinds:
        return None, f"all folders are of normal images: {', '.join(names)}"
    return labels, ""


def is_normal(label: str) -> bool:
    """Whether a folder of this name holds normal images."""
    return label.lower() in _NORMAL_NAMES


def of_images(labels_N: np.ndarray, scores_N: np.ndarray, is_above_N: np.ndarray) -> dict:
    """What the labels say of the scores, as a whole and folder by folder; nothing is chosen by it."""
    is_defect_N = np.array([not is_normal(label) for label in labels_N])
    kinds = []
    for label in sorted(set(labels_N), key=lambda label: (not is_normal(label), label)):
        inside = labels_N == label
        kind = {"label": label, "count": int(inside.sum()), "above": float(is_above_N[inside].mean())}
        if not is_normal(label):
            compared = inside | ~is_defect_N
            kind["auroc"] = evaluate.auroc(is_defect_N[compared], scores_N[compared])
        kinds.append(kind)
    return {
        "auroc": evaluate.auroc(is_defect_N, scores_N),
        "ap": measures.average_precision(is_defect_N, scores_N),
        "share": float(is_defect_N.mean()),
        "f1": measures.best_f1(is_defect_N, scores_N),
        "kinds": kinds,
    }


def mask_file(path: str) -> Path | None:
    """The file that marks an image's defect, in folders laid out as those of MVTec AD."""
    image = Path(os.path.abspath(path))
    test = next((parent for parent in image.parents if parent.name == "test"), None)
    return None if test is None else mvtec_ad.mask_of(test.parent, image)


def of_pixels(model: TrainedModel, paths: Sequence[str], is_defect_N: np.ndarray) -> dict | None:
    """Pixel AUROC and AUPRO of the model's error maps; None without masks.

    Normal images count as having no defect; defects without a mask do not count, nor black bars. A map
    has the size of the model's images, and no more than 2^24 pixels are in memory: of more images, some
    are drawn.
    """
    files = [mask_file(path) if defect else None for path, defect in zip(paths, is_defect_N, strict=True)]
    marked = np.array([i for i, file in enumerate(files) if file], int)
    if not len(marked):
        return None
    normal = np.flatnonzero(~is_defect_N)
    height, width, _ = model.image_shape
    most = max(2, _MOST_PIXELS // (height * width))
    drawn = marked[sample(len(marked), most // 2)]
    kept = np.concatenate([drawn, normal[sample(len(normal), most - len(drawn))]])
    images = LazyImages(score.read_of_shape(model), tuple(Path(paths[i]) for i in kept), model.image_shape)
    masks, maps = [], []
    for positions, _, maps_BxHxW in model.fitted.batch_maps(images):
        for position, map_HxW in zip(positions, maps_BxHxW, strict=True):
            mask = _mask_at(model, files[kept[position]], map_HxW.shape)
            if mask is not None:
                masks.append(mask)
                maps.append(model.reader.without_bars(map_HxW, images.keys[position]))
    found = measures.of_pixels(masks, maps)
    if not found:
        return None
    num_marked = sum(bool(mask.any()) for mask in masks)
    return found | {
        "marked": num_marked,
        "normal": len(masks) - num_marked,
        "left_out": len(marked) + len(normal) - len(masks),
        "height": height,
        "width": width,
        "limit": measures.AUPRO_LIMIT,
    }


def _mask_at(model: TrainedModel, file: Path | None, shape: tuple[int, int]) -> np.ndarray | None:
    """The mask as the model sees the image: nowhere true without a file, None if it marks nothing there."""
    if file is None:
        return np.zeros(shape, bool)
    try:
        mask = model.reader.read_mask(file)
    except UnreadableImageError:
        return None
    return mask if mask.any() and mask.shape == shape else None
