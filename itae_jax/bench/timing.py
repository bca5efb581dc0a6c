"""`itae bench`: the speed of training and scoring, beside PyTorch's where it is installed.

The contenders take turns in one process, several rounds, so that their ratio holds on a machine whose speed
varies. The floor of a case is the time that its arithmetic would take at the speed of a large matrix product,
measured in the same process.
"""

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from itae_jax import environment, experiment
from itae_jax.bench import cases
from itae_jax.bench.cases import Contender

SECONDS_PER_TURN = 1.0
LARGE_MATRIX = {"cpu": 2048}
_LARGE_ELSEWHERE = 8192


def measure(
    assignments: Sequence[str] = (),
    *,
    rounds: int = 5,
    scored_at_once: int = 32,
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Times training and scoring in each benchmark case of a method.

    Args:
      assignments: `section.field=value`, for the method and for what else changes the speed.
      rounds: how often every contender has its turn.
      say: gets lines on the progress.

    Returns JSON values: "environment", "settings", and lists of "floors" and "timings", whose rows have a
    "kind", "training" or "scoring", and a "case".

    RequestError if an assignment is wrong, or the devices cannot share `scored_at_once` images evenly.
    """
    found = cases.experiments(assignments)
    first = next(iter(found.values()))
    learners = {name: cases.learner(case, scored_at_once) for name, case in found.items()}
    with_torch = cases.has_torch_reference(first.method)
    if not with_torch:
        say("PyTorch does not take part: it is not installed, has no such device, or not this network")
    speed = peak(first.compute.dtype)
    timings, floors = [], []
    for name, case in found.items():
        for kind in ("training", "scoring"):
            say(f"{kind}, {name}")
            if kind == "training":
                rivals = [cases.training(learners[name].trainer, cases.image_shape(case))]
                rivals += cases.torch_training(case) if with_torch else []
            else:
                rivals = [cases.scoring(learners[name], scored_at_once)]
                rivals += cases.torch_scoring(case, scored_at_once) if with_torch else []
            seconds = take_turns(rivals, rounds)
            counted = cases.operations(kind, case, rivals[0].batch)
            row = {"kind": kind, "case": name}
            floors.append(row | {"operations": counted, "peak": speed, "seconds": counted / speed})
            timings += [row | _timing(rival, seconds[rival.name]) for rival in rivals]
    return {
        "environment": environment.describe() | {"torch_device": cases.torch_device()},
        "settings": {
            "method": experiment.as_tree(first)["method"],
            "paper_method": first.method.paper_name("figure3", grey=False),
            "batch_size": first.train.batch_size,
            "scored_at_once": scored_at_once,
            "image": list(cases.image_shape(first)),
            "dtype": first.compute.dtype,
            "rounds": rounds,
        },
        "floors": floors,
        "timings": timings,
    }


def _timing(rival: Contender, rounds: list[float]) -> dict[str, Any]:
    seconds = statistics.median(rounds)
    memory = None if rival.memory_bytes is None else round(rival.memory_bytes / 2**20, 1)
    measured = {"contender": rival.name, "seconds": seconds, "rounds": rounds, "batch": rival.batch}
    return measured | {"memory_mib": memory, "images_per_second": rival.batch / seconds}


def take_turns(rivals: Sequence[Contender], rounds: int) -> dict[str, list[float]]:
    """Returns the seconds of a batch in each round, by the contender's name."""
    batches = {rival.name: _batches_a_turn(rival) for rival in rivals}
    seconds: dict[str, list[float]] = {rival.name: [] for rival in rivals}
    for _ in range(rounds):
        for rival in rivals:
            seconds[rival.name].append(_seconds_a_batch(rival, batches[rival.name]))
    return seconds


def _batches_a_turn(contender: Contender) -> int:
    """Returns how many batches take about a second, after compiling everything for them."""
    unit = contender.unit
    contender.call(unit)
    contender.call(unit)
    batches = unit * max(1, round(SECONDS_PER_TURN / _seconds_a_batch(contender, unit) / unit))
    if batches > unit:
        contender.call(batches)
    return batches


def _seconds_a_batch(contender: Contender, batches: int) -> float:
    return seconds_of(lambda: contender.call(batches)) / batches


def seconds_of(work: Callable[[], Any]) -> float:
    """Measures the time that work takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def peak(dtype: str) -> float:
    """Measures the floating-point operations a second of a product of two large square matrices."""
    size = LARGE_MATRIX.get(jax.default_backend(), _LARGE_ELSEWHERE)
    matrix = jax.random.normal(jax.random.key(0), (size, size), dtype)
    product = jax.jit(jnp.matmul)
    seconds = [seconds_of(lambda: jax.block_until_ready(product(matrix, matrix))) for _ in range(6)]
    return 2 * size**3 / min(seconds[1:])  # the first one compiles
