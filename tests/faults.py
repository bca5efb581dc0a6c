"""Tests that a sweep loses nothing if it is killed, stopped, out of disk space, or finds a damaged checkpoint.

python tests/faults.py [--kills 20] [--seed 0] [--json FILE]

Runs one sweep undisturbed, then again under each kind of fault, restarting it until it is done, and compares
all files of results. Exit code 0 if they are the same; a difference raises AssertionError.
"""

import argparse
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

DIGITS = Path(__file__).resolve().parent.parent / "experiments" / "digits.py"
_VARYING = ("train_seconds", "score_seconds", "commit")
_CONFIG = ("name", "data", "method", "train", "evaluate", "compute")
_PICTURES = ("bars_digits", "histograms", "roc", "restorations_class_6_seed_0", "restorations_class_8_seed_0")


class Sweep:
    """A sweep of the digits, run by the `itae` command in its own process.

    Args:
      directory: for the runs and the cache of compiled programs.
      classes, epochs: the amount of work.
    """

    def __init__(self, directory: Path, classes: str, epochs: int):
        self.directory = directory
        settings = ["method.width=2", f"train.epochs={epochs}", "train.checkpoint_minutes=0"]
        settings += ["evaluate.batch_size=8"]
        self.command = ["run", str(DIGITS), "--classes", classes, "--set", *settings]
        self._environment = os.environ | {
            "JAX_PLATFORMS": "cpu",
            "JAX_COMPILATION_CACHE_DIR": str(directory / "cache"),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "XLA_FLAGS": "--xla_force_host_platform_device_count=2 --xla_backend_optimization_level=0",
            "PYTHONPATH": str(DIGITS.parent.parent),
        }

    def start(self, out: Path) -> subprocess.Popen:
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        command = [sys.executable, "-m", "itae_jax", *self.command, "--out", str(out)]
        return subprocess.Popen(command, env=self._environment, **pipes)

    def finish(self, out: Path) -> str:
        """Runs to the end and returns the output."""
        process = self.start(out)
        printed, errors = process.communicate()
        assert process.returncode == 0, f"exit code {process.returncode}: {errors}"
        assert "Traceback" not in errors, errors
        return printed


def contents(out: Path) -> dict[str, object]:
    """Returns what must not depend on faults: everything except times and the machine."""
    found: dict[str, object] = {}
    for path in sorted(path for path in out.rglob("*") if path.is_file() and path.suffix != ".partial"):
        name = path.relative_to(out).as_posix()
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as arrays:
                found[name] = {key: arrays[key].tolist() for key in arrays}
        elif name == "results.csv":
            lines = [line.split(",") for line in path.read_text().splitlines()]
            times = [lines[0].index(column) for column in _VARYING]
            found[name] = [[cell for i, cell in enumerate(line) if i not in times] for line in lines]
        elif path.name == "about.json":
            about = json.loads(path.read_text())
            found[name] = about["arrays"], about["content"]
        elif path.name == "config.json":
            found[name] = {key: value for key, value in json.loads(path.read_text()).items() if key in _CONFIG}
        elif path.name in ("scores.csv", "metrics.jsonl"):
            found[name] = path.read_bytes()
        elif path.suffix in (".html", ".md", ".csv", ".png", ".pdf") and path.stem in ("report", *_PICTURES):
            found[name] = "exists"  # contains times and directories
        elif "/state/arrays/" not in name and path.name != ".lock":
            found[name] = "unexpected"
    return found


def wait_for_checkpoint(process: subprocess.Popen, out: Path) -> None:
    """Waits until there is a checkpoint or the process has ended."""
    while process.poll() is None and not list(out.glob("class_*/seed_*/checkpoints/*/about.json")):
        time.sleep(0.02)


def stop_at_random(
    sweep: Sweep, out: Path, number: int, times: int, chance: random.Random, while_training: float = 0.5
) -> int:
    """Sends the signal at random moments, `times` times or until the sweep is done; returns how often.

    A share `while_training` of the signals comes after the first checkpoint, the others at any moment.
    """
    sent = 0
    while sent < times:
        process = sweep.start(out)
        trains = chance.random() < while_training
        with contextlib.suppress(subprocess.TimeoutExpired):
            if trains:
                wait_for_checkpoint(process, out)
                process.communicate(timeout=chance.uniform(0, 1))
            else:
                process.communicate(timeout=chance.uniform(0, 6))
        if process.poll() is not None:
            assert process.returncode == 0, process.communicate()[1]
            break
        process.send_signal(number)
        _, errors = process.communicate()
        if process.returncode == 0:
            break  # it was done before the signal came
        if number != signal.SIGKILL:
            # A signal that comes before the command handles it ends Python in its own way.
            assert process.returncode == 130 or (not trains and process.returncode == -number), errors
            assert process.returncode != 130 or ("Traceback" not in errors and "interrupted" in errors), errors
        sent += 1
    sweep.finish(out)
    return sent


