"""Results as tables: by class, average and SD over classes, over seeds, beside the paper's numbers."""

import csv
import dataclasses
import io
from collections.abc import Iterable, Sequence
from statistics import mean, stdev

from itae_jax.report import columns, paper
from itae_jax.report.columns import Column
from itae_jax.runs.read import RunResults

MINUS = "\N{MINUS SIGN}"
SAME_CLASSES = "of these classes"  # what the paper's average is, if not of all
_MEASURES = {
    "auroc": "AUROC",
    "average_precision": "average precision",
    "anomalous": "anomalous",
    "best_f1": "best F1",
    "f1_of_all": "F1 if all are flagged",
    "pixel_auroc": "pixel AUROC",
    "aupro": "AUPRO to 0.3",
    "auroc_l1": "AUROC scored by l1",
    "auroc_l2": "AUROC scored by l2",
}


@dataclasses.dataclass(frozen=True)
class Line:
    """A class, the average over classes, or the SD over them: percent, mean over seeds.

    Attributes:
      key: of a class `class_key`; "avg"; "SD".
      spread: SD over seeds (n - 1); None for one seed, and where classes have different seeds.
      cell: the paper's, if it can be compared with.
      spread_cell: the paper's SD over runs.
    """

    key: str
    name: str
    value: float
    seeds: int
    spread: float | None = None
    cell: dict[str, str] | None = None
    spread_cell: dict[str, str] | None = None

    @property
    def is_class(self) -> bool:
        return self.key not in paper.NOT_CLASSES

    @property
    def digits(self) -> int:
        """Behind the point: as many as the paper prints, at least one."""
        return max(1, len((self.cell or {}).get("auroc", "").partition(".")[2]))

    @property
    def difference(self) -> float | None:
        """Ours minus the paper's, where it can be read."""
        return self.value - float(self.cell["auroc"]) if self.cell and self.cell["auroc"] else None

    @property
    def ours_text(self) -> str:
        spread = "" if self.spread is None else f" ± {self.spread:.{self.digits}f}"
        return f"{self.value:.{self.digits}f}{spread}"

    @property
    def paper_text(self) -> str:
        """The paper's number, and how it was read if it is not plainly printed."""
        return self._paper_text([])

    @property
    def paper_and_difference_text(self) -> str:
        return self._paper_text([self.difference_text] if self.difference_text else [])

    def _paper_text(self, more: list[str]) -> str:
        if self.cell is None:
            return ""
        spread = f" ± {self.spread_cell['auroc']}" if self.spread_cell else ""
        told = [] if self.cell["source"] == "printed" else [self.cell["source"]]
        mark = f" ({', '.join([*told, *more])})" if told or more else ""
        return f"{self.cell['auroc']}{spread}{mark}".strip()

    @property
    def difference_text(self) -> str:
        if self.difference is None:
            return ""
        return f"{self.difference:+.{self.digits}f}".replace("-", MINUS)


def class_key(row: dict[str, str]) -> str:
    """The paper's number of a class and its name: what rows have in common that stand in one line.

    The number alone does not tell: two folders of one name may have different classes.
    """
    return f"{paper.class_key(row)} {row['normal_class_name']}"


def _number(key: str) -> int:
    return int(key.partition(" ")[0])


def in_order(keys: Iterable[str]) -> list[str]:
    """Classes by their numbers, then "avg" and "SD"; each once."""
    keys = set(keys)
    classes = sorted(keys - set(paper.NOT_CLASSES), key=lambda key: (_number(key), key))
    return [*classes, *(key for key in paper.NOT_CLASSES if key in keys)]


def value_of(row: dict[str, str], measure: str) -> float | None:
    """A measure of a row as a fraction; None where it has none.

    `anomalous` is the share of test images that are, which is the average precision of chance, and
    `f1_of_all` the F1 of calling every image anomalous: what average precision and best F1 are to be
    compared with.
    """
    if measure not in ("anomalous", "f1_of_all"):
        return float(row[measure]) if row.get(measure) else None
    if not row.get("num_anomalous"):
        return None
    share = float(row["num_anomalous"]) / float(row["num_test"])
    return share if measure == "anomalous" else 2 * share / (1 + share)


def by_class(rows: Sequence[dict[str, str]], measure: str = "auroc") -> dict[str, list[dict[str, str]]]:
    """`class_key` -> the rows of it that have this measure, in order of class and seed."""
    found: dict[str, list[dict[str, str]]] = {}
    for row in sorted(rows, key=lambda row: int(row["seed"])):
        if value_of(row, measure) is not None:
            found.setdefault(class_key(row), []).append(row)
    return {key: found[key] for key in in_order(found)}


