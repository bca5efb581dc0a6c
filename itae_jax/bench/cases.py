"""What `itae bench` times: our training and scoring, and PyTorch's.

Ours do the whole work from uint8 images on: transform, network, loss, update; PyTorch's are handed
float inputs that are erased already. On an accelerator each side has one.
"""

import dataclasses
import functools
import importlib.util
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from itae_jax import models, parallel, transforms
from itae_jax.config import ComputeConfig, TrainConfig
from itae_jax.errors import RequestError
from itae_jax.evaluate import restoration as evaluate
from itae_jax.training.step import TrainState
from itae_jax.training.trainer import Trainer

BATCH, SIDE, CHANNELS, TRANSFORM = 32, 32, 3, "gray+rotate"


@dataclasses.dataclass(frozen=True)
class Contender:
    """Work to be timed: `call(n)` does n batches, a multiple of `unit`, and returns when they are done.

    A batch is of `batch` images. `memory_bytes` is what it takes on each device by XLA's account,
    None where that is not known.
    """

    name: str
    call: Callable[[int], None]
    unit: int = 1
    batch: int = BATCH
    memory_bytes: int | None = None


def _images(count: int, side: int = SIDE) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, side, side, CHANNELS), np.uint8)


def trainer(width: int, dtype: str, side: int = SIDE, devices: int | None = None) -> Trainer:
    """Of a network of this width for colour images; on all CPU devices or one accelerator unless told."""
    model = models.build("unet", width=width, out_channels=CHANNELS, dtype=dtype, axis_name=parallel.AXIS)
    compute = ComputeConfig(dtype=dtype, devices=_devices() if devices is None else devices)
    shape = (side, side, CHANNELS)
    return Trainer(model, transforms.get(TRANSFORM), shape, TrainConfig(batch_size=BATCH), compute)


def check_batch(images_at_once: int) -> None:
    """Raises RequestError for a batch that the devices cannot share evenly."""
    devices = len(parallel.choose_devices(BATCH, _devices()))
    if images_at_once % devices:
        raise RequestError(
            f"--scored-at-once {images_at_once}: shared by {devices} devices; name a multiple of their number"
        )


def _devices() -> int:
    return 0 if jax.default_backend() == "cpu" else 1


def itae_training(width: int, dtype: str) -> list[Contender]:
    """Our training step, as many in a call as a training has."""
    return [training(trainer(width, dtype), "itae_jax")]


def training(trainer: Trainer, name: str) -> Contender:
    """The steps of a trainer, from a state of its own."""
    state, side = trainer.initial_state((0,)), trainer.image_shape[0]
    images = np.stack([_images(BATCH, side)] * trainer.steps_per_call)
    rates = np.full(trainer.steps_per_call, 0.1, np.float32)
    call = _training_calls(trainer.run_steps, state, rates, images)
    memory = trainer.memory_bytes(state, rates, images)
    return Contender(name, call, trainer.steps_per_call, memory_bytes=memory)


def itae_models(counts: Sequence[int], width: int, dtype: str) -> list[Contender]:
    """Training of several networks at once, each on images of its own, by one program mapped over them."""
    of_one = trainer(width, dtype)
    run, per_call = _mapped_over_models(of_one), of_one.steps_per_call
    rates = np.full(per_call, 0.1, np.float32)

    def run_limited(*arguments):
        state, losses = run(*arguments, axis=2)
        of_one.limit_calls(losses)
        return state, losses

    def contender(count):
        state = _stacked([of_one.initial_state((0, number)) for number in range(count)], of_one.devices)
        images = np.tile(_images(BATCH), (per_call, count, 1, 1, 1, 1))
        call = _training_calls(run_limited, state, rates, images)
        memory = run.memory_bytes(state, rates, images, axis=2)
        return Contender(
            f"itae_jax, {count} model{'s' if count > 1 else ''}", call, per_call, count * BATCH, memory
        )

    return [contender(count) for count in counts]


def _mapped_over_models(trainer: Trainer) -> Callable:
    """(stacked states, K rates, images K x M x B x H x W x C, axis=2) -> (states, losses M x K)."""
    steps = jax.vmap(trainer.pure_steps, in_axes=(0, None, 1))
    return parallel.split_batch(steps, trainer.devices, replicated_result=True, whole=2, donate=True)


