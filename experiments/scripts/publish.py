"""Measured results: collects finished runs into experiments/results/ and writes the tables from there.

python experiments/publish.py runs/digits ...   adds the rows of finished runs, then writes
python experiments/publish.py --fitted NAME MODEL SCORES.csv   adds what a fitted model scored, a folder by kind
python experiments/publish.py                   writes docs/results.md, and parts of README.md and others,
                                                the last paragraph of each experiment's docstring too
python experiments/publish.py --check           only says whether they are up to date
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import publish_docstrings
import publish_faults
import publish_fitted
import publish_pictures
import publish_rows
import publish_scaling
import publish_settings
import publish_speed

from itae_jax.arguments import Parser
from itae_jax.errors import RequestError
from itae_jax.files import write_bytes, write_text
from itae_jax.report import columns, paper, tables
from itae_jax.report import run_page as report
from itae_jax.report.columns import Column
from itae_jax.runs import read as finished
from itae_jax.runs import variants
from itae_jax.runs.read import RunResults

ROOT = Path(__file__).resolve().parent.parent
# What README.md tells of a training beside its width and epochs; docs/results.md has everything.
_TOLD_SETTINGS = ("train.", "evaluate.", "transform.", "model.", "data.image_size", "data.limit_train")
_TOLD_ELSEWHERE = ("train.epochs", "transform.name", "model.width")
# Experiments that vary the method or draw pictures, on data that others have compared.
_NOT_IN_README = ("figure", "table4", "table5")
_LOSSES = ("train.loss", "evaluate.error")
_LEGEND = """\
- ITAE is the paper's method, AE the plain autoencoder, which erases nothing; other columns are named by what
  they erase. `fit` is `itae fit`, which holds back a fifth of the normal images for its threshold and chooses
  its epochs.
- AUROC in percent. ± is the SD over seeds (n - 1), the SD over classes is the paper's (n - 1, of ImageNet n).
  Below 50 the anomalous images were restored better than the normal ones; the paper has such numbers, too
  (AE+S on automobile).
- *Reduced* trainings are far shorter than the paper's, or of fewer images, and say that the code runs, not
  how good the method is; a few words say in what.
- *paper* is what the paper prints; the difference to ours is taken before rounding. A word says how else its
  number is known: *quoted* from a later paper, *derived* from the row's average and SD, *restored* from
  digits that were cut in half and confirmed by them, *unverified* where they only agree, *illegible*. An
  average *of these classes* is that of the paper's cells of the classes that were run here. Empty: the paper
  prints none.
- Best F1 is that of the threshold that suits the test labels best, an upper bound. Where most images are
  anomalous, calling all of them so gives a high F1, and average precision is high by chance: *anomalous* is
  their share. Measures that the version at that commit did not take are left out.
- `2 x AMD EPYC` means two cores, each a device of JAX's, `1 x NVIDIA H200` one card."""


def all_told() -> list[tuple[list[RunResults], list[str]]]:
    """All that was measured: columns side by side, and what tells them from others that read alike.

    That is their device, their copy of the data, and the settings that differ. The paper's tables come first,
    then its figures.
    """
    kinds = ("table", "figure", "")
    found = sorted(
        publish_rows.side_by_side(),
        key=lambda together: [together[0].experiment.name.startswith(kind) for kind in kinds].index(True),
    )
    rows: dict[tuple[str, str], list[dict[str, str]]] = {}
    for together in found:
        rows.setdefault(_reads(together), []).append(together[0].rows[0])

    def apart(together: list[RunResults]) -> list[str]:
        alike = rows[_reads(together)]
        row, chosen = together[0].rows[0], [paper.settings(one) for one in alike]
        fields = [field for field in paper.settings(row) if len({one.get(field) for one in chosen}) > 1]
        fields = [field for field in fields if field not in _TOLD_ELSEWHERE]
        differs = [key for key in ("device", "data_copy") if len({one[key] for one in alike}) > 1]
        return [
            *(f"{field}={paper.setting(row, field, '')}" for field in fields),
            *(row[key] for key in differs),
        ]

    return [(together, apart(together)) for together in found]


