"""Finished runs as tables beside the paper's numbers: Markdown, CSV, and one self-contained HTML page."""

import datetime
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from itae_jax import __version__
from itae_jax.errors import RequestError
from itae_jax.files import write_bytes, write_text, writing
from itae_jax.report import columns, efficiency, html, tables
from itae_jax.runs.read import RunResults, read_illustrations, read_scores, training_curves

_PAGES = ("report.html", "report.md", "report.csv")
_FOR_TEMPLATES = {"tables": tables, "columns": columns, "efficiency": efficiency}


def text_tables(runs: Sequence[RunResults]) -> str:
    """Returns the tables in plain text, AUROC in percent."""
    parts = []
    for group in columns.by_dataset(runs):
        grid = tables.grid(group)
        table = [tables.as_text(grid)] if grid.rows else []
        parts.append("\n".join([columns.heading(group), *table, *columns.notes(group)]))
    return "\n\n".join(parts)


def markdown(runs: Sequence[RunResults]) -> str:
    """Returns the tables as Markdown."""
    return html.render("report.md", groups=columns.by_dataset(runs), **_FOR_TEMPLATES)


def make_out(out: Path, shown: Sequence[Path]) -> None:
    """Makes the directory for a report of these runs; RequestError if it cannot, or holds files of others."""
    if out.is_file():
        raise RequestError(f"--out {out}: is a file; name a directory")
    with writing(out, "--out"):
        out.mkdir(parents=True, exist_ok=True)
        is_run = any((out / name).exists() for name in ("config.json", "variants.json"))
        if is_run and out.resolve() not in [path.resolve() for path in shown]:
            raise RequestError(f"--out {out}: is the directory of another run or model; name another")
        page, figures = out / "report.html", out / "figures"
        foreign = [] if is_run or html.is_ours(page) else [name for name in _PAGES if (out / name).exists()]
        if (
            figures.is_symlink()
            or figures.is_file()
            or not all(map(html.is_drawn, figures.glob("*.p[nd][gf]")))
        ):
            foreign.append(figures.name)
        if foreign:
            raise RequestError(f"--out {out}: holds {foreign[0]}, not of this command; name another directory")


def write(runs: Sequence[RunResults], out: Path) -> Path:
    """Writes report.html, report.md, report.csv and figures/, and returns the first of them.

    They go into `out`, an existing directory. The page has everything it shows inside it. Pictures that
    compare runs are there as PDF, too. RequestError if what it reads is damaged.
    """
    from itae_jax.report import comparisons

    files = {  # damaged ones are refused before anything is drawn
        id(run): [(one, read_scores(run, one), read_illustrations(run, one)) for one in run.measured]
        for run in runs
    }
    (out / "figures").mkdir(exist_ok=True)
    groups = columns.by_dataset(runs)
    compared: list[list[tuple[str, str, str]]] = []
    own: dict[int, dict[str, Any]] = {}
    for group in groups:
        compared.append([])
        for kind, figure, caption in comparisons.draw_all(group, files):
            name = f"{kind}_{group[0].run.dataset}"
            compared[-1].append((kind, _save(figure, out, name), caption))
            in_print = html.draw(figure, format="pdf", metadata={"CreationDate": None, "Creator": "itae_jax"})
            write_bytes(_path(out, name, "pdf"), in_print)
        for title, run in columns.trainings(group):
            prefix = f"{run.experiment.name} {title} " if len(runs) > 1 else ""
            own[id(run)] = _draw_run(run, files[id(run)], out, prefix)
    write_text(out / "report.md", markdown(runs))
    write_text(out / "report.csv", columns.as_frame(runs).to_csv(index=False))
    now = datetime.datetime.now().isoformat(" ", "minutes")
    shown = {"groups": groups, "compared": compared, "own": own, "written": now, "version": __version__}
    write_text(out / "report.html", html.render("report.html", **shown, **_FOR_TEMPLATES, id=id))
    return out / "report.html"


def _draw_run(run: RunResults, files: Sequence[tuple], out: Path, prefix: str) -> dict[str, Any]:
    """The pictures of one run by itself."""
    from itae_jax.report import figures

    panels, restored = [], {}
    for result, scores, saved in files:
        title = result.normal_class_name + (f", seed {result.seed}" if len(run.seeds) > 1 else "")
        panels.append((title, *scores))
        key = tables.class_key(result)
        if {"inputs", "outputs"} <= set(saved) and key not in restored:  # other seeds' pictures look alike
            figure = figures.restorations(saved, run.experiment.method.example_titles(len(saved["inputs"])))
            name = f"{prefix}restorations_class_{result.normal_class}_seed_{result.seed}"
            restored[key] = title, result.auroc, _save(figure, out, name)
    if not panels:
        return {}
    scale = "from 0 to 1 within each video (Eq. 4)" if run.results[0].num_videos else "higher = more anomalous"
    losses = () if run.experiment.method.ONE_PASS else training_curves(run, "loss").values()
    return {
        "loss": _save(figures.loss_curve(*losses), out, f"{prefix}loss") if losses else None,
        "restorations": list(restored.values()),
        "histograms": _save(figures.score_histograms(panels, scale), out, f"{prefix}histograms"),
        "roc": _save(figures.roc_curves(panels), out, f"{prefix}roc"),
    }


def _path(out: Path, name: str, ending: str) -> Path:
    return out / "figures" / (re.sub(r"[^\w.-]", "_", name)[-80:] + f".{ending}")


def _save(figure: Figure, out: Path, name: str) -> str:
    """Writes the figure as PNG, and returns it as a data URL."""
    picture = html.draw(figure, dpi=120, format="png")
    write_bytes(_path(out, name, "png"), picture)
    return html.data_url(picture)
