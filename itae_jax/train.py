"""Training: restore the original from what a transform left of it (Eq. 2 of the paper)."""

import collections
import dataclasses
import functools
import math
from collections.abc import Callable, Iterator

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax

from itae_jax import augment, parallel
from itae_jax.config import ComputeConfig, TrainConfig
from itae_jax.data.images import Images, as_images
from itae_jax.errors import DivergedError, RequestError
from itae_jax.models import parameter_dtype
from itae_jax.transforms import Transform

# A while loop makes weight gradients of convolutions 20 to 30 times slower on XLA's CPU backend;
# elsewhere it removes the gap between the launches of small steps.
_STEPS_PER_CALL = {"cpu": 1}
_STEPS_PER_CALL_ELSEWHERE = 50
# Calls that may be under way at once. Two hide the time between them; on the CPU backend there is
# none to hide, and steps queued behind each other can take the threads that the first one waits for.
_CALLS_IN_FLIGHT = {"cpu": 1}
_CALLS_IN_FLIGHT_ELSEWHERE = 2


@flax.struct.dataclass
class TrainState:
    """All that a step changes, and the key of its random draws."""

    step: jax.Array
    params: dict
    batch_stats: dict
    opt_state: optax.OptState
    key: jax.Array


@dataclasses.dataclass(frozen=True)
class Report:
    """How training goes: after `epoch` passes, the mean loss since the last report."""

    epoch: int
    loss: float
    learning_rate: float


def to_float(images_uint8: jax.Array, dtype=jnp.float32) -> jax.Array:
    """uint8 to floats in [-1, 1], for every data set: x / 127.5 - 1."""
    return images_uint8.astype(dtype) / 127.5 - 1


def restoration_loss(restored: jax.Array, originals: jax.Array, kind: str) -> jax.Array:
    """Mean over images, pixels and channels of the squared (l2, Eq. 2) or absolute (l1) error."""
    difference = restored - originals
    return jnp.mean(jnp.square(difference) if kind == "l2" else jnp.abs(difference))


