"""Training: the order of images, independence of the machine, checkpoints."""

import signal

import jax
import numpy as np
import pytest
from jax.tree_util import Partial
from tiny_net import TinyNet

from itae_jax.data import as_images
from itae_jax.data.images import LazyImages, UnreadableImageError
from itae_jax.errors import DivergedError, RequestError, UntrainableError
from itae_jax.evaluate import restoration as evaluate
from itae_jax.training import checkpoint
from itae_jax.training.checkpoint import Checkpoints
from itae_jax.training.loop import epoch_batches
from itae_jax.transforms import get


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


def order(count, seeds, epoch):
    """The batches of an epoch over images that are numbered by their one pixel."""
    numbers = as_images(np.arange(count, dtype=np.uint8).reshape(-1, 1, 1, 1))
    return [batch.ravel().tolist() for _, batch in epoch_batches(numbers, 8, seeds, epoch)]


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


def test_steps_copy_nothing_to_the_devices_but_their_batches(make_trainer, images):
    trainer = make_trainer("rotate", devices=2, steps_per_call=2)
    state = trainer.initial_state((0,))
    rates, batches = np.full(2, 0.1, np.float32), images[:32].reshape(2, 16, 16, 16, 1)
    state, _ = trainer.run_steps(state, rates, batches)  # compiling makes constants
    with jax.transfer_guard("disallow"):  # lets pass what `device_put` is told to copy
        for _ in range(3):
            state, losses = trainer.run_steps(state, rates, batches)
    assert np.isfinite(losses).all()


def test_the_same_parameters_in_bfloat16_rank_alike(make_trainer, images, rng):
    fields = {"epochs": 20, "learning_rate": 0.02}
    _, state = losses_of(make_trainer("rotate", **fields), images, report_every=20)
    variables = {"params": state.params, "batch_stats": state.batch_stats}
    noise = rng.normal(size=images.shape) * np.linspace(0, 40, 40).reshape(-1, 1, 1, 1)  # hardly any to much
    tested = np.concatenate([images, np.clip(images + noise, 0, 255).astype(np.uint8)])

    def auroc(dtype):
        network = TinyNet(1, dtype)
        restore = Partial(lambda kept, x: network.apply(kept, x).astype("float32"), variables)
        scores = [evaluate.restoration_errors(restore, part, get("rotate")) for part in (images, tested)]
        normal = evaluate.normal_errors(scores[0])
        return evaluate.auroc(np.arange(len(tested)) >= 40, evaluate.anomaly_scores(scores[1], normal))

    assert 0.05 < auroc("float32") < 0.95
    assert auroc("bfloat16") == pytest.approx(auroc("float32"), abs=0.002)


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
    with pytest.raises(DivergedError, match=r"at step \d+ \(epoch 1\) at rate 3e\+38"):
        losses_of(trainer, images)


class Interrupter:
    """Stands where checkpoints do and stops the training after so many calls, as a signal would."""

    def __init__(self, directory, calls):
        self.kept = Checkpoints(directory, 0, 2)
        self.calls = calls

    def due(self):
        self.calls -= 1
        if self.calls == 0:
            signal.raise_signal(signal.SIGTERM)
        return True

    def __getattr__(self, name):
        return getattr(self.kept, name)


def test_a_training_stopped_anywhere_goes_on_to_the_same_bits(make_trainer, images, tmp_path):
    fields = {"epochs": 3, "augment": "flip+shift", "momentum": 0.9}
    steps_of_calls = {
        (1, 1): range(1, 16),
        (3, 1): [3, 4, 5, 8, 9, 10, 13, 14, 15],
        (3, 2): [3, 6, 9, 10, 13, 14, 15],
    }
    for (per_call, report_every), steps in steps_of_calls.items():
        trainer = make_trainer(devices=2, steps_per_call=per_call, **fields)
        undisturbed, expected = losses_of(trainer, images, (0, 1), report_every)
        directory, stops, told = tmp_path / f"{per_call}_{report_every}", 0, {}
        epochs_done = []
        while True:
            try:
                state = trainer.train(
                    images,
                    (0, 1),
                    lambda report, state, told=told: told.update({report.epoch: report.loss}),
                    report_every,
                    Interrupter(directory, 2),
                    epochs_done.append,
                )
                break
            except KeyboardInterrupt:
                stops += 1
        assert stops >= 2
        assert list(told.values()) == undisturbed
        assert epochs_done == pytest.approx([step / 5 for step in steps])
        jax.tree.map(np.testing.assert_array_equal, trainer.pack(state), trainer.pack(expected))


