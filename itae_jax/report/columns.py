"""The columns of tables: which runs stand side by side, what each is called, and what to know of them."""

import itertools
import os
from collections.abc import Iterator, Sequence
from statistics import mode

import pandas as pd

from itae_jax import experiment
from itae_jax.report import paper, tables
from itae_jax.report.tables import Column, Line
from itae_jax.runs.read import RunResults

DIFFERENT_CLASSES = "The averages are over different classes and do not compare; compare class by class."
_CSV_COLUMNS = (
    *("experiment", "column", "dataset", "data_source", "method", "settings", "dtype", "device", "reduced"),
    *("measure", "class", "name", "seeds", "ours", "sd_over_seeds", "paper", "paper_source", "difference"),
)


def by_dataset(runs: Sequence[RunResults]) -> list[list[Column]]:
    """Returns the columns of each data set, which can stand side by side.

    A title is the variant, the paper's name of the method, or the method's own title. Equal titles say in
    what their runs differ; all say the number of epochs where it is not the same.
    """
    of_dataset: dict[str, list[RunResults]] = {}
    for run in runs:
        of_dataset.setdefault(run.dataset, []).append(run)
    return [list(_columns(side_by_side)) for side_by_side in of_dataset.values()]


def _columns(runs: Sequence[RunResults]) -> Iterator[Column]:
    """Each run once, or once for each of the scores that its table of the paper compares."""
    differ = len({run.experiment.train.epochs for run in runs}) > 1
    for run, suffix in zip(runs, _distinctions(runs), strict=True):
        if differ and "train.epochs=" not in suffix:
            suffix += f", {epochs_text(run)}"
        title = _title(run) + suffix
        compared = run.experiment.method.score_titles(run.experiment.paper_table)
        if not compared:
            yield Column(title, title, run, "auroc", paper.cells(run))
        for name, of_score in compared.items():
            measure = f"auroc_{name.removeprefix('score_')}"
            yield Column(of_score + suffix, title, run, measure, paper.cells(run, name))


def _title(run: RunResults) -> str:
    return run.experiment.variant or paper.name_of(run) or run.experiment.method.title


def _distinctions(runs: Sequence[RunResults]) -> list[str]:
    """What tells each run from others of its title: settings that differ, else data, experiment or directory."""
    suffixes = [""] * len(runs)
    titles = [_title(run) for run in runs]
    for title in set(titles):
        alike = [index for index, other in enumerate(titles) if other == title]
        same = [runs[index] for index in alike]
        chosen = [experiment.changed(run.experiment) for run in same]
        names = dict.fromkeys(itertools.chain(*chosen))
        differ = [name for name in names if len({one.get(name) for one in chosen}) > 1]
        places = [run.roots[0].absolute() for run in same]
        common = os.path.commonpath(places)
        choices = (
            [", ".join(f"{name}={one[name]}" for name in differ if name in one) for one in chosen],
            [run.results[0].data_source for run in same],
            [run.experiment.name for run in same],
            [os.path.relpath(place, common) for place in places],
        )
        if len(same) > 1:
            texts = next((texts for texts in choices if len(set(texts)) == len(same)), choices[-1])
            for index, text in zip(alike, texts, strict=True):
                suffixes[index] = f" ({text})" if text else ""
    return suffixes


def trainings(of_dataset: Sequence[Column]) -> list[tuple[str, RunResults]]:
    """Returns (title, run) of each run once."""
    return list({id(column.run): (column.training, column.run) for column in of_dataset}.values())


def labelled(title: str, run: RunResults) -> str:
    """Returns a title for a picture, which may be shown without its page."""
    return f"{title} (reduced)" if paper.reduced(run) else title


def heading(of_dataset: Sequence[Column]) -> str:
    """Returns the experiments and the data set of a table."""
    names = ", ".join(dict.fromkeys(column.run.experiment.name for column in of_dataset))
    dataset = of_dataset[0].run.dataset
    return dataset if names == dataset else f"{names}: {dataset}"


