"""Measured results: collects finished runs into experiments/results/ and writes the tables from there.

python experiments/publish.py runs/digits ...   adds the rows of finished runs, then writes
python experiments/publish.py                   writes docs/results.md and the table in README.md
python experiments/publish.py --check           only says whether they are up to date
"""

import argparse
import json
import sys
from pathlib import Path
from statistics import mean, stdev

from itae_jax import bench, bench_data
from itae_jax.errors import RequestError
from itae_jax.report import by_class, covers, paper_cells
from itae_jax.results import COLUMNS, read_csv, read_results, write_csv, write_text

ROOT = Path(__file__).resolve().parent.parent
RESULTS, PAPER = ROOT / "experiments" / "results", ROOT / "experiments" / "paper"
BEGIN, END = "<!-- results: begin, written by make results -->", "<!-- results: end -->"
# A row replaces an older one that measured the same.
_GROUP = ("dataset", "method", "transform", "width", "epochs", "dtype", "device", "data_copy", "settings")
_SAME = ("experiment", *_GROUP, "normal_class", "seed")


def add(directory: Path) -> None:
    """Adds the rows of a finished run to experiments/results/<experiment>.csv."""
    rows = list(read_results(directory).values())
    if not rows:
        raise RequestError(f"{directory}: no results.csv with rows there")
    for row in rows:
        if not row["commit"] or row["commit"].endswith("+"):
            raise RequestError(
                f"{directory}: class {row['normal_class']} has uncommitted changes behind it; commit, rerun"
            )
    path = RESULTS / f"{rows[0]['experiment']}.csv"
    old = read_csv(path) if path.exists() else []
    kept = {tuple(row[key] for key in _SAME): row for row in [*old, *rows]}
    order = ("dataset", "transform", "width", "epochs", "seed", "normal_class")
    write_csv(path, sorted(kept.values(), key=lambda row: [row[key].zfill(9) for key in order]), COLUMNS)


def groups() -> list[tuple[str, dict[str, str], list[dict[str, str]]]]:
    """(experiment, what its rows have in common, rows) for all that was measured."""
    found: dict[tuple, list[dict[str, str]]] = {}
    for path in sorted(RESULTS.glob("*.csv")):
        for row in read_csv(path):
            found.setdefault((path.stem, *(row[key] for key in _GROUP)), []).append(row)
    return [(key[0], dict(zip(_GROUP, key[1:], strict=True)), rows) for key, rows in found.items()]


def paper_numbers(row: dict[str, str]) -> dict[str, dict[str, str]]:
    """The paper's cells to set beside a row of results."""
    printed = [cell for table in ("table1", "table2", "table3") for cell in read_csv(PAPER / f"{table}.csv")]
    return paper_cells(printed, row)


def is_reduced(group: dict[str, str]) -> bool:
    """Whether a group is smaller than the paper's training, or used part of the data."""
    return int(group["width"]) < 64 or int(group["epochs"]) < 500 or "data.limit" in group["settings"]


