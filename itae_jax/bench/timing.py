"""`itae bench`: speed of training and scoring, beside PyTorch's where it is installed.

All contenders take turns in one process, several rounds, so that their ratio holds on a machine
whose speed varies.

The floor of a task is the time that its arithmetic would take at the speed of a large matrix product,
both measured here: XLA counts the operations of the network as Table 10 has it.
"""

import dataclasses
import functools
import statistics
import time
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from itae_jax import models, transforms
from itae_jax.bench import cases as contenders
from itae_jax.bench.cases import BATCH, CHANNELS, SIDE, TRANSFORM, Contender
from itae_jax.environment import describe as describe_environment
from itae_jax.models import cpu_conv as conv

_SECONDS_PER_TURN = 1.0
_LARGE = {"cpu": 2048}
_LARGE_ELSEWHERE = 8192


@dataclasses.dataclass(frozen=True)
class Timing:
    """Seconds a batch of one contender: the median over rounds, and all of them.

    `batch` is how many images that is, `memory_mib` what it takes on each device by XLA's account.
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
    *,
    rounds: int,
    say: Callable[[str], None] = lambda line: None,
    dtype: str = "float32",
    models_at_once: Sequence[int] = (),
    scored_at_once: int = BATCH,
) -> dict:
    """Times training and scoring at each width; `say` is told what is being done.

    PyTorch takes part where it is installed and computes on the same kind of device as JAX.

    Args:
      rounds: how often every contender has its turn.
      models_at_once: numbers of networks that train side by side on each device, timed besides.
      scored_at_once: images in a batch of scoring; one of training has always 32.

    Returns:
      {"environment": ..., "settings": ..., "floors": [...], "timings": [...]}, as
      `bench_report.write` puts it into a file.

    Raises:
      RequestError: the devices cannot share `scored_at_once` images evenly.
    """
    contenders.check_batch(scored_at_once)
    timings, floors = [], []
    makers_of = _makers(models_at_once, scored_at_once, say)
    speed = peak(dtype)
    for width in widths:
        for task, makers in makers_of.items():
            floors.append(_floor(task, width, BATCH if task == "training" else scored_at_once, speed))
            said = f"{task}, width {width}"
            say(f"{said}: compiling")
            rivals = [contender for make in makers for contender in make(width, dtype)]
            seconds = take_turns(rivals, rounds, lambda line, said=said: say(f"{said}: {line}"))
            timings += [_timing(task, width, rival, seconds[rival.name]) for rival in rivals]
    return {
        "environment": describe_environment() | {"torch_device": contenders.torch_device()},
        "settings": {
            "batch_size": BATCH,
            "image": [SIDE, SIDE, CHANNELS],
            "transform": TRANSFORM,
            "dtype": dtype,
            "rounds": rounds,
            "models_at_once": list(models_at_once),
            "scored_at_once": scored_at_once,
        },
        "floors": floors,
        "timings": [
            dataclasses.asdict(timing) | {"images_per_second": timing.images_per_second} for timing in timings
        ],
    }


def _makers(
    models_at_once: Sequence[int], scored_at_once: int, say: Callable[[str], None]
) -> dict[str, list[Callable]]:
    """Of each task what makes its contenders: (width, dtype) -> contenders."""
    training, scoring = (
        [contenders.itae_training],
        [functools.partial(contenders.itae_scoring, scored_at_once)],
    )
    if models_at_once:
        training.append(functools.partial(contenders.itae_models, models_at_once))
    if contenders.torch_device():
        training.append(contenders.torch_training)
        scoring.append(functools.partial(contenders.torch_scoring, scored_at_once))
    else:
        say(f"no comparison: PyTorch is not installed, or not for {jax.default_backend()}; pip install torch")
    return {"training": training, "scoring": scoring}


def take_turns(
    rivals: Sequence[Contender], rounds: int, say: Callable[[str], None] = lambda line: None
) -> dict[str, list[float]]:
    """Seconds a batch in each round, by the contender's name, which no two share."""
    batches = {rival.name: _batches_a_turn(rival) for rival in rivals}
    seconds: dict[str, list[float]] = {rival.name: [] for rival in rivals}
    for number in range(rounds):
        say(f"round {number + 1} of {rounds}")
        for rival in rivals:
            seconds[rival.name].append(_seconds_a_batch(rival, batches[rival.name]))
    return seconds


def _timing(task: str, width: int, rival: Contender, rounds: list[float]) -> Timing:
    mib = None if rival.memory_bytes is None else round(rival.memory_bytes / 2**20, 1)
    return Timing(task, width, rival.name, statistics.median(rounds), rounds, rival.batch, mib)


def peak(dtype: str) -> float:
    """Floating-point operations a second in a product of two large square matrices."""
    size = _LARGE.get(jax.default_backend(), _LARGE_ELSEWHERE)
    matrix = jax.random.normal(jax.random.key(0), (size, size), dtype)
    product = jax.jit(jnp.matmul)
    jax.block_until_ready(product(matrix, matrix))
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        jax.block_until_ready(product(matrix, matrix))
        seconds.append(time.perf_counter() - start)
    return 2 * size**3 / min(seconds)


def operations(task: str, width: int, side: int = SIDE) -> float:
    """Floating-point operations an image by XLA's count.

    Of training forward and backward, of scoring all T passes.
    """
    transform = transforms.get(TRANSFORM)
    model = models.build("unet", width=width, out_channels=CHANNELS)
    images = jax.ShapeDtypeStruct((1, side, side, transform.out_channels(CHANNELS)), jnp.float32)
    # As the network is, without what is done for a CPU, which alone tells the count before compiling.
    with conv.traced_for("tpu"), jax.default_device(jax.local_devices(backend="cpu")[0]):
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


def _floor(task: str, width: int, batch: int, speed: float) -> dict:
    counted = batch * operations(task, width)
    return {"task": task, "width": width, "operations": counted, "peak": speed, "seconds": counted / speed}


def _batches_a_turn(contender: Contender) -> int:
    """As many as take about a second; with all compiled and prepared for them."""
    unit = contender.unit
    contender.call(unit)
    contender.call(unit)
    batches = unit * max(1, round(_SECONDS_PER_TURN / _seconds_a_batch(contender, unit) / unit))
    if batches > unit:
        contender.call(batches)
    return batches


def _seconds_a_batch(contender: Contender, batches: int) -> float:
    start = time.perf_counter()
    contender.call(batches)
    return (time.perf_counter() - start) / batches
