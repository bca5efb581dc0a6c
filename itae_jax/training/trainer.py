"""Training on devices: the compiled step, states on all devices, and the checks before a training.

What happens in the course of one is in `training`.
"""

import collections
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from itae_jax import parallel
from itae_jax.config import ComputeConfig, TrainConfig
from itae_jax.data.images import Images, as_images, check_shape
from itae_jax.errors import RequestError
from itae_jax.models import parameter_dtype
from itae_jax.training import signals as interrupt
from itae_jax.training.checkpoint import Checkpoints
from itae_jax.training.loop import Report, Training
from itae_jax.training.step import TrainState, make_optimiser, make_train_step, steps_in_one_call
from itae_jax.transforms import Transform

# A loop makes weight gradients of convolutions many times slower on XLA's CPU backend (experiments/layers.py);
# elsewhere it removes the gap between the launches of small steps.
_STEPS_PER_CALL = {"cpu": 1}
_STEPS_PER_CALL_ELSEWHERE = 50
# Calls that may be under way at once. Two hide the time between them; on the CPU backend there is
# none to hide, and steps queued behind each other can take the threads that the first one waits for.
_CALLS_IN_FLIGHT = {"cpu": 1}
_CALLS_IN_FLIGHT_ELSEWHERE = 2


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
        self.model = model
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
        self.pure_steps = steps_in_one_call(make_train_step(model, transform, train, self.dtype))
        self._steps = parallel.split_batch(
            self.pure_steps, self.devices, replicated_result=True, whole=2, donate=True
        )
        # Much faster to compile, same bits: many small random draws, run once a training.
        options = {"xla_backend_optimization_level": 1} if self.devices[0].platform == "cpu" else None
        self._initialise = jax.jit(self._initial_state, compiler_options=options)
        self.is_finite = jax.jit(_all_finite)

    def _initial_state(self, key: jax.Array) -> TrainState:
        init_key, train_key = jax.random.split(key)
        variables = self.model.init(init_key, jnp.zeros(self._input_shape, self.dtype))
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
        self.limit_calls(loss_K)
        if self.after_call is not None:
            self.after_call(loss_K)
        return state, loss_K

    def limit_calls(self, losses: jax.Array) -> None:
        """Waits until fewer than `calls_in_flight` calls are under way, of which the last gives `losses`."""
        self._under_way.append(losses)
        if len(self._under_way) == self.calls_in_flight:
            jax.block_until_ready(self._under_way.popleft())

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
        on_step: Callable[[float], None] = lambda epochs: None,
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
          on_step: told after each call to the devices how many epochs are done, the last of them in part.

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
            training = Training(self, self._config, images, seeds, checkpoints, stop, on_step)
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
