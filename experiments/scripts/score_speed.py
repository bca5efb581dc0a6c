"""Times `itae score MODEL IMAGES`, a process for each call: what a user waits for one image or for a folder.

  python experiments/scripts/score_speed.py MODEL IMAGES [--calls 11] [--heatmaps]

The first call does not count, because it may compile. The script then times reading alone and scoring alone, of
all images, and adds a row to experiments/results/score_speed_cpu.json.
"""

import argparse
import json
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from itae_jax import environment, files, parallel
from itae_jax.data.images import LazyImages
from itae_jax.detection import model as models

RESULTS = Path(__file__).resolve().parent.parent / "results" / "score_speed_cpu.json"


def _seconds(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("model", type=Path)
    parser.add_argument("images", type=Path, help="a file or a folder")
    parser.add_argument("--calls", type=int, default=11, help="at least 2")
    parser.add_argument("--heatmaps", action="store_true")
    parsed = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        scores = Path(place, "scores.csv")
        command = [sys.executable, "-m", "itae_jax", "score", str(parsed.model), str(parsed.images), "--quiet"]
        command += ["--out", str(scores)]
        if parsed.heatmaps:
            command += ["--heatmaps", str(Path(place, "heatmaps"))]
        seconds = [_seconds(lambda: subprocess.run(command, check=True)) for _ in range(parsed.calls)][1:]
        paths = [Path(row["path"]) for row in files.read_csv(scores)]
    parallel.prepare_backends()
    model = models.load(parsed.model)
    start = time.perf_counter()
    images = LazyImages(model.reader.read, paths, model.image_shape, memory_bytes=math.inf).in_memory()
    read_alone = time.perf_counter() - start
    model.trained.score(images)  # compiles
    row = {
        "method": model.experiment.method.NAME,
        "image_shape": model.image_shape,
        "num_images": len(paths),
        "heatmaps": parsed.heatmaps,
        "seconds": seconds,
        "read_alone": read_alone,
        "score_alone": _seconds(lambda: model.trained.score(images)),
        "environment": environment.describe(),
    }
    rows = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else []
    files.write_text(RESULTS, json.dumps([*rows, row], indent=1) + "\n")
    print({name: row[name] for name in ("num_images", "seconds", "read_alone", "score_alone")})


if __name__ == "__main__":
    main()
