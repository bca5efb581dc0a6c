"""Publishes what was measured: collects finished runs in experiments/results/ and writes pages from there.

  python experiments/scripts/publish.py DIR ...   adds finished runs, then writes the pages
  python experiments/scripts/publish.py           writes docs/results.md, docs/speed.md and README.md's table
  python experiments/scripts/publish.py --check   exits with 1 if they are not up to date

The JSON files of `itae bench --json` and of the scripts here go into experiments/results/ by hand.
"""

import argparse
import dataclasses
import json
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from itae_jax import experiment, files
from itae_jax.bench import quality, reading
from itae_jax.bench import report as bench_report
from itae_jax.errors import RequestError
from itae_jax.experiment import Experiment
from itae_jax.report import columns, efficiency, tables
from itae_jax.report.paper import SAME_CLASSES
from itae_jax.runs import directory, read, results
from itae_jax.runs.read import RunResults
from itae_jax.training.log import copy_metrics

ROOT = Path(__file__).resolve().parent.parent.parent
RESULTS, PAPER = ROOT / "experiments" / "results", ROOT / "experiments" / "paper"
BEGIN, END = "<!-- results: begin, written by make results -->", "<!-- results: end -->"
_IN_README = {"table1_mnist": "MNIST", "table1_fashion_mnist": "Fashion-MNIST", "table1_cifar10": "CIFAR-10"}
_DEFECTS = {  # sets of folders in README.md
    "castings": "castings",
    "tiles_published": "magnetic tiles, published split",
    "tiles_grouped": "magnetic tiles, grouped split",
    "scratches": "drawn scratches of 4 pixels in textures of 512x512",
}
_NOT_SHOWN = (
    "name",
    "variant",
    "paper_table",
    "data.name",
    "data.root",
    "method.transform",
    "evaluate.every_epochs",
)

_RESULTS_NOTE = """\
# Results

Written by `make results` from `experiments/results/`.

- *settings*: what differs from the experiment file.
- *method*: the variant, the paper's name (ITAE; AE, the plain autoencoder) or the transform.
- *AUROC*, *paper*: averages over the classes; 50 is chance, 100 perfect; ± is the SD over (so many) seeds.
"""

_STUDY_SCORES = [("l1", "mean"), ("l1", "max"), ("l2", "max"), ("relative", "max")]
_STUDY_NOTE = """\
AUROC of `study_recipe`: 12 passes over 1,500 images at width 16, 1,000 test images, one seed. *paper* is SGD at
rate 0.1; *momentum* is SGD with momentum 0.9 and a cosine; *improved* is AdamW with a cosine, and the others
change one thing of it. Scored by the error l1, l2 or relative, and by the mean or maximum over the members."""
_FOLDERS_NOTE = """\
AUROC by `experiments/scripts/folders.py`, the median over seeds (and its range): `fit` is `itae fit` with no
flag but seed and minutes, on two cores; `rotate` is ITAE by rotation, `autoencoder` the plain one, in as many
minutes, mostly of one core. In tiles_published, test images show training tiles in another light; in
tiles_grouped, none do. The castings are Kaggle's "casting product image data for quality inspection", the
scratches are made by `scratches.py`. From digit_8 on, anomalies are other classes."""
_PARTS_NOTE = "AUROC of the scores that `fit` combines (msgms: structure; knn: gradients); of `fit` by defect:"
_FOLLOWED_NOTE = """\
`itae fit` compares no transforms for defects: after a tenth of the training no rating by surrogates exceeds
that of `paste` by the 2 points that a change needs. Nor does it stop early: where the rating first falls, AUROC
is {stopped}, at the end {ended}. By `follow_fit.py`,
one seed and core, `paste` at half the width for twice the epochs, after a tenth → at the end:"""
_FULL_SIZE = ("width=64", "geotrans")  # benchmark cases
_SCORE_SPEED_NOTE = """\
`itae score MODEL IMAGES`, the median of 3 to 10 processes, with a model of 64x64 pixels that `itae fit` made
and programs that an earlier process compiled. JPEG files of 512x512, decoded at a quarter."""