def _reads(together: list[RunResults]) -> tuple[str, str]:
    return title_of(together[0]), training(together[0].rows[0])


def training(row: dict[str, str], apart: Sequence[str] = ()) -> str:
    """How a row came about, in short; `apart` tells it from others."""
    settings = [
        f"{field}={value}"
        for field, value in paper.settings(row).items()
        if field.startswith(_TOLD_SETTINGS) and field not in (*_TOLD_ELSEWHERE, *_LOSSES)
    ]
    dtype = [] if row["dtype"] == "float32" else [row["dtype"]]
    return ", ".join([f"width {row['width']}", f"{row['epochs']} epochs", *dtype, *settings, *apart])


def title_of(found: RunResults) -> str:
    """The experiment, the data set if its name does not tell, and whether it is reduced."""
    name = found.experiment.name
    return (name if _is_named(found) else f"{name}: {found.dataset}") + (" (reduced)" if found.reduced else "")


def _is_named(found: RunResults) -> bool:
    """Whether the experiment's name tells the data set; a user's folder may be called by a part of it."""
    own = {experiment.data.name for experiment in publish_rows.experiments(found.experiment.name).values()}
    return found.dataset in own and found.dataset in found.experiment.name


def summary_table(left_out: tuple[str, ...] = ()) -> list[str]:
    """The averages over classes: a line for each method, with the plain autoencoder and the paper beside it.

    Args:
      left_out: beginnings of names of experiments.
    """
    header = ["experiment", "training", "erased by", "classes", "seeds", "average AUROC, %", "paper's"]
    header += ["plain autoencoder's", "paper's"]
    lines = []
    for together, apart in all_told():
        if together[0].experiment.name.startswith(left_out):
            continue
        (of_dataset,) = columns.by_dataset(together)
        of_dataset = [column for column in of_dataset if column.found.measured]
        left = of_dataset
        for column in [column for column in of_dataset if not publish_rows.is_plain(column.found)]:
            beside = [other for other in of_dataset if _is_plain_beside(other, column)]
            of_plain = _average_of(beside[0], apart)[-2:] if beside else ["", ""]
            lines.append([*_average_of(column, apart), *of_plain])
            left = [other for other in left if other not in (column, *beside)]
        for column in left:
            *how, average, of_paper = _average_of(column, apart)
            lines.append([*how, "", "", average, of_paper])
    return tables.as_markdown(tables.Grid(header, lines, len(lines)), texts=3)


def _is_plain_beside(plain: Column, column: Column) -> bool:
    """Whether it is the plain autoencoder, trained and scored of the same classes and seeds in the same way."""

    def trainings(of: Column) -> set:
        rows = [row for row in of.found.rows if tables.value_of(row, of.measure) is not None]
        losses = tuple(paper.setting(of.found.rows[0], field, "") for field in _LOSSES)
        return {(tables.class_key(row), row["seed"], row["dtype"], of.measure, *losses) for row in rows}

    return publish_rows.is_plain(plain.found) and trainings(plain) == trainings(column)


def _average_of(column: Column, apart: Sequence[str]) -> list[str]:
    """A line of the summary: how, classes, seeds, our average and the paper's."""
    row = column.found.rows[0]
    losses = [f"{field}={value}" for field, value in paper.settings(row).items() if field in _LOSSES]
    erased = ", ".join([row["transform"], *(losses if column.measure == "auroc" else [column.title])])
    told = tables.of(column)
    average = next((line for line in told if line.key == "avg"), None)
    numbers = [average.seeds, average.ours_text, average.paper_text] if average else ["", "", ""]
    classes = sum(line.is_class for line in told)
    return [title_of(column.found), training(row, apart), erased, str(classes), *map(str, numbers)]


