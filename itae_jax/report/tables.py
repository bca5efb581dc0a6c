"""Results as tables: by class, average and SD over classes, over seeds, beside the paper's numbers."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence

import pandas as pd

from itae_jax.report import paper
from itae_jax.report.paper import Cell
from itae_jax.runs.read import RunResults
from itae_jax.runs.results import Result

MINUS = "\N{MINUS SIGN}"
_MEASURES = {
    "auroc": "AUROC",
    "average_precision": "average precision",
    "anomalous": "anomalous",
    "best_f1": "best F1",
    "f1_of_all": "F1 if all are flagged",
    "pixel_auroc": "pixel AUROC",
    "aupro": "AUPRO to 0.3",
}


@dataclasses.dataclass(frozen=True, order=True)
class Key:
    """What a line is about; in the order of a table.

    A class is its number in the paper and its name: two folders may have different classes of one number.
    """

    rank: int
    number: int
    name: str

    @property
    def is_class(self) -> bool:
        return self.rank == 0


AVERAGE, SD = Key(1, 0, "average"), Key(2, 0, "SD over classes")


def class_key(result: Result) -> Key:
    """Returns what a result shares with those of the same class."""
    return Key(0, paper.class_number(result), result.normal_class_name)


@dataclasses.dataclass(frozen=True)
class Line:
    """A class, the average over classes, or the SD over them: percent, mean over seeds.

    `spread` is the SD over seeds (n - 1), None for one seed and where classes have different seeds; `cell` is
    the paper's number, if one compares.
    """

    key: Key
    value: float
    seeds: int
    spread: float | None = None
    cell: Cell | None = None

    @property
    def digits(self) -> int:
        """Decimals to show: as many as the paper prints, at least one."""
        return max(1, len(self.cell.text.partition(".")[2]) if self.cell else 0)

    @property
    def difference(self) -> float | None:
        """Ours minus the paper's, where it can be read."""
        return self.value - self.cell.value if self.cell and self.cell.value is not None else None

    @property
    def text(self) -> str:
        spread = "" if self.spread is None else f" ± {self.spread:.{self.digits}f}"
        return f"{self.value:.{self.digits}f}{spread}"

    @property
    def difference_text(self) -> str:
        return "" if self.difference is None else f"{self.difference:+.{self.digits}f}".replace("-", MINUS)

    @property
    def paper_text(self) -> str:
        """The paper's number and ours minus it."""
        return paper_text(self.cell, self.difference_text) if self.cell else ""


def paper_text(cell: Cell, difference: str = "") -> str:
    """Returns the paper's number, and how it was read if it is not plainly printed."""
    marks = ", ".join(filter(None, (cell.source.replace("printed", ""), difference)))
    spread = f" ± {cell.spread}" if cell.spread else ""
    return f"{cell.text}{spread}{f' ({marks})' if marks else ''}".strip()


def value_of(result: Result, measure: str) -> float | None:
    """Returns a measure of a result as a fraction; None where it has none.

    Average precision and best F1 compare with chance: `anomalous` is the share of anomalous test images, the
    average precision of a guess, and `f1_of_all` the F1 of flagging every image.
    """
    if measure not in ("anomalous", "f1_of_all"):
        return result.value(measure)
    if result.num_anomalous is None:
        return None
    share = result.num_anomalous / result.num_test
    return share if measure == "anomalous" else 2 * share / (1 + share)


def by_seed(results: Sequence[Result], measure: str = "auroc") -> pd.DataFrame:
    """Returns percent, a row for each class and a column for each seed; NaN where there is none."""
    found = [(one, value) for one in results if (value := value_of(one, measure)) is not None]
    rows = [(class_key(one), one.seed, 100 * value) for one, value in found]
    frame = pd.DataFrame(rows, columns=["class", "seed", "percent"])
    return frame.pivot(index="class", columns="seed", values="percent")


