"""Finished runs as tables beside the paper's numbers: Markdown, CSV, and one self-contained HTML page."""

import base64
import itertools
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from itae_jax import finished, paper, tables
from itae_jax.config import Experiment, flatten
from itae_jax.finished import RunResults
from itae_jax.results import write_text
from itae_jax.tables import Column

REDUCED = f"reduced: less than the paper's training (width {paper.WIDTH}, {paper.EPOCHS} epochs, all images)"


def read(directories: Sequence[Path]) -> list[RunResults]:
    """What the run directories hold, joined where they hold parts of one experiment.

    Raises:
      RequestError: one holds no finished run, or two contradict each other.
    """
    return finished.read_all(directories)


def text_tables(results: Sequence[RunResults]) -> str:
    """The tables in plain text, AUROC in percent."""
    parts = []
    for of_dataset in tables.columns(results):
        parts += [heading(of_dataset)]
        if any(column.found.rows for column in of_dataset):
            parts += [tables.as_text(tables.grid(of_dataset))]
        parts += [*notes(of_dataset), ""]
    return "\n".join(parts).rstrip()


def heading(of_dataset: Sequence[Column]) -> str:
    """What a table is about: the experiments and the data set."""
    names = dict.fromkeys(column.found.experiment.name for column in of_dataset)
    return f"{', '.join(names)}: {of_dataset[0].found.dataset}"


def notes(of_dataset: Sequence[Column]) -> list[str]:
    """A line for each training without an AUROC."""
    several = len({id(column.found) for column in of_dataset}) > 1
    lines = [
        f"{column.title}, {note}" if several else note for column in of_dataset for note in column.found.notes
    ]
    return list(dict.fromkeys(lines))


def describe(found: RunResults) -> str:
    """How a result came about, in a line."""
    row = found.about
    seeds, mark = ", ".join(found.seeds), f"; {REDUCED}" if _is_reduced(found) else ""
    devices = ", ".join(dict.fromkeys(row["device"] for row in found.rows)) or row["device"]
    commits = ", ".join(dict.fromkeys(row["commit"] for row in found.rows if row["commit"]))
    tested = ", ".join(dict.fromkeys(row["num_test"] for row in found.rows))
    return (
        f"{row['data_copy']}; transform {row['transform']}, width {row['width']}, {row['epochs']} epochs, "
        f"{row['dtype']}, seed {seeds}, {tested} test images, on {devices}"
        f"{f', commit {commits}' if commits else ''}{mark}"
    )


def _is_reduced(found: RunResults) -> bool:
    return bool(found.experiment.paper_table) and paper.is_reduced(found.about)


