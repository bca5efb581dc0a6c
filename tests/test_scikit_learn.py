"""ITAEDetector under scikit-learn's own checks, all of them, with the least network."""

import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from itae_jax import ITAEDetector

pytestmark = pytest.mark.usefixtures("tiny_network")

DETECTOR = ITAEDetector(
    transform="rotate",
    epochs=1,
    batch_size=8,
    image_shape="square",
    holdout=0,  # checks that count anomalies among the training rows take the threshold from these
    settings={"evaluate.batch_size": 8},
)


@parametrize_with_checks([DETECTOR])
def test_scikit_learns_own_checks(estimator, check):
    check(estimator)
