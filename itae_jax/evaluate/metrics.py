"""Measures beside the AUROC: of images, and of pixels where masks say where the defects are."""

from collections.abc import Sequence

import numpy as np

from itae_jax.data.dataset import OneClassSplit
from itae_jax.evaluate import restoration as evaluate

AUPRO_LIMIT = 0.3
IMAGE_COLUMNS = ("average_precision", "best_f1")
PIXEL_COLUMNS = ("pixel_auroc", "aupro")


def average_precision(is_anomaly_N: np.ndarray, scores_N: np.ndarray) -> float:
    """Precision averaged over the recalls, anomalies being positive, by scikit-learn; in [0, 1]."""
    from sklearn.metrics import average_precision_score

    return float(average_precision_score(is_anomaly_N, scores_N))


def best_f1(is_anomaly_N: np.ndarray, scores_N: np.ndarray) -> float:
    """The highest F1 of any threshold, in [0, 1].

    The threshold is the one that suits the test labels best: an upper bound, not what a user will get.
    """
    from sklearn.metrics import precision_recall_curve

    precision, recall, _ = precision_recall_curve(is_anomaly_N, scores_N)
    return float((2 * precision * recall / np.maximum(precision + recall, 1e-12)).max())


def pixel_auroc(masks_NxHxW: np.ndarray, maps_NxHxW: np.ndarray) -> float:
    """AUROC of the pixels of all images together, those in a mask being anomalous.

    Pixels whose map is NaN do not count.

    Raises:
      ValueError: no pixel is in a mask, or all are.
    """
    seen = ~np.isnan(maps_NxHxW)
    return evaluate.auroc(np.asarray(masks_NxHxW)[seen], np.asarray(maps_NxHxW)[seen])


def aupro(masks_NxHxW: np.ndarray, maps_NxHxW: np.ndarray, limit: float = AUPRO_LIMIT) -> float:
    """Area under the per-region overlap, up to a false positive rate of `limit`, divided by it.

    At a threshold the overlap of a region is the share of its pixels above it; regions are the
    connected parts of the masks (diagonal neighbours connect), and all count alike whatever their size.
    So it is the ROC curve in which each region's pixels weigh one together. Exact: every value of a
    map is a threshold. Pixels whose map is NaN do not count.

    Raises:
      ValueError: no pixel is in a mask, or all are.
    """
    from sklearn.metrics import roc_curve

    seen_NxHxW = ~np.isnan(maps_NxHxW)
    masks_NxHxW = masks_NxHxW & seen_NxHxW
    if not masks_NxHxW.any() or np.array_equal(masks_NxHxW, seen_NxHxW):
        raise ValueError("AUPRO needs pixels inside and outside of masks")
    weights = np.ones(masks_NxHxW.shape, np.float64)
    for mask, weight in zip(masks_NxHxW, weights, strict=True):
        regions = _regions(mask)
        weight[mask] = 1 / np.bincount(regions.ravel())[regions[mask]]
    of_pixels = masks_NxHxW[seen_NxHxW], np.asarray(maps_NxHxW)[seen_NxHxW]
    false_rate, overlap, _ = roc_curve(*of_pixels, sample_weight=weights[seen_NxHxW])
    inside = false_rate < limit
    x = np.append(false_rate[inside], limit)
    y = np.append(overlap[inside], np.interp(limit, false_rate, overlap))
    return float(np.trapezoid(y, x) / limit)


def _regions(mask_HxW: np.ndarray) -> np.ndarray:
    """The number of the region that each pixel is in; 0 outside."""
    from scipy import ndimage

    return ndimage.label(mask_HxW, structure=np.ones((3, 3), int))[0]


def of_images(is_anomaly_N: np.ndarray, scores_N: np.ndarray) -> dict[str, float]:
    """The measures of images by their column in results.csv."""
    values = average_precision(is_anomaly_N, scores_N), best_f1(is_anomaly_N, scores_N)
    return dict(zip(IMAGE_COLUMNS, values, strict=True))


def of_pixels(masks: Sequence[np.ndarray | None], maps: Sequence[np.ndarray]) -> dict[str, float]:
    """The measures of pixels by their column in results.csv; empty unless there are pixels in and beside masks.

    An image of which it is not known where its defect is, for want of a mask (None), is left out.
    """
    known = [i for i, mask in enumerate(masks) if mask is not None]
    visible = [np.asarray(masks[i])[~np.isnan(maps[i])] for i in known]
    if not any(mask.any() for mask in visible) or all(mask.all() for mask in visible):
        return {}
    arrays = np.stack([masks[i] for i in known]), np.stack([maps[i] for i in known])
    return dict(zip(PIXEL_COLUMNS, (pixel_auroc(*arrays), aupro(*arrays)), strict=True))


def judged(split: OneClassSplit, scores_N: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(is anomaly, score) of the readable test images; of video after normalising within each (Eq. 4)."""
    readable = ~np.isnan(scores_N)
    scores_R = scores_N[readable]
    if split.video_ids:
        scores_R = 1 - evaluate.frame_normality(scores_R, np.asarray(split.video_ids)[readable])
    return split.is_anomaly[readable], scores_R


def auroc(split: OneClassSplit, scores_N: np.ndarray) -> float | None:
    """AUROC of the readable test images; None where it is not defined."""
    is_anomaly, scores = judged(split, scores_N)
    return None if why_undefined(is_anomaly) else evaluate.auroc(is_anomaly, scores)


def why_undefined(is_anomaly_N: np.ndarray) -> str:
    """Why test images have no AUROC, or nothing if they have one."""
    if is_anomaly_N.any() and not is_anomaly_N.all():
        return ""
    if not len(is_anomaly_N):
        return "AUROC is not defined: no test image can be read"
    kind = "anomalous" if is_anomaly_N.any() else "normal"
    return f"AUROC is not defined: the {len(is_anomaly_N)} test images are all {kind}"


def columns(split: OneClassSplit, test_images, scores, fitted) -> dict[str, str]:
    """What results.csv tells of how good a trained method is, by column; a note where that is undefined.

    Args:
      test_images: those of the split.
      scores: `fitted.score(test_images)`.
    """
    is_anomaly, judged_scores = judged(split, scores.scores_N)
    note = why_undefined(is_anomaly)
    if note:
        return {"note": note}
    found = {"auroc": evaluate.auroc(is_anomaly, judged_scores)} | of_images(is_anomaly, judged_scores)
    readable = np.flatnonzero(~np.isnan(scores.scores_N))
    masks = split.masks(readable)
    if any(mask is not None and mask.any() for mask in masks):
        known = [i for i, mask in enumerate(masks) if mask is not None]
        maps = fitted.error_maps(test_images.select(readable[known]))
        found |= of_pixels([masks[i] for i in known], maps)
    for kind, scores_N in scores.by_error.items():
        found[f"auroc_{kind}"] = evaluate.auroc(*judged(split, scores_N))
    memory = fitted.score_memory_bytes(test_images.image_shape)
    return {name: f"{value:.6f}" for name, value in found.items()} | {
        "num_anomalous": str(is_anomaly.sum()),
        "score_memory_mib": "" if memory is None else f"{memory / 2**20:.1f}",
    }
