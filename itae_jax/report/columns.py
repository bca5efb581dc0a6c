"""The columns of tables: which results stand side by side, what each is called, and the paper's beside it."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from statistics import mode

from itae_jax.report import paper
from itae_jax.runs.read import RunResults


@dataclasses.dataclass(frozen=True)
class Column:
    """One method trained and scored in one way.

    Attributes:
      measure: the column of results.csv that is told.
      cells: the paper's numbers by class, "avg" and "SD"; see `paper.cells`.
    """

    title: str
    found: RunResults
    measure: str = "auroc"
    cells: dict[str, dict[str, str]] = dataclasses.field(default_factory=dict)


def by_dataset(results: Sequence[RunResults]) -> list[list[Column]]:
    """What can stand side by side: the columns of each data set.

    Where they were trained for different numbers of epochs, the titles say so.
    """
    of_dataset: dict[str, list[Column]] = {}
    titles = [_title(found) for found in results]
    for found, title, distinction in zip(results, titles, _distinctions(results, titles), strict=True):
        of_dataset.setdefault(found.dataset, []).extend(_views(found, title, distinction))
    return [_with_epochs(side_by_side) for side_by_side in of_dataset.values()]


def labelled(title: str, found: RunResults) -> str:
    """A title for what may be shown without its page."""
    return f"{title} (reduced)" if found.reduced else title


def trainings(of_dataset: Sequence[Column]) -> list[tuple[str, RunResults]]:
    """What was trained, once each: the title of its column, or the loss where several columns tell of it."""
    found: dict[int, list[Column]] = {}
    for column in of_dataset:
        found.setdefault(id(column.found), []).append(column)
    return [
        (first.title if not others else f"trained by {first.found.experiment.train.loss}", first.found)
        for first, *others in found.values()
    ]


def _with_epochs(side_by_side: list[Column]) -> list[Column]:
    epochs = [column.found.rows[0]["epochs"] for column in side_by_side]
    if len(set(epochs)) == 1:
        return side_by_side
    return [
        column
        if "train.epochs=" in column.title
        else dataclasses.replace(column, title=f"{column.title}, {count} epoch{'s' * (count != '1')}")
        for column, count in zip(side_by_side, epochs, strict=True)
    ]


def explained(of_dataset: Sequence[Column]) -> list[str]:
    """What an arrow in a title means."""
    titles = [column.title for column in of_dataset if " → " in column.title]
    return ["a → b: trained by the loss a, scored by the error b."] if titles else []


def unlike(of_dataset: Sequence[Column]) -> list[str]:
    """What the columns do not have in common and their titles may not tell: width, dtype, copy of the data."""
    told = []
    for key, name in (("width", "width"), ("dtype", "dtype"), ("data_copy", "data")):
        values = {column.title: column.found.rows[0][key] for column in of_dataset}
        if len(set(values.values())) > 1:
            usual = mode(values.values()) if len(values) > 2 else None
            parts = [f"{title}: {value}" for title, value in values.items() if value != usual]
            parts += [f"the others: {usual}"] if usual is not None else []
            told.append(f"Not alike in {name}: {'; '.join(parts)}.")
    return told


def _views(found: RunResults, title: str, distinction: str) -> list[Column]:
    """A trained method, once for each way of scoring it that its table compares."""
    table, row = found.experiment.paper_table, found.rows[0]
    if table != "table5":
        return [Column(title + distinction, found, "auroc", paper.cells(found.paper, row, table))]
    loss = found.experiment.train.loss
    return [
        Column(
            f"{loss} → {error}{distinction}",
            found,
            f"auroc_{error}",
            paper.cells(found.paper, row, table, error),
        )
        for error in ("l1", "l2")
    ]


def _title(found: RunResults) -> str:
    """The variant, what the paper calls the method, or what is erased and what is not as the paper does it."""
    row = found.rows[0]
    other = [
        f"{field}={value}"
        for field, value in paper.settings(row).items()
        if field in ("train.loss", "evaluate.error")
    ]
    return found.experiment.variant or paper.method_of(row) or ", ".join([row["transform"], *other])


def _distinctions(results: Sequence[RunResults], titles: Sequence[str]) -> list[str]:
    """What tells like titles of one data set apart: settings that differ, data, experiment, or place."""
    distinctions = [""] * len(results)
    alike: dict[tuple, list[int]] = {}
    for index, (found, title) in enumerate(zip(results, titles, strict=True)):
        alike.setdefault((found.dataset, title), []).append(index)
    for indices in alike.values():
        if len(indices) > 1:
            rows = [results[index].rows[0] for index in indices]
            told = _differing([paper.settings(row) for row in rows])
            if len(set(told)) < len(told):
                told = [row["data_copy"] for row in rows]
            if len(set(told)) < len(told):
                told = [results[index].experiment.name for index in indices]
            if len(set(told)) < len(told):
                told = _shortest([_place(results[index]) for index in indices])
            for index, text in zip(indices, told, strict=True):
                distinctions[index] = f" ({text})" if text else ""
    return distinctions


def _differing(settings: Sequence[dict[str, str]]) -> list[str]:
    """Of each the fields in which not all agree."""
    fields = dict.fromkeys(field for one in settings for field in one)
    differ = [field for field in fields if len({one.get(field) for one in settings}) > 1]
    return [", ".join(f"{field}={one[field]}" for field in differ if field in one) for one in settings]


def _place(found: RunResults) -> Path:
    return found.roots[0] if found.roots else Path(found.rows[0]["device"])


def _shortest(paths: Sequence[Path]) -> list[str]:
    """The last parts of each path, as few as tell them apart; all of them if none do."""
    longest = max(len(path.parts) for path in paths)
    for count in range(1, longest + 1):
        told = ["/".join(path.parts[-count:]) for path in paths]
        if len(set(told)) == len(told):
            break
    return told