def notes(of_dataset: Sequence[Column]) -> list[str]:
    """Returns what a reader of a table must know: which numbers do not compare, and what failed."""
    found = [DIFFERENT_CLASSES] if tables.averages_differ([column.lines for column in of_dataset]) else []
    found += _differences(of_dataset)
    runs = trainings(of_dataset)
    for texts_of in (about_paper, lambda run: run.notes):
        texts = {title: texts_of(run) for title, run in runs}
        if len(set(map(tuple, texts.values()))) == 1:
            found += next(iter(texts.values()))
        else:
            found += [f"{title}, {text}" for title, of_run in texts.items() for text in of_run]
    return found


def about_paper(run: RunResults) -> list[str]:
    """Returns in what a run differs from the paper's training, as sentences."""
    reduced, otherwise = paper.reduced(run), paper.otherwise(run)
    return [
        *([f"reduced, less than the paper's training: {reduced}"] if reduced else []),
        *([f"not the paper's training: {otherwise}"] if otherwise else []),
    ]


def _differences(of_dataset: Sequence[Column]) -> list[str]:
    """Sizes, dtype and data in which the columns differ, which their titles may not say."""
    runs = {column.title: column.run for column in of_dataset}
    values: dict[str, dict] = {}
    for title, run in runs.items():
        flat, fields = experiment.flatten(run.experiment), experiment.fields_of(type(run.experiment.method))
        sizes = [name for name, field in fields.items() if field.metadata["reduces"] and name != "train.epochs"]
        for name in (*sizes, "compute.dtype"):
            values.setdefault(name, {})[title] = flat[name]
        values.setdefault("data", {})[title] = run.results[0].data_source
    found = []
    for name, of_title in values.items():
        if len(set(of_title.values())) > 1:
            usual = mode(of_title.values()) if len(of_title) > 2 else None
            parts = [f"{title}: {value}" for title, value in of_title.items() if value != usual]
            parts += [f"the others: {usual}"] if usual is not None else []
            found.append(f"Not alike in {name}: {'; '.join(parts)}.")
    return found


def describe(run: RunResults) -> str:
    """Returns in a line how a run's results came about."""

    def each(attribute: str) -> str:
        values = [getattr(result, attribute) for result in run.results]
        return ", ".join(dict.fromkeys(str(value) for value in values if value))

    commit = f", commit {each('commit')}" if each("commit") else ""
    return (
        f"{each('data_source')}; {run.experiment.method.title}, {epochs_text(run)}, {each('dtype')}, "
        f"seed {', '.join(map(str, run.seeds))}, {each('num_test')} test images, on {each('device')}{commit}"
    )


def epochs_text(run: RunResults) -> str:
    """Returns "12 epochs"."""
    return f"{run.experiment.train.epochs} epoch{'s' * (run.experiment.train.epochs != 1)}"


def settings(run: RunResults) -> list[str]:
    """Returns the settings that are not at their defaults, as `name=value`."""
    return [f"{name}={value}" for name, value in experiment.changed(run.experiment).items()]


def as_frame(runs: Sequence[RunResults]) -> pd.DataFrame:
    """Returns every number of a report in percent, as texts, a row for each."""
    rows = []
    for of_dataset in by_dataset(runs):
        for _, run in trainings(of_dataset):
            own = [column for column in of_dataset if column.run is run]
            elsewhere = {"auroc", *(column.measure for column in own)}
            found = [(column.title, column.measure, column.lines) for column in own]
            found += [
                (own[0].title, measure, tables.lines(run.results, {}, measure))
                for measure in tables.measures(run)
                if measure not in elsewhere
            ]
            rows += [_numbers(run, title, measure, line) for title, measure, part in found for line in part]
    return pd.DataFrame(rows, columns=_CSV_COLUMNS, dtype=object)


def _numbers(run: RunResults, title: str, measure: str, line: Line) -> tuple:
    """The values of `_CSV_COLUMNS`."""
    first, cell = run.results[0], line.cell or paper.Cell("", "")
    return (
        *(run.experiment.name, title, run.dataset, first.data_source, first.method, " ".join(settings(run))),
        *(first.dtype, first.device, paper.reduced(run) or "no", measure),
        *({tables.AVERAGE: "avg", tables.SD: "SD"}.get(line.key, line.key.number), line.key.name, line.seeds),
        *(f"{line.value:.4f}", "" if line.spread is None else f"{line.spread:.4f}", cell.text, cell.source),
        "" if line.difference is None else f"{line.difference:+.4f}",
    )
