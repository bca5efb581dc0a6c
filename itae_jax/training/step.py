"""The pure training step: augmentation and random keys around a method's own update."""

import math
from collections.abc import Callable

import flax.struct
import jax
import jax.numpy as jnp

from itae_jax import parallel
from itae_jax.config import TrainConfig
from itae_jax.methods.method import Method, State
from itae_jax.training import augment
from itae_jax.transforms import to_float


@flax.struct.dataclass
class TrainState:
    """The method's state, the number of steps taken, and the key of all random draws."""

    step: jax.Array
    key: jax.Array
    method: State


def initial_state(method: Method, key: jax.Array) -> TrainState:
    """The state before the first step."""
    init_key, train_key = jax.random.split(key)
    return TrainState(step=jnp.zeros((), jnp.int32), key=train_key, method=method.init(init_key))


def learning_rate_schedule(config: TrainConfig, steps_per_epoch: int) -> Callable[[int], float]:
    """step -> rate: halved after every `halve_every_epochs` epochs, or lowered to 0 along half a cosine.

    Runs on the host, so that no step waits for the device.
    """
    if config.schedule == "cosine":
        total = config.epochs * steps_per_epoch
        return lambda step: config.learning_rate * 0.5 * (1 + math.cos(math.pi * step / total))
    steps = config.halve_every_epochs * steps_per_epoch
    return lambda step: config.learning_rate * 0.5 ** (step // steps)


def make_train_step(method: Method, augmentation: str, dtype) -> Callable:
    """(state, rate, slice of the batch b x H x W x C uint8) -> (state, metrics).

    Every image has random keys of its own, which depend on the seed, the step and its place in the whole
    batch, so that the result does not depend on the number of devices.
    """
    augment_image = augment.get(augmentation)

    def step(state: TrainState, rate: jax.Array, images_uint8: jax.Array):
        step_key = jax.random.fold_in(state.key, state.step)
        places = parallel.example_indices(images_uint8.shape[0])
        keys_Bx2 = jax.vmap(lambda place: jax.random.split(jax.random.fold_in(step_key, place)))(places)
        images = jax.vmap(augment_image)(keys_Bx2[:, 0], to_float(images_uint8, dtype))
        of_method, metrics = method.update(state.method, keys_Bx2[:, 1], rate, images)
        return TrainState(state.step + 1, state.key, of_method), metrics

    return step


def steps_in_one_call(step: Callable) -> Callable:
    """K training steps as one function: (state, K rates, K x ... images) -> (state, metrics of K each)."""

    def steps(state, rates_K, images_KxBxHxWxC):
        if len(images_KxBxHxWxC) == 1:  # without a loop, which is slow on CPUs
            state, metrics = step(state, rates_K[0], images_KxBxHxWxC[0])
            return state, jax.tree.map(lambda value: value[None], metrics)
        return jax.lax.scan(lambda s, xs: step(s, *xs), state, (rates_K, images_KxBxHxWxC))

    return steps