def summary_table() -> list[str]:
    """A line for each group: the average over its classes beside the paper's."""
    lines = [
        "| data | erased by | width | epochs | classes | average AUROC, % | paper, full size |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for _, group, rows in groups():
        classes = by_class(rows)
        paper = paper_numbers(rows[0])
        average = mean(mean(aurocs) for _, aurocs in classes.values())
        complete = covers(paper, group["dataset"], list(classes))
        cells = [
            group["data_copy"],
            group["transform"],
            group["width"],
            group["epochs"],
            str(len(classes)),
            f"{average:.1f}",
            paper["avg"]["auroc"] if complete else "",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def speed_line() -> list[str]:
    """How the newest benchmark compares with PyTorch, in a sentence a file."""
    lines = []
    for path in sorted(RESULTS.glob("bench_network*.json")):
        result = json.loads(path.read_text())
        ratios = bench.ratios(result)
        told = "; ".join(
            f"{task} " + ", ".join(f"{r:.2f} at width {width}" for (t, width), r in ratios.items() if t == task)
            for task in dict.fromkeys(task for task, _ in ratios)
        )
        lines += ["", f"Speed on {result['environment']['device']}, our time over PyTorch's best: {told}."]
    return lines


def class_table(group: dict[str, str], rows: list[dict[str, str]]) -> list[str]:
    """A line for each class of a group, then average and SD over classes."""
    paper = paper_numbers(rows[0])
    classes = by_class(rows)
    lines = ["| normal class | seeds | AUROC, % |" + (" paper |" if paper else "")]
    lines.append("| --- | --- | --- |" + (" --- |" if paper else ""))

    def line(name, seeds, auroc, key):
        printed = paper.get(key, {"auroc": "", "source": ""})
        note = "" if printed["source"] in ("printed", "") else f" ({printed['source']})"
        lines.append(f"| {name} | {seeds} | {auroc:.1f} |" + (f" {printed['auroc']}{note} |" if paper else ""))

    for key, (name, aurocs) in classes.items():
        line(name, len(aurocs), mean(aurocs), key)
    means = [mean(aurocs) for _, aurocs in classes.values()]
    complete = covers(paper, group["dataset"], list(classes))
    line("**average**", "", mean(means), "avg" if complete else "")
    if len(means) > 1:
        line("SD over classes", "", stdev(means), "SD" if complete else "")
    return lines


def bench_lines(path: Path) -> list[str]:
    """A benchmark file as a table."""
    result = json.loads(path.read_text())
    environment, settings = result["environment"], result["settings"]
    versions = environment["versions"]
    torch = f", PyTorch {versions['torch']}" if "torch" in versions else ""
    height, width, channels = settings["image"]
    lines = [
        f"On {environment['device']}, jax {versions['jax']}{torch}, commit {environment['commit']}: batches of "
        f"{settings['batch_size']} images of {height}x{width}x{channels}, {settings['transform']}, "
        f"{settings['dtype']}. Median of the rounds; from `{path.relative_to(ROOT)}`.",
        "",
        "| task | width | contender | seconds a batch | images/s |",
        "| --- | --- | --- | --- | --- |",
    ]
    for timing in result["timings"]:
        lines.append(
            f"| {timing['task']} | {timing['width']} | {timing['contender']} | {timing['seconds']:.4f} | "
            f"{timing['images_per_second']:.0f} |"
        )
    ratios = bench.ratios(result)
    if ratios:
        lines += ["", "| our time over PyTorch's best | width | ratio |", "| --- | --- | --- |"]
        lines += [f"| {task} | {width} | {ratio:.2f} |" for (task, width), ratio in ratios.items()]
    return lines


def data_lines(path: Path) -> list[str]:
    """A benchmark of reading as a table."""
    result = json.loads(path.read_text())
    environment, settings = result["environment"], result["settings"]
    height, width, _ = settings["image"]
    lines = [
        f"On {environment['device']}, commit {environment['commit']}: {settings['count']} JPEG files of "
        f"{height}x{width}, {settings['threads']} threads. From `{path.relative_to(ROOT)}`.",
        "",
        "| pass | pipeline, images/s | bare decoding, images/s | resident memory, MiB |",
        "| --- | --- | --- | --- |",
    ]
    for number, row in enumerate(result["passes"], 1):
        lines.append(f"| {number} | {row['pipeline']:.0f} | {row['bare']:.0f} | {row['resident_mib']:.0f} |")
    return [*lines, "", f"Ratio, median of the passes: {bench_data.ratio(result):.2f}."]


def results_page() -> str:
    """docs/results.md."""
    lines = ["# Results", "", "Written from `experiments/results/` by `make results`.", ""]
    for experiment, group, rows in groups():
        mark = " (reduced: smaller or shorter than the paper's training)" if is_reduced(group) else ""
        commits = ", ".join(sorted({row["commit"] for row in rows}))
        tested = ", ".join(sorted({row["num_test"] for row in rows}))
        lines += [
            f"## {experiment}: {group['dataset']}, {group['transform']}{mark}",
            "",
            f"{group['data_copy']}; {group['dtype']}, on {group['device']}, {tested} test images, commit "
            f"{commits}. Not at their defaults: `{group['settings']}`.",
            "",
            *class_table(group, rows),
            "",
        ]
    lines += ["## Speed", ""]
    for path in sorted(RESULTS.glob("bench_network*.json")):
        lines += [*bench_lines(path), ""]
    lines += ["## Reading image files", ""]
    for path in sorted(RESULTS.glob("bench_data*.json")):
        lines += [*data_lines(path), ""]
    return "\n".join(lines)


def readme() -> str:
    """README.md with its table written anew."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return before + "\n".join([BEGIN, *summary_table(), *speed_line(), END]) + after


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="*", type=Path, help="directories of finished runs")
    parser.add_argument("--check", action="store_true", help="exit 1 if a page is not up to date")
    arguments = parser.parse_args()
    try:
        for directory in arguments.runs:
            add(directory)
    except RequestError as error:
        print(f"publish: {error}", file=sys.stderr)
        return 2
    pages = {ROOT / "docs" / "results.md": results_page(), ROOT / "README.md": readme()}
    old = [
        path for path, text in pages.items() if not path.exists() or path.read_text(encoding="utf-8") != text
    ]
    if arguments.check:
        for path in old:
            print(f"{path.relative_to(ROOT)} is not what make results writes", file=sys.stderr)
        return 1 if old else 0
    for path in old:
        write_text(path, pages[path])
    return 0


if __name__ == "__main__":
    sys.exit(main())
