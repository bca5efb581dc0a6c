"""`itae bench`: speed of training and scoring, beside PyTorch's where it is installed.

All contenders take turns in one process, several rounds, so that their ratio holds on a machine
whose speed varies. Ours do the whole work from uint8 images on: transform, network, loss, update;
PyTorch's are handed float inputs that are erased already. On an accelerator each side has one.

The floor of a task is the time that its arithmetic would take at the speed of a large matrix product,
both measured here: XLA counts the operations of the network as Table 10 has it.
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
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from itae_jax import evaluate, models, parallel, transforms
from itae_jax.config import ComputeConfig, ModelConfig, TrainConfig
from itae_jax.errors import RequestError
from itae_jax.models import conv
from itae_jax.results import describe_environment
from itae_jax.trainer import Trainer

BATCH, SIDE, CHANNELS, TRANSFORM = 32, 32, 3, "gray+rotate"
DTYPES = ("float32", "bfloat16")
# Images scored a second at width 64 on a GTX 1080 Ti, in 2019: the paper's Figure 3.
PAPER = {"ITAE": 270, "GeoTrans": 35}
_SECONDS_PER_TURN = 1.0
_LARGE = {"cpu": 2048}
_LARGE_ELSEWHERE = 8192


@dataclasses.dataclass(frozen=True)
class Contender:
    """Work to be timed: `call(n)` does n batches, a multiple of `unit`, and returns when they are done.

    `memory_bytes` is what it takes on each device by XLA's account, None where that is not known.
    """

    name: str
    call: Callable[[int], None]
    unit: int = 1
    memory_bytes: int | None = None


@dataclasses.dataclass(frozen=True)
class Timing:
    """Seconds a batch of one contender: the median over rounds, and all of them."""

    task: str
    width: int
    contender: str
    seconds: float
    rounds: list[float]
    memory_mib: float | None = None

    @property
    def images_per_second(self) -> float:
        return BATCH / self.seconds


def measure(
    widths: Sequence[int],
    rounds: int,
    say: Callable[[str], None] = lambda line: None,
    dtype: str = "float32",
) -> dict:
    """Times training and scoring at each width; `say` is told what is being done.

    Returns:
      {"environment": ..., "settings": ..., "floors": [...], "timings": [...]}, as `write` puts it into a file.
    """
    contenders_of = {"training": [_itae_training], "scoring": [_itae_scoring]}
    if importlib.util.find_spec("torch"):
        contenders_of["training"].append(_torch_training)
        contenders_of["scoring"].append(_torch_scoring)
    else:
        say("PyTorch is not installed: no comparison (pip install torch==2.13.0 gives one)")
    timings, floors = [], []
    speed = peak(dtype)
    for width in widths:
        floors += [_floor(task, width, dtype, speed) for task in contenders_of]
        for task, makers in contenders_of.items():
            say(f"{task}, width {width}: compiling")
            contenders = [contender for make in makers for contender in make(width, dtype)]
            turns = {contender.name: [] for contender in contenders}
            batches = {contender.name: _batches_a_turn(contender) for contender in contenders}
            for number in range(rounds):
                say(f"{task}, width {width}: round {number + 1} of {rounds}")
                for contender in contenders:
                    turns[contender.name].append(_seconds_a_batch(contender, batches[contender.name]))
            for contender in contenders:
                spent, memory = turns[contender.name], contender.memory_bytes
                mib = None if memory is None else round(memory / 2**20, 1)
                timings.append(Timing(task, width, contender.name, statistics.median(spent), spent, mib))
    settings = {
        "batch_size": BATCH,
        "image": [SIDE, SIDE, CHANNELS],
        "transform": TRANSFORM,
        "dtype": dtype,
    }
    return {
        "environment": describe_environment(),
        "settings": settings,
        "floors": floors,
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


def shares(result: dict) -> dict[tuple[str, int], float]:
    """Floor over our seconds for each (task, width): 1 is as fast as a large matrix product."""
    floor = {(floor["task"], floor["width"]): floor["seconds"] for floor in result.get("floors", ())}
    ours = [timing for timing in result["timings"] if timing["contender"] == "itae_jax"]
    keys = [((timing["task"], timing["width"]), timing["seconds"]) for timing in ours]
    return {key: floor[key] / seconds for key, seconds in keys if key in floor}


def table(result: dict) -> str:
    """One line a timing, our share of PyTorch's best time, and of the floor."""
    lines = [f"{'task':<9} {'width':>5}  {'contender':<26} {'s/batch':>8}  {'images/s':>8}  {'MiB':>6}"]
    for timing in result["timings"]:
        memory = timing["memory_mib"]
        lines.append(
            f"{timing['task']:<9} {timing['width']:>5}  {timing['contender']:<26} {timing['seconds']:>8.4f}  "
            f"{timing['images_per_second']:>8.0f}  {'' if memory is None else format(memory, '.0f'):>6}"
        )
    for (task, width), ratio in ratios(result).items():
        lines.append(f"{task}, width {width}: itae_jax takes {ratio:.2f} of PyTorch's best time")
    for (task, width), share in shares(result).items():
        lines.append(f"{task}, width {width}: {100 * share:.0f} % of the speed of a large matrix product")
    lines.append(
        f"the paper, width 64 on a GTX 1080 Ti: scores {PAPER['ITAE']} images/s, GeoTrans {PAPER['GeoTrans']}"
    )
    return "\n".join(lines)


