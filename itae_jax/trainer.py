"""The training loop: batches in order, calls to the devices, reports and checkpoints.

A checkpoint holds the whole state between two calls to the devices and the place in the data. The
order of the images and all random draws follow from seeds, epoch and step, and steps are grouped
into calls alike, so that a training which goes on from one takes the same steps, to the bit, as one
that was never stopped.
"""

import collections
import dataclasses
import functools
import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from itae_jax import interrupt, parallel
from itae_jax.checkpoint import Checkpoints
from itae_jax.config import ComputeConfig, TrainConfig
from itae_jax.data.images import Images, as_images, check_shape
from itae_jax.errors import DivergedError, RequestError, UntrainableError
from itae_jax.models import parameter_dtype
from itae_jax.train import (
    TrainState,
    learning_rate_schedule,
    make_optimiser,
    make_train_step,
    steps_in_one_call,
)
from itae_jax.transforms import Transform

# A while loop makes weight gradients of convolutions 20 to 30 times slower on XLA's CPU backend;
# elsewhere it removes the gap between the launches of small steps.
_STEPS_PER_CALL = {"cpu": 1}
_STEPS_PER_CALL_ELSEWHERE = 50
# Calls that may be under way at once. Two hide the time between them; on the CPU backend there is
# none to hide, and steps queued behind each other can take the threads that the first one waits for.
_CALLS_IN_FLIGHT = {"cpu": 1}
_CALLS_IN_FLIGHT_ELSEWHERE = 2


@dataclasses.dataclass(frozen=True)
class Report:
    """How training goes: after `epoch` passes, the mean loss since the last report."""

    epoch: int
    loss: float
    learning_rate: float


class _Batch(NamedTuple):
    """A batch, and how many images of its epoch's order are used up after it."""

    epoch: int
    used: int
    images_BxHxWxC: np.ndarray


def epoch_batches(
    images: Images, batch_size: int, seeds: tuple[int, ...], epoch: int, used: int = 0
) -> Iterator[tuple[int, np.ndarray]]:
    """The images in an order drawn from (seeds, epoch), in batches; the last partial one is dropped.

    Yields how many images of the order are used up after each batch, and the batch. A later call
    with that number in `used` goes on with the batch after it.
    """
    order = np.random.default_rng([*seeds, epoch]).permutation(len(images))
    place = np.argsort(order)
    if used >= len(order):
        return
    for positions, batch in images.batches(batch_size, order[used:]):
        if len(batch) == batch_size:
            yield int(place[positions[-1]]) + 1, batch


def _all_finite(tree) -> jax.Array:
    return jnp.stack([jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(tree)]).all()