def lines(
    rows: Sequence[dict[str, str]], cells: dict[str, dict[str, str]], measure: str = "auroc"
) -> list[Line]:
    """A line for each class, then the average over classes and, of several classes, the SD.

    The paper's average and SD stand beside ours where all its classes were run; of some of them, the average
    of the paper's cells of the same ones.
    """
    classes = by_class(rows, measure)
    if not classes:
        return []
    of_class, keys = [], []
    for class_, of_seeds in classes.items():
        key = paper.class_key(of_seeds[0])
        values = [100 * value_of(row, measure) for row in of_seeds]
        spread = stdev(values) if len(values) > 1 else None
        name, cell = of_seeds[0]["normal_class_name"], cells.get(key)
        of_class.append(Line(class_, name, mean(values), len(values), spread, cell, cells.get(f"SD of {key}")))
        keys.append(key)
    complete = cells if paper.covers(cells, keys) else {}
    values = [line.value for line in of_class]
    seeds = {tuple(row["seed"] for row in of_seeds) for of_seeds in classes.values()}
    by_seed = [
        mean(100 * value_of(row, measure) for row in one) for one in zip(*classes.values(), strict=False)
    ]
    spread = stdev(by_seed) if len(seeds) == 1 and len(by_seed) > 1 else None
    average = Line("avg", "average", mean(values), min(line.seeds for line in of_class), spread)
    average = dataclasses.replace(average, cell=complete.get("avg") or _over(cells, keys))
    if len(of_class) == 1 and of_class[0].spread_cell:  # runs of one class: the paper's average is over them
        average = dataclasses.replace(of_class[0], key="avg", name="average")
    result = [*of_class, average]
    if len(values) > 1:
        sd = paper.sd_over_classes(values, rows[0]["dataset"])
        result.append(Line("SD", "SD over classes", sd, average.seeds, cell=complete.get("SD")))
    return result


def _over(cells: dict[str, dict[str, str]], keys: Sequence[str]) -> dict[str, str] | None:
    """The average of the paper's cells of several of its classes; None if one of them is not legible."""
    printed = [cells.get(key, {}).get("auroc", "") for key in keys]
    if len(printed) < 2 or not all(printed):
        return None
    return {"auroc": f"{mean(map(float, printed)):.1f}", "source": SAME_CLASSES}


def of(column: Column) -> list[Line]:
    """The lines of a column of a table."""
    return lines(column.found.rows, column.cells, column.measure)


def averages_differ(told: Sequence[Sequence[Line]]) -> bool:
    """Whether the averages of several columns are over different classes."""
    classes = [{line.key for line in of_column if line.is_class} for of_column in told]
    return len({frozenset(of_column) for of_column in classes if of_column}) > 1


@dataclasses.dataclass(frozen=True)
class Grid:
    """A table of texts; the rows from `summary` on summarise those before."""

    header: list[str]
    rows: list[list[str]]
    summary: int


def grid(of_dataset: Sequence[Column]) -> Grid:
    """AUROC by class, each method before the paper's number and the difference to it.

    Averages over different classes say over how many.
    """
    told = [of(column) for column in of_dataset]
    single = len(told) == 1
    header = ["normal class"]
    names = {line.key: line.name for of_column in told for line in of_column}
    for column, of_column in zip(of_dataset, told, strict=True):
        header.append(f"{column.title}: AUROC, %" if single else column.title)
        if any(line.cell for line in of_column):
            header += ["paper", f"ours {MINUS} paper"] if single else [f"paper (ours {MINUS} paper)"]
    if sum(key not in paper.NOT_CLASSES for key in names) == 1:
        names.pop("avg")
    differ = averages_differ(told)
    rows = []
    for key in in_order(names):
        row = [names[key]]
        for of_column in told:
            line = next((line for line in of_column if line.key == key), None)
            mark = f" ({count_classes(of_column)})" if differ and key == "avg" and line else ""
            row.append(line.ours_text + mark if line else "")
            if any(line.cell for line in of_column):
                of_paper = (line.paper_text, line.difference_text) if line else ("", "")
                row += of_paper if single else [line.paper_and_difference_text if line else ""]
        rows.append(row)
    return Grid(header, rows, sum(key not in paper.NOT_CLASSES for key in names))


def count_classes(of_column: Sequence[Line]) -> str:
    """Of how many classes these lines are, in words."""
    count = sum(line.is_class for line in of_column)
    return f"{count} class{'es' * (count != 1)}"


