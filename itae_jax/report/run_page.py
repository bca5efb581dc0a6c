"""Finished runs as tables beside the paper's numbers: Markdown, CSV, and one self-contained HTML page."""

import errno
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from itae_jax.errors import RequestError
from itae_jax.files import write_bytes, write_text, writing
from itae_jax.report import columns, efficiency, html, paper, tables
from itae_jax.report.tables import Column
from itae_jax.runs import read as finished
from itae_jax.runs.read import RunResults


def read(paths: Sequence[Path]) -> list[RunResults]:
    """Reads run directories, and joins those that hold parts of one experiment.

    Raises:
      RequestError: one holds no finished run, or two contradict each other.
    """
    return finished.read_all(paths)


def text_tables(runs: Sequence[RunResults]) -> str:
    """Returns the tables in plain text, AUROC in percent."""
    parts = []
    for of_dataset in columns.by_dataset(runs):
        grid = tables.grid(of_dataset)
        table = [tables.as_text(grid)] if grid.rows else []
        parts.append("\n".join([columns.heading(of_dataset), *table, *columns.notes(of_dataset)]))
    return "\n\n".join(parts)


def markdown(runs: Sequence[RunResults]) -> str:
    """Returns the tables as Markdown."""
    groups = [_group(of_dataset) for of_dataset in columns.by_dataset(runs)]
    filters = {"table": tables.as_markdown, "plain": tables.in_markdown}
    return html.render("report.md", filters, groups=groups)


def make_out(out: Path) -> None:
    """Makes the directory for a report.

    Raises:
      RequestError: it cannot be made.
    """
    if out.is_file():
        raise RequestError(f"--out {out}: is a file; name a directory")
    with writing(out, "--out"):
        out.mkdir(parents=True, exist_ok=True)


def write(paths: Sequence[Path], out: Path | None = None) -> Path:
    """Writes report.html, report.md and report.csv, and returns the first of them.

    The page has everything it shows inside it. The pictures of each run also go into its own directory, if it
    can be written; those that compare runs go into `out`, as PDF too; both under figures/.

    Args:
      out: see `make_out`; None: the first of the paths.

    Raises:
      RequestError: what `read` raises, or files of a training are damaged.
    """
    runs = read(paths)
    out = paths[0] if out is None else out
    files = {  # damaged ones are refused before anything is drawn
        id(run): [
            (result, finished.read_scores(run, result), finished.read_illustrations(run, result))
            for result in run.measured
        ]
        for run in runs
    }
    groups = []
    for of_dataset in columns.by_dataset(runs):
        group = _group(of_dataset) | {"pictures": _draw_comparisons(of_dataset, out)}
        for page in group["runs"]:
            page |= _draw_run(page["run"], files[id(page["run"])], out)
        groups.append(group)
    write_text(out / "report.md", markdown(runs))
    write_text(out / "report.csv", columns.as_frame(runs).to_csv(index=False))
    write_text(out / "report.html", html.render("report.html", groups=groups))
    return out / "report.html"


def _group(of_dataset: Sequence[Column]) -> dict[str, Any]:
    """What a report says of all runs on one data set."""
    methods = efficiency.compared(of_dataset)
    seeds = [(column.title, tables.seeds_grid(column)) for column in of_dataset]
    return {
        "heading": columns.heading(of_dataset),
        "is_reduced": any(paper.reduced(column.run) for column in of_dataset),
        "has_paper": any(column.has_paper for column in of_dataset),
        "grid": tables.grid(of_dataset),
        "notes": columns.notes(of_dataset),
        "efficiency": efficiency.grid(methods) if methods else None,
        "about_efficiency": efficiency.ABOUT,
        "seeds": [(title, grid) for title, grid in seeds if grid],
        "runs": [
            {
                "run": run,
                "title": title,
                "name": f"{run.experiment.name}: {title}",
                "description": columns.describe(run),
                "notes": [*columns.about_paper(run), *run.notes],
                "measures": tables.measures_grid(run) if run.measured else None,
                "settings": columns.settings(run),
            }
            for title, run in columns.trainings(of_dataset)
        ],
    }


def _draw_comparisons(of_dataset: Sequence[Column], out: Path) -> list[tuple[str, str, str]]:
    """(kind, data URL, caption) of the pictures of all runs on one data set."""
    from itae_jax.report import comparisons

    shown, name = [], re.sub(r"[^\w.-]", "_", of_dataset[0].run.dataset)[:60]
    for kind, figure, caption in comparisons.draw_all(of_dataset):
        path = out / "figures" / f"{kind}_{name}.png"
        url = _save(figure, path)
        write_bytes(path.with_suffix(".pdf"), html.draw(figure, format="pdf", metadata={"CreationDate": None}))
        shown.append((kind.replace("_", " "), url, caption))
    return shown


def _draw_run(run: RunResults, files: Sequence[tuple], out: Path) -> dict[str, Any]:
    """The pictures of one run by itself."""
    from itae_jax.report import figures

    panels, restored = [], {}
    for result, scores, saved in files:
        title = result.normal_class_name + (f", seed {result.seed}" if len(run.seeds) > 1 else "")
        panels.append((title, *scores))
        key = tables.class_key(result)
        if {"inputs", "outputs"} <= set(saved) and key not in restored:  # other seeds' pictures look alike
            figure = figures.restorations(saved, run.experiment.method.example_titles(len(saved["inputs"])))
            name = f"restorations_class_{result.normal_class}_seed_{result.seed}.png"
            root = run.directories[result.job]
            restored[key] = title, result.auroc, _save(figure, root / "figures" / name, root == out)
    shown: dict[str, Any] = {"restorations": list(restored.values()), "histograms": "", "roc": ""}
    if panels:
        directory, must = run.roots[0] / "figures", run.roots[0] == out
        scale = "from 0 to 1 within each video (Eq. 4)" if run.is_video else "higher = more anomalous"
        histograms = figures.score_histograms(panels, scale)
        shown["histograms"] = _save(histograms, directory / "histograms.png", must)
        shown["roc"] = _save(figures.roc_curves(panels), directory / "roc.png", must)
    return shown


def _save(figure: Figure, path: Path, must: bool = True) -> str:
    """Writes the figure as PNG, if that can or must be, and returns it as a data URL."""
    picture = html.draw(figure, dpi=120, format="png")
    try:
        path.parent.mkdir(exist_ok=True)
        write_bytes(path, picture)
    except OSError as error:
        if must or error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise
    return html.data_url(picture, "png")
