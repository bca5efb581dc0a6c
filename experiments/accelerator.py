"""What to measure where there is a GPU or TPU, in one command and as far as the time goes.

python experiments/accelerator.py --cifar10 DIR [--mnist DIR] [--fashion-mnist DIR] [--minutes 25] [--out DIR]

First a class of CIFAR-10 by the paper's own schedule and width; then the speed, in float32 and bfloat16,
beside PyTorch's where it is installed; then the rest of Table 1: CIFAR-10, MNIST, Fashion-MNIST. When the
minutes are over, the training under way is saved, and the same command goes on from there; a measurement of
speed that is cut off begins anew. DIR is of TFDS or a folder tree {train,test}/<class>/. Further options are
handed to `itae run`. Afterwards:

python experiments/publish.py OUT/table1_*           adds the rows
cp OUT/*.json experiments/results/                   then python experiments/publish.py again
"""

import argparse
import dataclasses
import shlex
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent


@dataclasses.dataclass(frozen=True)
class Step:
    """A call of `itae`. With a `result` it is done when that is there; others find out by themselves."""

    arguments: list[str]
    result: Path | None = None

    def is_done(self) -> bool:
        return self.result is not None and self.result.exists()


def steps(out: Path, roots: dict[str, str], widths: str, more: list[str]) -> list[Step]:
    """All that is to be done, the most telling first; sets without a root are left out."""

    def table1(name: str, *classes: str) -> list[Step]:
        if not roots[name]:
            return []
        file, where = HERE / f"table1_{name}.py", out / f"table1_{name}"
        root = f"data.root={roots[name]}"
        return [Step(["run", str(file), "--out", str(where), *classes, "--set", root, *more])]

    def speed(width: str, dtype: str) -> Step:
        json = out / f"bench_network_accelerator_{dtype}_{width}.json"
        options = {"widths": width, "models": "2,4,8", "scored-at-once": "256", "dtype": dtype}
        options |= {"json": str(json), "plot": str(json.with_suffix(".png"))}
        return Step(["bench", *(f"--{name}={value}" for name, value in options.items())], json)

    widest_first = sorted(widths.split(","), key=int, reverse=True)
    return [
        *table1("cifar10", "--classes", "7"),
        *(speed(width, dtype) for width in widest_first for dtype in ("bfloat16", "float32")),
        *(step for name in ("cifar10", "mnist", "fashion_mnist") for step in table1(name)),
    ]


def carry_out(step: Step, end: float) -> int | None:
    """The exit code of a step, None if it had to be stopped at `end`, a time of `time.monotonic`."""
    process = subprocess.Popen([sys.executable, "-m", "itae_jax", *step.arguments])
    try:
        return process.wait(max(0, end - time.monotonic()))
    except subprocess.TimeoutExpired:
        process.terminate()  # a run saves what it is at
        process.wait()
        return None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("cifar10", "mnist", "fashion-mnist"):
        parser.add_argument(f"--{name}", default="", metavar="DIR")
    parser.add_argument("--minutes", type=float, default=25, help="when to stop; default 25")
    parser.add_argument("--widths", default="16,32,64", help="of the speed; default 16,32,64")
    parser.add_argument("--out", type=Path, default=Path("runs/accelerator"), help="default runs/accelerator")
    parser.add_argument("--list", action="store_true", help="print the commands instead of running them")
    arguments, more = parser.parse_known_args()
    end = time.monotonic() + 60 * arguments.minutes
    failed = 0
    for step in steps(arguments.out, vars(arguments), arguments.widths, more):
        if step.is_done():
            continue
        print(f"itae {shlex.join(step.arguments)}", flush=True)
        if arguments.list:
            continue
        arguments.out.mkdir(parents=True, exist_ok=True)
        code = carry_out(step, end)
        if code is None:
            print(f"accelerator: {arguments.minutes:g} minutes are over; the same command goes on", flush=True)
            return 0
        if code not in (0, 1, 2):  # interrupted
            return code
        failed = failed or code
    return failed


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
