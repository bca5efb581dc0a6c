"""Says where the time of training and scoring goes on a CPU, by XLA's profile of each operation.

The profile lacks what convolutions and products do after they are handed to other threads. That and waiting
are `not in the profile`; `cores busy` is the time of the processor over the time of all devices.

python experiments/scripts/time_shares.py --json experiments/results/time_shares_cpu.json     three minutes
"""

import argparse
import gzip
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import jax

from itae_jax import environment, parallel
from itae_jax.bench import cases

BATCHES = 10  # timed
IMAGES = 32  # scored at once
# Parts of the names of operations, in the order in which they are looked for; convolutions count as products.
KINDS = {
    "products": ("ynn", "convolution", "dot"),
    "exchange": ("psum", "all-reduce", "all_reduce"),
    "copies": ("transpose", "copy", "concatenate", "pad", "slice", "gather"),
}
OTHER, REST, BUSY = "elementwise", "not in the profile", "cores busy"


def kind_of(operation: str) -> str:
    """The kind of an operation of XLA, by its name."""
    return next((kind for kind, parts in KINDS.items() if any(part in operation for part in parts)), OTHER)


def shares(events: list[dict[str, Any]], devices: int) -> dict[str, float]:
    """The share of each kind in the time of all devices, from a trace's events."""
    operations = [event for event in events if "hlo_op" in event.get("args", {})]
    first = min(event["ts"] for event in operations)
    whole = devices * (max(event["ts"] + event["dur"] for event in operations) - first)
    found = dict.fromkeys([*KINDS, OTHER], 0.0)
    for event in operations:
        found[kind_of(event["args"]["hlo_op"])] += event["dur"] / whole
    return found | {REST: max(0.0, 1 - sum(found.values()))}


def measure() -> list[dict[str, Any]]:
    rows = []
    for name, case in cases.experiments([]).items():
        learner = cases.learner(case, IMAGES)
        devices = len(learner.trainer.devices)
        step, score = cases.training(learner.trainer, learner.image_shape), cases.scoring(learner, IMAGES)
        for kind, contender in (("training", step), ("scoring", score)):
            contender.call(3)
            start, of_process = time.perf_counter(), time.process_time()
            contender.call(BATCHES)
            busy = (time.process_time() - of_process) / (time.perf_counter() - start) / devices
            with tempfile.TemporaryDirectory() as place:
                with jax.profiler.trace(place, create_perfetto_trace=True):
                    contender.call(BATCHES)
                (path,) = Path(place).glob("plugins/profile/*/perfetto_trace.json.gz")
                with gzip.open(path) as file:
                    events = [event for event in json.load(file)["traceEvents"] if event.get("ph") == "X"]
            found = shares(events, devices) | {BUSY: busy}
            rows.append({"case": f"{kind}, {name}", "shares": found})
            print(kind, name, {part: f"{100 * share:.0f} %" for part, share in found.items()}, flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--json", type=Path, help="file to write")
    parsed = parser.parse_args()
    parallel.prepare_backends()
    result = {
        "environment": environment.describe(),
        "settings": {"batches": BATCHES, "scored_at_once": IMAGES},
        "cases": measure(),
    }
    if parsed.json:
        parsed.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
