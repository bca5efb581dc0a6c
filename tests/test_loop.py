"""The training loop: the order of images, resuming to the bit, and trainings that come to nothing."""

import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from itae_jax.data import as_images
from itae_jax.data.images import LazyImages, UnreadableImageError
from itae_jax.errors import DivergedError, RequestError, UntrainableError
from itae_jax.training import checkpoint, loop
from itae_jax.training.checkpoint import Checkpoints
from itae_jax.training.loop import epoch_batches


def order(count, seeds, epoch):
    """The batches of an epoch over images that are numbered by their one pixel."""
    numbers = as_images(np.arange(count, dtype=np.uint8).reshape(-1, 1, 1, 1))
    return [batch.ravel().tolist() for _, batch in epoch_batches(numbers, 8, seeds, epoch)]


def unreadable_if(fails, count, shape):
    def read(key):
        if fails(key):
            raise UnreadableImageError(str(key), "made to fail")
        return np.full(shape, key, np.uint8)

    return LazyImages(read, tuple(range(count)), shape)


def test_epoch_shows_each_image_once_and_drops_the_partial_batch():
    batches = order(43, (0,), 1)
    assert [len(batch) for batch in batches] == [8] * 5
    assert len({number for batch in batches for number in batch}) == 40


def test_order_depends_on_seeds_and_epoch_alone():
    assert order(64, (0, 3), 1) == order(64, (0, 3), 1)
    keys = [((0, 3), 1), ((0, 3), 2), ((0, 4), 1), ((1, 3), 1)]
    assert len({str(order(64, *key)) for key in keys}) == 4


def test_unreadable_images_do_not_shift_the_place_in_the_data():
    images = unreadable_if(lambda key: key % 5 == 0, 64, (1, 1, 1))
    whole = list(epoch_batches(images, 8, (0,), 1))
    assert len(whole) == 6
    for number, (used, _) in enumerate(whole, 1):
        rest = [batch for _, batch in epoch_batches(images, 8, (0,), 1, used)]
        np.testing.assert_array_equal(rest, [batch for _, batch in whole[number:]] or rest)
        assert len(rest) == len(whole) - number


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


def train(trainer, images, checkpoints=None, report_every=1, on_step=lambda epochs: None):
    """Returns the reports' metrics by epoch, and the packed state; None if it was interrupted."""
    reports = {}

    def on_report(report, state):
        reports[report.epoch] = report.metrics, report.learning_rate

    try:
        state = loop.train(trainer, images, (0, 1), on_report, report_every, checkpoints, on_step)
    except KeyboardInterrupt:
        return reports, None
    return reports, jax.tree.map(np.asarray, trainer.pack(state))


@pytest.mark.parametrize(
    ("method", "per_call", "report_every", "steps"),
    [
        ("itae", 1, 1, range(1, 16)),
        ("ganomaly", 1, 3, range(1, 16)),
        ("itae", 3, 2, [3, 6, 9, 10, 13, 14, 15]),
    ],
)
def test_training_stopped_anywhere_resumes_to_the_same_bits(
    make_trainer, bars, tmp_path, method, per_call, report_every, steps
):
    settings = ["train.epochs=3", "train.augment=flip+shift", "compute.devices=2", "train.halve_every_epochs=1"]
    settings += ["method.momentum=0.9"] if method == "itae" else []
    trainer = make_trainer(method, *settings, f"compute.steps_per_call={per_call}")
    undisturbed, expected = train(trainer, bars, None, report_every)
    found, state, stops, epochs_done = {}, None, 0, []
    while state is None:
        reports, state = train(trainer, bars, Interrupter(tmp_path, 2), report_every, epochs_done.append)
        found |= reports
        stops += 1
    assert stops > 2
    assert found == undisturbed
    assert epochs_done == pytest.approx([step / 5 for step in steps])
    jax.tree.map(np.testing.assert_array_equal, state, expected)


