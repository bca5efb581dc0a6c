"""The training step: restore the original from what a transform left of it (Eq. 2 of the paper)."""

from collections.abc import Callable

import flax.struct
import jax
import jax.numpy as jnp
import optax

from itae_jax import parallel
from itae_jax.config import TrainConfig
from itae_jax.training import augment
from itae_jax.transforms import Transform, to_float


@flax.struct.dataclass
class TrainState:
    """All that a step changes, and the key of its random draws."""

    step: jax.Array
    params: dict
    batch_stats: dict
    opt_state: optax.OptState
    key: jax.Array


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


def steps_in_one_call(step: Callable) -> Callable:
    """K training steps as one function: (state, K rates, K x ... images) -> (state, K losses)."""

    def steps(state, rates_K, images_KxBxHxWxC):
        if len(images_KxBxHxWxC) == 1:  # without a loop, which is slow on CPUs
            state, loss = step(state, rates_K[0], images_KxBxHxWxC[0])
            return state, loss[None]
        return jax.lax.scan(lambda s, xs: step(s, *xs), state, (rates_K, images_KxBxHxWxC))

    return steps