def spoil_newest_checkpoint(sweep: Sweep, out: Path, how: str) -> None:
    """Kills the sweep during training, damages the newest checkpoint, and lets the sweep finish."""
    process = sweep.start(out)
    while process.poll() is None and len(list(out.glob("class_*/seed_*/checkpoints/*/about.json"))) < 2:
        time.sleep(0.02)
    process.kill()
    process.communicate()
    checkpoints = [path for path in out.glob("class_*/seed_*/checkpoints/*") if path.name.isdecimal()]
    newest = max(checkpoints, key=lambda path: int(path.name))
    largest = max((p for p in newest.rglob("*") if p.is_file()), key=lambda path: path.stat().st_size)
    data = largest.read_bytes()
    half, rest = data[: len(data) // 2], data[len(data) // 2 :]
    flipped = half + bytes([rest[0] ^ 1]) + rest[1:]
    largest.write_bytes({"truncated": half, "emptied": b"", "flipped": flipped}[how])
    printed = sweep.finish(out)
    assert f"{newest}: " in printed and "previous checkpoint" in printed, printed


def second_run_is_refused(sweep: Sweep, out: Path) -> None:
    """Starts the sweep twice at the same time: the second must be refused, the first must finish."""
    first = sweep.start(out)
    wait_for_checkpoint(first, out)
    second = sweep.start(out)
    _, errors = second.communicate()
    assert second.returncode == 2 and "is writing there" in errors, errors
    _, errors = first.communicate()
    assert first.returncode == 0, errors


@contextlib.contextmanager
def small_disk(directory: Path, kibibytes: int) -> Iterator[None]:
    """Mounts a file system of that size at `directory`.

    Raises:
      PermissionError: not root, or in a container that forbids it.
    """
    directory.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={kibibytes}k", "tmpfs", str(directory)]
    if subprocess.run(command, capture_output=True).returncode:
        raise PermissionError("mounting a tmpfs takes root")
    try:
        yield
    finally:
        subprocess.run(["umount", str(directory)], check=True)


def full_disk(sweep: Sweep, disk: Path) -> int:
    """Runs the sweep on a full disk, frees some space each time it fails; returns how often it failed."""
    out, ballast = disk / "out", disk / "ballast"
    times = 0
    file = os.open(ballast, os.O_WRONLY | os.O_CREAT)
    with contextlib.suppress(OSError):
        while True:
            os.write(file, bytes(4096))
    os.close(file)
    while ballast.stat().st_size:
        process = sweep.start(out)
        printed, errors = process.communicate()
        if process.returncode == 0:
            break
        assert process.returncode == 2 and "No space left" in errors, (process.returncode, printed, errors)
        assert errors.count("\n") == 1, errors
        os.truncate(ballast, max(0, ballast.stat().st_size - 128 * 1024))
        times += 1
    ballast.unlink()
    sweep.finish(out)
    return times


def check(kills: int, seed: int, directory: Path, say=print) -> dict:
    """Runs all faults; returns their counts and the seconds taken."""
    start = time.perf_counter()
    sweep = Sweep(directory, "6,8", 60)
    undisturbed = directory / "undisturbed"
    sweep.finish(undisturbed)
    expected = contents(undisturbed)
    assert len(expected["results.csv"]) == 3, expected["results.csv"]
    chance = random.Random(seed)
    counts = {}

    def compare(out, name, count):
        actual = contents(out)
        different = [key for key in expected.keys() | actual.keys() if expected.get(key) != actual.get(key)]
        assert not different, f"{name}: {', '.join(different)} are not as in an undisturbed run"
        counts[name] = count
        say(f"{name}: {count}, all results as in an undisturbed run")

    fewer = max(1, kills // 4)
    for number, times in ((signal.SIGKILL, kills), (signal.SIGTERM, fewer), (signal.SIGINT, fewer)):
        done = 0
        while done < times:
            out = directory / f"{number.name}_{done}"
            done += stop_at_random(sweep, out, number, times - done, chance)
            compare(out, number.name, done)
    for how in ("truncated", "emptied", "flipped"):
        spoil_newest_checkpoint(sweep, directory / how, how)
        compare(directory / how, f"checkpoint {how}", 1)
    second_run_is_refused(sweep, directory / "twice")
    compare(directory / "twice", "second run refused", 1)
    try:
        with small_disk(directory / "disk", 4096):
            times = full_disk(sweep, directory / "disk")
            assert times > 0
            compare(directory / "disk" / "out", "full disk", times)
    except PermissionError as error:
        say(f"full disk: skipped, {error}")
    return {"counts": counts, "seconds": round(time.perf_counter() - start, 1)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20, help="SIGKILLs; a quarter as many others")
    parser.add_argument("--seed", type=int, default=0, help="seed of the random moments")
    parser.add_argument("--json", type=Path, help="file to write the counts to")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        result = check(arguments.kills, arguments.seed, Path(directory), lambda line: print(line, flush=True))
    print(f"{sum(result['counts'].values())} faults in {result['seconds']} s, nothing lost")
    if arguments.json:
        from itae_jax.environment import describe as describe_environment

        result |= {"environment": describe_environment(), "seed": arguments.seed}
        arguments.json.write_text(json.dumps(result, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
