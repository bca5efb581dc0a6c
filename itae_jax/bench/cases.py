"""The contenders of `itae bench`: a method's training step and scoring, and the same network in PyTorch.

Ours do all the work from uint8 images on. PyTorch's networks get float inputs that are erased already. On an
accelerator each uses one device.
"""

import dataclasses
import functools
import importlib.util
import math
from collections.abc import Callable, Sequence
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np

from itae_jax import experiment, methods, parallel
from itae_jax.config import MethodConfig
from itae_jax.data.images import Images, as_images
from itae_jax.errors import RequestError
from itae_jax.experiment import Experiment
from itae_jax.training.learner import Learner
from itae_jax.training.trainer import Trainer

SIDE, CHANNELS = 32, 3
_RATE = 0.1
# Settings that change the speed; the others of an experiment mean nothing to a benchmark.
_TIMED = ("method.", "compute.", "data.image_size", "data.channels", "train.batch_size", "train.augment")


@dataclasses.dataclass(frozen=True)
class Contender:
    """Work to be timed."""

    name: str
    call: Callable[[int], None]  # does so many batches, a multiple of `unit`; returns when the device is done
    batch: int  # images
    unit: int = 1
    memory_bytes: int | None = None  # on each device by XLA's account, if it is known


def experiments(assignments: Sequence[str]) -> dict[str, Experiment]:
    """Returns the benchmark cases by name: the method's `BENCH`, but for fields that the assignments fix.

    RequestError if an assignment is wrong, or does not change the speed.
    """
    for assignment in assignments:
        if not assignment.startswith(_TIMED):
            raise RequestError(f"--set {assignment}: itae bench takes {', '.join(_TIMED)}; leave it out")
    base = experiment.override(Experiment(name="bench"), assignments)
    if base.method.ONE_PASS:
        name = f"--set method.name={base.method.NAME}"
        raise RequestError(f"{name}: has no training steps, which itae bench times; name another method")
    given = {assignment.partition("=")[0].removeprefix("method.") for assignment in assignments}
    cases = {}
    for settings in base.method.BENCH:
        method: Any = base.method
        method = dataclasses.replace(method, **{k: v for k, v in settings.items() if k not in given})
        name = ", ".join(f"{field}={getattr(method, field)}" for field in settings)
        cases[name or method.NAME] = dataclasses.replace(base, method=method)
    return cases


def image_shape(case: Experiment) -> tuple[int, int, int]:
    """Returns height, width and channels of the images."""
    side = case.data.image_size or SIDE
    return side, side, case.data.channels or CHANNELS


def learner(case: Experiment, scored_at_once: int) -> Learner:
    """Returns the learner of a case; without `compute.devices` on all cores of a CPU, or one accelerator.

    RequestError if the method or the devices cannot do it, or cannot share the batch that is scored.
    """
    shape = image_shape(case)
    one = jax.default_backend() != "cpu" and not case.compute.devices
    compute = dataclasses.replace(case.compute, devices=1) if one else case.compute
    evaluate = dataclasses.replace(case.evaluate, batch_size=-(-scored_at_once * math.prod(shape[:2]) // 32**2))
    made = Learner(case.method, case.train, evaluate, compute, shape)
    if scored_at_once % (count := len(made.trainer.devices)):
        remedy = "name a multiple of their number"
        raise RequestError(f"--scored-at-once {scored_at_once}: {count} devices cannot share it; {remedy}")
    return made


def _images(count: int, shape: Sequence[int]) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, *shape), np.uint8)