def lines(results: Sequence[Result], cells: Mapping[str, Cell], measure: str = "auroc") -> list[Line]:
    """Returns a line for each class, then the average over classes and, of several classes, the SD."""
    table = by_seed(results, measure)
    if table.empty:
        return []
    classes = [
        Line(key, percent.mean(), percent.count(), _spread(percent), cells.get(str(key.number)))
        for key, percent in table.iterrows()
    ]
    of_paper = paper.summary(cells, [line.key.number for line in classes])
    spread = _spread(table.mean()) if table.notna().all(axis=None) else None
    values, seeds = [line.value for line in classes], min(line.seeds for line in classes)
    found = [*classes, Line(AVERAGE, sum(values) / len(values), seeds, spread, of_paper.get("avg"))]
    if len(classes) > 1:
        sd = paper.sd_over_classes(values, results[0].dataset)
        found.append(Line(SD, sd, seeds, cell=of_paper.get("SD")))
    return found


def _spread(percent: pd.Series) -> float | None:
    return percent.std() if percent.count() > 1 else None


@dataclasses.dataclass(frozen=True)
class Column:
    """A run, scored in one way: `training` is the run's title, which several columns may show."""

    title: str
    training: str
    run: RunResults
    measure: str = "auroc"  # see `Result.value`
    cells: Mapping[str, Cell] = dataclasses.field(default_factory=dict)  # see `paper.cells`

    @functools.cached_property
    def lines(self) -> list[Line]:
        return lines(self.run.results, self.cells, self.measure)

    @property
    def is_reduced(self) -> bool:
        return bool(paper.reduced(self.run))

    @property
    def has_paper(self) -> bool:
        return any(line.cell for line in self.lines)


def averages_differ(columns: Sequence[Sequence[Line]]) -> bool:
    """Returns whether the averages of several columns are over different classes."""
    classes = [frozenset(line.key for line in of_column if line.key.is_class) for of_column in columns]
    return len(set(filter(None, classes))) > 1


def count_classes(of_column: Sequence[Line]) -> str:
    """Returns "3 classes"."""
    count = sum(line.key.is_class for line in of_column)
    return f"{count} class{'es' * (count != 1)}"


@dataclasses.dataclass(frozen=True)
class Grid:
    """A table of texts; the rows from `summary` on summarise those before."""

    header: list[str]
    rows: list[list[str]]
    summary: int


def _grid(columns: Sequence[tuple[str, dict[Key, str]]]) -> Grid:
    """Joins columns of (title, text of each key)."""
    keys = {key for _, texts in columns for key in texts}
    classes = sum(key.is_class for key in keys)
    shown = sorted(keys - {AVERAGE} if classes == 1 else keys)
    rows = [[key.name, *(texts.get(key, "") for _, texts in columns)] for key in shown]
    return Grid(["normal class", *(title for title, _ in columns)], rows, classes)


def _texts(of_column: Sequence[Line], differ: bool) -> dict[Key, str]:
    """Our numbers; the average says over how many classes it is if averages differ."""
    texts = {line.key: line.text for line in of_column}
    if differ and AVERAGE in texts:
        texts[AVERAGE] += f" ({count_classes(of_column)})"
    return texts


def grid(of_dataset: Sequence[Column]) -> Grid:
    """Returns AUROC by class, each method before the paper's number and the difference to it.

    Last stands the best of several methods of one pass, which others have to exceed.
    """
    columns = []
    differ = averages_differ([column.lines for column in of_dataset])
    for column in of_dataset:
        title = f"{column.title}: AUROC, %" if len(of_dataset) == 1 else column.title
        columns.append((title, _texts(column.lines, differ)))
        if column.has_paper:
            texts = {line.key: line.paper_text for line in column.lines}
            columns.append((f"paper (ours {MINUS} paper)", texts))
    one_pass = [column for column in of_dataset if column.run.experiment.method.ONE_PASS]
    if 1 < len(one_pass) < len(of_dataset):
        columns.append((f"best of {', '.join(column.title for column in one_pass)}", _best(one_pass)))
    return _grid(columns)


