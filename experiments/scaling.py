"""How time and memory of training grow with image size, width, devices and data, and how closely training
on several devices follows that on one: docs/scaling.md.

python experiments/scaling.py --json experiments/results/scaling_cpu.json     a quarter of an hour on two cores

Devices beyond the cores are virtual: they share the cores, so their time shows what dividing the work
costs, not what it gains. Memory on each device is by XLA's account of the compiled step.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from itae_jax import environment

os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=8"
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

SIDES = (32, 64, 128, 256, 480)
WIDTHS = (8, 16, 32, 64)
DEVICES = (1, 2, 4, 8)
FILES = (1000, 4000, 16000)
BATCH, WIDTH, SIDE = 32, 8, 32
# Of the trainings whose losses are compared.
DIGIT, DIGIT_SIDE, DIGIT_TRANSFORM, STEPS = 6, 16, "rotate", 20


class Case(NamedTuple):
    """A training step to be timed."""

    side: int
    width: int
    devices: int


def steps(cases: Sequence[Case], rounds: int) -> list[dict]:
    """Of each case seconds of a training step of 32 images, MiB on each device, operations for each image."""
    from itae_jax.bench import cases as contenders
    from itae_jax.bench import timing as bench

    rivals = {
        case: contenders.training(contenders.trainer(case.width, "float32", case.side, case.devices), str(case))
        for case in cases
    }
    seconds = bench.take_turns(list(rivals.values()), rounds)
    return [
        {
            **case._asdict(),
            "seconds": statistics.median(seconds[rival.name]),
            "mib_a_device": None if rival.memory_bytes is None else rival.memory_bytes / 2**20,
            "operations_an_image": bench.operations("training", case.width, case.side),
        }
        for case, rival in rivals.items()
    ]


def losses(devices: int, dtype: str) -> list[float]:
    """The losses of the first steps of a training on the sixes among scikit-learn's digits."""
    import jax
    import numpy as np

    from itae_jax import data, models, parallel, transforms
    from itae_jax.config import ComputeConfig, DataConfig, TrainConfig
    from itae_jax.training.trainer import Trainer

    with jax.enable_x64(dtype == "float64"):
        images = data.load(DataConfig(name="digits", image_size=DIGIT_SIDE)).split(DIGIT).train_images
        model = models.build("unet", width=WIDTH, out_channels=1, dtype=dtype, axis_name=parallel.AXIS)
        config = TrainConfig(batch_size=BATCH, epochs=-(-STEPS // (len(images) // BATCH)))
        compute = ComputeConfig(devices=devices, steps_per_call=1, dtype=dtype)
        trainer = Trainer(model, transforms.get(DIGIT_TRANSFORM), images.image_shape, config, compute)
        found = []
        trainer.after_call = lambda loss_K: found.extend(np.asarray(loss_K).tolist())
        trainer.train(images, (0,), lambda report, state: None)
    return found[:STEPS]


def difference(devices: int, dtype: str, alone: list[float]) -> dict:
    """By how much, relatively, losses on so many devices leave those on one: of the first step, and at most."""
    several = losses(devices, dtype)
    apart = [abs(ours - its) / its for ours, its in zip(several, alone, strict=True)]
    return {"devices": devices, "dtype": dtype, "first": apart[0], "largest": max(apart)}


def resident_mib(count: int) -> float:
    """Resident memory of a process that has read so many small JPEG files once, as training does."""
    result = subprocess.run(
        [sys.executable, __file__, "--read", str(count)], stdout=subprocess.PIPE, check=True
    )
    return float(result.stdout)


def read(count: int) -> float:
    """Reads generated files of 32x32 once in batches; the resident memory after it."""
    import numpy as np
    from PIL import Image

    from itae_jax import config, data
    from itae_jax.bench import reading as bench_data
    from itae_jax.training.loop import epoch_batches

    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as directory:
        for folder, files in (("train/normal", count), ("test/normal", 1), ("test/other", 1)):
            (Path(directory) / folder).mkdir(parents=True)
            for number in range(files):
                pixels = rng.integers(0, 256, (32, 32, 3), np.uint8)
                Image.fromarray(pixels).save(Path(directory) / folder / f"{number}.jpg")
        settings = ["data.name=folder", f"data.root={directory}", "data.image_size=32", "data.memory_gib=0"]
        images = data.load(config.override(config.Experiment(), settings).data).split(0, 0, 0).train_images
        for _ in epoch_batches(images, BATCH, (0,), 1):
            pass
        return bench_data._resident_mib()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each case; default 5")
    parser.add_argument("--read", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.read:
        print(read(arguments.read))
        return 0
    from itae_jax import config
    from itae_jax.bench import cases as contenders
    from itae_jax.bench import timing as bench
    from itae_jax.environment import describe as describe_environment

    usual = max(count for count in DEVICES if count <= environment.cpu_cores())
    groups = (
        [Case(SIDE, WIDTH, devices) for devices in DEVICES],
        [Case(SIDE, width, usual) for width in WIDTHS if width != WIDTH],
        [Case(side, WIDTH, usual) for side in SIDES if side != SIDE],
    )
    found = []
    for cases in groups:  # those of one take turns
        found += steps(cases, arguments.rounds)
        print(*found[-len(cases) :], sep="\n", flush=True)
    differences = []
    for dtype in ("float32", "float64"):
        alone = losses(1, dtype)
        differences += [difference(devices, dtype, alone) for devices in DEVICES[1:]]
        print(differences[-len(DEVICES) + 1 :], flush=True)
    files = []
    for count in FILES:
        files.append({"files": count, "resident_mib": resident_mib(count)})
        print(files[-1], flush=True)
    about = describe_environment() | {"cores": environment.cpu_cores()}
    settings = {
        "devices": usual,
        "batch_size": BATCH,
        "transform": contenders.TRANSFORM,
        "dtype": "float32",
        "rounds": arguments.rounds,
        "seed": 0,
    }
    imagenet = {"side": 128, "width": 64, "operations_an_image": bench.operations("training", 64, 128)}
    result = {
        "environment": about,
        "settings": settings,
        "steps": found,
        "differences": {
            "settings": {
                "data": f"digits, class {DIGIT}",
                "side": DIGIT_SIDE,
                "transform": DIGIT_TRANSFORM,
                "width": WIDTH,
                "batch_size": BATCH,
                "learning_rate": config.TrainConfig().learning_rate,
                "steps": STEPS,
                "seed": 0,
            },
            "rows": differences,
        },
        "files": files,
        "imagenet": imagenet,
    }
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