def training(trainer: Trainer, shape: tuple[int, int, int], name: str = "itae_jax") -> Contender:
    """Returns our training step, with as many steps in a call as a training takes."""
    state, batch = trainer.initial_state((0,)), trainer.config.batch_size
    images = np.stack([_images(batch, shape)] * trainer.steps_per_call)
    rates = np.full(trainer.steps_per_call, _RATE, trainer.dtype)
    memory = trainer.memory_bytes(state, rates, images)

    def call(batches: int) -> None:
        nonlocal state
        for _ in range(batches // trainer.steps_per_call):
            state, metrics = trainer.run_steps(state, rates, images)
        jax.block_until_ready((state, metrics))

    return Contender(name, call, batch, trainer.steps_per_call, memory)


def scoring(learner: Learner, scored_at_once: int) -> Contender:
    """Returns our measurement of images, from which scores are computed."""
    variables = learner.trainer.initial_state((0,)).method.variables
    batch = _images(scored_at_once, learner.image_shape)

    @functools.cache
    def images(batches: int) -> Images:
        return as_images(np.tile(batch, (batches, 1, 1, 1)))

    def call(batches: int) -> None:
        for _ in learner.measure(variables, images(batches)):
            pass

    return Contender("itae_jax", call, scored_at_once, memory_bytes=learner.memory_bytes(variables))


def torch_device() -> str | None:
    """Returns PyTorch's device of the kind that JAX computes on; None without one, or without PyTorch."""
    if not importlib.util.find_spec("torch"):
        return None
    import torch

    backend = jax.default_backend()
    if backend == "gpu":
        return "cuda" if torch.cuda.is_available() else None
    return "cpu" if backend == "cpu" else None


def has_torch_reference(method: MethodConfig) -> bool:
    """Returns whether PyTorch has a device, and the network of these settings."""
    reference = methods.spec(method.NAME).torch_reference
    return bool(reference and torch_device() and reference(method, CHANNELS))


def _torch_contenders(case: Experiment, batch: int, restorations: int, prepare: Callable) -> list[Contender]:
    """PyTorch's three ways to do `prepare(network, inputs, targets, autocast)`, a function of the batches."""
    import torch

    device = torch_device() or "cpu"
    torch.backends.cudnn.benchmark = True  # XLA tries its algorithms, too
    autocast = torch.autocast(device, torch.bfloat16, enabled=case.compute.dtype == "bfloat16")
    height, width, channels = image_shape(case)
    reference = methods.spec(case.method.NAME).torch_reference
    contenders = []
    for name in ("eager", "eager channels_last", "compile channels_last"):
        torch.manual_seed(0)
        layout = torch.channels_last if name.endswith("channels_last") else torch.contiguous_format
        network, in_channels = reference(case.method, channels)  # type: ignore[misc]
        network = network.to(device, memory_format=layout)
        if name.startswith("compile"):
            network = torch.compile(network)
        shapes = [(restorations * batch, count, height, width) for count in (in_channels, channels)]
        pair = (torch.rand(shape).to(device, memory_format=layout) for shape in shapes)
        contenders.append(Contender(f"torch {name}", prepare(network, *pair, autocast), batch))
    return contenders


def torch_training(case: Experiment) -> list[Contender]:
    """Returns PyTorch's forward and backward pass with an update by SGD."""
    import torch

    def prepare(network, inputs, targets, autocast):
        optimiser = torch.optim.SGD(network.parameters(), lr=_RATE)

        def call(batches: int) -> None:
            network.train()
            for _ in range(batches):
                optimiser.zero_grad()
                with autocast:
                    restored = network(inputs)
                loss = torch.nn.functional.mse_loss(restored.float(), targets)
                loss.backward()
                optimiser.step()
            loss.item()  # waits for the device

        return call

    return _torch_contenders(case, case.train.batch_size, 1, prepare)


def torch_scoring(case: Experiment, scored_at_once: int) -> list[Contender]:
    """Returns PyTorch's errors of as many restorations of each image as the method makes."""
    import torch

    method = methods.build(case.method, image_shape(case), case.compute.dtype)
    variables = jax.eval_shape(method.init, jax.random.key(0)).variables
    one = jax.ShapeDtypeStruct((1, *image_shape(case)), np.float32)
    restorations = len(jax.eval_shape(method.examples, variables, {}, one)[1])  # type: ignore[attr-defined]

    def prepare(network, inputs, targets, autocast):
        def call(batches: int) -> None:
            network.eval()
            with torch.inference_mode(), autocast:
                for _ in range(batches):
                    errors = (network(inputs) - targets).abs().mean((1, 2, 3))
            errors.cpu()

        return call

    return _torch_contenders(case, scored_at_once, restorations, prepare)


def operations(kind: str, case: Experiment, batch: int) -> float:
    """Counts the floating-point operations of a batch in "training" or "scoring", as XLA does."""
    from itae_jax.models import cpu_conv

    # Only XLA's CPU backend counts before compiling; the tuning for CPUs must not be counted, and all turns of
    # a loop must be.
    no_loop = mock.patch("jax.lax.map", lambda function, xs: jax.vmap(function)(xs))
    with cpu_conv.traced_for("tpu"), no_loop, jax.default_device(jax.local_devices(backend="cpu")[0]):
        method = methods.build(case.method, image_shape(case), "float32")
        state = jax.eval_shape(method.init, jax.random.key(0))
        images = jax.ShapeDtypeStruct((1, batch, *image_shape(case)), np.float32)

        def update(state, images_1xBxHxWxC):
            keys_B = jax.random.split(jax.random.key(0), batch)
            mapped = jax.vmap(method.update, (None, None, None, 0), axis_name=parallel.AXIS)
            return mapped(state, keys_B, jnp.float32(_RATE), images_1xBxHxWxC)

        if kind == "training":
            lowered = jax.jit(update).lower(state, images)
        else:
            lowered = jax.jit(jax.vmap(method.measure, (None, 0))).lower(state.variables, images)
        return lowered.cost_analysis()["flops"]  # type: ignore[index]
