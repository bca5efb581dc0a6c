"""Finished runs as tables beside the paper's numbers: Markdown, CSV, and one self-contained HTML page."""

import dataclasses
import errno
import io
import itertools
import re
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from itae_jax.config import Experiment, flatten
from itae_jax.errors import RequestError
from itae_jax.files import write_bytes, write_text, writing
from itae_jax.report import columns, efficiency, tables
from itae_jax.report import html as pages
from itae_jax.report.columns import Column
from itae_jax.runs import job_files
from itae_jax.runs import read as finished
from itae_jax.runs.read import RunResults

DIFFERENT_CLASSES = "The averages are over different classes and do not compare; compare class by class."


def read(directories: Sequence[Path]) -> list[RunResults]:
    """What the run directories hold, joined where they hold parts of one experiment.

    Raises:
      RequestError: one holds no finished run, or two contradict each other.
    """
    return finished.read_all(directories)


def text_tables(results: Sequence[RunResults]) -> str:
    """The tables in plain text, AUROC in percent."""
    parts = []
    for of_dataset in columns.by_dataset(results):
        parts += [heading(of_dataset)]
        if any(column.found.measured for column in of_dataset):
            parts += [tables.as_text(tables.grid(of_dataset))]
        parts += [*notes(of_dataset), ""]
    return "\n".join(parts).rstrip()


def heading(of_dataset: Sequence[Column]) -> str:
    """What a table is about: the experiments and the data set."""
    names = ", ".join(dict.fromkeys(column.found.experiment.name for column in of_dataset))
    dataset = of_dataset[0].found.dataset
    return dataset if names == dataset else f"{names}: {dataset}"


def notes(of_dataset: Sequence[Column]) -> list[str]:
    """What to know of a table: that averages do not compare, what is reduced, which trainings failed."""
    lines = [DIFFERENT_CLASSES] if tables.averages_differ(list(map(tables.of, of_dataset))) else []
    lines += columns.explained(of_dataset) + columns.unlike(of_dataset)
    lines += _of_all_or_some({column.title: [reduced(column.found)] for column in of_dataset})
    lines += _of_all_or_some({column.title: [column.found.otherwise] for column in of_dataset})
    return lines + _of_all_or_some({column.title: column.found.notes for column in of_dataset})


def _of_all_or_some(told: dict[str, list[str]]) -> list[str]:
    """What is told of each column: once if it is the same of all, else with the title before it."""
    if len(set(map(tuple, told.values()))) == 1:
        return list(filter(None, next(iter(told.values()))))
    return [f"{title}, {text}" for title, texts in told.items() for text in texts if text]


def reduced(found: RunResults) -> str:
    """In what a result is reduced, as a sentence; empty if in nothing."""
    return found.reduced and f"reduced, less than the paper's training: {found.reduced}"


def describe(found: RunResults) -> str:
    """How a result came about, in a line."""
    row = found.rows[0]
    seeds = ", ".join(found.seeds)
    devices = ", ".join(dict.fromkeys(row["device"] for row in found.rows))
    commits = ", ".join(dict.fromkeys(row["commit"] for row in found.rows if row["commit"]))
    tested = ", ".join(dict.fromkeys(row["num_test"] for row in found.rows))
    return (
        f"{row['data_copy']}; transform {row['transform']}, width {row['width']}, {_epochs(row)}, "
        f"{row['dtype']}, seed {seeds}, {tested} test images, on {devices}"
        f"{f', commit {commits}' if commits else ''}"
    )


def make_out(out: Path) -> None:
    """Makes a directory for a report, if need be.

    Raises:
      RequestError: it cannot be made.
    """
    if out.is_file():
        raise RequestError(f"--out {out}: is a file; name a directory")
    with writing(out, "--out"):
        out.mkdir(parents=True, exist_ok=True)


def _epochs(row: dict[str, str]) -> str:
    return f"{row['epochs']} epoch{'s' * (row['epochs'] != '1')}"


def write(directories: Sequence[Path], out: Path | None = None) -> Path:
    """Writes report.html, report.md and report.csv, and returns the first of them.

    The page has everything it shows inside it. The pictures of each run also go into its own directory, if it
    can be written, those that compare runs into `out`, as PDF too, under figures/.

    Args:
      out: see `make_out`; None: the first of the directories.

    Raises:
      RequestError: as `read`.
    """
    results = read(directories)
    out = directories[0] if out is None else out
    tables_of = columns.by_dataset(results)
    trained = list(itertools.chain.from_iterable(map(columns.trainings, tables_of)))
    # All are read, and refused if need be, before any is drawn.
    files = [_files_of(found) for _, found in trained]
    groups = [_comparison(of_dataset, out) for of_dataset in tables_of]
    runs = [
        _section(title if len(results) > 1 else "", found, of_found, out)
        for (title, found), of_found in zip(trained, files, strict=True)
    ]
    page = pages.render("report.html", groups=groups, runs=runs)
    write_text(out / "report.md", markdown(results))
    write_text(out / "report.csv", tables.as_csv(results))
    write_text(out / "report.html", page)
    return out / "report.html"


def markdown(results: Sequence[RunResults]) -> str:
    """The tables as Markdown."""
    parts = []
    for of_dataset in columns.by_dataset(results):
        parts += [f"## {tables.in_markdown(heading(of_dataset))}", "", *compared(of_dataset)]
        if len(of_dataset) == 1 and not of_dataset[0].cells:
            parts += ["No AUROC of the paper compares with these.", ""]
        for title, found in columns.trainings(of_dataset):
            parts += [f"### {tables.in_markdown(title)}", "", tables.in_markdown(describe(found)) + ".", ""]
            settings = found.rows[0].get("settings")
            parts += [f"Not at their defaults: `{settings}`.", ""] if settings else []
            if found.measured:
                parts += [*tables.as_markdown(tables.measures_grid(found)), ""]
    return "\n".join(parts)


