"""The section of docs/results.md on what one setting changes: trainings alike but for that."""

import itertools
from collections.abc import Callable, Sequence

import publish_rows

from itae_jax import config
from itae_jax.report import paper, tables

_DEFAULTS = {field: str(value) for field, value in config.flatten(config.Experiment()).items()}
_SECTIONS = ("train.", "model.")
# Fields that tables have columns or sections for.
_SHOWN_ELSEWHERE = ("train.epochs", "train.loss", "model.width")
_ALIKE = [key for key in publish_rows.SAME if key != "settings"]
_HEADER = [
    *("experiment", "training", "normal class", "setting", "AUROC, %"),
    *("instead of", "AUROC, %", "difference"),
]


def pairs(rows: Sequence[dict[str, str]]) -> list[tuple[str, dict[str, str], dict[str, str]]]:
    """(field, row, row): all pairs of trainings that differ in that setting of training alone.

    The second has it as the experiment file has it, where one of the two does.
    """
    measured = [row for row in rows if row["auroc"]]
    alike: dict[tuple, list[dict[str, str]]] = {}
    for field in sorted({field for row in measured for field in paper.settings(row)}):
        if not field.startswith(_SECTIONS) or field in _SHOWN_ELSEWHERE:
            continue
        for row in measured:
            others = frozenset(one for one in paper.settings(row).items() if one[0] != field)
            alike.setdefault((field, *(row[key] for key in _ALIKE), others), []).append(row)
    return [
        (field, *sorted(both, key=lambda row, field=field: _is_the_experiments(row, field)))
        for (field, *_), found in alike.items()
        for both in itertools.combinations(found, 2)
    ]


def _value(row: dict[str, str], field: str) -> str:
    return paper.setting(row, field, _DEFAULTS.get(field, ""))


def _is_the_experiments(row: dict[str, str], field: str) -> bool:
    experiment = publish_rows.experiments(row["experiment"]).get(row["variant"])
    return experiment is not None and str(config.flatten(experiment).get(field)) == _value(row, field)


def sections(rows: Sequence[dict[str, str]], training: Callable[[dict[str, str]], str]) -> list[str]:
    """The section, empty without pairs; `training` tells in short how a row came about."""
    told = []
    for field, row, usual in pairs(rows):
        common = " ".join(f"{name}={value}" for name, value in paper.settings(row).items() if name != field)
        aurocs = [100 * float(one["auroc"]) for one in (row, usual)]
        difference = f"{aurocs[0] - aurocs[1]:+.1f}".replace("-", tables.MINUS)
        reduced = " (reduced)" if paper.reduced(row) else ""
        line = [row["experiment"] + reduced, training(row | {"settings": common}), row["normal_class_name"]]
        line += [f"{field}={_value(row, field)}", f"{aurocs[0]:.1f}"]
        told.append([*line, _value(usual, field), f"{aurocs[1]:.1f}", difference])
    if not told:
        return []
    table = tables.as_markdown(tables.Grid(_HEADER, told, len(told)), texts=4)
    about = (
        "Trainings of the same class and seed, on the same device, that differ in one setting: each line is of "
        "one seed, and says nothing of the spread over seeds. What they tell of the paper's numbers and ours: "
        "[Beside the paper](paper.md#the-gap-on-cifar-10)."
    )
    return ["## What one setting changes", "", about, "", *table, ""]