def unmeasured() -> str:
    """Which experiments have no rows, and whether none was run at the paper's full size; empty if neither."""
    measured = [found for together in publish_rows.side_by_side() for found in together]
    compared = [name for name in publish_rows.names() if publish_rows.paper_table(name)]
    names = {found.experiment.name for found in measured}
    missing = [f"`{name}`" for name in compared if name not in names]
    told = f"Nothing has been measured yet of {', '.join(missing)}." if missing else ""
    if not any(found.experiment.paper_table and not found.reduced for found in measured):
        told += " No experiment has been run at the paper's full size yet."
    return told.strip()


def section(together: list[RunResults], apart: Sequence[str]) -> list[str]:
    """The part of docs/results.md on groups that stand side by side."""
    (of_dataset,) = columns.by_dataset(together)
    how = training(together[0].rows[0], apart)
    lines = [f"## {tables.in_markdown(title_of(together[0]))}, {tables.in_markdown(how)}", ""]
    lines += report.compared(of_dataset)
    picture = publish_pictures.of(together, _picture_title(together, apart))
    lines += picture.lines() if picture else []
    lines += ["<details><summary>How each was trained, and all measures</summary>", ""]
    for title, found in columns.trainings(of_dataset):
        settings = f"Not at their defaults: `{found.rows[0]['settings']}`."
        described = tables.in_markdown(f"{title}: {report.describe(found)}{_origin(found)}.")
        lines += [f"{described} {settings}", ""]
        measures = tables.measures_grid(found)
        if len(measures.header) > 2:
            lines += [f"{title}, all measures in percent:", "", *tables.as_markdown(measures), ""]
    return [*lines, "</details>", ""]


def _picture_title(together: list[RunResults], apart: Sequence[str]) -> str:
    return f"{together[0].experiment.name}, {training(together[0].rows[0], apart)}"


def drawn() -> list[publish_pictures.Picture]:
    """The pictures of docs/results.md."""
    found = (publish_pictures.of(together, _picture_title(together, apart)) for together, apart in all_told())
    return [picture for picture in found if picture]


def _origin(found: RunResults) -> str:
    """Where what was measured in other experiments comes from."""
    origins: dict[str, list[str]] = {}
    for row in found.rows:
        if publish_rows.TAKEN_FROM in row:
            origins.setdefault(row[publish_rows.TAKEN_FROM], []).append(row["normal_class_name"])
    return "".join(
        f"; {', '.join(dict.fromkeys(classes))} measured in {name}" for name, classes in origins.items()
    )


def results_page() -> str:
    """docs/results.md."""
    lines = ["# Results", "", "Written from `experiments/results/` by `make results`.", ""]
    lines += [_LEGEND, "", *filter(None, [unmeasured()]), "", *summary_table(), ""]
    for together, apart in all_told():
        lines += section(together, apart)
    lines += publish_settings.sections(publish_rows.measured(), training)
    return "\n".join([*lines, *publish_speed.sections(publish_rows.RESULTS)])


def between(text: str, name: str, lines: list[str]) -> str:
    """The text with these lines between its marks of that name, which have to be there."""
    begin, end = f"<!-- {name}: begin, written by make results -->", f"<!-- {name}: end -->"
    before, rest = text.split(begin)
    _, after = rest.split(end)
    return before + "\n".join([begin, *lines, end]) + after


def pages() -> dict[Path, str]:
    """Everything that is written from the results."""
    results = publish_rows.RESULTS
    blocks = {
        ROOT / "README.md": {
            "results": [*summary_table(_NOT_IN_README), "", unmeasured(), *publish_speed.speed_line(results)]
        },
        ROOT / "docs" / "reliability.md": {"faults": publish_faults.lines(results)},
        ROOT / "docs" / "scaling.md": {
            "scaling": publish_scaling.lines(results),
            "plan": publish_scaling.plan_lines(results),
        },
    }
    written = {ROOT / "docs" / "results.md": results_page()}
    for path, named in blocks.items():
        text = path.read_text(encoding="utf-8")
        for name, lines in named.items():
            text = between(text, name, lines)
        written[path] = text
    return written | publish_docstrings.pages(docstrings())


