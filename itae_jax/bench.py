"""`itae bench`: speed of training and scoring, beside PyTorch's where it is installed.

All contenders take turns in one process, several rounds, so that their ratio holds on a machine
whose speed varies. Ours do the whole work from uint8 images on: transform, network, loss, update;
PyTorch's are handed float inputs that are erased already. On an accelerator each side has one.
"""

import dataclasses
import importlib.util
import json
import os
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import jax
import numpy as np
from jax.tree_util import Partial

from itae_jax import evaluate, models, parallel, transforms
from itae_jax.config import ComputeConfig, ModelConfig, TrainConfig
from itae_jax.errors import RequestError
from itae_jax.results import describe_environment
from itae_jax.trainer import Trainer

BATCH, SIDE, CHANNELS, TRANSFORM = 32, 32, 3, "gray+rotate"
_SECONDS_PER_TURN = 1.0


@dataclasses.dataclass(frozen=True)
class Contender:
    """Work to be timed: `call(n)` does n batches, a multiple of `unit`, and returns when they are done."""

    name: str
    call: Callable[[int], None]
    unit: int = 1


@dataclasses.dataclass(frozen=True)
class Timing:
    """Seconds a batch of one contender: the median over rounds, and all of them."""

    task: str
    width: int
    contender: str
    seconds: float
    rounds: list[float]

    @property
    def images_per_second(self) -> float:
        return BATCH / self.seconds


def measure(widths: Sequence[int], rounds: int, say: Callable[[str], None] = lambda line: None) -> dict:
    """Times training and scoring at each width; `say` is told what is being done.

    Returns:
      {"environment": ..., "settings": ..., "timings": [...]}, as `write` puts it into a file.
    """
    contenders_of = {"training": [_itae_training], "scoring": [_itae_scoring]}
    if importlib.util.find_spec("torch"):
        contenders_of["training"].append(_torch_training)
        contenders_of["scoring"].append(_torch_scoring)
    else:
        say("PyTorch is not installed: no comparison (pip install torch==2.13.0 gives one)")
    timings = []
    for width in widths:
        for task, makers in contenders_of.items():
            say(f"{task}, width {width}: compiling")
            contenders = [contender for make in makers for contender in make(width)]
            turns = {contender.name: [] for contender in contenders}
            batches = {contender.name: _batches_a_turn(contender) for contender in contenders}
            for number in range(rounds):
                say(f"{task}, width {width}: round {number + 1} of {rounds}")
                for contender in contenders:
                    turns[contender.name].append(_seconds_a_batch(contender, batches[contender.name]))
            timings += [Timing(task, width, name, statistics.median(s), s) for name, s in turns.items()]
    settings = {
        "batch_size": BATCH,
        "image": [SIDE, SIDE, CHANNELS],
        "transform": TRANSFORM,
        "dtype": "float32",
    }
    return {
        "environment": describe_environment(),
        "settings": settings,
        "timings": [
            dataclasses.asdict(timing) | {"images_per_second": timing.images_per_second} for timing in timings
        ],
    }


def ratios(result: dict) -> dict[tuple[str, int], float]:
    """Our seconds over PyTorch's best for each (task, width); empty without PyTorch."""
    by_task: dict[tuple[str, int], dict[str, float]] = {}
    for timing in result["timings"]:
        by_task.setdefault((timing["task"], timing["width"]), {})[timing["contender"]] = timing["seconds"]
    return {
        key: seconds["itae_jax"] / min(value for name, value in seconds.items() if name != "itae_jax")
        for key, seconds in by_task.items()
        if len(seconds) > 1
    }


def table(result: dict) -> str:
    """One line a timing, and our share of PyTorch's best time."""
    lines = [f"{'task':<9} {'width':>5}  {'contender':<22} {'s/batch':>8}  {'images/s':>8}"]
    for timing in result["timings"]:
        lines.append(
            f"{timing['task']:<9} {timing['width']:>5}  {timing['contender']:<22} "
            f"{timing['seconds']:>8.4f}  {timing['images_per_second']:>8.0f}"
        )
    for (task, width), ratio in ratios(result).items():
        lines.append(f"{task}, width {width}: itae_jax takes {ratio:.2f} of PyTorch's best time")
    return "\n".join(lines)


