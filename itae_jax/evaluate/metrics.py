"""AUROC and further measures of images, of pixels against masks, and the normality of video frames (Eq. 4)."""

from collections.abc import Sequence

import numpy as np

AUPRO_LIMIT = 0.3
IMAGE_COLUMNS = ("average_precision", "best_f1")
PIXEL_COLUMNS = ("pixel_auroc", "aupro")


def auroc(is_anomaly_N: np.ndarray, scores_N: np.ndarray) -> float:
    """Area under the ROC curve in [0, 1], anomalies positive; ValueError if all images are of one kind."""
    from sklearn.metrics import roc_auc_score

    is_anomaly_N = np.asarray(is_anomaly_N, bool)
    if is_anomaly_N.all() or not is_anomaly_N.any():
        raise ValueError("AUROC needs both normal and anomalous images")
    return float(roc_auc_score(is_anomaly_N, scores_N))


def auroc_interval(auroc: float, num_normal: int, num_anomalies: int) -> tuple[float, float]:
    """The 95 % confidence interval of an AUROC in [0, 1] of so many images.

    Newcombe's method 5 (Statistics in Medicine 25, 2006): all values that are at most 1.96 of their own
    standard errors away, by Hanley and McNeil's formula with both numbers of images set to their mean.
    It does not shrink to a point at 0 and 1.
    """
    from scipy.optimize import brentq

    others = (num_normal + num_anomalies) / 2 - 1

    def excess(area: float) -> float:
        variance = area * (1 - area) * (1 + others * ((1 - area) / (2 - area) + area / (1 + area)))
        return abs(auroc - area) - 1.96 * (variance / (num_normal * num_anomalies)) ** 0.5

    tiny = 1e-9
    return brentq(excess, 0, min(auroc, 1 - tiny)), brentq(excess, max(auroc, tiny), 1)


def frame_normality(scores_N: np.ndarray, video_ids_N: np.ndarray) -> np.ndarray:
    """Eq. 4: 1 - (e - min e) / (max e - min e) within each video, 1 if all are equal; low = anomalous."""
    scores_N, video_ids_N = np.asarray(scores_N, np.float64), np.asarray(video_ids_N)
    if scores_N.shape != video_ids_N.shape:
        raise ValueError(f"{scores_N.shape} scores and {video_ids_N.shape} video ids do not match")
    if not np.isfinite(scores_N).all():
        raise ValueError("Eq. 4 needs finite scores")
    normality = np.ones_like(scores_N)
    for video in np.unique(video_ids_N):
        inside = video_ids_N == video
        low, high = scores_N[inside].min(), scores_N[inside].max()
        if high > low:
            normality[inside] = 1 - (scores_N[inside] - low) / (high - low)
    return normality


def pixel_auroc(masks_NxHxW: np.ndarray, maps_NxHxW: np.ndarray) -> float:
    """AUROC of the pixels of all images; pixels in a mask are anomalous, pixels of NaN do not count.

    ValueError if no pixel is in a mask, or all are.
    """
    seen = ~np.isnan(maps_NxHxW)
    return auroc(np.asarray(masks_NxHxW)[seen], np.asarray(maps_NxHxW)[seen])


def aupro(masks_NxHxW: np.ndarray, maps_NxHxW: np.ndarray, limit: float = AUPRO_LIMIT) -> float:
    """Area under the per-region overlap up to a false-positive rate of `limit`, divided by `limit`.

    The overlap of a region is the share of its pixels above the threshold. Regions are the connected parts
    of the masks (diagonal neighbours connect); each has the same weight. Exact: every value of a map is
    a threshold. Pixels of NaN do not count. ValueError if no pixel is in a mask, or all are.
    """
    from scipy import ndimage
    from sklearn.metrics import roc_curve

    seen_NxHxW = ~np.isnan(maps_NxHxW)
    masks_NxHxW = masks_NxHxW & seen_NxHxW
    if not masks_NxHxW.any() or np.array_equal(masks_NxHxW, seen_NxHxW):
        raise ValueError("AUPRO needs pixels inside and outside of masks")
    weights = np.ones(masks_NxHxW.shape, np.float64)
    for mask, weight in zip(masks_NxHxW, weights, strict=True):
        regions = ndimage.label(mask, structure=np.ones((3, 3), int))[0]
        weight[mask] = 1 / np.bincount(regions.ravel())[regions[mask]]
    of_pixels = masks_NxHxW[seen_NxHxW], np.asarray(maps_NxHxW)[seen_NxHxW]
    false_rate, overlap, _ = roc_curve(*of_pixels, sample_weight=weights[seen_NxHxW])
    inside = false_rate < limit
    x = np.append(false_rate[inside], limit)
    y = np.append(overlap[inside], np.interp(limit, false_rate, overlap))
    return float(np.trapezoid(y, x) / limit)


def of_images(is_anomaly_N: np.ndarray, scores_N: np.ndarray) -> dict[str, float]:
    """Average precision and best F1 in [0, 1], by their column in results.csv; anomalies are positive.

    The best F1 is an upper bound: its threshold is chosen by the test labels.
    """
    from sklearn.metrics import average_precision_score, precision_recall_curve

    precision, recall, _ = precision_recall_curve(is_anomaly_N, scores_N)
    best_f1 = (2 * precision * recall / np.maximum(precision + recall, 1e-12)).max()
    values = float(average_precision_score(is_anomaly_N, scores_N)), float(best_f1)
    return dict(zip(IMAGE_COLUMNS, values, strict=True))


def of_pixels(masks: Sequence[np.ndarray], maps: Sequence[np.ndarray]) -> dict[str, float]:
    """The measures of pixels, by their column in results.csv; empty where they are undefined."""
    visible = [mask[~np.isnan(map_)] for mask, map_ in zip(masks, maps, strict=True)]
    if not any(mask.any() for mask in visible) or all(mask.all() for mask in visible):
        return {}
    arrays = np.stack(masks), np.stack(maps)
    return dict(zip(PIXEL_COLUMNS, (pixel_auroc(*arrays), aupro(*arrays)), strict=True))
