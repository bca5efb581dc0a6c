"""Measures `itae fit` on folders like MVTec AD: train/good, test/<good or a defect>, masks if there are any.

  python experiments/scripts/folders.py FOLDER ... [--methods fit knn ...] [--seeds 0 1 2] [--minutes 10]

Each fit and score is the command that a user types. Rows are added to experiments/results/folders_cpu.json;
a row that is there already is not measured again.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from itae_jax import environment, files, parallel
from itae_jax.detection import model as models
from itae_jax.evaluate import metrics
from itae_jax.methods.method import Combines
from itae_jax.report import score_measures
from itae_jax.report.score_page import read_scores

RESULTS = Path(__file__).resolve().parent.parent / "results" / "folders_cpu.json"
ITAE = ["method.name=itae"]
METHODS = {
    "fit": [],
    "pca": ["method.name=pca"],
    "knn": ["method.name=knn"],
    "iforest": ["method.name=iforest"],
    "rotate": [*ITAE, "method.transform=rotate"],
    "autoencoder": [*ITAE, "method.transform=identity"],
}


def measure(folder: Path, method: str, seed: int, minutes: float, about: dict[str, Any]) -> dict[str, Any]:
    """Fits on train/good, scores test, and returns a row; the class of an image is its folder."""
    with tempfile.TemporaryDirectory() as place:
        model, scores = Path(place, "model"), Path(place, "scores.csv")
        start = time.perf_counter()
        options = ["--seed", str(seed), "--minutes", str(minutes)]
        settings = ["--set", *METHODS[method]] if METHODS[method] else []
        _itae("fit", folder / "train" / "good", "--out", model, *options, *settings)
        seconds = time.perf_counter() - start
        _itae("score", model, folder / "test", "--out", scores)
        images, loaded = read_scores(scores), models.load(model)
        kinds = np.array([Path(path).parent.name for path in images.paths])
        is_defect = kinds != "good"
        of_pixels = score_measures.of_pixels(loaded, images.paths, is_defect) or {}
        found: dict[str, Any] = {
            "auroc": metrics.auroc(is_defect, images.scores_N),
            "by_kind": {
                kind: metrics.auroc(is_defect[of], images.scores_N[of])
                for kind in sorted({*kinds} - {"good"})
                for of in [(kinds == "good") | (kinds == kind)]
            },
            "members": {
                name: metrics.auroc(is_defect, values)
                for name, values in images.components.items()
                if name.startswith("score_")
            },
        }
        found |= {key: of_pixels[key] for key in ("pixel_auroc", "aupro") if key in of_pixels}
        fitted = loaded.trained.learner.method
        weights = fitted.weights(loaded.trained.calibration) if isinstance(fitted, Combines) else {}
        return {
            "data": folder.name,
            "method": method,
            "seed": seed,
            "minutes": minutes,
            "seconds": seconds,
            "image_size": loaded.experiment.data.image_size,
            "epochs": loaded.experiment.train.epochs,
            "num_train": loaded.trained.num_train,
            "num_normal": int((~is_defect).sum()),
            "num_defects": int(is_defect.sum()),
            "ratings": loaded.details.get("ratings", {}),
            "weights": weights,
            **found,
            "environment": about,
        }


def _itae(*arguments) -> None:
    subprocess.run([sys.executable, "-m", "itae_jax", *map(str, arguments)], check=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--minutes", type=float, default=10.0)
    parsed = parser.parse_args()
    parallel.prepare_backends()
    about = environment.describe()  # before a new row changes a file
    for seed in parsed.seeds:
        for folder in parsed.folders:
            for method in parsed.methods:
                rows = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else []
                job = {"data": folder.name, "method": method, "seed": seed, "minutes": parsed.minutes}
                if not any(row.items() >= job.items() for row in rows):
                    rows.append(measure(folder, method, seed, parsed.minutes, about))
                    files.write_text(RESULTS, json.dumps(rows, indent=1) + "\n")
                    print(
                        {name: rows[-1].get(name) for name in (*job, "auroc", "pixel_auroc", "aupro")},
                        flush=True,
                    )


if __name__ == "__main__":
    main()