class Trainer:
    """Trains one network after another with one compiled step.

    Args:
      model: linen module called as model(inputs, train=...), with `batch_stats`.
      transform: what is erased.
      image_shape: (height, width, channels) of the originals.
      train, compute: the config.
    """

    def __init__(self, model, transform: Transform, image_shape, train: TrainConfig, compute: ComputeConfig):
        self._model = model
        self._config = train
        self.dtype = parameter_dtype(compute.dtype)
        self.image_shape = tuple(image_shape)
        height, width, channels = image_shape
        self._input_shape = (1, height, width, transform.out_channels(channels))
        self.devices = parallel.choose_devices(train.batch_size, compute.devices)
        self.steps_per_call = compute.steps_per_call or _STEPS_PER_CALL.get(
            self.devices[0].platform, _STEPS_PER_CALL_ELSEWHERE
        )
        self.calls_in_flight = _CALLS_IN_FLIGHT.get(self.devices[0].platform, _CALLS_IN_FLIGHT_ELSEWHERE)
        self.after_call: Callable[[jax.Array], None] | None = None  # told the losses of each call
        self._under_way: collections.deque[jax.Array] = collections.deque()
        steps = steps_in_one_call(make_train_step(model, transform, train, self.dtype))
        self._steps = parallel.split_batch(steps, self.devices, replicated_result=True, whole=2, donate=True)
        # Three times faster to compile, same bits: many small random draws, run once a training.
        options = {"xla_backend_optimization_level": 1} if self.devices[0].platform == "cpu" else None
        self._initialise = jax.jit(self._initial_state, compiler_options=options)
        self.is_finite = jax.jit(_all_finite)

    def _initial_state(self, key: jax.Array) -> TrainState:
        init_key, train_key = jax.random.split(key)
        variables = self._model.init(init_key, jnp.zeros(self._input_shape, self.dtype))
        return TrainState(
            step=jnp.zeros((), jnp.int32),
            params=variables["params"],
            batch_stats=variables["batch_stats"],
            opt_state=make_optimiser(self._config)(0.0).init(variables["params"]),
            key=train_key,
        )

    def state_shapes(self) -> TrainState:
        """The shapes and types of a state, without computing one."""
        return jax.eval_shape(self._initial_state, jax.random.key(0))

    def initial_state(self, seeds: tuple[int, ...]) -> TrainState:
        """The state before the first step, on all devices; the seeds are folded in one by one."""
        key = functools.reduce(jax.random.fold_in, seeds[1:], jax.random.key(seeds[0]))
        return parallel.replicate(self._initialise(key), self.devices)

    def run_steps(
        self, state: TrainState, rates_K: np.ndarray, images_KxBxHxWxC: np.ndarray
    ) -> tuple[TrainState, jax.Array]:
        """K steps in one call to the devices: the state after them and the K losses.

        The state handed in is used up. Each K is compiled once; `steps_per_call` is the one that
        suits the backend.
        """
        state, loss_K = self._steps(state, rates_K, images_KxBxHxWxC, axis=1)
        self._under_way.append(loss_K)
        if len(self._under_way) == self.calls_in_flight:
            jax.block_until_ready(self._under_way.popleft())
        if self.after_call is not None:
            self.after_call(loss_K)
        return state, loss_K

    def memory_bytes(self, state, rates_K, images_KxBxHxWxC) -> int | None:
        """What `run_steps` of these takes on each device by XLA's account; None if it does not tell."""
        return self._steps.memory_bytes(state, rates_K, images_KxBxHxWxC, axis=1)

    def train(
        self,
        images: np.ndarray | Images,
        seeds: tuple[int, ...],
        on_report: Callable[[Report, TrainState], None],
        report_every: int = 0,
        checkpoints: Checkpoints | None = None,
    ) -> TrainState:
        """Trains a network from the start, or from the newest checkpoint.

        Args:
          images: N x H x W x C uint8, the normal ones, in memory or read as they are needed.
          seeds: (seed, ...); decide initialisation, order and all random draws.
          on_report: called with a Report and the state after every `report_every` epochs (0: as
            often as costs nothing) and at the end. The state is used up by the next step.
          report_every: epochs.
          checkpoints: where states are kept while training and at its end; on SIGINT or SIGTERM
            one more is written, and KeyboardInterrupt raised.

        Raises:
          RequestError: fewer images than a batch, of another shape than the trainer's, or other ones
            than those of the checkpoint.
          UntrainableError: fewer images than a batch can be read.
          DivergedError: the loss or a parameter is not finite.
        """
        images, batch_size = as_images(images), self._config.batch_size
        check_shape(images, self.image_shape)
        if len(images) < batch_size:
            raise RequestError(
                f"{len(images)} training images are less than train.batch_size={batch_size}; lower it"
            )
        with interrupt.deferred(checkpoints is not None) as stop:
            training = _Training(self, self._config, images, seeds, checkpoints, stop)
            try:
                return training.run(on_report, report_every)
            finally:
                if checkpoints is not None:
                    checkpoints.wait()

    def pack(self, state: TrainState) -> TrainState:
        """The state as arrays that a file can hold."""
        return state.replace(key=jax.random.key_data(state.key))

    def unpack(self, arrays: TrainState) -> TrainState:
        """The inverse of `pack`, on all devices."""
        state = arrays.replace(key=jax.random.wrap_key_data(jnp.asarray(arrays.key)))
        return parallel.replicate(state, self.devices)


# What a checkpoint tells besides the state: the place in the data, and the losses not reported yet.
_FACTS = {"epoch": int, "used": int, "loss_sum": float, "loss_count": int, "images": int}