def plot(result: dict, path: Path) -> None:
    """Draws images/s of all contenders, a panel a task; the paper's speed as a line beside scoring."""
    from matplotlib.figure import Figure

    timings = result["timings"]
    tasks, widths, names = (
        list(dict.fromkeys(timing[key] for timing in timings)) for key in ("task", "width", "contender")
    )
    figure = Figure((4.5 * len(tasks), 3.6), layout="constrained")
    for axes, task in zip(figure.subplots(1, len(tasks), squeeze=False)[0], tasks, strict=True):
        for name in names:
            speeds = [
                timing["images_per_second"]
                for timing in timings
                if (timing["task"], timing["contender"]) == (task, name)
            ]
            axes.plot(widths, speeds, marker="o", markersize=4, label=name)
        if task == "scoring":
            axes.axhline(PAPER["ITAE"], color="0.4", linestyle=":", linewidth=1)
            axes.annotate(
                f"paper, width 64, GTX 1080 Ti: {PAPER['ITAE']}",
                (1, PAPER["ITAE"]),
                xycoords=("axes fraction", "data"),
                textcoords="offset points",
                xytext=(-4, 3),
                ha="right",
                fontsize=7,
                color="0.3",
            )
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        axes.set_ylim(bottom=10 ** np.floor(np.log10(min(axes.get_ylim()[0], PAPER["ITAE"]))))
        axes.yaxis.set_minor_formatter("")
        axes.yaxis.set_major_formatter("{x:g}")
        axes.set_xticks(widths, widths)
        axes.set_xticks([], minor=True)
        axes.set_xlabel("width")
        axes.set_title(task, fontsize=10)
        axes.set_ylabel("images/s")
        axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=7, frameon=False, loc="lower left")
    settings, device = result["settings"], result["environment"]["device"]
    height, width, _ = settings["image"]
    figure.suptitle(
        f"{device}, {settings['dtype']}, batches of {settings['batch_size']} images of {height}x{width}",
        fontsize=9,
    )
    figure.savefig(path, dpi=150)


def peak(dtype: str) -> float:
    """Operations a second in a product of two large square matrices, on what one contender has."""
    size = _LARGE.get(jax.default_backend(), _LARGE_ELSEWHERE)
    matrix = jnp.ones((size, size), dtype)
    product = jax.jit(jnp.matmul)
    jax.block_until_ready(product(matrix, matrix))
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        jax.block_until_ready(product(matrix, matrix))
        seconds.append(time.perf_counter() - start)
    return 2 * size**3 / min(seconds)


