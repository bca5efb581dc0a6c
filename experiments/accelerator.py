"""What to measure where there is a GPU or TPU, in one command and as far as the time goes.

python experiments/accelerator.py --cifar10 DIR [--mnist DIR] [--fashion-mnist DIR] [--minutes 25] [--out DIR]

First a class of CIFAR-10 by the paper's own schedule and width; then the speed, in float32 and bfloat16,
beside PyTorch's where it is installed; then the rest of Table 1: CIFAR-10, MNIST, Fashion-MNIST. When the
minutes are over, the trainings under way are saved, and the same command goes on from there; a measurement of
speed that is cut off begins anew. DIR is of TFDS or a folder tree {train,test}/<class>/. Further options are
handed to `itae run`, such as --set compute.dtype=bfloat16.

One training leaves most of a large GPU idle. With --at-once 8 and NVIDIA's MPS (nvidia-cuda-mps-control -d)
eight classes train side by side, by a process each, and the speed is left for the end. Afterwards:

python experiments/publish.py OUT/table1_*           adds the rows of what is finished
cp OUT/*.json experiments/results/                   if the speed was measured; then publish.py again
"""

import argparse
import dataclasses
import itertools
import shlex
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import children

from itae_jax.arguments import Parser, check_run, integers, path
from itae_jax.errors import RequestError

HERE = Path(__file__).resolve().parent


@dataclasses.dataclass(frozen=True)
class Step:
    """A call of `itae`. With a `result` it is done when that is there; others find out by themselves."""

    arguments: tuple[str, ...]
    result: Path | None = None

    def is_done(self) -> bool:
        return self.result is not None and self.result.exists()


def stages(
    out: Path, roots: dict[str, str], widths: Sequence[int], more: list[str], at_once: int = 1
) -> list[list[Step]]:
    """All that is to be done, the most telling first; sets without a root are left out.

    The steps of a stage may run side by side.
    """

    def table1(name: str, classes: Iterable[int]) -> list[Step]:
        file, root = HERE / f"table1_{name}.py", roots[name]
        if not root:
            return []

        def step(where: str, names: str) -> Step:
            options = ["--out", str(out / where), "--classes", names, "--set", f"data.root={root}"]
            return Step(("run", str(file), *options, *more))

        if at_once == 1:  # compiled once for all
            return [step(f"table1_{name}", ",".join(map(str, classes)))]
        return [step(f"table1_{name}_{number}", str(number)) for number in classes]

    def speed(width: int, dtype: str) -> Step:
        json = out / f"bench_network_accelerator_{dtype}_{width}.json"
        options = {"widths": str(width), "models": "2,4,8", "scored-at-once": "256", "dtype": dtype}
        options |= {"json": str(json), "plot": str(json.with_suffix(".png"))}
        return Step(("bench", *(f"--{name}={value}" for name, value in options.items())), json)

    speeds = [
        [speed(width, dtype)] for width in sorted(widths, reverse=True) for dtype in ("bfloat16", "float32")
    ]
    trainings = [table1(name, range(10)) for name in ("cifar10", "mnist", "fashion_mnist")]
    if at_once == 1:
        return [table1("cifar10", [7]), *speeds, *trainings]
    return [*trainings, *speeds]


def main(argv: list[str] | None = None) -> int:
    parser = Parser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    for name in ("cifar10", "mnist", "fashion-mnist"):
        parser.add_argument(f"--{name}", default="", metavar="DIR")
    parser.add_argument("--minutes", type=float, default=25, help="when to stop; default 25")
    parser.add_argument("--widths", type=integers, default=[16, 32, 64], help="of the speed; default 16,32,64")
    parser.add_argument("--at-once", type=int, default=1, metavar="N", help="classes side by side; default 1")
    parser.add_argument("--out", type=path, default=Path("runs/accelerator"), help="default runs/accelerator")
    parser.add_argument("--list", action="store_true", help="print the commands instead of running them")
    try:
        arguments, more = parser.parse_known_args(argv)
        if arguments.at_once < 1 or not arguments.minutes > 0:
            parser.error("--at-once and --minutes: expected at least 1, and more than 0")
        check_run(more)
    except RequestError as error:
        print(f"accelerator: {error}", file=sys.stderr)
        return 2
    todo = stages(arguments.out, vars(arguments), arguments.widths, more, arguments.at_once)
    if arguments.list:
        for step in itertools.chain(*todo):
            print(f"itae {shlex.join(step.arguments)}")
        return 0
    arguments.out.mkdir(parents=True, exist_ok=True)
    with children.children() as processes:
        return carry_out(todo, processes.run, 60 * arguments.minutes, arguments.at_once)


def carry_out(
    todo: list[list[Step]], run: Callable[[Sequence[str], float], int | None], seconds: float, at_once: int
) -> int:
    """Runs stage after stage as far as the time goes: 0, 1 if a step failed, INTERRUPTED after a signal."""
    end = time.monotonic() + seconds
    failed = 0

    def code_of(step: Step) -> int | None:
        if step.is_done():
            return 0
        print(f"itae {shlex.join(step.arguments)}", flush=True)
        return run(step.arguments, end)

    for stage in todo:
        with ThreadPoolExecutor(at_once) as pool:
            codes = dict(zip(stage, pool.map(code_of, stage), strict=True))
        if children.INTERRUPTED in codes.values():
            return children.INTERRUPTED
        for step, code in codes.items():
            if code:
                failed = 1
                print(f"accelerator: exit code {code}: itae {shlex.join(step.arguments)}", file=sys.stderr)
        if None in codes.values():
            print(f"accelerator: {seconds / 60:g} minutes are over; the same command goes on", flush=True)
            break
    return failed


if __name__ == "__main__":
    sys.exit(main())
