"""The columns of tables: which runs stand side by side, what each is called, and what to know of them."""

import dataclasses
import itertools
import os
from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd

from itae_jax import experiment
from itae_jax.report import paper, tables
from itae_jax.report.tables import Column, Line
from itae_jax.runs.read import RunResults

DIFFERENT_CLASSES = "The averages are over different classes and do not compare; compare class by class."


def by_dataset(runs: Sequence[RunResults]) -> list[list[Column]]:
    """Returns the columns of each data set, which can stand side by side.

    A title is the variant, the paper's name of the method, or the method's own title. Equal titles say in
    what their runs differ; numbers of epochs that are neither the same nor the method's default are added.
    """
    of_dataset: dict[str, list[RunResults]] = {}
    for run in runs:
        of_dataset.setdefault(run.dataset, []).append(run)
    return [list(_columns(side_by_side)) for side_by_side in of_dataset.values()]


def _columns(runs: Sequence[RunResults]) -> Iterator[Column]:
    """Each run once, or once for each of the scores that its table of the paper compares."""
    differ = len({run.experiment.train.epochs for run in runs}) > 1
    for run, suffix in zip(runs, _distinctions(runs), strict=True):
        if differ and "train.epochs" in experiment.changed(run.experiment) and "train.epochs=" not in suffix:
            suffix += f", {epochs_text(run)}"
        title = _title(run) + suffix
        compared = run.experiment.method.score_titles(run.experiment.paper_table)
        if not compared:
            yield Column(title, title, run, "auroc", paper.cells(run))
        for name, of_score in compared.items():
            measure = name.replace("score_", "auroc_")
            yield Column(of_score + suffix, title, run, measure, paper.cells(run, name))


def _title(run: RunResults) -> str:
    recipe = experiment.recipe_of(run.experiment)
    title = paper.name_of(run) or run.experiment.method.title
    return run.experiment.variant or (f"{title}, {recipe} recipe" if recipe else title)


def _distinctions(runs: Sequence[RunResults]) -> list[str]:
    """What tells each run from others of its title: settings, else data, experiment or directory."""
    suffixes, titles = [""] * len(runs), list(map(_title, runs))
    for title in set(titles):
        alike = [index for index, other in enumerate(titles) if other == title]
        same = [runs[index] for index in alike]
        places = [run.roots[0].absolute() for run in same]
        common = os.path.commonpath(places)
        choices = [[", ".join(texts) for texts in _differing(same)]]
        choices += [[run.results[0].data_source for run in same], [run.experiment.name for run in same]]
        choices += [[os.path.relpath(place, common) for place in places]]
        texts = next((texts for texts in choices if len(set(texts)) == len(same)), choices[-1])
        for index, text in zip(alike, texts, strict=True):
            suffixes[index] = f" ({text})" if text else ""
    return suffixes


def _differing(runs: Sequence[RunResults]) -> list[list[str]]:
    """Of each run the settings in which they differ and that are not at their default."""
    chosen = [experiment.changed(run.experiment) for run in runs]
    names = dict.fromkeys(itertools.chain(*chosen))
    differ = [name for name in names if len({one.get(name) for one in chosen}) > 1]
    return [[f"{name}={one[name]}" for name in differ if name in one] for one in chosen]


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
    titles, runs = zip(*trainings(of_dataset), strict=True)
    settings = [", ".join(of_run) or "defaults" for of_run in _differing(runs)]
    for what, texts in (("Settings", settings), ("Data", [run.results[0].data_source for run in runs])):
        if len(set(texts)) > 1:
            pairs = zip(titles, texts, strict=True)
            found.append(f"{what} that differ: {'; '.join(f'{title}: {text}' for title, text in pairs)}.")
    for notes_of in ([about_paper(run) for run in runs], [run.notes for run in runs]):
        if all(one == notes_of[0] for one in notes_of):
            found += notes_of[0]
        else:
            found += [f"{title}, {note}" for title, own in zip(titles, notes_of, strict=True) for note in own]
    return found


def about_paper(run: RunResults) -> list[str]:
    """Returns how a run is smaller than the paper's setup, as a sentence; nothing if it is not."""
    reduced = paper.reduced(run)
    return [f"reduced: {reduced}"] if reduced else []


def describe(run: RunResults) -> str:
    """Returns in a line how a run's results came about."""

    def each(attribute: str) -> str:
        values = [getattr(result, attribute) for result in run.results]
        return ", ".join(dict.fromkeys(str(value) for value in values if value))

    commit, seeds = f", commit {each('commit')}" if each("commit") else "", ", ".join(map(str, run.seeds))
    return (
        f"{each('data_source')}; {run.experiment.method.title}, {epochs_text(run)}, {each('dtype')}, "
        f"seed {seeds}, {each('num_test')} test images, on {each('device')}{commit}"
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
            further = [measure for measure in tables.measures(run) if measure not in elsewhere]
            own += [dataclasses.replace(own[0], measure=measure, cells={}) for measure in further]
            rows += [_numbers(column, line) for column in own for line in column.lines]
    return pd.DataFrame(rows, dtype=object)


def _numbers(column: Column, line: Line) -> dict[str, Any]:
    run, first, cell = column.run, column.run.results[0], line.cell or paper.Cell("", "")
    return {
        "experiment": run.experiment.name,
        "column": column.title,
        "dataset": run.dataset,
        "data_source": first.data_source,
        "method": first.method,
        "settings": " ".join(settings(run)),
        "dtype": first.dtype,
        "device": first.device,
        "reduced": paper.reduced(run) or "no",
        "measure": column.measure,
        "class": {tables.AVERAGE: "avg", tables.SD: "SD"}.get(line.key, line.key.number),
        "name": line.key.name,
        "seeds": line.seeds,
        "ours": f"{line.value:.4f}",
        "sd_over_seeds": "" if line.spread is None else f"{line.spread:.4f}",
        "paper": cell.text,
        "paper_source": cell.source,
        "difference": "" if line.difference is None else f"{line.difference:+.4f}",
    }