def write(directories: Sequence[Path]) -> Path:
    """Writes report.html, report.md and report.csv into the first directory; returns the first of them.

    The page has everything it shows inside it. The pictures of each run also go into its own directory,
    those that compare runs into the first, as PDF too, under figures/.
    """
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("itae_jax"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    results, out = read(directories), directories[0]
    groups = [_comparison(of_dataset, out) for of_dataset in tables.columns(results)]
    runs = [_section(found) for found in results]
    page = environment.get_template("report.html").render(groups=groups, runs=runs)
    write_text(out / "report.md", markdown(results))
    write_text(out / "report.csv", tables.as_csv(results))
    write_text(out / "report.html", page)
    return out / "report.html"


def markdown(results: Sequence[RunResults]) -> str:
    """The tables as Markdown."""
    parts = []
    for of_dataset in tables.columns(results):
        parts += [f"## {heading(of_dataset)}", "", *tables.as_markdown(tables.grid(of_dataset)), ""]
        if len(of_dataset) == 1 and not of_dataset[0].cells:
            parts += ["The paper has no number for this.", ""]
        for column in of_dataset:
            seeds = tables.seeds_grid(column)
            if seeds:
                parts += [f"By seed, {column.title}:", "", *tables.as_markdown(seeds), ""]
        shown = {id(column.found): column for column in of_dataset}
        for column in shown.values():
            parts += [f"### {column.title}", "", describe(column.found) + ".", ""]
            if column.found.rows:
                parts += [*tables.as_markdown(tables.measures_grid(column.found)), ""]
            parts += [f"- {note}" for note in column.found.notes] + [""] * bool(column.found.notes)
    return "\n".join(parts)


def _comparison(of_dataset: list[Column], out: Path) -> dict:
    """What the page shows of all methods on one data set."""
    name = of_dataset[0].found.dataset
    pictures = []
    for kind, figure, caption in _comparing_figures(of_dataset):
        path = out / "figures" / f"{kind}_{name}.png"
        url = _save(figure, path)
        figure.savefig(path.with_suffix(".pdf"), dpi=300, metadata={"CreationDate": None})  # for print
        pictures.append((kind.replace("_", " "), url, caption))
    seeds = [(column.title, tables.seeds_grid(column)) for column in of_dataset]
    return {
        "heading": heading(of_dataset),
        "reduced": any(_is_reduced(column.found) for column in of_dataset),
        "grid": tables.grid(of_dataset) if any(column.found.rows for column in of_dataset) else None,
        "notes": notes(of_dataset),
        "has_paper": any(column.cells for column in of_dataset),
        "seeds": [(title, grid) for title, grid in seeds if grid],
        "pictures": pictures,
    }


def _comparing_figures(of_dataset: list[Column]):
    """(kind, figure, caption) of the pictures that there are data for."""
    from itae_jax import comparisons

    told = [tables.lines(column.found.rows, column.cells, column.measure) for column in of_dataset]
    names = {line.key: line.name for of_column in told for line in of_column if line.key != "SD"}
    if len(names) == 2:
        del names["avg"]  # of one class
    if len(names) > 1 or (names and len(of_dataset) > 1):
        order = sorted(names, key=lambda key: (key == "avg", key.zfill(9)))
        bars = [
            _bars(column.title, of_column, order) for column, of_column in zip(of_dataset, told, strict=True)
        ]
        caption = "AUROC by normal class"
        caption += "; diamonds: the paper's" if any(column.cells for column in of_dataset) else ""
        caption += "; whiskers: one SD over seeds." if any(line.spread for one in told for line in one) else "."
        yield "bars", comparisons.bars_by_class([names[key] for key in order], bars), caption
    panels = _curve_panels(of_dataset)
    if panels:
        caption = "AUROC on the test set while training; bands are one SD over seeds. No epoch is chosen by it."
        yield "curves", comparisons.curves_over_epochs(panels), caption
    bubbles = _bubbles(of_dataset, told)
    if len(bubbles) > 1:
        caption = (
            "Speed of scoring, the memory that its program takes on a device (area of the circle), and AUROC "
            "averaged over the classes run. Dashed: the paper's own measurement, on a GTX 1080 Ti."
        )
        yield "efficiency", comparisons.efficiency(bubbles), caption
    maps = _maps(of_dataset)
    if maps:
        caption = "Where each method sees an anomaly. The outline is the defect's mask; blue labels are normal."
        yield "error_maps", comparisons.error_maps(*maps), caption


def _bars(title: str, of_column: list[tables.Line], order: list[str]):
    from itae_jax import comparisons

    by_key, nan = {line.key: line for line in of_column}, float("nan")
    there = [by_key.get(key) for key in order]
    return comparisons.Bars(
        title,
        [line.value if line else nan for line in there],
        [nan if line is None or line.spread is None else line.spread for line in there],
        [nan if line is None or line.difference is None else float(line.cell["auroc"]) for line in there],
    )


def _curve_panels(of_dataset: list[Column]):
    """(class name, curve of each method or None) for the classes that were followed while training."""
    from itae_jax import comparisons

    found = [finished.training_curves(column.found) for column in of_dataset]
    names = {
        row["normal_class"]: row["normal_class_name"] for column in of_dataset for row in column.found.rows
    }
    panels = []
    for index in sorted({key[0] for curves in found for key in curves}, key=int):
        methods = []
        for column, curves in zip(of_dataset, found, strict=True):
            of_seeds = [curve for (normal_class, _), curve in curves.items() if normal_class == index]
            epochs = sorted(set.intersection(*map(set, of_seeds))) if of_seeds else []
            values = np.array([[100 * curve[epoch] for epoch in epochs] for curve in of_seeds])
            methods.append(comparisons.Curve(column.title, np.array(epochs), values) if epochs else None)
        panels.append((names[index], methods))
    return panels


def _bubbles(of_dataset: list[Column], told: list[list[tables.Line]]):
    """Ours and the paper's, where the experiment's numbers of the paper tell of speed."""
    from itae_jax import comparisons

    printed = [row for row in of_dataset[0].found.paper if row.get("images_per_second")]
    if not printed:
        return []
    bubbles = []
    for column, of_column in zip(of_dataset, told, strict=True):
        rows = column.found.rows
        if not rows:
            continue
        seconds = sum(float(row["score_seconds"]) for row in rows)
        memory = max(float(row["score_memory_mib"] or 0) for row in rows) * 2**20 / 1e6
        average = next(line.value for line in of_column if line.key == "avg")
        if seconds and memory:
            speed = sum(int(row["num_test"]) for row in rows) / seconds
            bubbles.append(comparisons.Bubble(column.title, speed, average, memory))
    for row in printed:
        numbers = float(row["images_per_second"]), float(row["auroc"]), float(row["memory_mb"])
        bubbles.append(comparisons.Bubble(f"paper: {row['method']}", *numbers, is_paper=True))
    return bubbles


def _maps(of_dataset: list[Column]):
    """The arguments of `comparisons.error_maps` for the first class, where masks mark its defects."""
    first = next((column.found.rows[0] for column in of_dataset if column.found.rows), None)
    if first is None:
        return None
    shown, methods = None, []
    for column in {id(column.found): column for column in of_dataset}.values():
        same = [r for r in column.found.rows if r["normal_class"] == first["normal_class"]]
        saved = _illustrations(column.found.job_directory(same[0])) if same else {}
        if not {"maps", "masks"} <= set(saved) or not saved["masks"].any():
            continue
        shown = shown or saved
        if np.array_equal(saved["originals"], shown["originals"]):
            methods.append((column.title, saved["maps"]))
    if not methods:
        return None
    return shown["originals"], shown["masks"], shown["labels"].tolist(), shown["is_anomaly"], methods


def _illustrations(directory: Path) -> dict[str, np.ndarray]:
    try:
        with (directory / "illustrations.npz").open("rb") as file, np.load(file, allow_pickle=False) as saved:
            needed = ("labels", "is_anomaly", "originals", "inputs", "outputs")
            return {key: saved[key] for key in {*needed, *saved.files}}
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise finished.damaged(directory, error) from None


def _section(found: RunResults) -> dict:
    """What the page shows of one method by itself."""
    from itae_jax import figures

    panels, pictures, seen = [], [], set()
    for row in found.rows:
        directory = found.job_directory(row)
        title = row["normal_class_name"]
        if len(found.seeds) > 1:
            title += f", seed {row['seed']}"
        panels.append((title, *finished.read_scores(directory, row)))
        saved = _illustrations(directory)
        if row["normal_class"] in seen:
            continue  # the other seeds' pictures look alike
        seen.add(row["normal_class"])
        shown = [saved[key] for key in ("originals", "inputs", "outputs")]
        members = member_titles(row["transform"], len(saved["inputs"]))
        figure = figures.restorations(*shown, saved["labels"].tolist(), saved["is_anomaly"], members)
        name = f"restorations_class_{row['normal_class']}_seed_{row['seed']}.png"
        root = found.directories[row["normal_class"], row["seed"]]
        pictures.append((title, row["auroc"], _save(figure, root / "figures" / name)))
    flat, defaults = flatten(found.experiment), flatten(Experiment())
    pictured = found.roots[0] / "figures"
    return {
        "name": " ".join(filter(None, (found.experiment.name, found.experiment.variant))),
        "directories": [str(root) for root in found.roots],
        "duplicates": found.duplicates,
        "description": describe(found),
        "notes": found.notes,
        "measures": tables.measures_grid(found) if found.rows else None,
        "settings": {key: value for key, value in flat.items() if value != defaults[key] and key != "name"},
        "histograms": panels and _save(figures.score_histograms(panels), pictured / "histograms.png"),
        "roc": panels and _save(figures.roc_curves(panels), pictured / "roc.png"),
        "pictures": pictures,
    }


_MEMBERS = {"rotate": ("0°", "90°", "180°", "270°")}


def member_titles(transform: str, count: int) -> list[str]:
    """What tells the members of a transform apart: the angles of rotations, else numbers."""
    parts = [_MEMBERS.get(part, ("",)) for part in transform.split("+")]
    titles = [" ".join(filter(None, members)) for members in itertools.product(*parts)]
    return titles if len(titles) == count else [str(index) for index in range(count)]


def _save(figure, path: Path) -> str:
    """Writes the figure as PNG and returns it as a data URL."""
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path, dpi=120)
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()
