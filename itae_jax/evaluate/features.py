"""How familiar an image is to the network that restores it: the errors of its features.

To restore what was erased, a network must know its images: a photograph that was turned, for example, which way
is up. "probe": how badly a linear probe of the deepest features tells which of the T members was given, as
networks that predict transforms detect (Golan and El-Yaniv, 2018). "distance": the squared Mahalanobis distance
of the middle features from those of normal images given the same member (Rippel et al., 2021).
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

PARTS = ("middle", "deepest")
_MOST = 5000  # images to fit to
_INVERSE_PENALTY = 0.1


def fit(features: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Fits scikit-learn's logistic regression and Ledoit and Wolf's covariances to features of normal images.

    Images with NaN, which are unreadable, do not count; of more than 5,000 some are taken.

    Args:
      features: "middle" and "deepest", N x T x F each; T at least 2.
    """
    from sklearn.covariance import LedoitWolf
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits

    readable = np.flatnonzero(~np.isnan(features["deepest"]).any((1, 2)))
    some = readable[:: math.ceil(len(readable) / _MOST)]
    middle, deepest = (features[name][some].astype(np.float64) for name in PARTS)
    members = deepest.shape[1]
    rows = deepest.reshape(-1, deepest.shape[2])
    mean, deviation = rows.mean(0), np.maximum(rows.std(0), 1e-6)
    model = LogisticRegression(C=_INVERSE_PENALTY, tol=1e-3, max_iter=1000)
    with threadpool_limits(1):  # on small matrices, threads of busy cores wait for each other
        model.fit((rows - mean) / deviation, np.tile(np.arange(members), len(some)))
        clouds = [LedoitWolf().fit(middle[:, member]) for member in range(members)]
    weights, bias = model.coef_.T / deviation[:, None], model.intercept_
    if members == 2:  # scikit-learn fits their difference
        weights, bias = weights * [-0.5, 0.5], bias * [-0.5, 0.5]
    return {
        "probe_weights": weights,
        "probe_bias": bias - mean @ weights,
        "distance_means": np.stack([cloud.location_ for cloud in clouds]),
        "distance_precisions": np.stack([cloud.precision_ for cloud in clouds]),
    }


def errors(features: dict[str, Any], fitted: dict[str, np.ndarray]) -> dict[str, Any]:
    """ "probe", the cross-entropy, and "distance", N x T each, from 0; for NumPy and JAX arrays."""
    middle, deepest = (features[name] for name in PARTS)
    xp: Any = jnp if isinstance(deepest, jax.Array) else np
    weights, bias, means, precisions = (
        np.asarray(fitted[name], deepest.dtype)
        for name in ("probe_weights", "probe_bias", "distance_means", "distance_precisions")
    )
    logits_NxTxT = deepest @ weights + bias[None, None]
    logits_NxTxT = logits_NxTxT - logits_NxTxT.max(-1, keepdims=True)
    entropy_NxT = xp.log(xp.exp(logits_NxTxT).sum(-1)) - xp.einsum("ntt->nt", logits_NxTxT)
    from_mean = middle - means[None]
    distance_NxT = xp.einsum("ntf,tfg,ntg->nt", from_mean, precisions, from_mean, optimize=True)
    return {"probe": entropy_NxT, "distance": distance_NxT}