def docstrings() -> dict[str, list[str]]:
    """What each experiment has given, in a line for each way of training."""
    told: dict[str, list[str]] = {}
    for together, apart in all_told():
        first, name = together[0], together[0].experiment.name
        of_data = "" if _is_named(first) else f"{first.dataset}, "
        how = of_data + training(first.rows[0], apart) + (", reduced" if first.reduced else "")
        told.setdefault(name, []).append(publish_docstrings.line(together, how))
    return told


def _add(arguments: argparse.Namespace) -> None:
    """Adds what the arguments name to experiments/results/."""
    paths = [path for run in arguments.runs for path in variants.expand(run)]
    begun = [path for path in paths if (path / "config.json").exists() and not (path / "results.csv").exists()]
    for path in begun:
        print(f"publish: {path}: no training has finished there yet; left out", file=sys.stderr)
    runs = [path for path in paths if path not in begun]
    finished.read_all(runs)  # they do not contradict each other
    for run in runs:
        publish_rows.add(run)
    for name, model, scores in arguments.fitted:
        publish_rows.add_rows([publish_fitted.row(Path(model), Path(scores), name)], Path(model))


def _write() -> None:
    """Brings pages and pictures up to date."""
    for path in _old(written := pages()):
        write_text(path, written[path])
    pictures = drawn()
    for picture in pictures:
        if not picture.is_drawn():
            picture.draw()
    for path in publish_pictures.left_over(pictures):
        path.unlink()


def _old(written: dict[Path, str]) -> list[Path]:
    return [path for path, text in written.items() if not path.exists() or path.read_text("utf-8") != text]


def _check() -> int:
    """1 if a page or a picture is not up to date, and says which; else 0."""
    pictures = drawn()
    old = [*_old(pages()), *(picture.path for picture in pictures if not picture.is_drawn())]
    for path in [*old, *publish_pictures.left_over(pictures)]:
        print(f"{path.relative_to(ROOT)} is not what make results writes", file=sys.stderr)
        old.append(path)
    return 1 if old else 0


def main() -> int:
    parser = Parser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("runs", nargs="*", type=Path, help="directories of finished runs")
    parser.add_argument("--fitted", nargs=3, action="append", default=[], metavar=("NAME", "MODEL", "SCORES"))
    parser.add_argument("--check", action="store_true", help="exit 1 if a page is not up to date")
    before: dict[Path, bytes | None] = {}
    try:
        arguments = parser.parse_args()
        if arguments.check and (arguments.runs or arguments.fitted):
            parser.error("--check adds nothing; leave the runs out")
        if arguments.check:
            return _check()
        before = {path: path.read_bytes() if path.is_file() else None for path in _all_files()}
        _add(arguments)
        _write()
    except BaseException as error:  # all of it or nothing
        _restore(before)
        if not isinstance(error, RequestError | OSError):
            raise
        told = f"{error.filename}: {error.strerror}; mend that" if isinstance(error, OSError) else error
        print(f"publish: {told}; nothing was changed", file=sys.stderr)
        return 2
    return 0


def _all_files() -> list[Path]:
    """What may be written."""
    experiments = publish_rows.EXPERIMENTS
    folders = [(publish_rows.RESULTS, "*.csv"), (publish_pictures.IMAGES, "*.png"), (experiments, "*.py")]
    found = [path for folder, pattern in folders for path in folder.glob(pattern)]
    return [*found, ROOT / "README.md", *(ROOT / "docs").glob("*.md")]


def _restore(before: dict[Path, bytes | None]) -> None:
    for path in set(_all_files()) - before.keys() if before else ():
        path.unlink()
    for path, content in before.items():
        if content is not None and (not path.is_file() or path.read_bytes() != content):
            write_bytes(path, content)


if __name__ == "__main__":
    sys.exit(main())