def learning_rate_schedule(config: TrainConfig, steps_per_epoch: int) -> Callable[[int], float]:
    """step -> rate, halved after every `halve_every_epochs` epochs, counted in steps.

    Computed on the host, so that no step waits for the device to tell its rate.
    """
    steps = config.halve_every_epochs * steps_per_epoch
    return lambda step: config.learning_rate * 0.5 ** (step // steps)


def make_optimiser(config: TrainConfig) -> Callable[[jax.Array | float], optax.GradientTransformation]:
    """rate -> SGD with that rate.

    The rate is an argument of each step, not a schedule inside the optimiser, so that one compiled
    step serves classes with epochs of different lengths.
    """

    def build(rate):
        return optax.chain(
            optax.add_decayed_weights(config.weight_decay) if config.weight_decay else optax.identity(),
            optax.sgd(rate, momentum=config.momentum or None),
        )

    return build


def make_train_step(model, transform: Transform, config: TrainConfig, dtype=jnp.float32) -> Callable:
    """The pure training step, for a slice of the batch of whatever size.

    The step takes (state, learning rate, images b x H x W x C uint8) to (state, loss). On the
    device: augmentation, one drawn transform an image (or all T), forward, backward, SGD.
    Statistics, gradients and loss are those of the whole batch; each image's random draws depend
    on the seed, the step and its place in the batch alone.
    """
    augmentation = augment.get(config.augment)
    optimiser = make_optimiser(config)

    def erase(key, originals):
        if config.transforms_per_image == "all":
            inputs = transform.apply_all(originals)
            inputs = inputs.reshape(-1, *inputs.shape[2:])
            return inputs, jnp.tile(originals, (transform.count, 1, 1, 1))
        index = jax.vmap(lambda k: jax.random.randint(k, (), 0, transform.count))(key)
        return transform.apply_each(originals, index), originals

    def step(state: TrainState, rate: jax.Array, images_uint8: jax.Array):
        step_key = jax.random.fold_in(state.key, state.step)
        places = parallel.example_indices(images_uint8.shape[0])
        keys = jax.vmap(lambda place: jax.random.split(jax.random.fold_in(step_key, place)))(places)
        originals = jax.vmap(augmentation)(keys[:, 0], to_float(images_uint8, dtype))
        inputs, targets = erase(keys[:, 1], originals)

        def loss_of(params):
            variables = {"params": params, "batch_stats": state.batch_stats}
            restored, updated = model.apply(variables, inputs, train=True, mutable=["batch_stats"])
            return restoration_loss(restored, targets, config.loss), updated["batch_stats"]

        (loss, batch_stats), grads = jax.value_and_grad(loss_of, has_aux=True)(state.params)
        loss, grads = parallel.mean((loss, grads))
        updates, opt_state = optimiser(rate).update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        state = state.replace(step=state.step + 1, params=params, batch_stats=batch_stats, opt_state=opt_state)
        return state, loss

    return step


def epoch_batches(images: Images, batch_size: int, seeds: tuple[int, ...], epoch: int) -> Iterator[np.ndarray]:
    """The images in an order drawn from (seeds, epoch), in batches; the last partial one is dropped."""
    order = np.random.default_rng([*seeds, epoch]).permutation(len(images))
    for _, batch in images.batches(batch_size, order):
        if len(batch) == batch_size:
            yield batch


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
        self._dtype = parameter_dtype(compute.dtype)
        height, width, channels = image_shape
        self._input_shape = (1, height, width, transform.out_channels(channels))
        self.devices = parallel.choose_devices(train.batch_size, compute.devices)
        self.steps_per_call = compute.steps_per_call or _STEPS_PER_CALL.get(
            self.devices[0].platform, _STEPS_PER_CALL_ELSEWHERE
        )
        self._calls_in_flight = _CALLS_IN_FLIGHT.get(self.devices[0].platform, _CALLS_IN_FLIGHT_ELSEWHERE)
        self._under_way: collections.deque[jax.Array] = collections.deque()
        step = make_train_step(model, transform, train, self._dtype)

        def steps(state, rates_K, images_KxBxHxWxC):
            if len(images_KxBxHxWxC) == 1:
                state, loss = step(state, rates_K[0], images_KxBxHxWxC[0])
                return state, loss[None]
            return jax.lax.scan(lambda s, xs: step(s, *xs), state, (rates_K, images_KxBxHxWxC))

        self._steps = parallel.split_batch(steps, self.devices, replicated_result=True, whole=2, donate=True)
        # Three times faster to compile, same bits: many small random draws, run once a training.
        options = {"xla_backend_optimization_level": 1} if self.devices[0].platform == "cpu" else None
        self._initialise = jax.jit(self._initial_state, compiler_options=options)

    def _initial_state(self, key: jax.Array) -> TrainState:
        init_key, train_key = jax.random.split(key)
        variables = self._model.init(init_key, jnp.zeros(self._input_shape, self._dtype))
        return TrainState(
            step=jnp.zeros((), jnp.int32),
            params=variables["params"],
            batch_stats=variables["batch_stats"],
            opt_state=make_optimiser(self._config)(0.0).init(variables["params"]),
            key=train_key,
        )

    def initial_state(self, seeds: tuple[int, ...]) -> TrainState:
        """The state before the first step, on all devices; the seeds are folded in one by one."""
        key = functools.reduce(jax.random.fold_in, seeds[1:], jax.random.key(seeds[0]))
        return parallel.replicate(self._initialise(key), self.devices)

    def state_shapes(self) -> TrainState:
        """Shapes and types of a state, without computing one."""
        return jax.eval_shape(self._initial_state, jax.random.key(0))

    def run_steps(
        self, state: TrainState, rates_K: np.ndarray, images_KxBxHxWxC: np.ndarray
    ) -> tuple[TrainState, jax.Array]:
        """K steps in one call to the devices: the state after them and the K losses.

        The state handed in is used up. Each K is compiled once; `steps_per_call` is the one that
        suits the backend.
        """
        state, loss_K = self._steps(state, rates_K, images_KxBxHxWxC, axis=1)
        self._under_way.append(loss_K)
        if len(self._under_way) == self._calls_in_flight:
            jax.block_until_ready(self._under_way.popleft())
        return state, loss_K

    def train(
        self,
        images: np.ndarray | Images,
        seeds: tuple[int, ...],
        on_report: Callable[[Report, TrainState], None],
        report_every: int = 0,
    ) -> TrainState:
        """Trains a network from the start.

        Args:
          images: N x H x W x C uint8, the normal ones, in memory or read as they are needed.
          seeds: (seed, ...); decide initialisation, order and all random draws.
          on_report: called with a Report and the state after every `report_every` epochs (0: as
            often as costs nothing) and at the end. The state is used up by the next step.
          report_every: epochs.

        Raises:
          RequestError: fewer images than a batch.
          DivergedError: the loss is not finite.
        """
        config, images = self._config, as_images(images)
        steps_per_epoch = len(images) // config.batch_size
        if steps_per_epoch == 0:
            raise RequestError(
                f"{len(images)} training images are less than train.batch_size={config.batch_size}; lower it"
            )
        rates = learning_rate_schedule(config, steps_per_epoch)
        report_every = report_every or math.ceil(self.steps_per_call / steps_per_epoch)
        state = self.initial_state(seeds)
        first, pending, losses = 0, [], []

        def run_pending(state, count):
            nonlocal first
            chunk, pending[:count] = np.stack(pending[:count]), []
            rates_K = np.asarray([rates(first + k) for k in range(count)], self._dtype)
            state, loss_K = self.run_steps(state, rates_K, chunk)
            first += count
            losses.append(loss_K)
            return state

        for epoch in range(1, config.epochs + 1):
            for batch in epoch_batches(images, config.batch_size, seeds, epoch):
                pending.append(batch)
                if len(pending) == self.steps_per_call:
                    state = run_pending(state, self.steps_per_call)
            if epoch % report_every == 0 or epoch == config.epochs:
                while pending:
                    state = run_pending(state, 1)
                if not losses:
                    raise RequestError(f"of {len(images)} training images less than a batch can be read")
                loss = float(np.concatenate(losses).mean())
                losses.clear()
                rate = rates(first - 1)
                if not math.isfinite(loss):
                    raise DivergedError(
                        f"the loss is {loss} after epoch {epoch} at rate {rate:g}; lower train.learning_rate"
                    )
                on_report(Report(epoch, loss, rate), state)
        return state
