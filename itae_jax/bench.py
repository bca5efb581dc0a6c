"""`itae bench`: speed of training and scoring, beside PyTorch's where it is installed.

All contenders take turns in one process, several rounds, so that their ratio holds on a machine
whose speed varies.

The floor of a task is the time that its arithmetic would take at the speed of a large matrix product,
both measured here: XLA counts the operations of the network as Table 10 has it.
"""

import dataclasses
import functools
import importlib.util
import statistics
import time
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from itae_jax import contenders, models, transforms
from itae_jax.config import ModelConfig
from itae_jax.contenders import BATCH, CHANNELS, SIDE, TRANSFORM, Contender
from itae_jax.models import conv
from itae_jax.results import describe_environment

_SECONDS_PER_TURN = 1.0
_LARGE = {"cpu": 2048}
_LARGE_ELSEWHERE = 8192


@dataclasses.dataclass(frozen=True)
class Timing:
    """Seconds a batch of one contender: the median over rounds, and all of them.

    `batch` is how many images that is.
    """

    task: str
    width: int
    contender: str
    seconds: float
    rounds: list[float]
    batch: int = BATCH
    memory_mib: float | None = None

    @property
    def images_per_second(self) -> float:
        return self.batch / self.seconds


def measure(
    widths: Sequence[int],
    rounds: int,
    say: Callable[[str], None] = lambda line: None,
    dtype: str = "float32",
    models_at_once: Sequence[int] = (),
) -> dict:
    """Times training and scoring at each width; `say` is told what is being done.

    Args:
      models_at_once: numbers of networks that train side by side on each device, timed besides.

    Returns:
      {"environment": ..., "settings": ..., "floors": [...], "timings": [...]}, as
      `bench_report.write` puts it into a file.
    """
    makers_of = {"training": [contenders.itae_training], "scoring": [contenders.itae_scoring]}
    if models_at_once:
        makers_of["training"].append(functools.partial(contenders.itae_models, models_at_once))
    if importlib.util.find_spec("torch"):
        makers_of["training"].append(contenders.torch_training)
        makers_of["scoring"].append(contenders.torch_scoring)
    else:
        say("PyTorch is not installed: no comparison (pip install torch==2.13.0 gives one)")
    timings, floors = [], []
    speed = peak(dtype)
    for width in widths:
        floors += [_floor(task, width, dtype, speed) for task in makers_of]
        for task, makers in makers_of.items():
            say(f"{task}, width {width}: compiling")
            rivals = [contender for make in makers for contender in make(width, dtype)]
            turns = {contender.name: [] for contender in rivals}
            batches = {contender.name: _batches_a_turn(contender) for contender in rivals}
            for number in range(rounds):
                say(f"{task}, width {width}: round {number + 1} of {rounds}")
                for contender in rivals:
                    turns[contender.name].append(_seconds_a_batch(contender, batches[contender.name]))
            for contender in rivals:
                spent, memory = turns[contender.name], contender.memory_bytes
                mib = None if memory is None else round(memory / 2**20, 1)
                median = statistics.median(spent)
                timings.append(Timing(task, width, contender.name, median, spent, contender.batch, mib))
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


def _batches_a_turn(contender: Contender) -> int:
    unit = contender.unit
    contender.call(unit)  # compiles
    contender.call(unit)
    return unit * max(1, round(_SECONDS_PER_TURN / _seconds_a_batch(contender, unit) / unit))


def _seconds_a_batch(contender: Contender, batches: int) -> float:
    start = time.perf_counter()
    contender.call(batches)
    return (time.perf_counter() - start) / batches