def operations(task: str, width: int, side: int = SIDE) -> float:
    """What XLA counts for one image: of training forward and backward, of scoring all T passes."""
    transform = transforms.get(TRANSFORM)
    model = models.build(ModelConfig(width=width), CHANNELS, "float32", None)
    images = jax.ShapeDtypeStruct((1, side, side, transform.out_channels(CHANNELS)), jnp.float32)
    with conv.traced_for("tpu"):  # as the network is, without what is done for a CPU
        variables = jax.eval_shape(model.init, jax.random.key(0), images)

        def loss(params, stats, inputs):
            variables = {"params": params, "batch_stats": stats}
            restored, _ = model.apply(variables, inputs, train=True, mutable=["batch_stats"])
            return jnp.square(restored).mean()

        if task == "training":
            function, arguments = jax.grad(loss), (variables["params"], variables["batch_stats"], images)
        else:
            function, arguments = model.apply, (variables, images)
        counted = jax.jit(function).lower(*arguments).cost_analysis()["flops"]
    return counted * (1 if task == "training" else transform.count)


def _floor(task: str, width: int, dtype: str, speed: float) -> dict:
    counted = BATCH * operations(task, width)
    return {"task": task, "width": width, "operations": counted, "peak": speed, "seconds": counted / speed}


def check_writable(path: Path, option: str) -> None:
    """Raises RequestError if there can be no file at `path`, given as `option`; asked before the long work."""
    if path.is_dir() or not os.access(path if path.exists() else path.absolute().parent, os.W_OK):
        raise RequestError(f"{option} {path}: cannot be written; name a file in a directory that is there")


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


def _trainer(width: int, dtype: str) -> tuple[Trainer, models.UNet]:
    model = models.build(ModelConfig(width=width), CHANNELS, dtype, parallel.AXIS)
    config = TrainConfig(batch_size=BATCH)
    shape = (SIDE, SIDE, CHANNELS)
    compute = ComputeConfig(dtype=dtype, devices=0 if jax.default_backend() == "cpu" else 1)
    return Trainer(model, transforms.get(TRANSFORM), shape, config, compute), model


def _itae_training(width: int, dtype: str) -> list[Contender]:
    trainer, _ = _trainer(width, dtype)
    state = trainer.initial_state((0,))
    images = np.stack([_images(BATCH)] * trainer.steps_per_call)
    rates = np.full(trainer.steps_per_call, 0.1, np.float32)

    def call(batches):
        nonlocal state
        for _ in range(batches // trainer.steps_per_call):
            state, loss = trainer.run_steps(state, rates, images)
        jax.block_until_ready((state, loss))

    memory = trainer.memory_bytes(state, rates, images)
    return [Contender("itae_jax", call, trainer.steps_per_call, memory)]


def _itae_scoring(width: int, dtype: str) -> list[Contender]:
    trainer, model = _trainer(width, dtype)
    state = trainer.initial_state((0,))
    variables = {"params": state.params, "batch_stats": state.batch_stats}
    restore = Partial(lambda variables, inputs: model.apply(variables, inputs), variables)
    transform = transforms.get(TRANSFORM)
    batch = _images(BATCH)
    options = {"batch_size": BATCH, "devices": trainer.devices}

    def call(batches):
        images = np.broadcast_to(batch, (batches, *batch.shape)).reshape(-1, *batch.shape[1:])
        evaluate.restoration_errors(restore, images, transform, **options)

    memory = evaluate.memory_bytes(restore, batch.shape[1:], transform, **options)
    return [Contender("itae_jax", call, memory_bytes=memory)]


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


def _torch_autocast(dtype: str, device: str):
    import torch

    return torch.autocast(device, torch.bfloat16, enabled=dtype == "bfloat16")


def _torch_training(width: int, dtype: str) -> list[Contender]:
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


def _torch_scoring(width: int, dtype: str) -> list[Contender]:
    import torch

    count = transforms.get(TRANSFORM).count

    def contender(name, network, layout, device):
        targets = torch.rand(count * BATCH, CHANNELS, SIDE, SIDE).to(device, memory_format=layout)
        inputs = targets.mean(1, keepdim=True)

        def call(batches):
            network.eval()
            with torch.inference_mode(), _torch_autocast(dtype, device):
                for _ in range(batches):
                    errors = (network(inputs) - targets).abs().mean((1, 2, 3))
            errors.cpu()

        return Contender(name, call)

    return [contender(*way) for way in _torch_models(width)]
