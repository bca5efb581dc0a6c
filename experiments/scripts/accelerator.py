"""Measures on one GPU what a few minutes allow: speed beside PyTorch, then CIFAR-10 and MNIST at full size.

  python experiments/scripts/accelerator.py --root cifar10=DIR mnist=DIR --out DIR [--minutes 15] [--at-once 8]
  python experiments/scripts/accelerator.py --reduced --at-once 2 --root DIR --out DIR     rehearses it on a CPU

Writes bench_<dtype>.json and a run directory for each class, and prints the results as a table at the end. When
the time is over it stops the trainings, which save their state: the same command resumes them.
"""

import argparse
import math
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from itae_jax.runs import results

SCRIPTS = Path(__file__).resolve().parent
_TABLES = (("table1_cifar10", "paper"), ("table1_cifar10", "improved_colour"), ("table1_mnist", "paper"))
_LAST = 45  # seconds to save states and to print


def commands(parsed: argparse.Namespace) -> Iterator[list[str]]:
    """Yields the commands in their order, without a benchmark whose file is there; trainings resume."""
    dtypes = ["float32"] if parsed.reduced else ["bfloat16", "float32"]
    for dtype in dtypes:
        path = parsed.out / f"bench_{dtype}.json"
        if not path.exists():
            case = [f"compute.dtype={dtype}", f"method.width={8 if parsed.reduced else 64}"]
            yield ["-m", "itae_jax", "bench", "--rounds", "3", "--json", str(path), "--set", *case]
    for name, recipe in _TABLES:
        own = ["--at-once", str(parsed.at_once), "--out", str(parsed.out / recipe), "--root", *parsed.root]
        more = ["--set", f"compute.dtype={dtypes[0]}", *["train.epochs=1"] * parsed.reduced]
        more += ["--recipe", recipe] if recipe != "paper" else []
        yield [str(SCRIPTS / "reproduce.py"), name, *own, *["--full"] * (not parsed.reduced), "--", *more]


def carry_out(command: list[str], seconds: float) -> int:
    """Runs a command for at most so long and returns its exit code, 0 if the time was over.

    Trainings save their state when they are terminated; reproduce.py passes the signal on to them.
    """
    process = subprocess.Popen([sys.executable, *command], start_new_session=True)
    try:
        return process.wait(max(0.0, seconds))
    except subprocess.TimeoutExpired:
        return 0
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait()


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--root", nargs="+", required=True, metavar="[DATASET=]DIR", help="where data sets lie")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=15.0)
    parser.add_argument("--at-once", type=int, default=8, metavar="N", help="trainings side by side; default 8")
    parser.add_argument("--reduced", action="store_true", help="one epoch of small networks")
    parsed = parser.parse_args()
    parsed.out.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # and so what runs is ended, too
    end, failed = time.monotonic() + 60 * parsed.minutes - _LAST, False
    for command in commands(parsed):
        if time.monotonic() < end and (code := carry_out(command, end - time.monotonic())):
            print(f"accelerator: exit code {code}: {shlex.join(command)}", file=sys.stderr)
            failed = True
    print(f"{'recipe':<9} {'data':<8} {'class':<12} {'AUROC':>6} {'seconds':>8}  device")
    for path in sorted(parsed.out.glob("*/*/results.csv")):
        for one in results.read(path).values():
            auroc, seconds = (math.nan if one.auroc is None else 100 * one.auroc), one.train_seconds or math.nan
            place = f"{path.parent.parent.name:<9} {one.dataset:<8} {one.normal_class_name:<12}"
            print(f"{place} {auroc:>6.1f} {seconds:>8.1f}  {one.device}")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
