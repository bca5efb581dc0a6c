"""ITAEDetector under scikit-learn's own checks, all of them, with a tiny network."""

import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from itae_jax import ITAEDetector

pytestmark = pytest.mark.usefixtures("tiny_network")

DETECTOR = ITAEDetector(
    transform="rotate",
    epochs=1,
    batch_size=8,
    image_shape="square",
    holdout=0,  # checks that count anomalies among the training rows need a threshold from these
    settings={"evaluate.batch_size": 8},
)


@parametrize_with_checks([DETECTOR])
def test_detector_passes_scikit_learns_checks(estimator, check):
    check(estimator)
