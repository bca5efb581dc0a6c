"""`itae bench quality`: how long a training by each recipe takes to reach given AUROCs."""

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from itae_jax import data, environment, experiment
from itae_jax.data.dataset import OneClassSplit
from itae_jax.errors import DivergedError
from itae_jax.evaluate import metrics
from itae_jax.experiment import Experiment
from itae_jax.training.learner import learner_for

MARKS = (0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99)  # AUROCs
_PAPER = "paper"


def measure(assignments: Sequence[str], say: Callable[[str], None] = lambda line: None) -> dict[str, Any]:
    """Trains one class by the defaults, which are the paper's recipe, and by each recipe of the method.

    Args:
      assignments: `section.field=value`; by default the smallest benchmark case of the method trains 20 epochs
        on the first class of the digits, classes=K names another, and every epoch the test images are scored.
      say: gets a line for each point.

    Returns JSON values: "environment", "settings" and "recipes", name -> points with "epoch", "images" seen,
    "seconds" of training, compiling included and scoring not, "loss" and "auroc"; "diverged" names the recipes
    whose training failed.
    """
    method = experiment.override(Experiment(), assignments).method
    small = [f"method.{name}={value}" for name, value in method.BENCH[0].items()]
    small += ["train.epochs=20", "evaluate.every_epochs=1"]
    base = experiment.override(Experiment(), [*small, *assignments])
    dataset = data.load(base.data)
    normal_class = dataset.class_index(base.classes) if base.classes else dataset.trainable[0]
    split = dataset.split(normal_class, base.data.limit_train, base.data.limit_test)
    found, diverged = dict[str, list[dict[str, float]]](), list[str]()
    for recipe in ("", *list(base.method.RECIPES)[:1]):  # the others train alike
        one = experiment.override(Experiment(), [*small, *assignments], recipe)
        name = recipe or _PAPER
        found[name] = []
        try:
            _train(one, split, normal_class, dataset.image_shape, name, found[name], say)
        except DivergedError as error:
            say(f"{name}: {error}")
            diverged.append(name)
    return {
        "environment": environment.describe(),
        "settings": experiment.changed(base) | {"class": dataset.class_names[normal_class]},
        "data": dataset.source,
        "recipes": found,
        "diverged": diverged,
    }


def _train(
    one: Experiment,
    split: OneClassSplit,
    normal_class: int,
    image_shape: tuple[int, int, int],
    name: str,
    points: list[dict[str, float]],
    say: Callable[[str], None],
) -> None:
    """Adds a point to `points` whenever the test images are scored."""
    learner = learner_for(one.method, one.train, one.evaluate, one.compute, image_shape)
    train_images, test_images = split.train_images.in_memory(), split.test_images.in_memory()
    images_an_epoch = len(train_images) // one.train.batch_size * one.train.batch_size
    start, scoring = time.perf_counter(), 0.0

    def on_report(report, trained_so_far):
        nonlocal scoring
        before = time.perf_counter()
        scores_N = trained_so_far().score(test_images).scores_N
        readable = np.flatnonzero(~np.isnan(scores_N))
        auroc = metrics.auroc(split.is_anomaly[readable], scores_N[readable])
        seconds, images = before - start - scoring, report.epoch * images_an_epoch
        points.append(
            {"epoch": report.epoch, "images": images, "seconds": seconds, "loss": report.loss, "auroc": auroc}
        )
        say(f"{name}: {images} images, {seconds:.0f} s, loss {report.loss:.4f}, AUROC {100 * auroc:.1f}")
        scoring += time.perf_counter() - before

    learner.fit(train_images, (one.seed, normal_class), on_report)


def reached(points: Sequence[dict[str, float]], mark: float) -> dict[str, float] | None:
    """The first point whose AUROC is at least the mark, or None."""
    return next((point for point in points if point["auroc"] >= mark), None)


def rows(result: dict[str, Any]) -> list[dict[str, str]]:
    """Returns for each mark that a recipe reaches the seconds and images that each recipe took."""
    found = []
    for mark in MARKS:
        of_recipes = {name: reached(points, mark) for name, points in result["recipes"].items()}
        if any(of_recipes.values()):
            texts = {
                name: f"{one['seconds']:.0f} s, {one['images']} images" if one else "not reached"
                for name, one in of_recipes.items()
            }
            found.append({"AUROC": f"{100 * mark:.0f}", **texts})
    return found


def table(result: dict[str, Any]) -> str:
    """Returns a line for each mark that a recipe reaches."""
    columns = ["AUROC", *result["recipes"]]
    lines = [dict(zip(columns, columns, strict=True)), *rows(result)]
    about = f"class {result['settings']['class']}: seconds and images until an AUROC is reached"
    return "\n".join([about, *("".join(f"{line[name]:<24}" for name in columns).rstrip() for line in lines)])


def draw(result: dict[str, Any]) -> Any:
    """Returns a figure: AUROC over the seconds of training."""
    from matplotlib.figure import Figure

    figure = Figure((5.5, 3.6), layout="constrained")
    axes = figure.subplots()
    for name, points in result["recipes"].items():
        seconds, percent = [one["seconds"] for one in points], [100 * one["auroc"] for one in points]
        axes.plot(seconds, percent, "o-", ms=3, label=name)
    axes.set(xlabel="seconds of training", ylabel="AUROC, %")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    about = f"{result['environment']['device']}, class {result['settings']['class']}, {result['data']}"
    figure.suptitle(about, fontsize=9)
    return figure
