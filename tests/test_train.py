"""Training: the schedule, the order of images, the step, and its independence of the machine."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from itae_jax import train
from itae_jax.config import TrainConfig
from itae_jax.data import as_images
from itae_jax.errors import DivergedError, RequestError


@pytest.fixture(scope="module")
def images():
    """Bars, upright, brighter at the top: orientation can be told."""
    rng = np.random.default_rng(0)
    columns = rng.integers(2, 12, 40)
    images = np.zeros((40, 16, 16, 1), np.uint8)
    for image, column in zip(images, columns, strict=True):
        image[:, column : column + 3, 0] = np.linspace(255, 80, 16)[:, None]
    return images


def losses_of(trainer, images, seeds=(0,), report_every=1):
    reports = []
    state = trainer.train(images, seeds, lambda report, state: reports.append(report), report_every)
    return [report.loss for report in reports], state


def test_pixels_become_floats_in_minus_one_to_one():
    pixels = jnp.asarray([0, 51, 255], jnp.uint8)
    np.testing.assert_allclose(train.to_float(pixels), [-1, -0.6, 1], atol=1e-6)


def test_loss_is_the_mean_error(rng):
    a, b = (rng.uniform(-1, 1, (2, 4, 4, 3)).astype(np.float32) for _ in range(2))
    assert train.restoration_loss(a, b, "l2") == pytest.approx(np.square(a - b).mean(), rel=1e-5)
    assert train.restoration_loss(a, b, "l1") == pytest.approx(np.abs(a - b).mean(), rel=1e-5)


def test_rate_is_halved_after_every_so_many_epochs():
    rate = train.learning_rate_schedule(TrainConfig(learning_rate=0.1, halve_every_epochs=50), 7)
    assert float(rate(50 * 7 - 1)) == pytest.approx(0.1)
    assert float(rate(50 * 7)) == pytest.approx(0.05)
    assert float(rate(500 * 7 - 1)) == pytest.approx(0.1 / 2**9)


def order(count, seeds, epoch):
    """The batches of an epoch over images that are numbered by their one pixel."""
    numbers = as_images(np.arange(count, dtype=np.uint8).reshape(-1, 1, 1, 1))
    return [batch.ravel().tolist() for batch in train.epoch_batches(numbers, 8, seeds, epoch)]


def test_an_epoch_shows_each_image_once_and_drops_the_partial_batch():
    batches = order(43, (0,), 1)
    assert [len(batch) for batch in batches] == [8] * 5
    assert len({number for batch in batches for number in batch}) == 40


def test_the_order_depends_on_seeds_and_epoch_alone():
    assert order(64, (0, 3), 1) == order(64, (0, 3), 1)
    keys = [((0, 3), 1), ((0, 3), 2), ((0, 4), 1), ((1, 3), 1)]
    assert len({str(order(64, *key)) for key in keys}) == 4


def test_training_restores_better_and_better(make_trainer, images):
    losses, _ = losses_of(make_trainer("scale", epochs=8), images)
    assert losses[-1] < losses[0] / 3


def test_same_seeds_same_bits_other_seeds_other_bits(make_trainer, images):
    trainer = make_trainer(epochs=2)
    (first, a), (second, b), (other, _) = (
        losses_of(trainer, images, seeds) for seeds in ((0, 1), (0, 1), (0, 2))
    )
    assert first == second
    jax.tree.map(np.testing.assert_array_equal, a.params, b.params)
    assert first != other


@pytest.mark.parametrize("choice", ["one", "all"])
def test_the_number_of_devices_changes_only_rounding(make_trainer, images, choice):
    fields = {"epochs": 4, "dtype": "float64", "transforms_per_image": choice, "augment": "flip+shift"}
    with jax.enable_x64(True):
        alone, *more = (losses_of(make_trainer(devices=n, **fields), images)[0] for n in (1, 2, 4))
    for losses in more:
        np.testing.assert_allclose(losses, alone, rtol=1e-9)


def test_steps_scanned_in_one_call_are_the_same_steps(make_trainer, images):
    fields = {"epochs": 4, "dtype": "float64"}
    with jax.enable_x64(True):
        one, three = (losses_of(make_trainer(steps_per_call=n, **fields), images, (0,), 2)[0] for n in (1, 3))
    np.testing.assert_allclose(three, one, rtol=1e-9)


def test_one_compilation_serves_every_training(make_trainer, images):
    trainer = make_trainer(epochs=1)
    compiled = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, seconds, **about: compiled.append(event) if "backend_compile" in event else None
    )
    losses_of(trainer, images)
    assert compiled
    compiled.clear()
    losses_of(trainer, images[:24], (5,))
    assert compiled == []


def test_too_few_images_for_a_batch_is_refused(make_trainer, images):
    with pytest.raises(RequestError, match=r"7 training images are less than train\.batch_size=8"):
        losses_of(make_trainer(epochs=1), images[:7])


def test_a_loss_that_is_not_finite_stops_training(make_trainer, images):
    trainer = make_trainer(epochs=3, learning_rate=3e38)
    with pytest.raises(DivergedError, match=r"after epoch \d at rate 3e\+38"):
        losses_of(trainer, images)
