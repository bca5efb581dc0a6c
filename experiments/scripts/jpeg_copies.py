"""Measures what JPEG costs: trains on each of two copies of the same images and tests on both.

  python experiments/scripts/jpeg_copies.py ORIGINALS JPEGS [--classes horse] [--seeds 0 1] [--epochs 60]

The copies are trees {train,test}/<class>/ whose files differ in their endings alone. Trains by the recipe
improved_colour at width 16. Adds rows to experiments/results/jpeg_copies_cpu.json; one that is there already is
not measured again.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np

from itae_jax import environment, files, parallel, transforms
from itae_jax.data import ArrayImages
from itae_jax.data.reader import Reader
from itae_jax.detection import compression
from itae_jax.detection.detector import ITAEDetector
from itae_jax.evaluate import metrics
from itae_jax.methods.itae import ITAEConfig

RESULTS = Path(__file__).resolve().parent.parent / "results" / "jpeg_copies_cpu.json"
WIDTH, AUGMENT = 16, "flip"


def read_shared(roots: list[Path], pattern: str) -> tuple[list[Path], list[np.ndarray]]:
    """The names of the images that all copies have, and the images of each copy, N x H x W x 3."""
    found = [{path.relative_to(root).with_suffix(""): path for path in root.glob(pattern)} for root in roots]
    names, read = sorted(set.intersection(*map(set, found))), Reader(channels=3).read
    return names, [np.stack([read(paths[name]) for name in names]) for paths in found]


def measure(roots: list[Path], normal: str, seed: int, epochs: int) -> list[dict[str, Any]]:
    """Trains on a class in each copy; returns a row for each copy trained on and copy tested on."""
    _, train = read_shared(roots, f"train/{normal}/*")
    names, test = read_shared(roots, "test/*/*")
    is_anomaly, rows = np.array([name.parent.name != normal for name in names]), []
    settings = dict(ITAEConfig.RECIPES["improved_colour"])
    given = {"learning_rate": settings.pop("train.learning_rate"), "random_state": seed, "epochs": epochs}
    for trained_on, images in zip(roots, train, strict=True):
        detector = ITAEDetector(width=WIDTH, augment=AUGMENT, holdout=0, settings=settings, **given)
        start = time.perf_counter()
        trained = detector.fit(images).model_.trained
        seconds = time.perf_counter() - start
        folder, rotate = trained_on / "train" / normal, transforms.get("rotate")
        probe = compression.check(rotate, compression.images_of(folder, rotate, ["data.image_size=32"]), folder)
        for tested_on, others in zip(roots, test, strict=True):
            columns = trained.score(ArrayImages(others)).columns
            rows.append(
                {
                    "normal": normal,
                    "trained_on": trained_on.name,
                    "tested_on": tested_on.name,
                    "seed": seed,
                    "epochs": epochs,
                    "width": WIDTH,
                    "augment": AUGMENT,
                    "num_train": len(images),
                    "num_normal": int((~is_anomaly).sum()),
                    "num_anomalous": int(is_anomaly.sum()),
                    "seconds": seconds,
                    "probe_of_rotate": probe.found,
                    "auroc": {name: metrics.auroc(is_anomaly, found) for name, found in columns.items()},
                    "environment": environment.describe(),
                }
            )
            print({key: rows[-1][key] for key in ("trained_on", "tested_on", "seed", "auroc")}, flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("copies", nargs=2, type=Path, metavar="COPY")
    parser.add_argument("--classes", nargs="+", default=["horse"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1])
    parser.add_argument("--epochs", type=int, default=60)
    parsed = parser.parse_args()
    parallel.prepare_backends()
    parallel.keep_programs()
    for seed in parsed.seeds:
        for normal in parsed.classes:
            rows = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else []
            job = {"normal": normal, "seed": seed, "epochs": parsed.epochs}
            if not any(row.items() >= job.items() for row in rows):
                rows += measure(parsed.copies, normal, seed, parsed.epochs)
                files.write_text(RESULTS, json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
