"""The paper's numbers: which of them stand beside which of ours, and what to say of them."""

import csv
import math
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import pstdev, stdev

from itae_jax.errors import RequestError
from itae_jax.files import read_csv

NOT_CLASSES = ("avg", "SD")
WIDTH, EPOCHS = 64, 500
# Where graying takes nothing away, rotation alone is the paper's set of transforms.
_GREY = ("mnist", "fashion_mnist")
# Of these the paper's methods follow different orders of the classes; only averages compare.
_CLASSES_IN_DOUBT = ("fashion_mnist",)
_METHODS = {"identity": "AE", "gray+rotate": "ITAE"}
_METHODS_OF = {
    "table4": {"identity": "AE", "scale": "AE+S", "gray": "AE+G", "rotate": "AE+R", "gray+rotate": "AE+G+R"},
}
# At the end of `data_copy`: classes are missing or others than the paper's, and so are anomalies.
_OTHER_CLASSES = re.compile(r", (\d+ of \d+ folders|\d+ classes instead of \d+|classes of other names)$")
# Of images: what the paper prints for video, and what the experiment files have where it prints none.
_SIZES = {"shanghaitech": "480", "imagenet2012": "128", "mvtec_ad": "256"}
# Fields whose defaults are the paper's training.
_TRAINED_ALIKE = (
    *("model.output", "train.batch_size", "train.learning_rate", "train.momentum", "train.weight_decay"),
    *("train.halve_every_epochs", "train.transforms_per_image"),
)
_AVERAGED = 10  # classes, where the paper prints the average alone


def read(path: Path, advice: str = "mend it") -> list[dict[str, str]]:
    """The paper's numbers in a CSV file; none where there is no such file.

    Raises:
      RequestError: it is damaged; the message ends with the advice.
    """
    try:
        rows = read_csv(path) if path.exists() else []
        if path.exists() and not rows:
            raise ValueError("it has no row")
        for row in rows:
            _check(row)
    except (OSError, csv.Error, ValueError) as error:
        raise RequestError(f"{path}: is damaged ({error}); {advice}") from None
    return rows


def _check(row: dict[str, str]) -> None:
    """Raises ValueError for what no row of the paper's numbers holds."""
    if None in row.values() or not {"dataset", "method", "class", "auroc", "source"} <= set(row):
        raise ValueError("a row is cut short")
    if not 0 <= float(row["auroc"] or 0) <= 100:
        raise ValueError(f"auroc={row['auroc']}, expected percent")
    if row.get("images_per_second"):  # of methods that the paper timed
        for column in ("images_per_second", "memory_mb", "auroc"):
            if not 0 < float(row.get(column) or 0) < math.inf:
                raise ValueError(f"{column}={row.get(column)!r}, expected a positive number")


def settings(row: dict[str, str]) -> dict[str, str]:
    """The config fields that a row of results was made with, where they are not at their defaults."""
    parts = re.split(r" (?=[a-z_.]+=)", row.get("settings", ""))  # a value may have spaces
    return dict(part.partition("=")[::2] for part in parts if part)


def setting(row: dict[str, str], field: str, default: str) -> str:
    """The value of a config field that a row of results was made with."""
    return settings(row).get(field, default)


def method_of(row: dict[str, str], table: str = "", error: str = "") -> str:
    """What the paper calls the method that a row of results used; empty for what it did not do.

    Args:
      table: of the paper; they name methods differently.
      error: by which restoration error was scored, if not by the one of the row's `auroc`.
    """
    loss = setting(row, "train.loss", "l2")
    error = error or setting(row, "evaluate.error", "l1")
    if table == "table5":
        return f"{loss}->{error}" if row["transform"] == "gray+rotate" else ""
    if (loss, error) != ("l2", "l1"):
        return ""
    methods = _METHODS_OF.get(table, _METHODS)
    if row["dataset"] in _GREY and row["transform"] == "rotate" and table not in _METHODS_OF:
        return "ITAE"
    return methods.get(row["transform"], "")