def check_writable(path: Path) -> None:
    """Raises RequestError if there can be no file at `path`; to be asked before the long work."""
    if path.is_dir() or not os.access(path if path.exists() else path.absolute().parent, os.W_OK):
        raise RequestError(f"--json {path}: cannot be written; name a file in a directory that is there")


def write(result: dict, path: Path) -> None:
    """Writes the result as JSON."""
    path.write_text(json.dumps(result, indent=2) + "\n")


def _batches_a_turn(contender: Contender) -> int:
    unit = contender.unit
    contender.call(unit)  # compiles
    contender.call(unit)
    return unit * max(1, round(_SECONDS_PER_TURN / _seconds_a_batch(contender, unit) / unit))


def _seconds_a_batch(contender: Contender, batches: int) -> float:
    start = time.perf_counter()
    contender.call(batches)
    return (time.perf_counter() - start) / batches


def _images(count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, SIDE, SIDE, CHANNELS), np.uint8)


def _trainer(width: int) -> tuple[Trainer, models.UNet]:
    model = models.build(ModelConfig(width=width), CHANNELS, "float32", parallel.AXIS)
    config = TrainConfig(batch_size=BATCH)
    shape = (SIDE, SIDE, CHANNELS)
    compute = ComputeConfig(devices=0 if jax.default_backend() == "cpu" else 1)
    return Trainer(model, transforms.get(TRANSFORM), shape, config, compute), model


def _itae_training(width: int) -> list[Contender]:
    trainer, _ = _trainer(width)
    state = trainer.initial_state((0,))
    images = np.stack([_images(BATCH)] * trainer.steps_per_call)
    rates = np.full(trainer.steps_per_call, 0.1, np.float32)

    def call(batches):
        nonlocal state
        for _ in range(batches // trainer.steps_per_call):
            state, loss = trainer.run_steps(state, rates, images)
        jax.block_until_ready((state, loss))

    return [Contender("itae_jax", call, trainer.steps_per_call)]


def _itae_scoring(width: int) -> list[Contender]:
    trainer, model = _trainer(width)
    state = trainer.initial_state((0,))
    variables = {"params": state.params, "batch_stats": state.batch_stats}
    restore = Partial(lambda variables, inputs: model.apply(variables, inputs), variables)
    transform = transforms.get(TRANSFORM)
    batch = _images(BATCH)

    def call(batches):
        images = np.broadcast_to(batch, (batches, *batch.shape)).reshape(-1, *batch.shape[1:])
        evaluate.restoration_errors(restore, images, transform, batch_size=BATCH, devices=trainer.devices)

    return [Contender("itae_jax", call)]


def _torch_models(width: int):
    """(name, network, memory format, device) of PyTorch's three ways."""
    import torch

    from itae_jax.models.torch_unet import TorchUNet

    device = "cuda" if torch.cuda.is_available() else "cpu"
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


def _torch_training(width: int) -> list[Contender]:
    import torch

    def contender(name, network, layout, device):
        targets = torch.rand(BATCH, CHANNELS, SIDE, SIDE).to(device, memory_format=layout)
        inputs = targets.mean(1, keepdim=True)
        optimiser = torch.optim.SGD(network.parameters(), lr=0.1)

        def call(batches):
            network.train()
            for _ in range(batches):
                optimiser.zero_grad()
                loss = torch.nn.functional.mse_loss(network(inputs), targets)
                loss.backward()
                optimiser.step()
            loss.item()  # waits for the device

        return Contender(name, call)

    return [contender(*way) for way in _torch_models(width)]


def _torch_scoring(width: int) -> list[Contender]:
    import torch

    count = transforms.get(TRANSFORM).count

    def contender(name, network, layout, device):
        targets = torch.rand(count * BATCH, CHANNELS, SIDE, SIDE).to(device, memory_format=layout)
        inputs = targets.mean(1, keepdim=True)

        def call(batches):
            network.eval()
            with torch.inference_mode():
                for _ in range(batches):
                    errors = (network(inputs) - targets).abs().mean((1, 2, 3))
            errors.cpu()

        return Contender(name, call)

    return [contender(*way) for way in _torch_models(width)]