def add(paths: Sequence[Path]) -> None:
    """Adds finished runs to the published ones: all, or none if one is refused.

    Rows join those of a run with the same config and data, and replace those of the same class and seed; a
    failed training replaces none that was measured.

    Raises:
      RequestError: a run is damaged, or has rows without a commit or with uncommitted changes.
    """
    runs = [read.read(path) for given in paths for path in directory.expand(given)]
    for run in runs:
        for result in run.results:
            where = f"{run.roots[0]}: class {result.normal_class}, seed {result.seed}"
            if not re.fullmatch("[0-9a-f]+", result.commit):
                raise RequestError(f"{where}: commit={result.commit!r}; commit all changes and run it again")
            if result.auroc is not None:
                read.check_files(run, result)
    for run in runs:
        _add(run)


def _add(run: RunResults) -> None:
    of_run = dataclasses.replace(run.experiment, data=dataclasses.replace(run.experiment.data, root=""))
    place = RESULTS / of_run.name
    there = {path: read.read(path) for path in _run_directories(place)}
    new = (run.results[0].data_source, run.results[0].coverage)
    same = [path for path, old in there.items() if (old.results[0].data_source, old.results[0].coverage) == new]
    path = next((one for one in same if not experiment.differences(there[one].experiment, of_run)), None)
    kept = {result.job: result for result in there[path].results} if path else {}
    if path is None:
        path = place / str(max((int(path.name) for path in there), default=0) + 1)
        path.mkdir(parents=True)
        files.write_text(path / "config.json", experiment.to_json(of_run) + "\n")
    new_results = [one for one in run.results if one.auroc is not None or one.job not in kept]
    kept |= {one.job: one for one in new_results}
    results.write(path / "results.csv", [kept[job] for job in sorted(kept)])
    for one in new_results if of_run.evaluate.every_epochs else ():
        of_job = {"normal_class": one.normal_class, "seed": one.seed}
        copy_metrics(run.directories[one.job] / "metrics.jsonl", path / "metrics.jsonl", of_job)


def _run_directories(place: Path) -> list[Path]:
    return sorted((path.parent for path in place.glob("*/results.csv")), key=lambda path: int(path.name))


def _published(path: Path) -> RunResults:
    """Reads a run with the rows of its table of the paper."""
    run = read.read(path)
    table = run.experiment.paper_table
    return dataclasses.replace(run, paper=read.read_paper(PAPER / f"{table}.csv") if table else [])


def summary() -> pd.DataFrame:
    """Returns the averages over classes: a row for each run, or for each score of it that is compared."""
    rows: list[dict[str, Any]] = []
    for place in sorted(RESULTS.iterdir()):
        if place.name.startswith(("figure", "study")):  # what they draw, and a table of its own
            continue
        for run in map(_published, _run_directories(place)):
            (of_run,) = columns.by_dataset([run])
            for column in of_run:
                classes = [line for line in column.lines if line.key.is_class]
                if classes:
                    shown = classes[0] if len(classes) == 1 else column.lines[len(classes)]  # the average
                    name = f"class {shown.key.name}" if len(classes) == 1 else len(classes)
                    row: dict[str, Any] = {
                        "experiment": run.experiment.name,
                        "settings": ", ".join(_settings(run)),
                    }
                    row |= {"method": column.title, "classes": name, "seeds": shown.seeds, "AUROC": shown.text}
                    printed = tables.paper_text(shown.cell) if shown.cell else ""
                    row["paper"] = printed.removesuffix(f" ({SAME_CLASSES})")
                    rows.append(row | {"epochs": run.experiment.train.epochs, "count": len(classes)})
    return pd.DataFrame(rows)


def _settings(run: RunResults) -> Iterator[str]:
    """Yields what differs from the experiment file, by short names; the method shows the transform."""
    usual, first = Experiment(method=type(run.experiment.method)()), run.results[0]
    if run.experiment.name in experiment.shipped():
        usual = experiment.load(experiment.find(run.experiment.name)).get(run.experiment.variant, usual)
    if (name := run.experiment.method.NAME) != usual.method.NAME:
        usual = experiment.override(usual, [f"method.name={name}"])
    if run.dataset != run.experiment.data.name:
        yield run.dataset
    shown = {"partial": "a part of the data", "other": "other classes"}
    if first.coverage in shown:
        yield shown[first.coverage]
    recipe = experiment.recipe_of(run.experiment)  # the method's title names it
    before = experiment.flatten(usual) | type(run.experiment.method).RECIPES.get(recipe, {})
    for name, value in experiment.decisive(run.experiment).items():
        text = f"{name.rpartition('.')[2]}={value}"
        if value != before.get(name) and name not in _NOT_SHOWN and text not in run.experiment.method.title:
            yield text


