"""Finished runs as a table beside the paper's numbers and as one self-contained HTML page."""

import base64
import dataclasses
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from itae_jax.config import Experiment, flatten
from itae_jax.errors import RequestError
from itae_jax.results import is_same_dataset, job_directory, read_config, read_csv, read_results, write_text


@dataclasses.dataclass(frozen=True)
class RunResults:
    """What a run directory holds.

    Attributes:
      about: the first row of results.csv, for what all rows have in common.
      rows: those that have an AUROC, sorted by class and seed.
      notes: a line for each that has none.
      paper: the paper's cells for the same method, by class index, "avg" and "SD".
    """

    directory: Path
    experiment: Experiment
    about: dict[str, str]
    rows: list[dict[str, str]]
    notes: list[str]
    paper: dict[str, dict[str, str]]


def read(directory: Path) -> RunResults:
    """Reads a run directory.

    Raises:
      RequestError: it holds no finished run.
    """
    if not (directory / "results.csv").is_file():
        raise RequestError(f"{directory}: no results.csv there; name the --out directory of a run")
    experiment = read_config(directory / "config.json")
    every = [row for _, row in sorted(read_results(directory).items())]
    if not every:
        raise RequestError(f"{directory}: results.csv has no row yet; let a training finish")
    printed = read_csv(directory / "paper.csv") if (directory / "paper.csv").exists() else []
    rows = [row for row in every if row["auroc"]]
    notes = [
        f"class {row['normal_class_name']}, seed {row['seed']}: {row['note']}" for row in every if row["note"]
    ]
    return RunResults(directory, experiment, every[0], rows, notes, paper_cells(printed, every[0]))


# Where graying takes nothing away, rotation alone is the paper's set of transforms.
_GREY = ("mnist", "fashion_mnist")
# Of these the paper's methods follow different orders of the classes; only averages compare.
_CLASSES_IN_DOUBT = ("fashion_mnist",)
NOT_CLASSES = ("avg", "SD")


def paper_cells(printed: Sequence[dict[str, str]], row: dict[str, str]) -> dict[str, dict[str, str]]:
    """The paper's cells for the method that a row of results used: class index, "avg" or "SD" -> cell.

    Empty for what the paper did not do. Illegible cells are left out.
    """
    ours = {"identity": "AE", "gray+rotate": "ITAE"}
    if row["dataset"] in _GREY:
        ours["rotate"] = "ITAE"
    return {
        cell["class"]: cell
        for cell in printed
        if cell["method"] == ours.get(row["transform"])
        and is_same_dataset(cell["dataset"], row["dataset"])
        and cell["auroc"]
        and not (row["dataset"] in _CLASSES_IN_DOUBT and cell["class"] not in NOT_CLASSES)
    }


def covers(paper: dict[str, dict[str, str]], dataset: str, classes: Sequence[str]) -> bool:
    """Whether these classes are all that the paper averages over."""
    averaged = 10 if dataset in _CLASSES_IN_DOUBT else len(set(paper) - set(NOT_CLASSES))
    return "avg" in paper and len(classes) == averaged


def by_class(rows: Sequence[dict[str, str]]) -> dict[str, tuple[str, list[float]]]:
    """class index -> (its name, AUROC in percent of each seed), in the order of the classes."""
    found: dict[str, tuple[str, list[float]]] = {}
    for row in sorted(rows, key=lambda row: (int(row["normal_class"]), int(row["seed"]))):
        aurocs = found.setdefault(row["normal_class"], (row["normal_class_name"], []))[1]
        aurocs.append(100 * float(row["auroc"]))
    return found


@dataclasses.dataclass(frozen=True)
class TableLine:
    """A class, or the average over classes: AUROC in percent, mean over seeds.

    `source` says how far to trust the paper's number.
    """

    name: str
    auroc: float
    paper: float | None
    source: str
    seeds: int

    @property
    def cells(self) -> tuple[str, str, str, str]:
        mark = "" if self.source in ("printed", "") else f" ({self.source})"
        paper = "" if self.paper is None else f"{self.paper:.1f}{mark}"
        difference = "" if self.paper is None else f"{self.auroc - self.paper:+.1f}"
        return self.name, f"{self.auroc:.1f}", paper, difference


