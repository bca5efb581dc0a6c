"""Training on devices: what changes only rounding, what is copied, and what is compiled."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import tiny

from itae_jax import parallel
from itae_jax.errors import RequestError
from itae_jax.training import augment, loop
from itae_jax.training.learner import fit_batch


def losses_of(trainer, images, seeds=(0,), report_every=1):
    reports = []
    state = loop.train(trainer, images, seeds, lambda report, state: reports.append(report), report_every)
    return [report.loss for report in reports], state


def test_same_seeds_give_the_same_bits_and_others_do_not(make_trainer, bars):
    trainer = make_trainer("itae", "train.epochs=2")
    (first, a), (second, b), (other, _) = (
        losses_of(trainer, bars, seeds) for seeds in ((0, 1), (0, 1), (0, 2))
    )
    assert first == second
    jax.tree.map(np.testing.assert_array_equal, a.method, b.method)
    assert first != other


def test_the_number_of_devices_and_of_steps_in_a_call_changes_only_rounding(make_trainer, bars):
    settings = ["train.epochs=4", "compute.dtype=float64", "train.augment=flip+shift"]
    with jax.enable_x64(True):
        alone, *others = (
            losses_of(make_trainer("itae", *settings, *more), bars, report_every=2)[0]
            for more in ([], ["compute.devices=4"], ["compute.devices=2", "compute.steps_per_call=3"])
        )
    for losses in others:
        np.testing.assert_allclose(losses, alone, rtol=1e-9)


def test_steps_copy_nothing_to_the_devices_but_their_batches(make_trainer, bars):
    trainer = make_trainer("itae", "compute.devices=2", "compute.steps_per_call=2")
    state = trainer.initial_state((0,))
    rates, batches = np.full(2, 0.1, np.float32), bars[:32].reshape(2, 16, 16, 16, 1)
    state, _ = trainer.run_steps(state, rates, batches)  # compiling makes constants
    with jax.transfer_guard("disallow"):  # lets `device_put` copy
        for _ in range(3):
            state, metrics = trainer.run_steps(state, rates, batches)
    assert np.isfinite(metrics["loss"]).all()


def test_one_compilation_serves_every_training(make_trainer, bars):
    trainer = make_trainer("itae", "train.epochs=1")
    compiled = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, seconds, **about: compiled.append(event) if "backend_compile" in event else None
    )
    losses_of(trainer, bars)
    assert compiled
    compiled.clear()
    losses_of(trainer, bars[:24], (5,))
    assert compiled == []


@pytest.mark.parametrize(
    ("images", "devices", "expected"),
    [(100, 0, (8, 0)), (6, 0, (6, 3)), (5, 0, (5, 1)), (6, 3, (6, 3)), (8, 0, (8, 0))],
)
def test_a_batch_of_few_images_has_as_many_and_devices_that_share_it(images, devices, expected):
    one = tiny("itae", f"compute.devices={devices}")
    train, compute = fit_batch(one.train, one.compute, images)
    assert (train.batch_size, compute.devices) == expected


def many(name, image, count=200):
    keys = jax.random.split(jax.random.key(0), count)
    return np.asarray(jax.vmap(lambda key: augment.get(name)(key, image))(keys))


@pytest.fixture
def image(rng):
    return rng.uniform(-1, 1, (6, 8, 3)).astype(np.float32)


def test_flip_mirrors_about_half_of_the_images(image):
    flipped = many("flip", image)
    mirrored = [np.array_equal(x, image[:, ::-1]) for x in flipped]
    kept = [np.array_equal(x, image) for x in flipped]
    assert all(a != b for a, b in zip(mirrored, kept, strict=True))
    assert 70 < sum(mirrored) < 130


def crops(image):
    padded = np.pad(image, ((4, 4), (4, 4), (0, 0)), mode="reflect")
    height, width, _ = image.shape
    return {padded[y : y + height, x : x + width].tobytes() for y in range(9) for x in range(9)}


def test_shift_makes_every_crop_of_the_reflected_image_and_no_other(image):
    assert {x.tobytes() for x in many("shift", image, 2000)} == crops(image)


def test_get_joins_augmentations_that_draw_independently(image):
    seen = {x.tobytes() for x in many("flip+shift", image, 2000)}
    assert seen == crops(image) | crops(image[:, ::-1])
    np.testing.assert_array_equal(many("none", image, 1)[0], image)


def test_crop_makes_every_square_of_the_image_and_no_other(image):
    squares = {image[y : y + 5, x : x + 5].tobytes() for y in range(2) for x in range(4)}
    assert {x.tobytes() for x in many("crop5", image)} == squares
    assert {x.shape for x in many("crop7", image)} == {(6, 7, 3)}  # no larger than the image


def test_light_adds_a_smooth_field_to_all_channels_alike():
    grey = np.zeros((32, 48, 3), np.float32)
    lit = many("light", grey)
    assert np.ptp(lit, axis=3).max() == 0
    assert 0.1 < abs(lit).max() <= 0.2
    steepest = max(abs(np.diff(lit, axis=axis)).max() for axis in (1, 2))
    assert steepest < 0.04  # where a step at an edge could be 0.4
    assert len(np.unique(lit[:, 0, 0, 0])) == len(lit)
    assert abs(many("light", grey + 0.95)).max() == 1


@pytest.mark.parametrize("name", ["turn", "flip+turn", "crop", "crop0", ""])
def test_get_refuses_an_unknown_name_with_the_choices(name):
    with pytest.raises(RequestError, match=r"train\.augment=.* none, or from flip, shift"):
        augment.get(name)


@pytest.mark.parametrize("count", [1, 2, 4])
def test_split_batch_returns_rows_in_the_order_of_the_batch(count, rng):
    batch = rng.normal(size=(8, 3)).astype(np.float32)
    double = parallel.split_batch(lambda factor, x: x * factor, jax.devices()[:count], replicated_result=False)
    np.testing.assert_array_equal(parallel.rows_of(double(jnp.float32(2), batch)), batch * 2)
    assert double.memory_bytes(jnp.float32(2), batch) > 0


@pytest.mark.parametrize("count", [1, 2, 4])
def test_mean_and_example_indices_are_those_of_the_whole_batch(count, rng):
    batch = rng.normal(size=(2, 8)).astype(np.float32)

    def function(weight, x):
        places = parallel.example_indices(x.shape[1]).astype(jnp.float32)
        return parallel.mean((x * weight * places[None]).mean())

    mapped = parallel.split_batch(function, jax.devices()[:count], replicated_result=True)
    expected = (batch * 3 * np.arange(8)).mean()
    assert float(mapped(jnp.float32(3), batch, axis=1)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("batch", "requested", "chosen"), [(32, 0, 4), (6, 0, 3), (7, 0, 1), (2, 0, 2), (9, 3, 3)]
)
def test_choose_devices_takes_the_most_that_divide_the_batch(batch, requested, chosen):
    assert len(parallel.choose_devices(batch, requested)) == chosen


@pytest.mark.parametrize(
    ("batch", "requested", "named"),
    [(9, 2, r"train\.batch_size=9 .* 2 devices"), (10, 5, r"compute\.devices=5.* 4")],
)
def test_choose_devices_names_what_does_not_fit(batch, requested, named):
    with pytest.raises(RequestError, match=named):
        parallel.choose_devices(batch, requested)


def test_any_of_is_the_maximum_over_the_devices():
    assert parallel.any_of([True, False], jax.devices()).tolist() == [1, 0]
    assert parallel.is_any(True, jax.devices()) and not parallel.is_any(False, jax.devices())