def markdown(frame: pd.DataFrame, numbers: Sequence[str]) -> list[str]:
    """Returns the lines of a Markdown table, with numbers to the right."""
    rules = ["--:" if name in numbers else "---" for name in frame.columns]
    rows = [list(frame.columns), rules, *frame.astype(str).to_numpy().tolist()]
    return [f"| {' | '.join(tables.in_markdown(cell) for cell in row)} |" for row in rows]


def results_page() -> str:
    """Returns docs/results.md."""
    kept, frame = ["experiment", "settings", "method", "classes", "AUROC", "paper"], summary()
    frame["AUROC"] += [f" ({seeds})" if seeds > 1 else "" for seeds in frame["seeds"]]
    return "\n".join(
        [
            _RESULTS_NOTE,
            *markdown(frame[kept], kept[4:]),
            "",
            *_study(),
            *_folders(),
            *_followed(),
            *_jpeg_copies(),
        ]
    )


def _study() -> Iterator[str]:
    """Yields the lines about study_recipe: a row for each training and score, a column for each class."""
    place = RESULTS / "study_recipe"
    rows: list[tuple[str, str, str, str]] = []
    for run in map(read.read, _run_directories(place)):
        variant, own = run.experiment.variant, experiment.flatten(run.experiment)["method.combine"]
        for error, combine in _STUDY_SCORES if variant in ("paper", "improved") else [("l2", "max")]:
            measure = f"auroc_{error}" if combine == own else f"auroc_{error}_combine_{combine}"
            for result in run.results:
                if (value := result.value(measure)) is not None:
                    name = f"{run.dataset} {result.normal_class_name}"
                    rows.append((variant, f"{error}, {combine}", name, f"{100 * value:.1f}"))
    if rows:
        frame = pd.DataFrame(rows, columns=["training", "score", "class", "percent"])
        shown = frame.set_index(["training", "score", "class"])["percent"].unstack(sort=False).fillna("")
        yield from ["## The improved recipe, part by part", "", _STUDY_NOTE, ""]
        yield from [*markdown(shown.reset_index(), list(shown.columns)), ""]
    for path in RESULTS.glob("study_more*.json"):
        frame = pd.DataFrame(json.loads(path.read_text(encoding="utf-8")))
        means = 100 * frame.pivot_table("auroc", "training", "score", sort=False)
        means.columns = [score.replace(",", "") for score in means.columns]
        of_first = ", ".join(f"{score} {mean:.1f}" for score, mean in means.iloc[0].items())
        each = [f"{means.index[0]}: {of_first}"]
        each += [f"{training}: {means.columns[0]} {mean:.1f}" for training, mean in means.iloc[1:, 0].items()]
        count = frame["class"].nunique()
        yield from [f"By `study_more.py`, averages over {count} of these classes. {'; '.join(each)}.", ""]


def _folders() -> Iterator[str]:
    """Yields the lines about folders of images: medians over seeds, with the least and the most."""
    for path in sorted(RESULTS.glob("folders*.json")):
        frame = pd.DataFrame(json.loads(path.read_text(encoding="utf-8")))
        frame = frame[frame["data"].isin(frame["data"][frame["method"] == "fit"])]
        yield from ["## Folders of images", "", _FOLDERS_NOTE, ""]
        medians = 100 * frame.pivot_table("auroc", "data", "method", aggfunc="median", sort=False)
        shown = medians.map("{:.1f}".format, na_action="ignore").astype(object)
        of_fit = frame[frame["method"] == "fit"].groupby("data", sort=False)
        shown.insert(0, "minutes", of_fit["minutes"].max().map("{:.0f}".format))
        for title, column in (("fit", "auroc"), ("pixel AUROC", "pixel_auroc"), ("AUPRO", "aupro")):
            shown[title] = of_fit[column].agg(_median)
        yield from [*markdown(shown.fillna("").reset_index(), list(shown.columns)), "", _PARTS_NOTE, ""]
        for data, rows in of_fit:
            found = {name: 100 * pd.DataFrame(list(rows[name])).median() for name in ("members", "by_kind")}
            kinds = [kind for kind in found["by_kind"].index if not kind.startswith("other")]
            combined = found["members"][list(rows["weights"].iloc[-1] or {})]
            parts = [", ".join(f"{name.split('_')[1]} {value:.1f}" for name, value in combined.items())]
            if len(kinds) > 1:
                parts.append(", ".join(f"{kind} {value:.1f}" for kind, value in found["by_kind"].items()))
            if len(combined) and kinds:
                yield f"- {data}: {'; '.join(parts)}"
        yield ""


