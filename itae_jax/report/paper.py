"""The paper's numbers: which of them compare with a run, and in what a run differs from the paper's."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean, pstdev, stdev
from typing import NamedTuple

from itae_jax import experiment as experiments
from itae_jax.data import mvtec_ad
from itae_jax.data.dataset import Dataset
from itae_jax.errors import RequestError
from itae_jax.experiment import Experiment
from itae_jax.runs.read import RunResults, read_paper
from itae_jax.runs.results import Result

SAME_CLASSES = "of these classes"  # the source of an average over some of the paper's classes
# Graying erases nothing of these, so that rotation alone is the paper's set of transforms.
_GREY = ("mnist", "fashion_mnist")
# The paper's methods number the classes of these differently; only averages compare.
_CLASSES_IN_DOUBT = ("fashion_mnist",)
# Sides of images: what the paper prints for video, and what the experiment files choose where it prints none.
_SIZES = {"shanghaitech": 480, "imagenet2012": 128, "mvtec_ad": 256}
_AVERAGED = 10  # classes, where the paper prints the average alone
_NOT_CLASSES = ("avg", "SD")


class Cell(NamedTuple):
    """A number of the paper: percent as printed, empty if illegible; how it was read; its SD over runs."""

    text: str
    source: str = "printed"
    spread: str = ""

    @property
    def value(self) -> float | None:
        return float(self.text) if self.text else None


def rows_for(experiment: Experiment, dataset: Dataset, file: Path | None) -> list[dict[str, str]]:
    """Returns the rows of the paper's table on a data set; RequestError if its file is missing or damaged."""
    if not experiment.paper_table or file is None:
        return []
    if not file.is_file():
        raise RequestError(f"paper_table={experiment.paper_table!r}: there is no {file}")
    return [row for row in read_paper(file) if is_same_dataset(row["dataset"], dataset.name)]


def name_of(run: RunResults, table: str = "", score: str = "") -> str:
    """Returns the paper's name of a run's method; see `MethodConfig.paper_name`."""
    return run.experiment.method.paper_name(table, run.dataset in _GREY, score)


def cells(run: RunResults, score: str = "") -> dict[str, Cell]:
    """Returns the paper's cells for a run's method, by class number, "avg" and "SD"; see `cells_of`.

    `score` is the component that scores, if not the method's own.
    """
    return cells_of(run, name_of(run, run.experiment.paper_table, score))


def systems(run: RunResults) -> list[str]:
    """Returns the names of all methods in the paper's table of a run."""
    return list(dict.fromkeys(row["method"] for row in run.paper))


def cells_of(run: RunResults, method: str) -> dict[str, Cell]:
    """Returns the cells of one of the paper's methods in the table of a run, by class number, "avg" and "SD".

    Empty for what the paper did not do, for other classes or a part of the data, and for a user's folder.
    Table 6 has runs of one class: their average and SD become the cell of class "1". Table 3 has one number,
    which becomes class "0" and the average.
    """
    if run.results[0].coverage != "complete":
        return {}
    rows = [row for row in run.paper if row["method"] == method]
    rows = [row for row in rows if is_same_dataset(row["dataset"], run.dataset)]
    found = {row["class"]: Cell(row["auroc"], row["source"]) for row in rows}
    if run.dataset in _CLASSES_IN_DOUBT:
        found = {key: cell for key, cell in found.items() if key in _NOT_CLASSES}
    if run.experiment.paper_table == "table6" and "avg" in found:
        return {"1": found["avg"]._replace(spread=found.get("SD", Cell("")).text)}
    if "all" in found:
        return {"0": found["all"], "avg": found["all"]}
    return found


def class_number(result: Result) -> int:
    """Returns the paper's number of a result's class; a run counts the MVTec AD categories that it finds."""
    if result.dataset == "mvtec_ad" and result.normal_class_name in mvtec_ad.CATEGORIES:
        return mvtec_ad.CATEGORIES.index(result.normal_class_name)
    return result.normal_class


def summary(found: Mapping[str, Cell], numbers: Sequence[int]) -> dict[str, Cell]:
    """Returns the "avg" and "SD" that compare with an average over these classes.

    Those of the paper if it averages over the same classes; of several of its classes, their cells' average.
    """
    classes = {str(number) for number in numbers}
    averaged = found.keys() - set(_NOT_CLASSES)
    if "avg" in found and (classes == averaged if averaged else len(classes) == _AVERAGED):
        return {key: found[key] for key in _NOT_CLASSES if key in found}
    own = [found[key] for key in classes if key in found]
    values = [cell.value for cell in own if cell.value is not None]
    if len(values) == len(classes) > 1:
        return {"avg": Cell(f"{mean(values):.1f}", SAME_CLASSES)}
    return {"avg": own[0]} if own and own[0].spread else {}


def sd_over_classes(values: Sequence[float], dataset: str) -> float:
    """Returns the SD as Table 1 has it: of the sample (n - 1), for ImageNet of the population."""
    return pstdev(values) if is_same_dataset("ImageNet", dataset) else stdev(values)


def reduced(run: RunResults) -> str:
    """Describes how a run is smaller than the paper's setup; empty if it is not, or if none compares."""
    coverage = run.results[0].coverage
    if not run.experiment.paper_table or coverage == "own":
        return ""
    chosen, method, data = experiments.flatten(run.experiment), type(run.experiment.method), run.experiment.data
    defaults = experiments.flatten(Experiment(method=method()))
    fields = experiments.fields_of(method).items()
    smaller = [name for name, field in fields if field.metadata["reduces"] and chosen[name] < defaults[name]]
    parts = [f"{name} {chosen[name]} instead of {defaults[name]}" for name in smaller]
    size = _SIZES.get(data.name, 0)
    parts += [f"images of {data.image_size} instead of {size}"] if 0 < data.image_size < size else []
    parts += [f"at most {data.limit_train} training images"] if data.limit_train else []
    parts += [f"at most {data.limit_test} test images"] if data.limit_test else []
    of_data = {"partial": ["a part of the data set"], "other": ["other classes"]}
    return ", ".join(parts + of_data.get(coverage, []))


def is_same_dataset(printed: str, ours: str) -> bool:
    """Returns whether the paper's name of a data set and ours, `CIFAR-10` and `cifar10`, mean the same."""
    ours = {"imagenet2012": "imagenet"}.get(ours, ours)
    return "".join(filter(str.isalnum, printed.lower())) == "".join(filter(str.isalnum, ours.lower()))
