"""The training loop: batches in order, calls to the devices, reports and checkpoints.

A checkpoint holds the whole state between two calls to the devices, and the place in the data. Seeds, epoch
and step decide the order of the images and all random draws, and steps are grouped into the same calls, so
that a resumed training takes the same steps, to the bit, as one that was never stopped.
"""

import collections
import dataclasses
import math
from collections.abc import Callable, Iterator

import jax
import numpy as np

from itae_jax import parallel
from itae_jax.data.images import Images, as_images
from itae_jax.errors import DivergedError, RequestError, UntrainableError
from itae_jax.training import checkpoint, processes, signals
from itae_jax.training.checkpoint import Checkpoints
from itae_jax.training.signals import Stop
from itae_jax.training.step import TrainState, learning_rate_schedule
from itae_jax.training.trainer import Metrics, Trainer


@dataclasses.dataclass(frozen=True)
class Report:
    """The state of a training after `epoch` passes: mean metrics since the last report."""

    epoch: int
    metrics: dict[str, float]
    learning_rate: float

    @property
    def loss(self) -> float:
        return self.metrics["loss"]


def epoch_batches(
    images: Images, batch_size: int, seeds: tuple[int, ...], epoch: int, used: int = 0
) -> Iterator[tuple[int, np.ndarray]]:
    """Yields (number used up, batch B x H x W x C uint8) in an order drawn from (seeds, epoch).

    A later call with the number of images used up as `used` resumes after that batch. Drops a last partial one.
    """
    order = np.random.default_rng([*seeds, epoch]).permutation(len(images))
    place = np.argsort(order)
    if used >= len(order):
        return
    for positions, batch in images.batches(batch_size, order[used:]):
        if len(batch) == batch_size:
            yield int(place[positions[-1]]) + 1, batch


def train(
    trainer: Trainer,
    images: np.ndarray | Images,
    seeds: tuple[int, ...],
    on_report: Callable[[Report, TrainState], None],
    report_every: int = 0,
    checkpoints: Checkpoints | None = None,
    on_step: Callable[[float], None] = lambda epochs: None,
) -> TrainState:
    """Trains a network from the start, or from the newest checkpoint.

    Args:
      images: N x H x W x C uint8, the normal ones, in memory or read as they are needed.
      seeds: decide initialisation, order and all random draws.
      on_report: gets a Report and the state, which the next step uses up, after every `report_every` epochs
        (0: as often as costs nothing) and at the end.
      checkpoints: where states are kept while training and at its end. On SIGINT or SIGTERM one more is
        written, and KeyboardInterrupt raised.
      on_step: gets the number of epochs done, a fraction included, after each call to the devices.

    Raises:
      RequestError: fewer images than a batch, or other images than the checkpoint's.
      UntrainableError: fewer readable images than a batch.
      DivergedError: the loss or a parameter is not finite.
    """
    images, size = as_images(images), trainer.config.batch_size
    if len(images) < size:
        raise RequestError(f"{len(images)} training images are less than train.batch_size={size}; lower it")
    with signals.deferred(checkpoints is not None) as stop:
        loop = _Loop(trainer, images, seeds, checkpoints, stop, on_step)
        try:
            return loop.run(on_report, report_every)
        finally:
            if checkpoints is not None:
                checkpoints.wait()


# What a checkpoint holds besides the state: the place in the data, and the metrics not reported yet.
_FACTS = {"epoch": int, "used": int, "sums": dict, "count": int, "images": int}