def _followed() -> Iterator[str]:
    """Yields what follow_fit.py measured, for each transform: after a tenth of the training → at its end."""
    found: dict[str, dict[str, str]] = {}
    stopped, ended = list[str](), list[str]()
    for path in RESULTS.glob("follow_fit_cpu.json"):
        for row in json.loads(path.read_text(encoding="utf-8")):
            cells = found.setdefault(row["transform"], {"transform": row["transform"]})
            for title, name in (("rating", "surrogates"), ("AUROC", "test")):
                first, last = (f"{100 * row['found'][place][name]:.1f}" for place in (0, -1))
                cells[f"{row['data']}, {title}"] = f"{first} → {last}"
            points = pd.DataFrame(row["found"])
            falls = points["surrogates"].diff() < 0
            if row["transform"] == "paste" and falls.any():
                stopped.append(f"{100 * points['test'][falls.idxmax()]:.1f} on {row['data']}")
                ended.append(last)
    if found:
        frame = pd.DataFrame(found.values()).fillna("")
        note = _FOLLOWED_NOTE.format(stopped=" and ".join(stopped), ended=" and ".join(ended))
        yield from [note, "", *markdown(frame, list(frame.columns[1:])), ""]


def _jpeg_copies() -> Iterator[str]:
    """Yields what jpeg_copies.py measured: AUROC by seed, for each copy trained on and tested on."""
    for path in RESULTS.glob("jpeg_copies_cpu.json"):
        found: dict[str, list[str]] = {}
        for row in json.loads(path.read_text(encoding="utf-8")):
            trained, tested = (
                "JPEGs" if "jpeg" in row[name] else "originals" for name in ("trained_on", "tested_on")
            )
            found.setdefault(f"{trained} → {tested}", []).append(f"{100 * row['auroc']['score_l1']:.1f}")
        each = "; ".join(f"{name} {', '.join(values)}" for name, values in found.items())
        yield f"CIFAR-10's horses, trained on → tested on, AUROC of two seeds: {each}."
        yield ""


def _median(values: pd.Series) -> str:
    """The median in percent, with the range if they differ."""
    percent = 100 * values.dropna()
    if percent.empty:
        return ""
    least, median, most = (f"{value:.1f}" for value in (percent.min(), percent.median(), percent.max()))
    return median if least == most else f"{median} ({least} to {most})"


def readme_table() -> list[str]:
    """Returns the tables of README.md: `itae fit` on defects, and each method's longest training of classes."""
    lines = []
    for path in RESULTS.glob("folders_cpu.json"):
        frame = pd.DataFrame(json.loads(path.read_text(encoding="utf-8")))
        medians = 100 * frame.pivot_table("auroc", "data", "method", aggfunc="median").loc[list(_DEFECTS)]
        found = pd.DataFrame({"AUROC on defects": _DEFECTS, "`itae fit`": medians["fit"]})
        found["best of PCA, neighbours, isolation forest"] = medians[["pca", "knn", "iforest"]].max(axis=1)
        lines = [*markdown(found.round(1), list(found.columns[1:])), ""]
    frame = summary()
    frame = frame[frame["experiment"].isin(_IN_README)].assign(several=frame["count"] > 1)
    frame = frame.sort_values(["several", "epochs", "count"], ascending=False)
    longest = frame.drop_duplicates(["experiment", "method"]).sort_index()
    paper = longest["paper"].str.split().str[0].map(" ({})".format, na_action="ignore").fillna("")
    some = longest["classes"].map(lambda classes: {10: ""}.get(classes, f", {classes} classes"))
    some = some.where(longest["count"] > 1, ", " + longest["classes"].astype(str))
    longest = longest.assign(cell=longest["AUROC"] + paper + some, data=longest["experiment"].map(_IN_README))
    methods, sets = longest["method"].unique(), list(_IN_README.values())
    table = longest.pivot(index="method", columns="data", values="cell")
    table = table.reindex(index=methods, columns=sets).astype(object).fillna("")
    return [*lines, *markdown(table.rename_axis("AUROC (the paper's)").reset_index(), sets)]


