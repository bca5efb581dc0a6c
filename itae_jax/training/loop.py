"""One training under way: batches in order, calls to the devices, reports and checkpoints.

A checkpoint holds the whole state between two calls to the devices and the place in the data. The
order of the images and all random draws follow from seeds, epoch and step, and steps are grouped
into calls alike, so that a training which goes on from one takes the same steps, to the bit, as one
that was never stopped.
"""

import collections
import dataclasses
import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple

import jax
import numpy as np

from itae_jax import parallel
from itae_jax.config import TrainConfig
from itae_jax.data.images import Images
from itae_jax.errors import DivergedError, RequestError, UntrainableError
from itae_jax.training import checkpoint, processes
from itae_jax.training.checkpoint import Checkpoints
from itae_jax.training.signals import Stop
from itae_jax.training.step import TrainState, learning_rate_schedule

if TYPE_CHECKING:
    from itae_jax.training.trainer import Trainer


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

    Yields how many images of the order are used up after each batch, and the batch, B x H x W x C uint8.
    A later call with that number in `used` goes on with the batch after it.
    """
    order = np.random.default_rng([*seeds, epoch]).permutation(len(images))
    place = np.argsort(order)
    if used >= len(order):
        return
    for positions, batch in images.batches(batch_size, order[used:]):
        if len(batch) == batch_size:
            yield int(place[positions[-1]]) + 1, batch


# What a checkpoint tells besides the state: the place in the data, and the losses not reported yet.
_FACTS = {"epoch": int, "used": int, "loss_sum": float, "loss_count": int, "images": int}


class Training:
    """A training of a `Trainer`, from the start or the newest checkpoint to the end.

    Args:
      trainer: whose compiled steps are taken.
      config: the trainer's.
      images: N x H x W x C uint8, at least a batch of them.
      seeds: decide initialisation, order and all random draws.
      checkpoints: where the state is kept, and gone on from; None: nowhere.
      stop: of a signal, which is looked at after each call to the devices.
      on_step: told after each call how many epochs are done, the last of them in part.

    Raises:
      RequestError: the checkpoint was begun with other images.
    """

    def __init__(
        self,
        trainer: "Trainer",
        config: TrainConfig,
        images: Images,
        seeds: tuple[int, ...],
        checkpoints: Checkpoints | None,
        stop: Stop,
        on_step: Callable[[float], None],
    ):
        self._trainer, self._config, self._images, self._seeds = trainer, config, images, seeds
        self._checkpoints, self._stop, self._on_step = checkpoints, stop, on_step
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

    def run(self, on_report: Callable[[Report, TrainState], None], report_every: int) -> TrainState:
        """Trains to the end; see `Trainer.train` for the arguments and what is raised.

        Raises:
          KeyboardInterrupt: a signal came; the state is saved.
        """
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
        self._on_step(self._epoch - 1 + self._used / len(self._images))
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
        due_for_leader = mine[1] and processes.is_leader()
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
        if self._step == self._saved or not processes.is_leader():
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
        found = processes.arrays_from_leader(lambda: self._checkpoints.restore(shapes, _FACTS))
        if found is None:
            return
        arrays, facts = found
        if facts["images"] != len(self._images):
            raise RequestError(
                f"{self._checkpoints.directory}: was begun with {facts['images']} training images, now "
                f"there are {len(self._images)}; bring back the data, or name another --out"
            )
        arrays = checkpoint.fill(shapes, arrays)
        self._state, self._step = self._trainer.unpack(arrays), int(arrays.step)
        self._saved = self._step
        self._epoch, self._used = facts["epoch"], facts["used"]
        self._loss_sum, self._loss_count = facts["loss_sum"], facts["loss_count"]