class _Training:
    """One training under way."""

    def __init__(self, trainer, config, images, seeds, checkpoints, stop):
        self._trainer, self._config, self._images, self._seeds = trainer, config, images, seeds
        self._checkpoints, self._stop = checkpoints, stop
        self._steps_per_epoch = len(images) // config.batch_size
        self._rates = learning_rate_schedule(config, self._steps_per_epoch)
        self._epoch, self._used = 1, 0
        self._loss_sum, self._loss_count = 0.0, 0  # since the last report, added up step by step
        self._losses: list[jax.Array] = []  # of the last calls, not waited for yet
        self._step, self._state = 0, None
        self._saved = -1  # the step of the newest checkpoint
        self._questions: collections.deque[jax.Array] = collections.deque()  # to all processes, see `_asked`
        if checkpoints is not None:
            self._restore()
        if self._state is None:
            self._state = trainer.initial_state(seeds)

    def run(self, on_report, report_every: int) -> TrainState:
        per_call, epochs = self._trainer.steps_per_call, self._config.epochs
        report_every = report_every or math.ceil(per_call / self._steps_per_epoch)
        pending: list[_Batch] = []
        for epoch in range(self._epoch, epochs + 1):
            for batch in self._batches(epoch):
                pending.append(batch)
                if len(pending) == per_call:
                    self._call(pending)
                    pending = []
            if epoch % report_every == 0 or epoch == epochs:
                for batch in pending:
                    self._call([batch])
                pending = []
                on_report(self._report(epoch), self._state)
                self._epoch, self._used = epoch + 1, 0
        if self._checkpoints is not None:
            self._save()
            if jax.process_count() > 1 and parallel.is_any(self._stop.requested, self._trainer.devices):
                raise KeyboardInterrupt
        return self._state

    def _batches(self, epoch: int) -> Iterator[_Batch]:
        used = self._used if epoch == self._epoch else 0
        for after, batch in epoch_batches(self._images, self._config.batch_size, self._seeds, epoch, used):
            yield _Batch(epoch, after, batch)

    def _call(self, batches: list[_Batch]) -> None:
        rates = [self._rates(self._step + k) for k in range(len(batches))]
        images_KxBxHxWxC = np.stack([batch.images_BxHxWxC for batch in batches])
        self._state, loss_K = self._trainer.run_steps(
            self._state, np.asarray(rates, self._trainer.dtype), images_KxBxHxWxC
        )
        self._losses.append(loss_K)
        self._step += len(batches)
        self._epoch, self._used = batches[-1].epoch, batches[-1].used
        if self._checkpoints is None:
            return
        is_to_stop, is_due = self._asked()
        if is_to_stop or is_due:
            self._save()
        if is_to_stop:
            raise KeyboardInterrupt

    def _asked(self) -> tuple[bool, bool]:
        """(whether a signal came, whether a checkpoint is due).

        Of several processes all learn the same after the same step: of a signal to any of them, and whether
        one is due for the first, which writes it.
        """
        mine = self._stop.requested, self._checkpoints.due()
        if jax.process_count() == 1:
            return mine
        due_for_leader = mine[1] and parallel.is_leader()
        self._questions.append(parallel.any_of((mine[0], due_for_leader), self._trainer.devices))
        if len(self._questions) < self._trainer.calls_in_flight:
            return False, False
        is_to_stop, is_due = np.asarray(self._questions.popleft()).tolist()
        return bool(is_to_stop), bool(is_due)

    def _add_losses(self) -> None:
        """Waits for the losses of all steps so far.

        Raises:
          DivergedError: one is not finite.
        """
        losses, self._losses = self._losses, []
        step = self._step - sum(map(len, losses))
        for loss_K in losses:
            for loss in np.asarray(loss_K).tolist():
                step += 1
                if not math.isfinite(loss):
                    raise self._diverged(f"the loss is {loss}", step)
                self._loss_sum += loss
                self._loss_count += 1

    def _diverged(self, what: str, step: int) -> DivergedError:
        kept = ""
        if self._checkpoints is not None:
            self._checkpoints.wait()
            kept = "".join(
                f"; the last good state is {self._checkpoints.directory / str(good)}"
                for good in self._checkpoints.steps()[:1]
            )
        return DivergedError(
            f"{what} at step {step} (epoch {self._epoch}) at rate {self._rates(step - 1):g}{kept}; "
            "lower train.learning_rate"
        )

    def _report(self, epoch: int) -> Report:
        self._add_losses()
        if not self._loss_count:
            raise UntrainableError(
                f"of {len(self._images)} training images fewer than train.batch_size={self._config.batch_size} "
                "can be read; mend them, or lower it"
            )
        if not self._trainer.is_finite((self._state.params, self._state.batch_stats)):
            raise self._diverged("the parameters are no longer finite", self._step)
        report = Report(epoch, self._loss_sum / self._loss_count, self._rates(self._step - 1))
        self._loss_sum, self._loss_count = 0.0, 0
        return report

    def _save(self) -> None:
        self._add_losses()
        if self._step == self._saved or not parallel.is_leader():
            return
        facts = {
            "epoch": self._epoch,
            "used": self._used,
            "loss_sum": self._loss_sum,
            "loss_count": self._loss_count,
            "images": len(self._images),
        }
        arrays = self._trainer.pack(self._state)
        if all(np.isfinite(array).all() for array in jax.tree.leaves(arrays)):  # else the next loss is not
            self._checkpoints.save(self._step, arrays, facts)
            self._saved = self._step

    def _restore(self) -> None:
        shapes = jax.eval_shape(self._trainer.pack, self._trainer.state_shapes())
        found = parallel.arrays_from_leader(lambda: self._checkpoints.restore(shapes, _FACTS), shapes)
        if found is None:
            return
        arrays, facts = found
        if facts["images"] != len(self._images):
            raise RequestError(
                f"{self._checkpoints.directory}: was begun with {facts['images']} training images, now "
                f"there are {len(self._images)}; bring back the data, or name another --out"
            )
        self._state, self._step = self._trainer.unpack(arrays), int(arrays.step)
        self._saved = self._step
        self._epoch, self._used = facts["epoch"], facts["used"]
        self._loss_sum, self._loss_count = facts["loss_sum"], facts["loss_count"]