class _Loop:
    """One training; see `train`."""

    def __init__(
        self,
        trainer: Trainer,
        images: Images,
        seeds: tuple[int, ...],
        checkpoints: Checkpoints | None,
        stop: Stop,
        on_step: Callable[[float], None],
    ):
        self._trainer, self._config, self._images, self._seeds = trainer, trainer.config, images, seeds
        self._checkpoints, self._stop, self._on_step = checkpoints, stop, on_step
        readable = len(images) - len(getattr(images, "missing", ()))
        self._steps_per_epoch = max(1, readable // self._config.batch_size)
        self._rates = learning_rate_schedule(self._config, self._steps_per_epoch)
        self._epoch, self._used = 1, 0
        self._sums: dict[str, float] = {}  # of the metrics since the last report, added up step by step
        self._count = 0
        self._pending: list[Metrics] = []  # of the last calls, not waited for yet
        self._step = 0
        self._saved = -1  # the step of the newest checkpoint
        self._answers: collections.deque[jax.Array] = collections.deque()  # of all processes, see `_asked`
        self._state = self._restored() or trainer.initial_state(seeds)

    def run(self, on_report: Callable[[Report, TrainState], None], report_every: int) -> TrainState:
        """Trains to the end; see `train`."""
        per_call, epochs = self._trainer.steps_per_call, self._config.epochs
        report_every = report_every or math.ceil(per_call / self._steps_per_epoch)
        pending: list[tuple[int, int, np.ndarray]] = []  # epoch, images used up, batch
        for epoch in range(self._epoch, epochs + 1):
            used = self._used if epoch == self._epoch else 0
            for after, batch in epoch_batches(self._images, self._config.batch_size, self._seeds, epoch, used):
                pending.append((epoch, after, batch))
                if len(pending) == per_call:
                    self._call(pending)
                    pending = []
            if epoch % report_every == 0 or epoch == epochs:
                for one in pending:
                    self._call([one])
                pending = []
                on_report(self._report(epoch), self._state)
                self._epoch, self._used = epoch + 1, 0
        if self._checkpoints is not None:
            self._save(self._checkpoints)
            if jax.process_count() > 1 and parallel.is_any(self._stop.requested, self._trainer.devices):
                raise KeyboardInterrupt
        return self._state

    def _call(self, batches: list[tuple[int, int, np.ndarray]]) -> None:
        rates_K = np.asarray([self._rates(self._step + k) for k in range(len(batches))], self._trainer.dtype)
        images_KxBxHxWxC = np.stack([images for *_, images in batches])
        self._state, metrics = self._trainer.run_steps(self._state, rates_K, images_KxBxHxWxC)
        self._pending.append(metrics)
        self._step += len(batches)
        self._epoch, self._used, _ = batches[-1]
        self._on_step(self._epoch - 1 + self._used / len(self._images))
        if self._checkpoints is None:
            return
        is_to_stop, is_due = self._asked(self._checkpoints)
        if is_to_stop or is_due:
            self._save(self._checkpoints)
        if is_to_stop:
            raise KeyboardInterrupt

    def _asked(self, checkpoints: Checkpoints) -> tuple[bool, bool]:
        """Returns (whether a signal came, whether a checkpoint is due).

        Of several processes all get the same answer after the same step: whether any of them got a signal,
        and whether process 0, which writes, is due.
        """
        mine = self._stop.requested, checkpoints.due()
        if jax.process_count() == 1:
            return mine
        due = mine[1] and processes.is_leader()
        self._answers.append(parallel.any_of((mine[0], due), self._trainer.devices))
        if len(self._answers) < self._trainer.calls_in_flight:
            return False, False
        is_to_stop, is_due = np.asarray(self._answers.popleft()).tolist()
        return bool(is_to_stop), bool(is_due)

    def _add_metrics(self) -> None:
        """Waits for the metrics of all steps so far, and adds them up; DivergedError if one is not finite."""
        calls, self._pending = self._pending, []
        step = self._step - sum(len(metrics["loss"]) for metrics in calls)
        for metrics in calls:
            columns = {name: np.asarray(values_K).tolist() for name, values_K in metrics.items()}
            for values in zip(*columns.values(), strict=True):
                step += 1
                for name, value in zip(columns, values, strict=True):
                    if not math.isfinite(value):
                        raise self._diverged(f"the {name} is {value}", step)
                    self._sums[name] = self._sums.get(name, 0.0) + value
                self._count += 1

    def _diverged(self, what: str, step: int) -> DivergedError:
        kept = ""
        if self._checkpoints is not None:
            self._checkpoints.wait()
            if good := self._checkpoints.steps():
                kept = f"; the last good state is {self._checkpoints.directory / str(good[0])}"
        where = f"at step {step} (epoch {self._epoch}) at rate {self._rates(step - 1):g}"
        return DivergedError(f"{what} {where}{kept}; lower train.learning_rate")

    def _report(self, epoch: int) -> Report:
        self._add_metrics()
        if not self._count:
            fewer = f"fewer than train.batch_size={self._config.batch_size} can be read"
            remedy = "repair them, or lower it"
            raise UntrainableError(f"of {len(self._images)} training images {fewer}; {remedy}")
        if not self._trainer.is_finite(self._state.method):
            raise self._diverged("the parameters are no longer finite", self._step)
        means = {name: value / self._count for name, value in self._sums.items()}
        self._sums, self._count = {}, 0
        return Report(epoch, means, self._rates(self._step - 1))

    def _save(self, checkpoints: Checkpoints) -> None:
        self._add_metrics()
        if self._step == self._saved or not processes.is_leader():
            return
        sums = dict(self._sums)  # a copy, because it is written while the training goes on
        facts = {"epoch": self._epoch, "used": self._used, "sums": sums, "count": self._count}
        facts["images"] = len(self._images)
        if self._trainer.is_finite(self._state.method):  # else the next loss is not
            checkpoints.save(self._step, self._trainer.pack(self._state), facts)
            self._saved = self._step

    def _restored(self) -> TrainState | None:
        checkpoints = self._checkpoints
        if checkpoints is None:
            return None
        like = jax.eval_shape(self._trainer.pack, self._trainer.state_shapes())
        found = processes.arrays_from_leader(lambda: checkpoints.restore(like, _FACTS))
        if found is None:
            return None
        arrays, facts = found
        if facts["images"] != len(self._images):
            what = f"holds a training of {facts['images']} images, now there are {len(self._images)}"
            remedy = "restore the data, or name another --out"
            raise RequestError(f"{checkpoints.directory}: {what}; {remedy}")
        arrays = checkpoint.fill(like, arrays)
        self._step = self._saved = int(arrays["step"])
        self._epoch, self._used = facts["epoch"], facts["used"]
        self._sums, self._count = facts["sums"], facts["count"]
        return self._trainer.unpack(arrays)
