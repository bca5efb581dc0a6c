"""Measures on one GPU what a few minutes allow: speed beside PyTorch, then CIFAR-10 and MNIST at full size.

  python experiments/scripts/accelerator.py --root cifar10=DIR mnist=DIR --out DIR [--minutes 15] [--at-once 8]
  python experiments/scripts/accelerator.py --reduced --at-once 2 --root DIR --out DIR     rehearses it on a CPU

Writes bench_<dtype>.json and a run directory for each class, and prints the results as a table at the end. When
the time is over it stops the trainings, which save their state: the same command resumes them.
"""

import argparse
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from itae_jax.runs import results

SCRIPTS = Path(__file__).resolve().parent
_TABLES = (("table1_cifar10", "paper"), ("table1_cifar10", "improved"), ("table1_mnist", "paper"))
_LAST = 45  # seconds to save states and to print


def commands(parsed: argparse.Namespace) -> Iterator[list[str]]:
    """Yields the commands that are not finished, in the order in which they run."""
    dtypes = ["float32"] if parsed.reduced else ["bfloat16", "float32"]
    for dtype in dtypes:
        path = parsed.out / f"bench_{dtype}.json"
        if not path.exists():
            case = [f"compute.dtype={dtype}", *["method.width=8"] * parsed.reduced]
            yield ["-m", "itae_jax", "bench", "--rounds", "3", "--json", str(path), "--set", *case]
    for name, recipe in _TABLES:
        own = ["--at-once", str(parsed.at_once), "--out", str(parsed.out / recipe), "--root", *parsed.root]
        more = ["--set", f"compute.dtype={dtypes[0]}", *["train.epochs=1"] * parsed.reduced]
        more += ["--recipe", recipe] if recipe != "paper" else []
        yield [str(SCRIPTS / "reproduce.py"), f"{name}", *own, *["--full"] * (not parsed.reduced), "--", *more]


def carry_out(command: list[str], seconds: float) -> None:
    """Runs a command for at most so long; reproduce.py passes the signal on, and trainings save their state."""
    process = subprocess.Popen([sys.executable, *command], start_new_session=True)
    try:
        process.wait(max(0.0, seconds))
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGTERM)
        process.wait()


def main() -> None:
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
    end = time.monotonic() + 60 * parsed.minutes - _LAST
    for command in commands(parsed):
        if time.monotonic() < end:
            carry_out(command, end - time.monotonic())
    print(f"{'recipe':<9} {'data':<8} {'class':<12} {'AUROC':>6} {'seconds':>8}  device")
    for path in sorted(parsed.out.glob("*/*/results.csv")):
        for one in results.read(path).values():
            auroc, seconds = (100 * one.auroc if one.auroc else float("nan")), one.train_seconds or float("nan")
            place = f"{path.parent.parent.name:<9} {one.dataset:<8} {one.normal_class_name:<12}"
            print(f"{place} {auroc:>6.1f} {seconds:>8.1f}  {one.device}")


if __name__ == "__main__":
    main()