def cells(
    printed: Iterable[dict[str, str]], row: dict[str, str], table: str = "", error: str = ""
) -> dict[str, dict[str, str]]:
    """The paper's cells for the method that a row of results used: class index, "avg" or "SD" -> cell.

    Empty for what the paper did not do, for a part of its data, and for a folder of any name. Of Table 6
    the average and the SD over its ten runs stand for the class, under "1" and "SD of 1"; of Table 3 the
    one number stands for everything.
    """
    if _is_own_folder(row) or _is_part(row):
        return {}
    method = method_of(row, table, error)
    found = {
        cell["class"]: cell
        for cell in printed
        if cell["method"] == method and is_same_dataset(cell["dataset"], row["dataset"])
    }
    if row["dataset"] in _CLASSES_IN_DOUBT:
        found = {key: cell for key, cell in found.items() if key in NOT_CLASSES}
    if table == "table6":
        found = {key: found[of_runs] for key, of_runs in (("1", "avg"), ("SD of 1", "SD")) if of_runs in found}
    if "all" in found:
        found = {"0": found["all"], "avg": found["all"]}
    return found


def class_key(row: dict[str, str]) -> str:
    """The paper's number for the class of a row of results; ours counts the categories that are there."""
    if row["dataset"] == "mvtec_ad":
        from itae_jax.data.mvtec_ad import CATEGORIES

        if row["normal_class_name"] in CATEGORIES:
            return str(CATEGORIES.index(row["normal_class_name"]))
    return row["normal_class"]


def covers(paper: dict[str, dict[str, str]], classes: Sequence[str]) -> bool:
    """Whether these classes are all that the paper averages over."""
    averaged = set(paper) - set(NOT_CLASSES)
    return "avg" in paper and (set(classes) == averaged if averaged else len(classes) == _AVERAGED)


def sd_over_classes(values: Sequence[float], dataset: str) -> float:
    """Standard deviation as Table 1 has it: of the sample (n - 1), for ImageNet of the population."""
    return pstdev(values) if is_same_dataset("ImageNet", dataset) else stdev(values)


def reduced(row: dict[str, str]) -> str:
    """In what a result is of less than the paper's training and data, in words; empty if in nothing.

    Of a folder of the user's own the paper has nothing to be less than.
    """
    if _is_own_folder(row):
        return ""
    told, chosen = [], settings(row)
    if int(row["width"]) < WIDTH:
        told.append(f"width {row['width']} instead of {WIDTH}")
    if int(row["epochs"]) < EPOCHS:
        told.append(f"{row['epochs']} of {EPOCHS} epochs")
    size = _SIZES.get(setting(row, "data.name", row["dataset"]))
    if size and int(chosen.get("data.image_size", size)) < int(size):
        told.append(f"images of {chosen['data.image_size']} instead of {size}")
    for field, images in (("data.limit_train", "training"), ("data.limit_test", "test")):
        if field in chosen:
            told.append(f"at most {chosen[field]} {images} images")
    if _is_part(row):
        told.append("a part of the data set" if row["data_copy"].endswith("folders") else "other classes")
    return ", ".join(told)


def otherwise(row: dict[str, str]) -> str:
    """Which settings of training are not the paper's, in words; empty if none, or for a user's folder."""
    changed = [f"{field}={value}" for field, value in settings(row).items() if field in _TRAINED_ALIKE]
    return f"not the paper's training: {', '.join(changed)}" if changed and not _is_own_folder(row) else ""


def is_same_dataset(printed: str, ours: str) -> bool:
    """Whether the paper's name of a data set and ours, `CIFAR-10` and `cifar10`, are of the same."""
    ours = {"imagenet2012": "imagenet"}.get(ours, ours)
    return "".join(filter(str.isalnum, printed.lower())) == "".join(filter(str.isalnum, ours.lower()))


def _is_own_folder(row: dict[str, str]) -> bool:
    return setting(row, "data.name", row["dataset"]) == "folder"


def _is_part(row: dict[str, str]) -> bool:
    return bool(_OTHER_CLASSES.search(row.get("data_copy", "")))
