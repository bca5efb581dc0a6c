"""The training step: pixels, loss and learning rate; and that training teaches the network something."""

import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.datasets import load_digits

from itae_jax import ITAEDetector, auroc
from itae_jax.config import TrainConfig
from itae_jax.training import step as train


def test_pixels_become_floats_in_minus_one_to_one():
    pixels = jnp.asarray([0, 51, 255], jnp.uint8)
    np.testing.assert_allclose(transforms.to_float(pixels), [-1, -0.6, 1], atol=1e-6)


def test_loss_is_the_mean_error(rng):
    a, b = (rng.uniform(-1, 1, (2, 4, 4, 3)).astype(np.float32) for _ in range(2))
    assert train.restoration_loss(a, b, "l2") == pytest.approx(np.square(a - b).mean(), rel=1e-5)
    assert train.restoration_loss(a, b, "l1") == pytest.approx(np.abs(a - b).mean(), rel=1e-5)


def test_rate_is_halved_after_every_so_many_epochs():
    rate = train.learning_rate_schedule(TrainConfig(learning_rate=0.1, halve_every_epochs=50), 7)
    assert float(rate(50 * 7 - 1)) == pytest.approx(0.1)
    assert float(rate(50 * 7)) == pytest.approx(0.05)
    assert float(rate(500 * 7 - 1)) == pytest.approx(0.1 / 2**9)


def test_a_trained_network_restores_best_what_it_was_trained_on():
    digits = load_digits()
    images = np.uint8(digits.images * 15)
    ones, others = images[digits.target == 1], images[digits.target == 0]
    settings = {"evaluate.batch_size": 8, "compute.devices": 1}  # a step is too small to be divided
    detector = ITAEDetector(transform="rotate", width=2, epochs=25, batch_size=8, settings=settings)
    detector.fit(ones[:150])
    normal, odd = detector.anomaly_scores(ones[150:]), detector.anomaly_scores(others[:30])
    assert auroc(np.repeat([False, True], [len(normal), len(odd)]), np.concatenate([normal, odd])) > 0.9
