"""How familiar an image is to the network that restores it: the errors of the network's features.

A network that restores turned images learns which way its images are up; of other images it does not know.
"probe" is how badly a linear probe of the deepest features tells which of the T members the network got, after
detection by predicted transforms (Golan and El-Yaniv, 2018). "distance" is the squared Mahalanobis distance of
the middle features from those of normal images under the same member (Rippel et al., 2021).
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

PARTS = ("middle", "deepest")
_MOST = 5000  # images to fit to


def linear_probe() -> Any:
    """Returns scikit-learn's logistic regression for standardised features."""
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(C=0.1, tol=1e-3, max_iter=1000)


def fit(features: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Fits a linear probe, and Ledoit and Wolf's covariances, to features of normal images.

    Args:
      features: "middle" and "deepest", N x T x F each; T at least 2. Of more than 5,000 images some are taken.
    """
    from sklearn.covariance import LedoitWolf
    from threadpoolctl import threadpool_limits

    every = math.ceil(len(features["deepest"]) / _MOST)
    middle, deepest = (features[name][::every].astype(np.float64) for name in PARTS)
    count, members, _ = deepest.shape
    rows = deepest.reshape(count * members, -1)
    mean, deviation = rows.mean(0), np.maximum(rows.std(0), 1e-6)
    probe = linear_probe()
    with threadpool_limits(1):  # on small matrices, threads of busy cores wait for each other
        probe.fit((rows - mean) / deviation, np.tile(np.arange(members), count))
        covariances_TxFxF = np.stack(
            [LedoitWolf().fit(middle[:, member]).covariance_ for member in range(members)]
        )
    weights, bias = probe.coef_.T / deviation[:, None], probe.intercept_
    if members == 2:  # scikit-learn fits their difference
        weights, bias = weights * [-0.5, 0.5], bias * [-0.5, 0.5]
    return {
        "probe_weights": weights,
        "probe_bias": bias - mean @ weights,
        "distance_means": middle.mean(0),
        "distance_precisions": np.linalg.inv(covariances_TxFxF + _least(covariances_TxFxF)),
    }


def _least(covariances_TxFxF: np.ndarray) -> np.ndarray:
    """What is added, so that features that hardly vary can be divided by."""
    variances_T = np.trace(covariances_TxFxF, axis1=1, axis2=2) / covariances_TxFxF.shape[1]
    return (1e-6 * variances_T + 1e-12)[:, None, None] * np.eye(covariances_TxFxF.shape[1])


def errors(features: dict[str, Any], fitted: dict[str, np.ndarray]) -> dict[str, Any]:
    """Returns "probe", a cross-entropy, and "distance", N x T each, from 0; for NumPy and JAX arrays."""
    middle, deepest = (features[name] for name in PARTS)
    on_device = isinstance(deepest, jax.Array)
    xp: Any = jnp if on_device else np
    precise: dict[str, Any] = {"precision": "highest"} if on_device else {}
    weights, bias, means, precisions = (
        np.asarray(fitted[name], deepest.dtype)
        for name in ("probe_weights", "probe_bias", "distance_means", "distance_precisions")
    )
    logits_NxTxT = xp.matmul(deepest, weights, **precise) + bias[None, None]
    right_NxT = xp.diagonal(logits_NxTxT, axis1=1, axis2=2)
    is_right_TxT = np.eye(len(bias), dtype=bool)
    others_NxTxT = xp.where(is_right_TxT[None], -np.inf, logits_NxTxT - right_NxT[..., None])
    greatest_NxT = others_NxTxT.max(-1)
    sum_NxT = xp.exp(others_NxTxT - greatest_NxT[..., None]).sum(-1)
    from_mean = middle - means[None]
    scaled = xp.einsum("ntf,tfg->ntg", from_mean, precisions, **precise)
    return {
        "probe": xp.logaddexp(xp.zeros_like(greatest_NxT), greatest_NxT + xp.log(sum_NxT)),
        "distance": (scaled * from_mean).sum(-1),
    }
