"""`itae bench quality`: how long a training by each recipe takes to reach given AUROCs, or losses."""

import dataclasses
import operator
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from itae_jax import data, environment, experiment, parallel
from itae_jax.config import DataConfig
from itae_jax.data import Images, folders
from itae_jax.data.dataset import sample
from itae_jax.data.images import lazy
from itae_jax.errors import DivergedError, RequestError
from itae_jax.evaluate import metrics
from itae_jax.experiment import Experiment
from itae_jax.training.learner import Learner, Trained, learner_for

MARKS = (0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99)  # AUROCs
LOSS_MARKS = (4.0, 2.0, 1.5, 1.2, 1.1, 1.05, 1.0)  # times the lowest held-out loss of all recipes
_HELD_OUT = 8  # one of so many images without labels
_PAPER = "paper"
TITLES = {"auroc": "AUROC", "held_out": "held-out loss"}


@dataclasses.dataclass(frozen=True)
class _Images:
    """What is trained on and what is measured; `is_anomaly` is None without labels."""

    normal_class: int
    class_name: str
    source: str
    training: Images
    test: Images
    is_anomaly: np.ndarray | None


def measure(assignments: Sequence[str], say: Callable[[str], None] = lambda line: None) -> dict[str, Any]:
    """Trains one class by the defaults, which are the paper's recipe, and by each recipe of the method.

    Args:
      assignments: `section.field=value`; by default the smallest benchmark case of the method trains 20 epochs
        on the first class of the digits, classes=K names another, and every epoch the test images are scored.
        If `data.root` is a folder of normal images, which has no labels, an eighth is held out instead.
      say: gets a line for each point.

    Returns JSON values: "environment", "settings", "data", "measure" and "recipes", name -> points with
    "epoch", "images" seen, "seconds" of training, compiling included and measuring not, "loss" and the
    measure: "auroc" or, without labels, "held_out", the training's loss on the held-out images. "diverged"
    names the recipes whose training failed.
    """
    method = experiment.override(Experiment(), assignments).method
    small = [f"method.{name}={value}" for name, value in method.BENCH[0].items()]
    small += ["train.epochs=20", "evaluate.every_epochs=1"]
    base = experiment.override(Experiment(), [*small, *assignments])
    is_unlabelled = _is_unlabelled(base.data)
    if is_unlabelled and method.ONE_PASS:
        raise RequestError(f"method.name={method.NAME}: has no loss to measure without labels; choose another")
    images = _unlabelled(base.data) if is_unlabelled else _labelled(base)
    found, diverged = dict[str, list[dict[str, float]]](), list[str]()
    for recipe in ("", *list(base.method.RECIPES)[:1]):  # the others train alike
        one = experiment.override(Experiment(), [*small, *assignments], recipe)
        name = recipe or _PAPER
        found[name] = []
        try:
            _train(one, images, name, found[name], say)
        except DivergedError as error:
            say(f"{name}: {error}")
            diverged.append(name)
    return {
        "environment": environment.describe(),
        "settings": experiment.changed(base) | {"class": images.class_name},
        "data": images.source,
        "measure": "held_out" if is_unlabelled else "auroc",
        "recipes": found,
        "diverged": diverged,
    }


def _labelled(base: Experiment) -> _Images:
    dataset = data.load(base.data)
    normal_class = dataset.class_index(base.classes) if base.classes else dataset.trainable[0]
    split = dataset.split(normal_class, base.data.limit_train, base.data.limit_test)
    training, test = split.train_images.in_memory(), split.test_images.in_memory()
    class_name = dataset.class_names[normal_class]
    return _Images(normal_class, class_name, dataset.source, training, test, split.is_anomaly)


def _is_unlabelled(config: DataConfig) -> bool:
    if config.name != "folder":
        return False
    return not folders.is_tree(config.root) and bool(folders.images_beside_folders(folders.root_of(config)))