def _best(columns: Sequence[Column]) -> dict[Key, str]:
    """The highest number of each class, and of the averages if these compare, with the column's title."""
    differ = averages_differ([column.lines for column in columns])
    found: dict[Key, list[tuple[float, str]]] = {}
    for column in columns:
        for line in column.lines:
            if line.key.is_class or (line.key == AVERAGE and not differ):
                found.setdefault(line.key, []).append((line.value, column.title))
    return {key: f"{value:.1f} ({title})" for key, of_key in found.items() for value, title in [max(of_key)]}


def others_grid(of_dataset: Sequence[Column]) -> Grid | None:
    """Returns the rows of the paper's table that no column compares with, over the columns' classes."""
    runs, compared = [column.run for column in of_dataset], [column.cells for column in of_dataset]
    run = next((one for one in runs if one.paper), runs[0])
    keys = {line.key for column in of_dataset for line in column.lines if line.key.is_class}
    columns = []
    for system in paper.systems(run):
        if (cells := paper.cells_of(run, system)) not in compared:
            of_all = paper.summary(cells, [key.number for key in keys])
            found = {key: cells.get(str(key.number)) for key in keys}
            found |= {AVERAGE: of_all.get("avg"), SD: of_all.get("SD")}
            texts = {key: paper_text(cell) for key, cell in found.items() if cell}
            columns += [(system, texts)] if texts else []
    return _grid(columns) if columns else None


def measures(run: RunResults) -> dict[str, str]:
    """Returns the titles of all measures of a run, those of its further scores among them."""
    names = dict.fromkeys(name for result in run.measured for name in result.further_aurocs)
    further = {
        f"auroc_{name}": "AUROC by " + name.replace("_combine_", ", ").replace("_", " ") for name in names
    }
    return _MEASURES | {measure: title for measure, title in further.items() if not is_own_score(run, measure)}


def is_own_score(run: RunResults, measure: str) -> bool:
    """Returns whether a measure is the AUROC of the method's own score, maybe under another name."""
    return measure in ("auroc", run.experiment.method.own_score.replace("score_", "auroc_"))


def measures_grid(run: RunResults) -> Grid:
    """Returns all measures in percent, by class, and their averages over classes."""
    found = {
        title: [line for line in lines(run.results, {}, measure) if line.key != SD]
        for measure, title in measures(run).items()
    }
    differ = averages_differ(list(found.values()))
    return _grid([(title, _texts(of_measure, differ)) for title, of_measure in found.items() if of_measure])


def seeds_grid(column: Column) -> Grid | None:
    """Returns AUROC of every seed by class; None for one seed."""
    if len(column.run.seeds) < 2:
        return None
    table = by_seed(column.run.results, column.measure).reindex(columns=column.run.seeds)
    table.columns = [f"seed {seed}" for seed in table.columns]
    digits = {line.key: line.digits for line in column.lines}
    table["mean"], table["SD"] = table.mean(axis=1), table.std(axis=1)
    found = {title: numbers.dropna().items() for title, numbers in table.items()}
    return _grid([(title, {key: f"{x:.{digits[key]}f}" for key, x in items}) for title, items in found.items()])


def as_text(table: Grid) -> str:
    """Returns a table in aligned columns, the first flush left."""
    cells = [[" ".join(cell.split()) for cell in row] for row in (table.header, *table.rows)]
    first, *rest = (max(map(len, column)) for column in zip(*cells, strict=True))
    return "\n".join("  ".join([row[0].ljust(first), *map(str.rjust, row[1:], rest)]).rstrip() for row in cells)


def in_markdown(text: str) -> str:
    """Returns a text in one line, with \\, |, & and < escaped."""
    for sign, escaped in (("\\", "\\\\"), ("|", "\\|"), ("&", "&amp;"), ("<", "&lt;")):
        text = text.replace(sign, escaped)
    return " ".join(text.split())


def as_markdown(table: Grid, texts: int = 1) -> str:
    """Returns a Markdown table; the first columns hold `texts`, the others numbers."""

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(map(in_markdown, cells)) + " |"

    rows = [line(row) for row in table.rows[: table.summary]]
    rows += [line([f"**{row[0]}**", *row[1:]]) for row in table.rows[table.summary :]]
    rules = ["---"] * texts + ["--:"] * (len(table.header) - texts)
    return "\n".join([line(table.header), line(rules), *rows])
