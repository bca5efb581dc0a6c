"""Measures how time and memory of training grow with image size, width, devices and files, and how closely
training on several devices follows that on one.

  python experiments/scripts/scaling.py --json experiments/results/scaling_cpu.json     a quarter of an hour

Devices beyond the cores are virtual and share them: their times show what dividing the work costs. Memory on
each device is by XLA's account of the compiled step.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=8"

import jax
import numpy as np

from itae_jax import data, environment, experiment
from itae_jax.bench import cases, reading, timing
from itae_jax.experiment import Experiment
from itae_jax.training import loop
from itae_jax.training.learner import Learner

SIDES, WIDTHS, DEVICES, FILES = (32, 64, 128, 256, 480), (8, 16, 32, 64), (1, 2, 4, 8), (1000, 4000, 16000)
BATCH, WIDTH, SIDE, STEPS = 32, 8, 32, 20
DIGITS = ("data.name=digits", "data.image_size=16", "method.transform=rotate", f"method.width={WIDTH}")


def measure_steps(sizes: list[tuple[int, int, int]], rounds: int) -> list[dict[str, Any]]:
    """The time, memory and operations of a training step for each (side, width, devices), timed in turns."""
    rows: list[dict[str, Any]] = []
    rivals = []
    for side, width, devices in sizes:
        settings = [f"data.image_size={side}", f"method.width={width}", f"compute.devices={devices}"]
        (case,) = cases.experiments(settings).values()
        trainer = cases.learner(case, BATCH).trainer
        rivals.append(cases.training(trainer, cases.image_shape(case), name=str(settings)))
        operations = cases.operations("training", case, BATCH) / BATCH
        rows.append({"side": side, "width": width, "devices": devices, "operations_an_image": operations})
    seconds = timing.take_turns(rivals, rounds)
    for row, rival in zip(rows, rivals, strict=True):
        row["seconds"] = statistics.median(seconds[rival.name])
        row["mib_a_device"] = None if rival.memory_bytes is None else rival.memory_bytes / 2**20
    return rows


def losses(devices: int, dtype: str, count: int = STEPS) -> list[float]:
    """The losses of the first steps of a training on the sixes among scikit-learn's digits."""
    settings = [*DIGITS, "train.epochs=10", f"compute.devices={devices}", f"compute.dtype={dtype}"]
    of_digits = experiment.override(Experiment(), [*settings, "compute.steps_per_call=1"])
    found: list[float] = []
    with jax.enable_x64(dtype == "float64"):
        images = data.load(of_digits.data).split(6).train_images
        parts = of_digits.method, of_digits.train, of_digits.evaluate, of_digits.compute
        trainer = Learner(*parts, images.image_shape).trainer
        trainer.after_call = lambda metrics: found.extend(np.asarray(metrics["loss"]).tolist())
        loop.train(trainer, images, (0,), lambda report, state: None)
    return found[:count]


def difference(devices: int, dtype: str, alone: list[float]) -> dict[str, Any]:
    """The relative differences of losses from those of one device: of the first step, and the largest."""
    several = losses(devices, dtype, len(alone))
    apart = [abs(ours - its) / its for ours, its in zip(several, alone, strict=True)]
    return {"devices": devices, "dtype": dtype, "first": apart[0], "largest": max(apart)}


def read_files(count: int) -> float | None:
    """Reads generated files once in batches, as training does; the resident memory after it."""
    with tempfile.TemporaryDirectory() as directory:
        for folder, files in (("train/normal", count), ("test/normal", 1), ("test/other", 1)):
            (Path(directory) / folder).mkdir(parents=True)
            reading.write_files(Path(directory) / folder, files, side=SIDE)
        settings = [
            "data.name=folder",
            f"data.root={directory}",
            f"data.image_size={SIDE}",
            "data.memory_gib=0",
        ]
        images = data.load(experiment.override(Experiment(), settings).data).split(0).train_images
        for _ in loop.epoch_batches(images, BATCH, (0,), 1):
            pass
        return reading.resident_mib()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="file to write")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each case; default 5")
    parser.add_argument("--read", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.read:
        print(read_files(arguments.read))
        return 0
    usual = max(count for count in DEVICES if count <= environment.cpu_cores())
    steps = measure_steps([(SIDE, WIDTH, devices) for devices in DEVICES], arguments.rounds)
    steps += measure_steps([(SIDE, width, usual) for width in WIDTHS if width != WIDTH], arguments.rounds)
    steps += measure_steps([(side, WIDTH, usual) for side in SIDES if side != SIDE], arguments.rounds)
    differences = []
    for dtype in ("float32", "float64"):
        alone = losses(1, dtype)
        differences += [difference(devices, dtype, alone) for devices in DEVICES[1:]]
    files = []
    for count in FILES:  # each by a process of its own, whose memory is measured
        command = [sys.executable, __file__, "--read", str(count)]
        found = subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout
        files.append({"files": count, "resident_mib": float(found)})
    (imagenet,) = cases.experiments(["data.image_size=128", "method.width=64"]).values()
    trained = {
        "data": "digits, class 6",
        "width": WIDTH,
        "batch_size": BATCH,
        "learning_rate": 0.1,
        "steps": STEPS,
    }
    result = {
        "environment": environment.describe() | {"cores": environment.cpu_cores()},
        "settings": {"devices": usual, "batch_size": BATCH, "dtype": "float32", "rounds": arguments.rounds},
        "steps": steps,
        "differences": {"settings": trained, "rows": differences},
        "files": files,
        "imagenet": {
            "side": 128,
            "width": 64,
            "operations_an_image": cases.operations("training", imagenet, BATCH) / BATCH,
        },
    }
    print(json.dumps(result, indent=2))
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
