"""Training on devices: the compiled step, states on all devices, and the limit on calls in flight."""

import collections
import copy
import dataclasses
import functools
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from itae_jax import parallel
from itae_jax.config import ComputeConfig, TrainConfig
from itae_jax.methods.method import Method
from itae_jax.models import parameter_dtype
from itae_jax.training.step import TrainState, initial_state, make_train_step, steps_in_one_call

# A loop makes weight gradients of convolutions many times slower on XLA's CPU backend, which
# experiments/scripts/layers.py measures; elsewhere it removes the gap between the launches of small steps.
_STEPS_PER_CALL = 50
# Two calls in flight hide the time between them. On the CPU backend there is none to hide, and queued
# steps can take the threads that the first one waits for.
_CALLS_IN_FLIGHT = 2
_TIMED_CALLS = 4

Metrics = dict[str, jax.Array]


def _all_finite(tree) -> jax.Array:
    floats = [leaf for leaf in jax.tree.leaves(tree) if jnp.issubdtype(leaf.dtype, jnp.floating)]
    return jnp.asarray([jnp.isfinite(leaf).all() for leaf in floats], bool).all()


class Trainer:
    """Trains networks with one compiled step; RequestError if the devices cannot share the batch."""

    def __init__(self, method: Method, train: TrainConfig, compute: ComputeConfig):
        self._method = method
        self.config = train
        self.dtype = parameter_dtype(compute.dtype)
        self.devices: Sequence[jax.Device] = parallel.choose_devices(train.batch_size, compute.devices)
        on_cpu = self.devices[0].platform == "cpu"
        self.steps_per_call = compute.steps_per_call or (1 if on_cpu else _STEPS_PER_CALL)
        self.calls_in_flight = 1 if on_cpu else _CALLS_IN_FLIGHT
        self.after_call: Callable[[Metrics], None] | None = None  # gets the metrics of each call
        self._in_flight: collections.deque[Metrics] = collections.deque()
        steps = steps_in_one_call(make_train_step(method, train.augment, self.dtype))
        self._steps = parallel.split_batch(steps, self.devices, replicated_result=True, whole=2, donate=True)
        # Compiles much faster, to the same bits: many small random draws, run once a training.
        options = {"xla_backend_optimization_level": 1} if on_cpu else None
        self._initialise = jax.jit(functools.partial(initial_state, method), compiler_options=options)
        self.is_finite = jax.jit(_all_finite)

    def state_shapes(self) -> TrainState:
        """The shapes and types of a state, without computing one."""
        return self._state_shapes

    @functools.cached_property
    def _state_shapes(self) -> TrainState:
        return jax.eval_shape(functools.partial(initial_state, self._method), jax.random.key(0))

    def initial_state(self, seeds: tuple[int, ...]) -> TrainState:
        """The state before the first step, on all devices; the seeds are folded in one by one."""
        parallel.check_not_forked()
        key = functools.reduce(jax.random.fold_in, seeds[1:], jax.random.key(seeds[0]))
        return parallel.replicate(self._initialise(key), self.devices)

    def run_steps(
        self, state: TrainState, rates_K: np.ndarray, images_KxBxHxWxC: np.ndarray
    ) -> tuple[TrainState, Metrics]:
        """Takes K steps in one call to the devices; returns the new state and K values of each metric.

        Uses up the state handed in. Each K is compiled once; `steps_per_call` suits the backend.
        """
        state, metrics = self._steps(state, rates_K, images_KxBxHxWxC, axis=1)
        self._in_flight.append(metrics)
        if len(self._in_flight) == self.calls_in_flight:
            jax.block_until_ready(self._in_flight.popleft())
        if self.after_call is not None:
            self.after_call(metrics)
        return state, metrics

    def seconds_per_step(self, image_shape: tuple[int, int, int]) -> float:
        """The time of a training step, measured after compiling it."""
        count = self.steps_per_call
        images = np.zeros((count, self.config.batch_size, *image_shape), np.uint8)
        state, rates_K = self.initial_state((0,)), np.zeros(count, self.dtype)
        start = 0.0
        for call in range(_TIMED_CALLS + 2):
            if call == 2:  # the first one compiles
                start = time.perf_counter()
            state, metrics = self.run_steps(state, rates_K, images)
            jax.block_until_ready(metrics)
        self._in_flight.clear()
        return (time.perf_counter() - start) / (_TIMED_CALLS * count)

    def with_epochs(self, epochs: int) -> "Trainer":
        """The same compiled steps for another number of epochs."""
        other = copy.copy(self)
        other.config = dataclasses.replace(self.config, epochs=epochs)
        return other

    def memory_bytes(self, state: TrainState, rates_K: np.ndarray, images: np.ndarray) -> int | None:
        """The memory that `run_steps` takes on each device by XLA's account; None if it is not known."""
        return self._steps.memory_bytes(state, rates_K, images, axis=1)

    def pack(self, state: TrainState) -> Any:
        """The state as a tree of arrays that a file can hold."""
        return {"step": state.step, "key": jax.random.key_data(state.key), "method": state.method}

    def unpack(self, arrays: Any) -> TrainState:
        """The inverse of `pack`, on all devices."""
        key = jax.random.wrap_key_data(jnp.asarray(arrays["key"]))
        state = TrainState(step=jnp.asarray(arrays["step"]), key=key, method=arrays["method"])
        return parallel.replicate(state, self.devices)
