"""Single layers on XLA's CPU backend, as XLA has them and as itae_jax/models/conv.py computes them.

python experiments/layers.py --json experiments/results/layers_cpu.json     three minutes, on one core

Cases of the network at widths 16 and 64, forward and backward; and a step in a loop beside one by itself.
"""

import argparse
import dataclasses
import functools
import json
import os
import statistics
import sys
from collections.abc import Callable
from pathlib import Path

from itae_jax import environment

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

IMAGES = 16
# Of the input: side, channels in, channels out.
CONVOLUTIONS = ((2, 128, 128), (4, 128, 128), (32, 1, 16), (32, 3, 16), (32, 16, 3))
WEIGHT_GRADIENTS = ((4, 128, 128), (16, 64, 64), (32, 64, 64), (32, 64, 3))
MAXIMA = ((32, 16), (32, 64))
LOOP, STEPS = (32, 64), 2


@dataclasses.dataclass(frozen=True)
class Case:
    """A layer, computed in two ways of arrays of these shapes."""

    name: str
    xla: Callable
    ours: Callable
    shapes: tuple[tuple[int, ...], ...]


def cases() -> list[Case]:
    """All that is measured."""
    from itae_jax.models import cpu_conv as conv

    found = []
    for side, channels, features in CONVOLUTIONS:
        shapes = (IMAGES, side, side, channels), (3, 3, channels, features)
        name = f"convolution, {channels} to {features} channels, {side}x{side}"
        found.append(Case(name, conv._convolve, conv._on_cpu, shapes))
    for side, channels, features in WEIGHT_GRADIENTS:
        shapes = (
            (IMAGES, side, side, channels),
            (3, 3, channels, features),
            (IMAGES, side, side, features),
        )
        name = f"gradient of the weights, {channels} to {features} channels, {side}x{side}"
        ways = (functools.partial(_weight_gradient, convolve) for convolve in (conv._convolve, conv._on_cpu))
        found.append(Case(name, *ways, shapes))
    for side, channels in MAXIMA:
        shapes = (IMAGES, side, side, channels), (IMAGES, side // 2, side // 2, channels)
        name = f"gradient of the maxima, {channels} channels, {side}x{side}"
        ways = (functools.partial(_input_gradient, halve) for halve in (conv._maxima, conv._maxima_on_cpu))
        found.append(Case(name, *ways, shapes))
    side, channels = LOOP
    shapes = (STEPS, IMAGES, side, side, channels), (3, 3, channels, channels)
    found.append(
        Case(
            f"{STEPS} steps by the gradient of the weights, in a loop or one by one, {channels} to {channels} "
            f"channels, {side}x{side}",
            _in_a_loop,
            _one_by_one,
            shapes,
        )
    )
    return found


def _weight_gradient(convolve, x, kernel, gradient):
    import jax

    return jax.vjp(lambda kernel: convolve(x, kernel), kernel)[1](gradient)[0]


def _input_gradient(halve, x, gradient):
    import jax

    return jax.vjp(halve, x)[1](gradient)[0]


def _gradient_step(kernel, x):
    import jax
    import jax.numpy as jnp

    from itae_jax.models import cpu_conv as conv

    return kernel - 0.01 * jax.grad(lambda kernel: jnp.square(conv._convolve(x, kernel)).mean())(kernel)


def _in_a_loop(x, kernel):
    from jax import lax

    return lax.scan(lambda kernel, x: (_gradient_step(kernel, x), None), kernel, x)[0]


def _one_by_one(x, kernel):
    for one in x:
        kernel = _gradient_step(kernel, one)
    return kernel


def measure(case: Case, rounds: int) -> dict:
    """Milliseconds of both ways, medians of turns of about a second."""
    import jax
    import numpy as np

    from itae_jax.bench import timing as bench
    from itae_jax.bench.cases import Contender

    rng = np.random.default_rng(0)
    arrays = [jax.device_put(rng.standard_normal(shape, np.float32)) for shape in case.shapes]

    def contender(name, way):
        way = jax.jit(way)

        def call(times):
            for _ in range(times):
                result = way(*arrays)
            jax.block_until_ready(result)

        return Contender(name, call)

    seconds = bench.take_turns([contender("xla", case.xla), contender("ours", case.ours)], rounds)
    medians = {f"{name}_ms": 1000 * statistics.median(values) for name, values in seconds.items()}
    return {"layer": case.name, **medians}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each way; default 5")
    arguments = parser.parse_args()
    os.environ["JAX_PLATFORMS"] = "cpu"
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})  # before JAX counts the cores
    from itae_jax.environment import describe as describe_environment

    layers = []
    for case in cases():
        layers.append(measure(case, arguments.rounds))
        print("{layer}: XLA's {xla_ms:.3g} ms, ours {ours_ms:.3g} ms".format(**layers[-1]), flush=True)
    settings = {
        "images": IMAGES,
        "dtype": "float32",
        "cores": environment.cpu_cores(),
        "rounds": arguments.rounds,
    }
    result = {"environment": describe_environment(), "settings": settings, "layers": layers}
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
