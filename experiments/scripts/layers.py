"""Times single layers on XLA's CPU backend, as XLA computes them and as itae_jax/models/cpu_conv.py does.

python experiments/scripts/layers.py --json experiments/results/layers_cpu.json     three minutes, on one core
"""

import argparse
import dataclasses
import json
import os
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["JAX_PLATFORMS"] = "cpu"
if __name__ == "__main__" and hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})  # before JAX counts the cores

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from itae_jax import environment
from itae_jax.bench import timing
from itae_jax.bench.cases import Contender
from itae_jax.models import cpu_conv

IMAGES, STEPS = 16, 2
# Side of the input, channels in, channels out.
CONVOLUTIONS = ((2, 128, 128), (32, 3, 16), (32, 16, 3))
WEIGHT_GRADIENTS = ((16, 64, 16), (32, 32, 16), (32, 64, 3))
MAXIMA = ((32, 16), (32, 64))


@dataclasses.dataclass(frozen=True)
class Case:
    """A layer, computed in two ways from arrays of these shapes."""

    name: str
    xla: Callable
    ours: Callable
    shapes: tuple[tuple[int, ...], ...]


def traced_for(platform: str, function: Callable) -> Callable:
    """Traces a function for a platform: for others than CPUs its layers are XLA's own."""

    def traced(*arrays):
        with cpu_conv.traced_for(platform):
            return function(*arrays)

    return traced


def weight_gradient(x, kernel, gradient):
    return jax.vjp(lambda kernel: cpu_conv.conv3x3(x, kernel), kernel)[1](gradient)[0]


def maxima_gradient(x, gradient):
    return jax.vjp(cpu_conv.halve, x)[1](gradient)[0]


def gradient_step(kernel, x):
    return kernel - 0.01 * jax.grad(lambda kernel: jnp.square(cpu_conv.conv3x3(x, kernel)).mean())(kernel)


def in_a_loop(x, kernel):
    return lax.scan(lambda kernel, x: (gradient_step(kernel, x), None), kernel, x)[0]


def one_by_one(x, kernel):
    for one in x:
        kernel = gradient_step(kernel, one)
    return kernel


def cases() -> list[Case]:
    """Returns everything that is timed."""
    found = []

    def add(name: str, function: Callable, *shapes: tuple[int, ...]) -> None:
        found.append(Case(name, traced_for("tpu", function), traced_for("cpu", function), shapes))

    for side, channels, features in CONVOLUTIONS:
        name = f"convolution, {channels} to {features} channels, {side}x{side}"
        add(name, cpu_conv.conv3x3, (IMAGES, side, side, channels), (3, 3, channels, features))
    for side, channels, features in WEIGHT_GRADIENTS:
        name = f"gradient of the weights, {channels} to {features} channels, {side}x{side}"
        shapes = (IMAGES, side, side, channels), (3, 3, channels, features), (IMAGES, side, side, features)
        add(name, weight_gradient, *shapes)
    for side, channels in MAXIMA:
        name = f"gradient of the maxima, {channels} channels, {side}x{side}"
        add(name, maxima_gradient, (IMAGES, side, side, channels), (IMAGES, side // 2, side // 2, channels))
    steps = (STEPS, IMAGES, 32, 32, 64), (3, 3, 64, 64)
    name = f"{STEPS} steps by XLA's gradient of the weights, in a loop or one by one, 64 to 64 channels, 32x32"
    found.append(Case(name, traced_for("tpu", in_a_loop), traced_for("tpu", one_by_one), steps))
    return found


def measure(case: Case, rounds: int) -> dict[str, Any]:
    """Returns the milliseconds of both ways, medians of turns of about a second."""
    rng = np.random.default_rng(0)
    arrays = [jax.device_put(rng.standard_normal(shape, np.float32)) for shape in case.shapes]

    def contender(name: str, way: Callable) -> Contender:
        compiled = jax.jit(way)

        def call(times: int) -> None:
            for _ in range(times):
                result = compiled(*arrays)
            jax.block_until_ready(result)

        return Contender(name, call, IMAGES)

    seconds = timing.take_turns([contender("xla", case.xla), contender("ours", case.ours)], rounds)
    return {"layer": case.name} | {f"{name}_ms": 1000 * statistics.median(of) for name, of in seconds.items()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="file to write")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each way; default 5")
    arguments = parser.parse_args()
    layers = []
    for case in cases():
        layers.append(measure(case, arguments.rounds))
        print("{layer}: XLA's {xla_ms:.3g} ms, ours {ours_ms:.3g} ms".format(**layers[-1]), flush=True)
    settings = {"images": IMAGES, "cores": environment.cpu_cores(), "rounds": arguments.rounds}
    result = {"environment": environment.describe(), "settings": settings, "layers": layers}
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