def table(results: RunResults) -> list[TableLine]:
    """A line for each class, and the average over classes last.

    The paper's average stands beside ours only where all its classes were run.
    """
    classes = by_class(results.rows)
    if not classes:
        return []

    def line(name, aurocs, seeds, key):
        cell = results.paper.get(key)
        printed = None if cell is None else float(cell["auroc"])
        return TableLine(name, float(np.mean(aurocs)), printed, "" if cell is None else cell["source"], seeds)

    lines = [line(name, aurocs, len(aurocs), key) for key, (name, aurocs) in classes.items()]
    complete = covers(results.paper, results.rows[0]["dataset"], list(classes))
    seeds = sum(line.seeds for line in lines)
    return [*lines, line("average", [line.auroc for line in lines], seeds, "avg" if complete else "")]


def text_table(results: RunResults) -> str:
    """The table in plain text, AUROC in percent, and the notes below it."""
    lines = table(results)
    if not lines:
        return "\n".join(results.notes)
    width = max(12, *(len(line.name) for line in lines))
    head = f"{'normal class':<{width}}  AUROC"
    if results.paper:
        head += "  paper  ours - paper"
    rows = []
    for line in lines:
        name, auroc, paper, difference = line.cells
        rows.append(f"{name:<{width}}  {auroc:>5}  {paper:>5}  {difference:>12}".rstrip())
    return "\n".join([head, *rows, *results.notes])


def write(directories: Sequence[Path]) -> Path:
    """Writes report.html into the first directory, with everything it shows inside it.

    The pictures of each run also go into its own directory, under figures/.
    """
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("itae_jax"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    runs = [_page_section(read(directory)) for directory in directories]
    path = directories[0] / "report.html"
    write_text(path, environment.get_template("report.html").render(runs=runs))
    return path


def _page_section(results: RunResults) -> dict:
    from itae_jax import figures

    panels, pictures = [], []
    pictured = results.directory / "figures"
    first_seeds = {row["normal_class"]: row["seed"] for row in reversed(results.rows)}
    for row in results.rows:
        directory = job_directory(results.directory, row["normal_class"], row["seed"])
        title = row["normal_class_name"]
        if len({other["seed"] for other in results.rows}) > 1:
            title += f", seed {row['seed']}"
        try:
            scores = read_csv(directory / "scores.csv")
            if not scores or any(None in score.values() for score in scores):
                raise ValueError("scores.csv is cut short")
            is_anomaly = np.array([score["label"] != row["normal_label"] for score in scores])
            panels.append((title, is_anomaly, np.array([float(score["score"]) for score in scores])))
            with (
                (directory / "illustrations.npz").open("rb") as file,
                np.load(file, allow_pickle=False) as saved,
            ):
                figure = figures.restorations(
                    saved["originals"],
                    saved["inputs"],
                    saved["outputs"],
                    saved["labels"].tolist(),
                    saved["is_anomaly"],
                )
        except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise RequestError(
                f"{directory}: its results are damaged ({error}); run the experiment into another directory"
            ) from None
        name = f"restorations_class_{row['normal_class']}_seed_{row['seed']}.png"
        if row["seed"] != first_seeds[row["normal_class"]]:
            continue  # the other seeds' pictures look alike
        pictures.append((title, row["auroc"], _save(figure, pictured / name)))
    flat = flatten(results.experiment)
    defaults = flatten(Experiment())
    return {
        "name": results.experiment.name,
        "directory": str(results.directory),
        "row": results.about,
        "notes": results.notes,
        "table": table(results),
        "has_paper": bool(results.paper),
        "settings": {key: value for key, value in flat.items() if value != defaults[key] and key != "name"},
        "histograms": panels and _save(figures.score_histograms(panels), pictured / "histograms.png"),
        "roc": panels and _save(figures.roc_curves(panels), pictured / "roc.png"),
        "pictures": pictures,
    }


def _save(figure, path: Path) -> str:
    """Writes the figure as PNG and returns it as a data URL."""
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path, dpi=120)
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()
