"""What a linear probe tells of images that it has not seen."""

import numpy as np

from itae_jax.evaluate.features import linear_probe


def recognised(features_TxNxD: np.ndarray) -> np.ndarray:
    """The share of the T versions of each of N images that a probe of other images tells apart: N."""
    from sklearn.model_selection import GroupKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from threadpoolctl import threadpool_limits

    members, count, _ = features_TxNxD.shape
    groups, truth = np.tile(np.arange(count), members), np.repeat(np.arange(members), count)
    probe = make_pipeline(StandardScaler(), linear_probe())
    with threadpool_limits(1):  # on small matrices, threads of busy cores wait for each other
        rows, folds = features_TxNxD.reshape(members * count, -1), GroupKFold(5)
        is_right = cross_val_predict(probe, rows, truth, groups=groups, cv=folds) == truth
    return is_right.reshape(members, count).mean(0)