def _unlabelled(config: DataConfig) -> _Images:
    root = folders.root_of(config)
    paths, _ = folders.find_normal_images(root)
    paths = [paths[position] for position in sample(len(paths), config.limit_train)]
    reader = folders.make_reader(config, fit="stretch", paths=paths)
    shape = folders.shape_of(reader, paths, root)
    images = lazy(config, reader.read, paths, shape, {}).in_memory()
    readable = np.setdiff1d(np.arange(len(images)), list(getattr(images, "missing", ())))
    held_out = sample(len(readable), max(1, len(readable) // _HELD_OUT))
    training, test = images.select(np.delete(readable, held_out)), images.select(readable[held_out])
    source = f"{len(readable)} images without labels"
    return _Images(0, root.absolute().name, source, training.in_memory(), test.in_memory(), None)


def _train(
    one: Experiment, images: _Images, name: str, points: list[dict[str, float]], say: Callable[[str], None]
) -> None:
    """Adds a point to `points` whenever the test images are measured."""
    shape = images.training.image_shape
    learner = learner_for(one.method, one.train, one.evaluate, one.compute, shape)
    images_an_epoch = len(images.training) // one.train.batch_size * one.train.batch_size
    start, scoring = time.perf_counter(), 0.0

    def on_report(report, trained_so_far):
        nonlocal scoring
        before = time.perf_counter()
        seconds, seen = before - start - scoring, report.epoch * images_an_epoch
        point = {"epoch": report.epoch, "images": seen, "seconds": seconds, "loss": report.loss}
        if images.is_anomaly is None:
            point["held_out"] = _held_out_loss(learner, trained_so_far(), images.test)
            found = f"held-out loss {point['held_out']:.4f}"
        else:
            scores_N = trained_so_far().score(images.test).scores_N
            readable = np.flatnonzero(~np.isnan(scores_N))
            point["auroc"] = metrics.auroc(images.is_anomaly[readable], scores_N[readable])
            found = f"AUROC {100 * point['auroc']:.1f}"
        points.append(point)
        say(f"{name}: {seen} images, {seconds:.0f} s, loss {report.loss:.4f}, {found}")
        scoring += time.perf_counter() - before

    learner.fit(images.training, (one.seed, images.normal_class), on_report)


def _held_out_loss(learner: Learner, trained: Trained, images: Images) -> float:
    """The mean loss of training steps at rate 0 on batches of the images, with the same draws each time."""
    trainer = learner.trainer
    variables = jax.tree.map(np.array, trained.variables)  # a copy: a step uses up its state
    state = trainer.initial_state((0,))
    variables = parallel.replicate(variables, trainer.devices)
    state = dataclasses.replace(state, method=dataclasses.replace(state.method, variables=variables))
    size, count = trainer.config.batch_size, max(1, len(images) // trainer.config.batch_size)
    losses = []
    for _, batch in images.batches(size, np.resize(np.arange(len(images)), count * size)):
        if len(batch) == size:
            state, found = trainer.run_steps(state, np.zeros(1, trainer.dtype), batch[None])
            losses.append(float(found["loss"][0]))
    if not np.isfinite(losses).all() or not losses:
        raise DivergedError("the held-out loss is not finite, or too few images can be read")
    return float(np.mean(losses))


def reached(points: Sequence[dict[str, float]], measure: str, mark: float) -> dict[str, float] | None:
    """The first point whose AUROC is at least the mark, or whose held-out loss is at most the mark; or None."""
    reaches = operator.ge if measure == "auroc" else operator.le
    return next((point for point in points if reaches(point[measure], mark)), None)


def rows(result: dict[str, Any]) -> list[dict[str, str]]:
    """Returns for each mark that a recipe reaches the seconds and images that each recipe took."""
    measure, found = measure_of(result), []
    for mark in _marks(result):
        of_recipes = {name: reached(points, measure, mark) for name, points in result["recipes"].items()}
        if any(of_recipes.values()):
            texts = {
                name: f"{one['seconds']:.0f} s, {one['images']} images" if one else "not reached"
                for name, one in of_recipes.items()
            }
            text = f"{100 * mark:.0f}" if measure == "auroc" else f"{mark:.4g}"
            found.append({TITLES[measure]: text, **texts})
    return found


def measure_of(result: dict[str, Any]) -> str:
    """Returns the name of the measure in the points; older results have AUROCs alone."""
    return result.get("measure", "auroc")


def _marks(result: dict[str, Any]) -> Sequence[float]:
    if measure_of(result) == "auroc":
        return MARKS
    losses = [point["held_out"] for points in result["recipes"].values() for point in points]
    return [times * min(losses) for times in LOSS_MARKS if losses]


def table(result: dict[str, Any]) -> str:
    """Returns a line for each mark that a recipe reaches."""
    title = TITLES[measure_of(result)]
    columns = [title, *result["recipes"]]
    lines = [dict(zip(columns, columns, strict=True)), *rows(result)]
    about = f"class {result['settings']['class']}: seconds and images until this {title} is reached"
    return "\n".join([about, *("".join(f"{line[name]:<24}" for name in columns).rstrip() for line in lines)])


def draw(result: dict[str, Any]) -> Any:
    """Returns a figure: AUROC, or held-out loss, over the seconds of training."""
    from matplotlib.figure import Figure

    figure = Figure((5.5, 3.6), layout="constrained")
    axes, measure = figure.subplots(), measure_of(result)
    for name, points in result["recipes"].items():
        seconds, values = [one["seconds"] for one in points], [one[measure] for one in points]
        axes.plot(seconds, values, "o-", ms=3, label=name)
    axes.set(xlabel="seconds of training", ylabel=TITLES[measure])
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    about = f"{result['environment']['device']}, class {result['settings']['class']}, {result['data']}"
    figure.suptitle(about, fontsize=9)
    return figure