def test_images_that_cannot_be_read_do_not_shift_the_place_in_the_data():
    def read(key):
        if key % 5 == 0:
            raise UnreadableImageError(str(key), "made to fail")
        return np.full((1, 1, 1), key, np.uint8)

    images = LazyImages(read, tuple(range(64)), (1, 1, 1))
    whole = list(epoch_batches(images, 8, (0,), 1))
    assert len(whole) == 6
    for number, (used, _) in enumerate(whole, 1):
        rest = [batch for _, batch in epoch_batches(images, 8, (0,), 1, used)]
        np.testing.assert_array_equal(rest, [batch for _, batch in whole[number:]] or rest)
        assert len(rest) == len(whole) - number


def test_going_on_with_other_images_is_refused(make_trainer, images, tmp_path):
    trainer = make_trainer(epochs=1)
    trainer.train(images, (0,), lambda *_: None, checkpoints=Checkpoints(tmp_path, 0, 2))
    with pytest.raises(RequestError, match="begun with 40 training images, now there are 32"):
        trainer.train(images[:32], (0,), lambda *_: None, checkpoints=Checkpoints(tmp_path, 0, 2))


def test_another_number_of_devices_goes_on_but_for_rounding(make_trainer, images, tmp_path):
    fields = {"epochs": 2, "dtype": "float64"}
    with jax.enable_x64(True):
        undisturbed, _ = losses_of(make_trainer(**fields), images)
        told = []
        with pytest.raises(KeyboardInterrupt):
            make_trainer(**fields).train(
                images, (0,), lambda report, _: told.append(report.loss), 1, Interrupter(tmp_path, 7)
            )
        assert len(told) == 1
        make_trainer(devices=4, **fields).train(
            images, (0,), lambda report, _: told.append(report.loss), 1, Checkpoints(tmp_path, 0, 2)
        )
    np.testing.assert_allclose(told, undisturbed, rtol=1e-9)


def test_a_state_that_is_not_finite_is_never_kept(make_trainer, images, tmp_path):
    trainer = make_trainer(epochs=9, learning_rate=3e38)
    checkpoints = Checkpoints(tmp_path, 0, 99)
    with pytest.raises(DivergedError) as told:
        trainer.train(images, (0,), lambda *_: None, checkpoints=checkpoints)
    kept = checkpoints.steps()
    assert f"the last good state is {tmp_path / str(kept[0])}; lower" in str(told.value)
    shapes = jax.eval_shape(trainer.pack, trainer.state_shapes())
    for step in kept:
        state, _ = checkpoint.restore(tmp_path / str(step), shapes, {})
        assert all(np.isfinite(array).all() for array in jax.tree.leaves(state))


def test_signals_are_as_before_after_training(make_trainer, images, tmp_path):
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    make_trainer(epochs=1).train(images, (0,), lambda *_: None, checkpoints=Checkpoints(tmp_path, 9, 2))
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_parameters_that_are_not_finite_after_the_last_step_are_no_result(make_trainer, images, tmp_path):
    """The loss is of before the step: one step has a finite one whatever it does to the parameters."""
    trainer = make_trainer(epochs=1, learning_rate=1e38, weight_decay=100.0)
    checkpoints = Checkpoints(tmp_path, 0, 2)
    with pytest.raises(DivergedError, match=r"the parameters are no longer finite at step 1 \(epoch 1\)"):
        trainer.train(images[:8], (0,), lambda *_: None, checkpoints=checkpoints)
    assert checkpoints.steps() == []


def test_images_of_which_less_than_a_batch_can_be_read_are_told_with_a_remedy(make_trainer):
    def read(key):
        if key:
            raise UnreadableImageError(str(key), "made to fail")
        return np.zeros((16, 16, 1), np.uint8)

    images = LazyImages(read, tuple(range(20)), (16, 16, 1))
    with pytest.raises(UntrainableError, match=r"of 20 .*batch_size=8 can be read; mend them, or lower it"):
        make_trainer(epochs=1).train(images, (0,), lambda *_: None)
