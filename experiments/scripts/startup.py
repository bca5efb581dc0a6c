"""Times `itae score MODEL IMAGE`, a process for each call, and so what a user waits for one image.

  python experiments/scripts/startup.py MODEL IMAGE [--calls 11]

The first call compiles if no earlier process did, and does not count. Adds a row to
experiments/results/startup_cpu.json.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from itae_jax import environment, files, parallel
from itae_jax.detection import model as models

RESULTS = Path(__file__).resolve().parent.parent / "results" / "startup_cpu.json"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("model", type=Path)
    parser.add_argument("image", type=Path)
    parser.add_argument("--calls", type=int, default=11)
    parsed = parser.parse_args()
    seconds = []
    with tempfile.TemporaryDirectory() as place:
        command = [sys.executable, "-m", "itae_jax", "score", str(parsed.model), str(parsed.image)]
        for _ in range(parsed.calls):
            start = time.perf_counter()
            subprocess.run([*command, "--out", str(Path(place, "scores.csv")), "--quiet"], check=True)
            seconds.append(time.perf_counter() - start)
    parallel.prepare_backends()
    settings, image_shape, _ = models.read_config(parsed.model)
    rows = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else []
    about = {"method": settings.method.NAME, "image_shape": image_shape, "environment": environment.describe()}
    files.write_text(RESULTS, json.dumps([*rows, {**about, "seconds": seconds[1:]}], indent=1) + "\n")
    print(sorted(seconds[1:]))


if __name__ == "__main__":
    main()