def speed_page() -> str:
    """Returns docs/speed.md."""
    written = "Written by `make results` from `experiments/results/`; + marks uncommitted changes."
    lines = ["# Speed", "", written]
    if not [*RESULTS.glob("bench_method_gpu*.json")]:
        lines.append("No accelerator was timed; `experiments/scripts/accelerator.py` times one.")
    lines.append("")
    for title, pattern, section in (
        ("Training and scoring, beside PyTorch", "bench_method_?pu.json", _bench),
        ("How training grows", "scaling*.json", _scaling),
        ("Reading image files", "bench_data*.json", _reading),
        ("Time to quality", "bench_quality*.json", _quality),
    ):
        paths = sorted(RESULTS.glob(pattern))
        lines += [f"## {title}", ""] if paths else []
        for path in paths:
            measured = json.loads(path.read_text(encoding="utf-8"))
            about = measured["environment"]
            on = f"{about['device']}, jax {about['versions']['jax']}, commit {about['commit']}"
            found: list[str] = []
            lines += [f"{on}: {section(measured, found)}", "", *found, *[""] * bool(found)]
        if section is _bench:
            lines += [*_time_shares(), *_tried(), *_since(), *_figure3()]
    return "\n".join([*lines, *_score_speed()])


def _time_shares() -> Iterator[str]:
    """Yields where the time of training and of scoring goes."""
    for path in sorted(RESULTS.glob("time_shares*.json")):
        measured = json.loads(path.read_text(encoding="utf-8"))
        rows = [{"case": case["case"], **case["shares"]} for case in measured["cases"]]
        table = pd.DataFrame(rows).set_index("case").map(lambda share: f"{100 * share:.0f}%").reset_index()
        commit = measured["environment"]["commit"]
        yield f"Where the time goes, commit {commit}. *Exchange*: means over the devices, for which the"
        yield "next layer waits. *Not in the profile*: products on other threads, waiting."
        yield from ["", *markdown(table, list(table.columns[1:])), ""]


def _compared(pattern: str, against: str) -> Iterator[tuple[str, str, str, dict[str, str]]]:
    """Yields what was measured, both commits, and by kind how long it takes over what it is compared with."""

    def read(path: Path) -> tuple[pd.Series, str]:
        measured = json.loads(path.read_text(encoding="utf-8"))
        ours = [one for one in measured["timings"] if one["contender"] == "itae_jax"]
        fastest = {(one["kind"], one["case"]): min(one["rounds"]) for one in ours}
        return pd.Series(fastest), measured["environment"]["commit"]

    for path in sorted(RESULTS.glob(pattern)):
        (seconds, commit), (others, of_others) = read(path), read(path.with_name(against))
        kinds = (seconds / others).groupby(level=0)
        ends = {kind: sorted({f"{of_kind.min():.2f}", f"{of_kind.max():.2f}"}) for kind, of_kind in kinds}
        shown = {kind: " to ".join(both) for kind, both in ends.items()}
        yield path.parent.name.replace("_", " "), commit, of_others, shown


def _tried() -> Iterator[str]:
    """Yields how long each rejected change takes, over the usual time measured minutes before it."""
    rows = []
    for name, commit, usual, ratios in _compared("tried_cpu/*/tried.json", "usual.json"):
        rows.append({"tried": name + (f" ({commit})" if commit != usual else ""), **ratios})
    if rows:
        yield f"Tried and not used, time over the usual time at the three widths, commit {usual}:"
        yield from ["", *markdown(pd.DataFrame(rows), []), ""]