def _stacked(states: Sequence[TrainState], devices) -> TrainState:
    return parallel.replicate(jax.tree.map(lambda *leaves: jnp.stack(leaves), *states), devices)


def _training_calls(run: Callable, state, rates_K: np.ndarray, images: np.ndarray) -> Callable[[int], None]:
    """n -> takes n steps by `run`, K in a call, and waits for them."""

    def call(batches):
        nonlocal state
        for _ in range(batches // len(rates_K)):
            state, loss = run(state, rates_K, images)
        jax.block_until_ready((state, loss))

    return call


def itae_scoring(images_at_once: int, width: int, dtype: str) -> list[Contender]:
    """Our errors of the restorations from all T transforms, for each image."""
    of_one = trainer(width, dtype)
    state = of_one.initial_state((0,))
    variables = {"params": state.params, "batch_stats": state.batch_stats}
    restore = Partial(lambda variables, inputs: of_one.model.apply(variables, inputs), variables)
    transform = transforms.get(TRANSFORM)
    batch = _images(images_at_once)
    options = {"batch_size": images_at_once, "devices": of_one.devices}

    @functools.cache
    def images(batches):
        return np.tile(batch, (batches, 1, 1, 1))

    def call(batches):
        evaluate.restoration_errors(restore, images(batches), transform, **options)

    memory = evaluate.memory_bytes(restore, batch.shape[1:], transform, **options)
    return [Contender("itae_jax", call, batch=images_at_once, memory_bytes=memory)]


def torch_device() -> str | None:
    """What PyTorch computes on, of the kind that JAX does; None if it has none or is not installed."""
    if not importlib.util.find_spec("torch"):
        return None
    import torch

    backend = jax.default_backend()
    if backend == "gpu":
        return "cuda" if torch.cuda.is_available() else None
    return "cpu" if backend == "cpu" else None


def _torch_models(width: int):
    """(name, network, memory format, device) of PyTorch's three ways."""
    import torch

    from itae_jax.bench.torch_unet import TorchUNet

    device = torch_device()
    torch.backends.cudnn.benchmark = True  # XLA tries its algorithms, too
    ways = [
        ("eager", torch.contiguous_format),
        ("eager channels_last", torch.channels_last),
        ("compile channels_last", torch.channels_last),
    ]
    for name, layout in ways:
        torch.manual_seed(0)
        network = TorchUNet(width, 1, CHANNELS).to(device, memory_format=layout)
        if name.startswith("compile"):
            network = torch.compile(network)
        yield f"torch {name}", network, layout, device


def _torch_autocast(dtype: str, device: str):
    import torch

    return torch.autocast(device, torch.bfloat16, enabled=dtype == "bfloat16")


def torch_training(width: int, dtype: str) -> list[Contender]:
    """PyTorch's forward and backward pass and update by SGD."""
    import torch

    def contender(name, network, layout, device):
        targets = torch.rand(BATCH, CHANNELS, SIDE, SIDE).to(device, memory_format=layout)
        inputs = targets.mean(1, keepdim=True)
        optimiser = torch.optim.SGD(network.parameters(), lr=0.1)

        def call(batches):
            network.train()
            for _ in range(batches):
                optimiser.zero_grad()
                with _torch_autocast(dtype, device):
                    restored = network(inputs)
                loss = torch.nn.functional.mse_loss(restored.float(), targets)
                loss.backward()
                optimiser.step()
            loss.item()  # waits for the device

        return Contender(name, call)

    return [contender(*way) for way in _torch_models(width)]


def torch_scoring(images_at_once: int, width: int, dtype: str) -> list[Contender]:
    """PyTorch's errors of the restorations from T inputs for each image."""
    import torch

    count = transforms.get(TRANSFORM).count

    def contender(name, network, layout, device):
        targets = torch.rand(count * images_at_once, CHANNELS, SIDE, SIDE).to(device, memory_format=layout)
        inputs = targets.mean(1, keepdim=True)

        def call(batches):
            network.eval()
            with torch.inference_mode(), _torch_autocast(dtype, device):
                for _ in range(batches):
                    errors = (network(inputs) - targets).abs().mean((1, 2, 3))
            errors.cpu()

        return Contender(name, call, batch=images_at_once)

    return [contender(*way) for way in _torch_models(width)]
