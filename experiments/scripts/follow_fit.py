"""Follows what `itae fit` trains: could ratings on surrogate anomalies choose a transform or stop early?

  python experiments/scripts/follow_fit.py FOLDER EPOCHS [--seed 0] [--set FIELD=VALUE ...]

FOLDER is like those of folders.py. Trains on train/good with the settings that `itae fit` chooses. Rates the
model after every tenth of the epochs, as `itae fit` does at the end, beside its AUROC on test. Adds
a row to experiments/results/follow_fit_cpu.json.
"""

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from itae_jax import cli, environment, experiment, files, parallel
from itae_jax.data import folders
from itae_jax.data.images import lazy
from itae_jax.detection import model as models
from itae_jax.detection import training_files
from itae_jax.detection.candidates import rated, set_aside
from itae_jax.evaluate import metrics

RESULTS = Path(__file__).resolve().parent.parent / "results" / "follow_fit_cpu.json"


def follow(folder: Path, epochs: int, seed: int, assignments: Sequence[str] = ()) -> dict:
    """Trains once; returns the row."""
    good = folder / "train" / "good"
    with tempfile.TemporaryDirectory() as place:
        model = Path(place, "model")
        command = ["fit", str(good), "--out", str(model), "--epochs", "1", "--seed", str(seed)]
        if code := cli.main([*command, *(f"--set={assignment}" for assignment in assignments)]):
            raise SystemExit(code)
        chosen = models.load(model)
    settings = experiment.override(chosen.experiment, [f"train.epochs={epochs}", "evaluate.every_epochs=1"])
    paths = folders.find_images(good)
    _, training = training_files.divided(len(paths), chosen.details["holdout"], seed)
    rating, training = set_aside(training, seed)
    settings, learner = models.prepare(settings, chosen.image_shape, len(training))
    tests = folders.find_images(folder / "test")
    is_defect = np.array([path.parent.name != "good" for path in tests])
    normal, test = (
        lazy(settings.data, chosen.reader.read, each, chosen.image_shape, {}) for each in (paths, tests)
    )
    found = []

    def on_report(report, trained_so_far):
        if report.epoch not in {max(1, round(epochs * part / 10)) for part in range(1, 11)}:
            return
        trained, auroc, _ = rated(trained_so_far(), normal.select(rating), chosen.reader, seed)
        of_test = metrics.auroc(is_defect, trained.score(test).scores_N)
        found.append({"epoch": report.epoch, "loss": report.loss, "surrogates": auroc, "test": of_test})
        print(found[-1], flush=True)

    learner.fit(normal.select(training).in_memory(), (seed,), on_report)
    row = {"data": folder.name, "epochs": epochs, "seed": seed, "image_size": settings.data.image_size}
    row |= {"method": settings.method.title, "transform": experiment.flatten(settings)["method.transform"]}
    return {**row, "num_train": len(training), "found": found, "environment": environment.describe()}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    parser.add_argument("epochs", type=int, metavar="EPOCHS")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", dest="assignments")
    parsed = parser.parse_args()
    parallel.prepare_backends()
    rows = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else []
    row = follow(parsed.folder, parsed.epochs, parsed.seed, parsed.assignments)
    files.write_text(RESULTS, json.dumps([*rows, row], indent=1) + "\n")


if __name__ == "__main__":
    main()