def _since() -> Iterator[str]:
    """Yields how long methods take over the time of an older commit, measured in turn."""
    found = [*_compared("since_cpu/*/now.json", "before.json")]
    if found:
        (_, commit, before, _), *_ = found
        each = (f"{name} {ratios['training']} and {ratios['scoring']}" for name, _, _, ratios in found)
        yield f"Training and scoring, commit {commit}, fastest of 7 rounds over that of {before}:"
        yield f"{'; '.join(each)}. Below 1 is faster now."
        yield ""


def _figure3() -> Iterator[str]:
    """Yields how many more images ITAE scores a second than GeoTrans at full size, and the run of Figure 3."""
    speeds: dict[tuple[str, str], dict[str, float]] = {}
    for path in sorted(RESULTS.glob("bench_method*.json")):
        measured = json.loads(path.read_text(encoding="utf-8"))
        settings, about = measured["settings"], measured["environment"]
        for one in measured["timings"]:
            if (one["kind"], one["contender"]) == ("scoring", "itae_jax") and one["case"] in _FULL_SIZE:
                of_commit = speeds.setdefault((f"{about['device']}, {settings['dtype']}", about["commit"]), {})
                of_commit[settings["paper_method"]] = one["images_per_second"]
    for (device, commit), of_commit in speeds.items():
        if of_commit.keys() >= bench_report.PAPER.keys():
            ours, papers = (of["ITAE"] / of["GeoTrans"] for of in (of_commit, bench_report.PAPER))
            each = f"{of_commit['ITAE']:.1f} and {of_commit['GeoTrans']:.1f}, commit {commit}"
            more = f"{ours:.1f} times (paper: {papers:.1f}) as many images a second as GeoTrans ({each})"
            yield from [f"At full size, ITAE scores {more}, on {device}.", ""]
    runs = [_published(path) for path in _run_directories(RESULTS / "figure3_efficiency")]
    for of_dataset in columns.by_dataset(runs):
        settings = {run.experiment.variant: list(_settings(run)) for run in runs}
        alike = [
            one for one in settings[runs[0].experiment.variant] if all(one in own for own in settings.values())
        ]
        others = [f"{name} {one}" for name, own in settings.items() for one in own if one not in alike]
        on = f"{runs[0].results[0].device}; ours with {', '.join([*alike, *others])}"
        methods = [one for one in efficiency.compared(of_dataset) if not one.is_paper]
        speed = {one.title.split(" ")[0]: one.images_per_second for one in methods}
        more = f"ITAE is {speed['ITAE'] / speed['GeoTrans']:.1f} times as fast as GeoTrans"
        yield from [f"Figure 3, one run on {on}; {more}:", ""]
        yield from [tables.as_markdown(efficiency.grid(methods)), ""]


def _score_speed() -> Iterator[str]:
    """Yields the lines about `itae score` of an image and of folders."""
    for path in sorted(RESULTS.glob("score_speed*.json")):
        rows = json.loads(path.read_text(encoding="utf-8"))
        about = rows[-1]["environment"]
        on = f"{about['device']}, jax {about['versions']['jax']}"
        yield from ["## Scoring an image, and a folder", "", f"{on}: {_SCORE_SPEED_NOTE}", ""]
        table = pd.DataFrame(
            {
                "commit": [row["environment"]["commit"] for row in rows],
                "images": [f"{row['num_images']:,}" for row in rows],
                "heat maps": ["yes" if row["heatmaps"] else "no" for row in rows],
                "seconds": [f"{pd.Series(row['seconds']).median():.1f}" for row in rows],
            }
        )
        for title, name in (("reading alone", "read_alone"), ("scoring alone", "score_alone")):
            table[title] = [f"{row[name]:.1f}" if row["num_images"] > 1 else "" for row in rows]
        yield from [*markdown(table, list(table.columns[3:])), ""]


def _bench(measured: dict[str, Any], lines: list[str]) -> str:
    frame = pd.DataFrame(measured["timings"]).set_index(["kind", "case"])
    ours = frame[frame["contender"] == "itae_jax"]
    torch = (
        frame[frame["contender"].str.startswith("torch")].groupby(["kind", "case"])["images_per_second"].max()
    )
    columns = {
        "images/s": ours["images_per_second"].map("{:.0f}".format),
        "PyTorch's best": torch.groupby(level=[0, 1]).max().map("{:.0f}".format),
        "time over PyTorch's": pd.Series(bench_report.ratios(measured)).map("{:.2f}".format),
    }
    table = pd.DataFrame(columns).reindex(ours.index).astype(object).fillna("")
    table.insert(0, "case", [", ".join(key) for key in table.index])
    lines += markdown(table, list(columns))
    settings = measured["settings"]
    return f"{settings['method']['name']}, {settings['dtype']}, {bench_report.batches(settings)}."