def seeds_grid(column: Column) -> Grid | None:
    """AUROC of every seed by class; None for one seed."""
    seeds = column.found.seeds
    if len(seeds) < 2:
        return None
    told = {line.key: line for line in of(column)}
    rows = []
    for key, of_seeds in by_class(column.found.rows, column.measure).items():
        line = told[key]
        values = {row["seed"]: f"{100 * value_of(row, column.measure):.{line.digits}f}" for row in of_seeds}
        spread = "" if line.spread is None else f"{line.spread:.{line.digits}f}"
        average = f"{line.value:.{line.digits}f}"
        rows.append([line.name, *(values.get(seed, "") for seed in seeds), average, spread])
    return Grid(["normal class", *(f"seed {seed}" for seed in seeds), "mean", "SD"], rows, len(rows))


def measures_grid(found: RunResults) -> Grid:
    """All measures in percent, by class, and their averages over classes.

    Where a measure is not of all classes, its average says over how many.
    """
    same_as_auroc = f"auroc_{found.experiment.evaluate.error}"
    told = {
        title: [line for line in lines(found.rows, {}, measure) if line.key != "SD"]
        for measure, title in _MEASURES.items()
        if measure != same_as_auroc
    }
    told = {title: of_measure for title, of_measure in told.items() if of_measure}
    names = {line.key: line.name for of_measure in told.values() for line in of_measure}
    classes = [key for key in in_order(names) if key not in paper.NOT_CLASSES]
    differ = averages_differ(list(told.values()))
    rows = []
    for key in [*classes, "avg"] if len(classes) > 1 else classes:
        row = [names[key]]
        for of_measure in told.values():
            line = next((line for line in of_measure if line.key == key), None)
            mark = f" ({count_classes(of_measure)})" if differ and key == "avg" else ""
            row.append(line.ours_text + mark if line else "")
        rows.append(row)
    return Grid(["normal class", *told], rows, len(classes))


def as_text(table: Grid) -> str:
    """In columns, the first flush left."""
    everything = [[" ".join(cell.split()) for cell in row] for row in (table.header, *table.rows)]
    widths = [max(len(row[i]) for row in everything) for i in range(len(table.header))]

    def line(row):
        first, *rest = (cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        return "  ".join([row[0].ljust(len(first)), *rest]).rstrip()

    return "\n".join(map(line, everything))


def in_markdown(text: str) -> str:
    """A text that is in no way Markdown's or HTML's own, in one line."""
    for sign, escaped in (("\\", "\\\\"), ("|", "\\|"), ("&", "&amp;"), ("<", "&lt;")):
        text = text.replace(sign, escaped)
    return " ".join(text.split())


def as_markdown(table: Grid, texts: int = 1) -> list[str]:
    """The lines of a Markdown table; the first columns hold `texts`, the others numbers."""

    def line(cells):
        return "| " + " | ".join(map(in_markdown, cells)) + " |"

    rows = [line(row) for row in table.rows[: table.summary]]
    rows += [line([f"**{row[0]}**", *row[1:]]) for row in table.rows[table.summary :]]
    return [line(table.header), line(["---"] * texts + ["--:"] * (len(table.header) - texts)), *rows]


CSV_COLUMNS = (
    *("experiment", "column", "dataset", "data_copy", "transform", "settings", "dtype", "device", "reduced"),
    *("measure", "class", "name", "seeds", "ours", "sd_over_seeds", "paper", "paper_source", "difference"),
)


def as_csv(results: Sequence[RunResults]) -> str:
    """Every number of the report, one a line, in percent."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, CSV_COLUMNS, lineterminator="\n")
    writer.writeheader()
    told = [column for of_dataset in columns.by_dataset(results) for column in of_dataset]
    for column in told:
        same = [other for other in told if other.found is column.found]
        measures = [column.measure]
        if same[0] is column:  # the others tell of another error alone
            elsewhere = {other.measure for other in same[1:]}
            measures = [m for m in _MEASURES if m not in elsewhere and (m != "auroc" or not elsewhere)]
        row = column.found.rows[0]
        common = {key: row[key] for key in CSV_COLUMNS if key in row}
        common |= {"column": column.title, "reduced": column.found.reduced or "no"}
        for measure in measures:
            cells = column.cells if measure == column.measure else {}
            for line in lines(column.found.rows, cells, measure):
                writer.writerow(common | _csv_numbers(line) | {"measure": measure})
    return buffer.getvalue()


def _csv_numbers(line: Line) -> dict[str, str | int]:
    cell = line.cell or {"auroc": "", "source": ""}
    return {
        "class": _number(line.key) if line.is_class else line.key,
        "name": line.name,
        "seeds": line.seeds,
        "ours": f"{line.value:.4f}",
        "sd_over_seeds": "" if line.spread is None else f"{line.spread:.4f}",
        "paper": cell["auroc"],
        "paper_source": cell["source"],
        "difference": "" if line.difference is None else f"{line.difference:+.4f}",
    }