def compared(of_dataset: list[Column]) -> list[str]:
    """Lines of Markdown: AUROC by class of each column, what to know of it, speed, and AUROC by seed."""
    lines = [*tables.as_markdown(tables.grid(of_dataset)), ""]
    told = [f"- {tables.in_markdown(note)}" for note in notes(of_dataset)]
    lines += told + [""] * bool(told)
    methods = efficiency.compared(of_dataset)
    if methods:
        lines += [*tables.as_markdown(efficiency.grid(methods)), "", efficiency.ABOUT, ""]
    for column in of_dataset:
        seeds = tables.seeds_grid(column)
        if seeds:
            title = tables.in_markdown(column.title)
            lines += [f"{title} by seed:", "", *tables.as_markdown(seeds), ""]
    return lines


def _comparison(of_dataset: list[Column], out: Path) -> dict:
    """What the page shows of all methods on one data set."""
    from itae_jax.report import pictures

    name = of_dataset[0].found.dataset
    shown = []
    for kind, figure, caption in pictures.comparing(of_dataset):
        path = out / "figures" / f"{kind}_{_file_name(name)}.png"
        url = _save(figure, path)
        in_print = _drawn(figure, dpi=300, format="pdf", metadata={"CreationDate": None})
        write_bytes(path.with_suffix(".pdf"), in_print)
        shown.append((kind.replace("_", " "), url, caption))
    seeds = [(column.title, tables.seeds_grid(column)) for column in of_dataset]
    told = [tables.of(column) for column in of_dataset]
    methods = efficiency.compared(of_dataset)
    return {
        "heading": heading(of_dataset),
        "reduced": any(column.found.reduced for column in of_dataset),
        "grid": tables.grid(of_dataset) if any(column.found.measured for column in of_dataset) else None,
        "notes": notes(of_dataset),
        "has_paper": any(line.cell for of_column in told for line in of_column),
        "efficiency": efficiency.grid(methods) if methods else None,
        "seeds": [(title, grid) for title, grid in seeds if grid],
        "pictures": shown,
    }


@dataclasses.dataclass(frozen=True)
class _Files:
    """A row, and what the files of its training hold: of N test images, and of those that were kept."""

    row: dict[str, str]
    is_anomaly_N: np.ndarray
    scores_N: np.ndarray
    illustrations: dict[str, np.ndarray]


def _files_of(found: RunResults) -> list[_Files]:
    read = []
    for row in found.measured:
        directory = found.job_directory(row)
        scores = job_files.read_scores(directory, row)
        read.append(_Files(row, *scores, job_files.read_illustrations(directory)))
    return read


def _section(title: str, found: RunResults, files: Sequence[_Files], out: Path) -> dict:
    """What the page shows of one method by itself; the title tells it from others on the page."""
    from itae_jax.report import figures, pictures

    panels, restored, seen = [], [], set()
    for one in files:
        row, saved = one.row, one.illustrations
        panel = row["normal_class_name"]
        if len(found.seeds) > 1:
            panel += f", seed {row['seed']}"
        panels.append((panel, one.is_anomaly_N, one.scores_N))
        if tables.class_key(row) in seen:
            continue  # the other seeds' pictures look alike
        seen.add(tables.class_key(row))
        arrays = [saved[key] for key in ("originals", "inputs", "outputs")]
        members = pictures.member_titles(row["transform"], len(saved["inputs"]))
        figure = figures.restorations(*arrays, saved["labels"].tolist(), saved["is_anomaly"], members)
        name = f"restorations_class_{row['normal_class']}_seed_{row['seed']}.png"
        root = found.directories[row["normal_class"], row["seed"]]
        restored.append((panel, row["auroc"], _save(figure, root / "figures" / name, root == out)))
    flat, defaults = flatten(found.experiment), flatten(Experiment())
    pictured, must = found.roots[0] / "figures", found.roots[0] == out
    scale = "from 0 to 1 within each video (Eq. 4)" if job_files.is_video(found.rows[0]) else figures.SCALE
    return {
        "name": " ".join(filter(None, (found.experiment.name, title or found.experiment.variant))),
        "directories": [str(root) for root in found.roots],
        "duplicates": found.duplicates,
        "description": describe(found),
        "notes": [*filter(None, [reduced(found)]), *found.notes],
        "measures": tables.measures_grid(found) if found.measured else None,
        "settings": {key: value for key, value in flat.items() if value != defaults[key] and key != "name"},
        "histograms": panels
        and _save(figures.score_histograms(panels, scale), pictured / "histograms.png", must),
        "roc": panels and _save(figures.roc_curves(panels), pictured / "roc.png", must),
        "pictures": restored,
    }


def _file_name(dataset: str) -> str:
    """What of a data set's name can be part of the name of a file."""
    return re.sub(r"[^\w.-]", "_", dataset)[:60]


def _drawn(figure, **options) -> bytes:
    """The content of a picture's file.

    Names of classes may have letters that the font of the pictures has not; the page's tables show them.
    """
    content = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        figure.savefig(content, **options)
    return content.getvalue()


def _save(figure, path: Path, must: bool = True) -> str:
    """Writes the figure as PNG, if that can or must be, and returns it as a data URL."""
    picture = _drawn(figure, dpi=120, format="png")
    try:
        path.parent.mkdir(exist_ok=True)
        write_bytes(path, picture)
    except OSError as error:
        if must or error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise
    return pages.data_url(picture, "png")