def _quality(measured: dict[str, Any], lines: list[str]) -> str:
    recipes, measure = measured["recipes"], quality.measure_of(measured)
    title, show = quality.TITLES[measure], ("{:.1%}" if measure == "auroc" else "{:.4g}").format
    frame = pd.DataFrame(quality.rows(measured), columns=[title, *recipes])
    lines += markdown(frame[frame[list(recipes)].nunique(axis=1) > 1], list(frame.columns))
    last = ", ".join(f"{name} {show(points[-1][measure])}" for name, points in recipes.items() if points)
    about = f"{measured['data']}, class {measured['settings']['class']}"
    return (
        f"{about}, seconds with compiling, and images seen, until this {title} is reached. At the end: {last}."
    )


def _scaling(measured: dict[str, Any], lines: list[str]) -> str:
    cores, images = measured["environment"]["cores"], measured["settings"]["batch_size"]
    steps = pd.DataFrame(measured["steps"]).sort_values(["side", "width", "devices"])
    steps = steps[steps["devices"] == cores]
    table = steps[["side", "width"]].copy()
    table["seconds a step"] = steps["seconds"].map("{:.3f}".format)
    table["MiB on each device"] = steps["mib_a_device"].map("{:.0f}".format)
    lines += [*markdown(table, list(table.columns)), ""]
    ends = measured["files"][0], measured["files"][-1]
    memory = ", ".join(f"{row['resident_mib']:.0f} MiB after {row['files']} files" for row in ends)
    lines += [f"Memory of a process that reads files once: {memory}.", ""]
    apart = measured["differences"]["settings"]
    most = max(row["devices"] for row in measured["differences"]["rows"])
    rows = [row for row in measured["differences"]["rows"] if row["devices"] == most]
    found = " and ".join(f"{row['largest']:.1g} in {row['dtype']}" for row in rows)
    lines.append(
        f"After {apart['steps']} steps, losses on {most} devices and on one differ by up to {found}, "
        "relatively: rounding errors grow."
    )
    return f"a training step of {images} images on {cores} devices."


def _reading(measured: dict[str, Any], lines: list[str]) -> str:
    """The medians over passes."""
    frame, settings = pd.DataFrame(measured["passes"]).median(), measured["settings"]
    at_once = pd.DataFrame(measured["scoring"])["both"].median()
    return (
        f"{settings['count']} JPEG files, {settings['threads']} threads: {frame['pipeline']:.0f} images/s, "
        f"{reading.ratio(measured):.2f} times as fast as bare decoding, in {frame['resident_mib']:.0f} MiB. "
        f"Reading at 32x32 and scoring at once: {at_once:.0f} images/s, "
        f"{reading.overlap(measured):.2f} times as fast as the slower one alone."
    )


def pages() -> dict[Path, str]:
    """Returns the text of each page that is written."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    before, rest = readme.split(BEGIN)
    _, after = rest.split(END)
    return {
        ROOT / "README.md": before + "\n".join([BEGIN, *readme_table(), END]) + after,
        ROOT / "docs" / "results.md": results_page(),
        ROOT / "docs" / "speed.md": speed_page(),
    }


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("runs", nargs="*", type=Path, metavar="DIR", help="directories of finished runs")
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit with 1 if a page is out of date"
    )
    parsed = parser.parse_args(arguments)
    try:
        if not parsed.check:
            add(parsed.runs)
        written = pages()
        outdated = [path for path in written if not path.exists() or path.read_text("utf-8") != written[path]]
        for path in outdated:
            if parsed.check:
                print(f"publish: {path.relative_to(ROOT)} is out of date; run make results", file=sys.stderr)
            else:
                files.write_text(path, written[path])
        return 1 if parsed.check and outdated else 0
    except RequestError as error:
        print(f"publish: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