def test_checkpoint_written_while_training_goes_on_is_of_its_own_step(
    make_trainer, bars, tmp_path, monkeypatch
):
    """Writing waits until the training is far ahead; what is written may not follow it."""
    trainer = make_trainer("itae", "train.epochs=1")
    undisturbed, expected = train(trainer, bars)
    write, pending = checkpoint.save, []
    monkeypatch.setattr(checkpoint, "save", lambda *arguments: pending.append(arguments))
    train(trainer, bars, Checkpoints(tmp_path, 0, 9))
    for arguments in pending[:-1]:
        write(*arguments)
    assert len(pending) == 5
    monkeypatch.undo()
    resumed, state = train(trainer, bars, Checkpoints(tmp_path, 0, 9))
    assert resumed == undisturbed
    jax.tree.map(np.testing.assert_array_equal, state, expected)


def test_another_number_of_devices_resumes_but_for_rounding(make_trainer, bars, tmp_path):
    settings = ["train.epochs=2", "compute.dtype=float64"]
    with jax.enable_x64(True):
        undisturbed, _ = train(make_trainer("itae", *settings), bars)
        first, state = train(make_trainer("itae", *settings), bars, Interrupter(tmp_path, 7))
        assert list(first) == [1] and state is None
        trainer = make_trainer("itae", *settings, "compute.devices=4")
        rest, _ = train(trainer, bars, Checkpoints(tmp_path, 0, 2))
    for epoch, (metrics, _) in (first | rest).items():
        assert metrics["loss"] == pytest.approx(undisturbed[epoch][0]["loss"], rel=1e-9)


def test_loss_that_is_not_finite_stops_training_and_is_never_kept(make_trainer, bars, tmp_path):
    trainer = make_trainer("itae", "train.epochs=9", "train.learning_rate=1e6", "method.weight_decay=1e6")
    checkpoints = Checkpoints(tmp_path, 0, 99)
    with pytest.raises(DivergedError, match=r"at step \d+ \(epoch 1\) at rate 1e\+06.*lower train") as raised:
        train(trainer, bars, checkpoints)
    kept = checkpoints.steps()
    assert kept and f"the last good state is {tmp_path / str(kept[0])}" in str(raised.value)
    shapes = jax.eval_shape(trainer.pack, trainer.state_shapes())
    for step in kept:
        state, _ = checkpoint.restore(tmp_path / str(step), shapes, {})
        assert all(np.isfinite(array).all() for array in jax.tree.leaves(state["method"]))


def test_parameters_that_are_not_finite_after_the_last_step_are_no_result(
    make_trainer, bars, tmp_path, monkeypatch
):
    """The loss is of before the step: one step has a finite one whatever it does to the parameters."""
    trainer = make_trainer("itae", "train.epochs=1", "train.learning_rate=1e6", "method.momentum=0.9999")
    state = trainer.initial_state((0,))
    momentum = jax.tree.map(lambda x: jnp.full_like(x, 1e38), state.method.opt_state)
    state = state.replace(method=state.method.replace(opt_state=momentum))
    monkeypatch.setattr(trainer, "initial_state", lambda seeds: state)
    checkpoints = Checkpoints(tmp_path, 0, 2)
    with pytest.raises(DivergedError, match=r"parameters .* at step 1 \(epoch 1\)"):
        train(trainer, bars[:8], checkpoints)
    assert checkpoints.steps() == []


@pytest.mark.parametrize(
    ("images", "error", "message"),
    [
        (np.zeros((7, 16, 16, 1), np.uint8), RequestError, r"7 .*train\.batch_size=8"),
        (unreadable_if(bool, 20, (16, 16, 1)), UntrainableError, r"of 20 .*train\.batch_size=8"),
    ],
)
def test_too_few_images_for_a_batch_are_refused(make_trainer, images, error, message):
    with pytest.raises(error, match=message):
        train(make_trainer("itae", "train.epochs=1"), images)
