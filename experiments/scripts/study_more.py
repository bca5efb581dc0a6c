"""Adds to study_recipe what no setting changes: averaged checkpoints, z-scores, no skip at full resolution.

  python experiments/scripts/study_more.py DATASET CLASS ... [--root DIR]

Trains each class twice with the settings of `study_recipe --variants improved`, with and without the skip
connection at full resolution. Scores by squared errors: their maximum over the members, as trained and with the
mean of the variables of the last four epochs, and the mean and the maximum of the members' z-scores, which are
errors less the mean, over the SD, of the training images. Adds rows to experiments/results/study_more_cpu.json.
"""

import argparse
import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import jax
import numpy as np

from itae_jax import data, environment, experiment, files, parallel
from itae_jax.data.dataset import OneClassSplit
from itae_jax.evaluate import metrics
from itae_jax.models import unet
from itae_jax.training.learner import Learner, Trained

RESULTS = Path(__file__).resolve().parent.parent / "results" / "study_more_cpu.json"
STUDY = Path(__file__).resolve().parent.parent / "study_recipe.py"
AVERAGED = 4  # epochs


def errors(trained: Trained, images: data.Images) -> np.ndarray:
    """The squared errors of the members, N x T."""
    return np.concatenate([found.measured["l2"] for found in trained.measure(images)])


def scores(learner: Learner, split: OneClassSplit, seeds: tuple[int, int]) -> Iterator[tuple[str, np.ndarray]]:
    """Trains once; yields the name of each score and the scores of the test images."""
    variables = []
    train, test = (images.in_memory() for images in (split.train_images, split.test_images))

    def on_report(report, trained_so_far):
        if report.epoch > learner.trainer.config.epochs - AVERAGED:
            variables.append(jax.tree.map(np.asarray, trained_so_far().variables))

    trained = learner.fit(train, seeds, on_report)
    mean = jax.tree.map(lambda *arrays: sum(arrays) / len(arrays), *variables)
    averaged = dataclasses.replace(trained, variables=mean)
    for name, one in (("l2, max", trained), (f"l2, max, mean of {AVERAGED} checkpoints", averaged)):
        yield name, (errors(one, test) / errors(one, train).mean(0)).max(1)
    normal = errors(trained, train)
    z_scores = (errors(trained, test) - normal.mean(0)) / normal.std(0)
    yield "z-scores of l2, mean", z_scores.mean(1)
    yield "z-scores of l2, max", z_scores.max(1)


def measured(dataset: str, root: str, classes: list[str]) -> Iterator[dict[str, object]]:
    """Yields a row for each class, network and score."""
    given = [f"data.name={dataset}", f"data.root={root}", "method.error=l1", "evaluate.every_epochs=1"]
    (settings,) = experiment.load(STUDY, given, ["improved"]).values()
    found, join, width = data.load(settings.data), unet.join, experiment.flatten(settings)["method.width"]

    def join_but_first(skip: jax.Array, x: jax.Array) -> jax.Array:
        joined = join(skip, x)
        return joined[..., skip.shape[3] :] if skip.shape[3] == width else joined

    for index in map(found.class_index, classes):
        split = found.split(index, settings.data.limit_train, settings.data.limit_test)
        for network, joined in (("improved", join), ("no skip at full resolution", join_but_first)):
            with mock.patch.object(unet, "join", joined):
                sections = settings.method, settings.train, settings.evaluate, settings.compute
                learner = Learner(*sections, found.image_shape)
                for score, scores_N in scores(learner, split, (settings.seed, index)):
                    auroc = metrics.auroc(split.is_anomaly, scores_N)
                    name = f"{dataset} {found.class_names[index]}"
                    row = {"class": name, "training": network, "score": score}
                    print(row, auroc, flush=True)
                    yield row | {"auroc": auroc, "seed": settings.seed, "source": found.source}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("dataset")
    parser.add_argument("classes", nargs="+")
    parser.add_argument("--root", default="")
    parsed = parser.parse_args()
    parallel.prepare_backends()
    parallel.keep_programs()
    about = {"environment": environment.describe()}
    for row in measured(parsed.dataset, parsed.root, parsed.classes):
        rows = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else []
        files.write_text(RESULTS, json.dumps([*rows, row | about], indent=1) + "\n")


if __name__ == "__main__":
    main()
