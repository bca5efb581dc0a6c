"""Tables beside the paper's numbers: arithmetic, what may be compared, joined directories."""

import csv
import errno
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest

from itae_jax import experiment as experiment_files
from itae_jax import files
from itae_jax.config import Experiment, from_flat, to_json
from itae_jax.data.mvtec_ad import CATEGORIES
from itae_jax.errors import RequestError
from itae_jax.report import columns, efficiency, figures, paper, pictures, tables
from itae_jax.report import run_page as report
from itae_jax.report.tables import MINUS
from itae_jax.runs import job_files, results
from itae_jax.runs import read as finished

EPOCHS = [("gray+rotate", "500"), ("identity", "1"), ("rotate", "500")]
PAPER = Path(__file__).parent.parent / "experiments" / "paper"


def printed(table):
    return files.read_csv(PAPER / f"{table}.csv")


def make_row(index, seed, auroc, **columns):
    common = {"normal_class": str(index), "normal_class_name": f"class {index}", "seed": str(seed)}
    run = {"dataset": "cifar10", "transform": "gray+rotate", "width": "64", "epochs": "500"}
    return dict.fromkeys(results.COLUMNS, "") | run | common | {"auroc": str(auroc)} | columns


def make_results(aurocs, cells=(), experiment=None, **columns):
    rows = [make_row(*auroc, **columns) for auroc in aurocs]
    directories = {(row["normal_class"], row["seed"]): Path("runs/x") for row in rows}
    return finished.RunResults(experiment or Experiment(), rows, list(cells), directories)


def cells_of(**numbers):
    return {key: {"auroc": value, "source": "printed"} for key, value in numbers.items()}


def test_average_is_over_classes_of_means_over_seeds():
    lines = tables.lines([make_row(0, 0, 0.9), make_row(0, 1, 0.7), make_row(3, 0, 0.5)], {})
    assert [(line.name, line.value, line.seeds) for line in lines] == [
        ("class 0", pytest.approx(80), 2),
        ("class 3", pytest.approx(50), 1),
        ("average", pytest.approx(65), 1),
        ("SD over classes", pytest.approx(np.std([80, 50], ddof=1)), 1),
    ]
    assert lines[0].spread == pytest.approx(np.std([90, 70], ddof=1))
    assert lines[1].spread is lines[2].spread is None  # the classes have different seeds


def test_spread_of_the_average_is_over_seeds_of_averages():
    rows = [make_row(0, 0, 0.9), make_row(0, 1, 0.7), make_row(3, 0, 0.5), make_row(3, 1, 0.6)]
    average = next(line for line in tables.lines(rows, {}) if line.key == "avg")
    assert average.value == pytest.approx(67.5)
    assert average.spread == pytest.approx(np.std([70, 65], ddof=1))
    assert average.ours_text == "67.5 ± 3.5"


def texts(lines):
    return [(line.name, line.ours_text, line.paper_text, line.difference_text) for line in lines]


def test_the_papers_average_stands_only_beside_all_its_classes():
    cells = {"0": {"auroc": "90.0", "source": "printed"}, "1": {"auroc": "70", "source": "quoted"}}
    cells |= cells_of(avg="80.0", SD="14.14")
    complete = tables.lines([make_row(0, 0, 0.95), make_row(1, 0, 0.68)], cells)
    assert texts(complete) == [
        ("class 0", "95.0", "90.0", "+5.0"),
        ("class 1", "68.0", "70 (quoted)", f"{MINUS}2.0"),
        ("average", "81.5", "80.0", "+1.5"),
        ("SD over classes", "19.09", "14.14", "+4.95"),
    ]
    assert texts(tables.lines([make_row(0, 0, 0.95)], cells))[-1] == ("average", "95.0", "", "")


def test_an_illegible_cell_is_marked_and_not_compared_with():
    cells = {"0": {"auroc": "", "source": "illegible"}}
    assert texts(tables.lines([make_row(0, 0, 0.95)], cells))[0] == ("class 0", "95.0", "(illegible)", "")


@pytest.mark.parametrize(
    ("table", "dataset", "ours", "count", "average", "sd", "at_hand"),
    [
        # What the paper prints, and what its cells give by hand: those of MNIST add up to 982.9, of
        # Fashion-MNIST to 938.2, of CIFAR-10 to 866.4, of CIFAR-100 to 1575.1, of ImageNet to 772.3, of
        # MVTec AD to 1259.0.
        ("table1", "MNIST", "mnist", 10, "98.3", "1.78", (98.29, 1.784)),
        ("table1", "Fashion-MNIST", "fashion_mnist", 10, "93.9", "4.7", (93.82, 4.700)),
        ("table1", "CIFAR-10", "cifar10", 10, "86.6", "5.35", (86.64, 5.345)),
        ("table1", "CIFAR-100", "cifar100", 20, "78.8", "8.82", (78.755, 8.825)),
        ("table1", "ImageNet", "imagenet2012", 10, "77.2", "5.77", (77.23, 5.768)),
        ("table2", "MVTec AD", "mvtec_ad", 15, "83.9", None, (83.933, None)),
    ],
)
def test_the_papers_own_cells_give_its_average_and_sd(table, dataset, ours, count, average, sd, at_hand):
    """The paper's cells, told as if they were ours, come out as its average and SD."""
    of_itae = [row for row in printed(table) if (row["dataset"], row["method"]) == (dataset, "ITAE")]
    of_itae = {row["class"]: row["auroc"] for row in of_itae}
    assert (of_itae["avg"], of_itae.get("SD")) == (average, sd)
    rows = [
        make_row(key, 0, float(auroc) / 100, dataset=ours)
        | ({"normal_class_name": CATEGORIES[int(key)]} if ours == "mvtec_ad" else {})
        for key, auroc in of_itae.items()
        if key not in paper.NOT_CLASSES
    ]
    assert len(rows) == count
    lines = {line.key: line for line in tables.lines(rows, paper.cells(printed(table), rows[0], table))}
    mean, deviation = at_hand
    assert lines["avg"].value == pytest.approx(mean, abs=0.0051)
    assert lines["avg"].paper_text == average
    if ours == "fashion_mnist":
        assert lines["avg"].difference_text == f"{MINUS}0.1"  # the paper's own rounding
    else:
        assert lines["avg"].ours_text == average
    if sd:
        assert lines["SD"].value == pytest.approx(deviation, abs=0.0051)
        assert lines["SD"].paper_text == sd
        assert lines["SD"].value == pytest.approx(float(sd), abs=0.006)  # of rounded cells


@pytest.mark.parametrize(
    ("dataset", "transform", "average"),
    [
        ("mnist", "rotate", "98.3"),
        ("mnist", "gray+rotate", "98.3"),
        ("fashion_mnist", "rotate", "93.9"),
        ("cifar10", "gray+rotate", "86.6"),
        ("cifar10", "identity", "59.3"),
        ("cifar100", "gray+rotate", "78.8"),
        ("imagenet2012", "gray+rotate", "77.2"),
    ],
)
def test_ours_stands_beside_the_papers_same_method(dataset, transform, average):
    cells = paper.cells(printed("table1"), {"dataset": dataset, "transform": transform})
    assert cells["avg"]["auroc"] == average


@pytest.mark.parametrize(
    ("dataset", "transform", "settings"),
    [
        ("cifar10", "rotate", ""),
        ("cifar10", "scale", ""),
        ("mine", "identity", ""),
        ("cifar10", "gray+rotate", "data.name=folder"),
        ("cifar10", "gray+rotate", "data.name=cifar10 train.loss=l1"),
        ("cifar10", "gray+rotate", "evaluate.error=l2"),
    ],
)
def test_nothing_stands_beside_what_the_paper_did_not_do(dataset, transform, settings):
    row = {"dataset": dataset, "transform": transform, "settings": settings}
    assert paper.cells(printed("table1"), row) == {}


def test_classes_of_fashion_mnist_are_compared_by_their_average_alone():
    cells = paper.cells(printed("table1"), {"dataset": "fashion_mnist", "transform": "rotate"})
    assert set(cells) == {"avg", "SD"}
    assert paper.covers(cells, [str(i) for i in range(10)])
    assert not paper.covers(cells, ["0"])


@pytest.mark.parametrize(
    ("transform", "average"),
    [("identity", "59.3"), ("scale", "57.8"), ("gray", "65.6"), ("rotate", "82.2"), ("gray+rotate", "86.6")],
)
def test_each_transform_has_its_row_of_table_4(transform, average):
    cells = paper.cells(printed("table4"), make_row(0, 0, 0.9, transform=transform), "table4")
    assert cells["avg"]["auroc"] == average


@pytest.mark.parametrize(
    ("loss", "error", "first"),
    [("l1", "l1", "74.2"), ("l1", "l2", "74.1"), ("l2", "l2", "77.8"), ("l2", "l1", "78.5")],
)
def test_table_5_names_the_training_loss_before_the_scoring_error(loss, error, first):
    settings = "train.loss=l1" if loss == "l1" else ""
    cells = paper.cells(printed("table5"), make_row(0, 0, 0.9, settings=settings), "table5", error)
    assert cells["0"]["auroc"] == first


def test_table_5_is_two_columns_of_every_training():
    experiment = from_flat({"paper_table": "table5", "name": "t"})
    scored = {"auroc_l1": "0.8", "auroc_l2": "0.7"}
    (of_dataset,) = columns.by_dataset([make_results([(0, 0, 0.8)], printed("table5"), experiment, **scored)])
    assert [column.title for column in of_dataset] == ["l2 → l1", "l2 → l2"]
    assert tables.grid(of_dataset).rows[0] == ["class 0", "80.0", "78.5 (+1.5)", "70.0", f"77.8 ({MINUS}7.8)"]
    found = of_dataset[0].found
    assert columns.trainings(of_dataset) == [("trained by l2", found)]
    assert "### trained by l2" in report.markdown([found])
    found.rows[0]["best_f1"] = "0.5"
    told = [(row["column"], row["measure"]) for row in csv.DictReader(io.StringIO(tables.as_csv([found])))]
    assert dict.fromkeys(told) == dict.fromkeys(
        [("l2 → l1", "best_f1"), ("l2 → l1", "auroc_l1"), ("l2 → l2", "auroc_l2")]
    )


def test_table_6_compares_mean_and_sd_over_the_runs():
    runs = (0, 0.999), (1, 0.9994)
    rows = [make_row(1, *run, dataset="mnist", transform="rotate") for run in runs]
    line = tables.lines(rows, paper.cells(printed("table6"), rows[0], "table6"))[0]
    assert (line.ours_text, line.paper_text, line.difference_text) == (
        "99.92 ± 0.03",
        "99.94 ± 0.01",
        f"{MINUS}0.02",
    )


def test_table_3_is_one_number_for_all_frames():
    row = make_row(0, 0, 0.7, dataset="shanghaitech")
    lines = tables.lines([row], paper.cells(printed("table3"), row, "table3"))
    assert [line.paper_text for line in lines] == ["72.5", "72.5"]


def test_categories_of_mvtec_are_found_by_name():
    row = make_row(0, 0, 0.7, dataset="mvtec_ad", normal_class_name="cable")
    (line, *_) = tables.lines([row], paper.cells(printed("table2"), row, "table2"))
    assert line.paper_text == "83.2"


def test_classes_of_one_number_but_other_names_are_other_lines():
    """Each MVTec AD run counts the categories that it finds, and two folders may have one name."""
    runs = [
        make_results([(0, 0, auroc)], printed("table2"), from_flat({"paper_table": "table2"}))
        for auroc in (0.6, 0.9)
    ]
    for found, name in zip(runs, ("cable", "bottle"), strict=True):
        for row in found.rows:
            row |= {"dataset": "mvtec_ad", "normal_class_name": name, "data_copy": f"folder {name}"}
    (of_dataset,) = columns.by_dataset(runs)
    grid = tables.grid(of_dataset)
    assert [row[0] for row in grid.rows] == ["bottle", "cable", "average"]
    assert [row[1:] for row in grid.rows[:2]] == [
        ["", "", "90.0", f"94.1 ({MINUS}4.1)"],
        ["60.0", f"83.2 ({MINUS}23.2)", "", ""],
    ]
    assert report.DIFFERENT_CLASSES in report.notes(of_dataset)
    numbers = [row["class"] for row in csv.DictReader(io.StringIO(tables.as_csv(runs)))]
    assert numbers == ["8", "avg", "0", "avg"]


@pytest.mark.parametrize(
    ("first", "second", "titles"),
    [
        ({}, {"settings": "data.fit=crop"}, ["ITAE", "ITAE (data.fit=crop)"]),
        (
            {"settings": "data.fit=pad model.width=16"},
            {"settings": "data.fit=crop model.width=16"},
            ["ITAE (data.fit=pad)", "ITAE (data.fit=crop)"],
        ),
        ({}, {"settings": "train.loss=l1"}, ["ITAE", "gray+rotate, train.loss=l1"]),
        (
            {"settings": "data.superclasses=/my data/x.csv model.width=16"},
            {"settings": "model.width=16"},
            ["ITAE (data.superclasses=/my data/x.csv)", "ITAE"],
        ),
        ({"data_copy": "a: 5 png"}, {"data_copy": "b: 5 png"}, ["ITAE (a: 5 png)", "ITAE (b: 5 png)"]),
        ({}, {}, ["ITAE (w16/x)", "ITAE (w64/x)"]),
    ],
)
def test_columns_of_one_method_are_told_apart_by_what_differs(first, second, titles):
    runs = [make_results([(0, 0, 0.9)], **columns) for columns in (first, second)]
    for found, root in zip(runs, ("runs/w16/x", "runs/w64/x"), strict=True):
        found.directories[("0", "0")] = Path(root)
    (of_dataset,) = columns.by_dataset(runs)
    assert [column.title for column in of_dataset] == titles


def test_averages_of_measures_say_over_how_many_classes():
    found = make_results([(0, 0, 0.6), (1, 0, 0.8)], num_test="4", num_anomalous="3")
    found.rows[0]["pixel_auroc"] = "0.9"
    grid = tables.measures_grid(found)
    assert grid.header == ["normal class", "AUROC", "anomalous", "F1 if all are flagged", "pixel AUROC"]
    assert grid.rows[0] == ["class 0", "60.0", "75.0", "85.7", "90.0"]
    assert grid.rows[2] == [
        "average",
        *("70.0 (2 classes)", "75.0 (2 classes)", "85.7 (2 classes)", "90.0 (1 class)"),
    ]


def test_several_methods_stand_side_by_side_by_data_set():
    one = make_results([(0, 0, 0.9), (1, 0, 0.8)])
    plain = make_results([(0, 0, 0.6)], transform="identity")
    other = make_results([(0, 0, 0.5)], dataset="mine")
    first, second = columns.by_dataset([one, plain, other])
    grid = tables.grid(first)
    assert grid.header == ["normal class", "ITAE", "AE"]
    assert grid.rows == [
        ["class 0", "90.0", "60.0"],
        ["class 1", "80.0", ""],
        ["average", "85.0 (2 classes)", "60.0 (1 class)"],
        ["SD over classes", "7.1", ""],
    ]
    assert [column.found for column in second] == [other]


def test_averages_over_different_classes_are_marked_and_told():
    one, other = make_results([(0, 0, 0.9), (1, 0, 0.8)]), make_results([(0, 0, 0.6)], transform="identity")
    (of_dataset,) = columns.by_dataset([one, other])
    for text in (report.text_tables([one, other]), report.markdown([one, other])):
        assert text.count("averages are over different classes") == 1
    kind, bars, _ = next(pictures.comparing(of_dataset))
    assert (kind, [label.get_text() for label in bars.axes[0].get_xticklabels()]) == (
        "bars",
        ["class 0", "class 1"],
    )

    other = make_results([(0, 0, 0.6), (1, 0, 0.7)], transform="identity")
    (of_dataset,) = columns.by_dataset([one, other])
    assert tables.grid(of_dataset).rows[2] == ["average", "85.0", "65.0"]
    assert "different classes" not in report.text_tables([one, other]) + report.markdown([one, other])
    _, bars, _ = next(pictures.comparing(of_dataset))
    assert [label.get_text() for label in bars.axes[0].get_xticklabels()][-1] == "average"


def test_columns_of_other_numbers_of_epochs_say_so():
    runs = [make_results([(0, 0, 0.9)], transform=name, epochs=epochs) for name, epochs in EPOCHS]
    (of_dataset,) = columns.by_dataset(runs[:2])
    assert tables.grid(of_dataset).header == ["normal class", "ITAE, 500 epochs", "AE, 1 epoch"]
    (of_dataset,) = columns.by_dataset(runs[::2])
    assert tables.grid(of_dataset).header == ["normal class", "ITAE", "rotate"]
    more = make_results([(0, 0, 0.9)], epochs="60", settings="train.epochs=60")
    (of_dataset,) = columns.by_dataset([*runs[:2], more])
    assert [column.title for column in of_dataset] == [
        "ITAE, 500 epochs",
        "AE, 1 epoch",
        "ITAE (train.epochs=60)",
    ]


def test_columns_tell_in_what_they_are_not_alike():
    runs = [make_results([(0, 0, 0.9)], dtype="float32", data_copy="png")]
    runs += [make_results([(0, 0, 0.8)], transform="identity", dtype="float32", data_copy="jpg", width="16")]
    (of_dataset,) = columns.by_dataset(runs)
    told = report.notes(of_dataset)
    assert "Not alike in width: ITAE: 64; AE: 16." in told
    assert "Not alike in data: ITAE: png; AE: jpg." in told
    assert not any("dtype" in note for note in told)
    third = make_results([(0, 0, 0.8)], transform="gray", dtype="bfloat16", data_copy="png")
    (of_dataset,) = columns.by_dataset([*runs, third])
    assert "Not alike in dtype: gray: bfloat16; the others: float32." in report.notes(of_dataset)


def test_trainings_by_other_settings_than_the_papers_are_told():
    experiment = from_flat({"paper_table": "table1"})
    settings = "model.width=64 train.learning_rate=1.0 train.augment=flip model.output=linear"
    found = make_results([(0, 0, 0.9)], experiment=experiment, settings=settings)
    (of_dataset,) = columns.by_dataset([found])
    assert "not the paper's training: train.learning_rate=1.0, model.output=linear" in report.notes(of_dataset)
    assert make_results([(0, 0, 0.9)], settings=settings).otherwise == ""


def test_scores_of_video_are_those_within_each_video(tmp_path):
    frames = [("a/0", "normal", 1.0), ("a/1", "anomalous", 3.0), ("b/0", "normal", 5.0), ("b/1", "normal", 4.0)]
    scores = [dict(zip(("id", "label", "score"), frame, strict=True)) for frame in frames]
    files.write_csv(tmp_path / "scores.csv", scores)
    row = make_row(0, 0, 2 / 3 + 0.5 / 3, dataset="shanghaitech", normal_label="normal")
    is_anomaly, values = job_files.read_scores(tmp_path, row)
    np.testing.assert_array_equal(values, [0, 1, 1, 0])
    figure = figures.roc_curves([("all", is_anomaly, values)])
    assert figure.axes[0].get_title() == f"all: {100 * (2 / 3 + 0.5 / 3):.1f}"
    _, plain = job_files.read_scores(tmp_path, row | {"dataset": "mnist", "auroc": str(1 / 3)})
    np.testing.assert_array_equal(plain, [1, 3, 5, 4])


def test_a_heading_names_the_data_set_once():
    for name, expected in (("digits", "digits"), ("sweep", "sweep: digits")):
        found = make_results([(0, 0, 0.9)], experiment=from_flat({"name": name}), dataset="digits")
        assert report.heading(columns.by_dataset([found])[0]) == expected


def test_text_and_markdown_hold_the_same_cells():
    found = make_results([(0, 0, 0.95)], printed("table1"))
    text = report.text_tables([found]).splitlines()
    assert text[2].split() == ["class", "0", "95.0", "78.5", "+16.5"]
    (of_dataset,) = columns.by_dataset([found])
    assert "| class 0 | 95.0 | 78.5 | +16.5 |" in tables.as_markdown(tables.grid(of_dataset))
    assert "paper" not in report.text_tables([make_results([(0, 0, 0.95)])])


def test_the_csv_tells_every_number_with_its_source():
    found = make_results([(4, 0, 0.95)], printed("table1"), dataset="cifar100", best_f1="0.5")
    rows = list(csv.DictReader(io.StringIO(tables.as_csv([found]))))
    of_class = next(row for row in rows if (row["measure"], row["class"]) == ("auroc", "4"))
    assert (of_class["ours"], of_class["paper"], of_class["paper_source"]) == ("95.0000", "77.7", "quoted")
    assert (of_class["difference"], of_class["reduced"]) == ("+17.3000", "no")
    assert [row["ours"] for row in rows if row["measure"] == "best_f1"] == ["50.0000", "50.0000"]


@pytest.mark.parametrize(
    ("changed", "reduced"),
    [
        ({}, ""),
        ({"width": "16", "epochs": "60"}, "width 16 instead of 64, 60 of 500 epochs"),
        (
            {"settings": "data.name=mnist data.limit_train=9 data.limit_test=2000"},
            "at most 9 training images, at most 2000 test images",
        ),
        ({"data_copy": "folder x: 8 + 9 jpeg, 9 of 56 folders"}, "a part of the data set"),
        ({"data_copy": "folder x: 8 + 9 jpeg, 5 classes instead of 10"}, "other classes"),
        ({"data_copy": "folder x: 8 + 9 jpeg, classes of other names"}, "other classes"),
        ({"width": "16", "settings": "data.name=folder"}, ""),
        ({"dataset": "shanghaitech", "settings": "data.image_size=64"}, "images of 64 instead of 480"),
        ({"dataset": "shanghaitech"}, ""),
    ],
)
def test_less_than_the_papers_training_is_reduced(changed, reduced):
    assert paper.reduced(make_row(0, 0, 0.9, **changed)) == reduced


def test_whatever_shows_reduced_results_says_in_what():
    fields = {"name": "t", "paper_table": "table1"}
    found = make_results([(0, 0, 0.9)], printed("table1"), from_flat(fields), width="16")
    other = make_results([(0, 0, 0.8)], (), from_flat(fields), transform="identity")
    told = "reduced, less than the paper's training: width 16 instead of 64"
    for text in (report.text_tables([found]), report.markdown([found])):
        assert told in text
        assert f"ITAE, {told}" not in text
    for text in (report.text_tables([found, other]), report.markdown([found, other])):
        assert text.count(f"ITAE, {told}") == 1
    rows = csv.DictReader(io.StringIO(tables.as_csv([found, other])))
    assert {row["column"]: row["reduced"] for row in rows} == {"ITAE": "width 16 instead of 64", "AE": "no"}
    _, bars, _ = next(pictures.comparing(columns.by_dataset([found, other])[0]))
    legend = bars.axes[0].get_legend() or bars.legends[0]
    assert [text.get_text() for text in legend.get_texts()][:2] == ["ITAE (reduced)", "AE"]


def test_what_is_not_compared_with_the_paper_is_not_called_reduced():
    found = make_results([(0, 0, 0.9)], (), from_flat({"name": "digits"}), width="16", dataset="digits")
    assert "reduced" not in report.text_tables([found]) + report.markdown([found])


def write_run(directory, rows, **fields):
    """A run directory without the files that only pictures need."""
    directory.mkdir(parents=True)
    dataset = rows[0]["dataset"] if rows else "cifar10"
    fields = {"data.name": "cifar10" if dataset == "cifar10" else "folder"} | fields
    experiment = from_flat({"name": "sweep"} | fields)
    record = {"environment": {}} | json.loads(to_json(experiment))
    (directory / "config.json").write_text(json.dumps(record))
    told = results.columns_of(experiment)
    rows = [
        row | told | dict.fromkeys(("average_precision", "best_f1"), row["auroc"] and "0.5") for row in rows
    ]
    files.write_csv(directory / "results.csv", rows, results.COLUMNS)
    return directory


def test_parts_of_one_sweep_are_joined(tmp_path):
    first = write_run(tmp_path / "a", [make_row(1, 0, 0.9), make_row(0, 0, 0.8)], **{"data.root": "/here"})
    second = write_run(
        tmp_path / "b", [make_row(0, 1, 0.7), make_row(1, 0, 0.9)], **{"data.root": "/there", "classes": "0,1"}
    )
    (found,) = report.read([first, second])
    assert [(row["normal_class"], row["seed"]) for row in found.rows] == [("0", "0"), ("0", "1"), ("1", "0")]
    assert found.duplicates == 1
    assert found.job_directory(found.rows[1]) == second / "class_0" / "seed_1"
    assert found.job_directory(found.rows[2]) == first / "class_1" / "seed_0"
    assert tables.lines(found.rows, {})[0].value == pytest.approx(75)


@pytest.mark.parametrize("measure", ["auroc", "pixel_auroc"])
def test_parts_that_contradict_each_other_are_refused(tmp_path, measure):
    rows = [make_row(0, 0, 0.8, pixel_auroc="0.8") | {measure: value} for value in ("0.8", "0.81")]
    first, second = (write_run(tmp_path / row[measure], [row]) for row in rows)
    with pytest.raises(RequestError, match=rf"class class 0, seed 0 has {measure}=0\.81, but 0\.8 in .*0\.8"):
        report.read([first, second])


@pytest.mark.parametrize("field", ["model.width", "train.epochs"])
def test_another_config_or_data_copy_is_another_result(tmp_path, field):
    first = write_run(tmp_path / "a", [make_row(0, 0, 0.8)])
    second = write_run(tmp_path / "b", [make_row(0, 0, 0.9)], **{field: 7})
    third = write_run(tmp_path / "c", [make_row(0, 0, 0.7, data_copy="another")])
    assert [found.rows[0]["auroc"] for found in report.read([first, second, third])] == ["0.8", "0.9", "0.7"]


def test_folders_of_one_name_with_other_classes_are_not_joined(tmp_path):
    first = write_run(tmp_path / "a", [make_row(0, 0, 0.8)])
    second = write_run(tmp_path / "b", [make_row(0, 1, 0.7, normal_class_name="cow")])
    third = write_run(tmp_path / "c", [make_row(0, 1, 0.6), make_row(1, 0, 0.5)])
    found = report.read([first, second, third])
    assert [[row["normal_class_name"] for row in one.rows] for one in found] == [
        ["class 0", "class 0", "class 1"],
        ["cow"],
    ]


def test_a_directory_named_twice_counts_once(tmp_path, monkeypatch):
    directory = write_run(tmp_path / "a", [make_row(0, 0, 0.8)])
    (tmp_path / "link").symlink_to(directory)
    monkeypatch.chdir(tmp_path)
    (found,) = report.read([Path("a"), directory, tmp_path / "link"])
    assert found.duplicates == 0
    failed = write_run(tmp_path / "b", [make_row(0, 0, "", note="failed: x")])
    (found,) = report.read([directory, failed])
    assert found.duplicates == 0


@pytest.mark.parametrize(
    "columns",
    [
        {"num_test": "0", "num_anomalous": "0"},
        {"num_test": "4", "num_anomalous": "5"},
        {"num_test": "4", "num_anomalous": "-1"},
        {"width": "16.5"},
        {"epochs": "inf"},
        {"score_seconds": "abc"},
        {"train_seconds": "nan"},
        {"auroc": "7", "note": "failed"},
        {"average_precision": "nan"},
        {"aupro": "1.5"},
    ],
)
def test_numbers_that_cannot_be_are_refused(tmp_path, columns):
    directory = write_run(tmp_path / "a", [])
    files.write_csv(directory / "results.csv", [make_row(0, 0, 0.8) | columns], results.COLUMNS)
    with pytest.raises(RequestError, match=r"results\.csv: is damaged"):
        results.read_results(directory)


def test_a_training_that_stands_there_twice_is_refused(tmp_path):
    directory = write_run(tmp_path / "a", [make_row(0, 0, 0.8), make_row(0, 0, 0.7)])
    with pytest.raises(RequestError, match="class 0, seed 0 stands there twice"):
        results.read_results(directory)


def test_scores_that_are_cut_short_or_no_numbers_are_refused(tmp_path):
    row = make_row(0, 0, 0.8, num_test="2", normal_label="ok")
    cases = {
        "1.0": "1 of 2 images",
        "1.0 nan": "not a finite",
        "1.0 1e308": "not a finite",
        "1.0 2.0": "gives auroc=1,",
    }
    for scores, message in cases.items():
        lines = [{"label": label, "score": s} for label, s in zip(("ok", "bad"), scores.split(), strict=False)]
        files.write_csv(tmp_path / "scores.csv", lines)
        with pytest.raises(RequestError, match=message):
            job_files.read_scores(tmp_path, row)


def test_pictures_of_a_directory_that_cannot_be_written_are_on_the_page_all_the_same(tmp_path, monkeypatch):
    def refused(path, content):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(report, "write_bytes", refused)
    figure = figures.roc_curves([("cat", np.array([False, True]), np.array([0.0, 1.0]))])
    url = report._save(figure, tmp_path / "figures" / "roc.png", must=False)
    assert url.startswith("data:image/png;base64,")
    with pytest.raises(PermissionError):
        report._save(figure, tmp_path / "figures" / "roc.png")


def test_names_in_pictures_are_no_mathematics_and_of_one_line():
    assert figures.label("US$ bill,\nCA$ bill") == r"US\$ bill, CA\$ bill"
    assert figures.label("caf\udce9") == "caf?"
    assert figures.label("x" * 50) == "x" * 39 + "…"
    panels = [(name, np.array([False, True]), np.array([0.0, 1.0])) for name in ("$x^$", "caf\udce9")]
    figures.roc_curves(panels).canvas.draw()


def test_what_names_hold_is_no_markdown():
    found = make_results([(0, 0, 0.9)])
    found.rows[0]["normal_class_name"] = "a|b\n<img src=x> \\ &"
    assert "| a\\|b &lt;img src=x> \\\\ &amp; | 90.0 |" in report.markdown([found])
    assert "a|b <img src=x>" in report.text_tables([found])


def test_trainings_without_auroc_are_told_and_do_not_count(tmp_path):
    failed = make_row(1, 0, "", note="failed: the loss is nan")
    first = write_run(tmp_path / "a", [make_row(0, 0, 0.8), failed])
    second = write_run(tmp_path / "b", [make_row(1, 0, 0.6)])
    (alone,) = report.read([first])
    assert [line.value for line in tables.lines(alone.rows, {})] == [pytest.approx(80)] * 2
    assert "class class 1, seed 0: failed: the loss is nan" in report.text_tables([alone])
    assert "- class class 1, seed 0: failed: the loss is nan" in report.markdown([alone])
    (joined,) = report.read([first, second])
    assert [row["auroc"] for row in joined.rows] == ["0.8", "0.6"]
    assert joined.job_directory(joined.rows[1]) == second / "class_1" / "seed_0"


def test_a_run_of_nothing_but_failures_is_told_by_its_notes(tmp_path):
    failed = [make_row(index, 0, "", note=f"failed: {index}") for index in (0, 1)]
    (found,) = report.read([write_run(tmp_path / "a", failed)])
    assert found.measured == []
    told = report.text_tables([found]).splitlines()
    assert told[1:] == ["class class 0, seed 0: failed: 0", "class class 1, seed 0: failed: 1"]
    assert "failed: 1" in report.markdown([found])
    assert len(tables.as_csv([found]).splitlines()) == 1


def test_columns_of_older_versions_are_completed_from_the_scores(tmp_path):
    directory = write_run(tmp_path / "a", [])
    told = results.columns_of(experiment_files.read_record(directory / "config.json"))
    row = make_row(0, 0, 1.0, normal_label="ok", commit="0123") | told
    old = results.COLUMNS[: results.COLUMNS.index("commit") + 1]
    files.write_csv(directory / "results.csv", [{key: row[key] for key in old}], old)
    scores = [{"label": label, "score": score} for label, score in (("ok", 1.0), ("bad", 2.0), ("bad", 3.0))]
    (directory / "class_0" / "seed_0").mkdir(parents=True)
    files.write_csv(directory / "class_0" / "seed_0" / "scores.csv", scores)
    (found,) = report.read([directory])
    assert (found.rows[0]["average_precision"], found.rows[0]["best_f1"]) == ("1.000000", "1.000000")
    assert found.rows[0]["aupro"] == ""
    results.add_result(directory, make_row(1, 0, 0.5, commit="4567"))
    assert list(results.read_results(directory)) == [(0, 0), (1, 0)]


def test_curves_leave_out_lines_without_auroc_or_cut_short(tmp_path):
    directory = write_run(tmp_path / "a", [make_row(0, 0, 0.8)])
    lines = [
        '{"normal_class": 0, "seed": 0, "epoch": 1, "loss": 0.1}',
        '{"normal_class": 0, "seed": 0, "epoch": 1, "auroc": NaN}',
        '{"normal_class": 0, "seed": 0, "epoch": 3, "auroc": 5.0}',
        f'{{"normal_class": 0, "seed": 0, "epoch": {10**400}, "auroc": 0.5}}',
        '{"normal_class": 0, "seed": 0, "epoch": 2, "loss": 0.1, "auroc": 0.7}',
        '{"normal_class": 1, "seed": 0, "epoch": 2, "loss": 0.1, "auroc": 0.7}',
        "[" * 100_000,
        '{"normal_class": 0, "seed": 0, "epo',
    ]
    (directory / "metrics.jsonl").write_text("\n".join(lines))
    assert finished.training_curves(finished.read(directory)) == {("0", "0"): {2: 0.7}}


def test_curves_are_of_the_error_that_was_followed(tmp_path):
    fields = {"paper_table": "table5", "evaluate.every_epochs": 1}
    directory = write_run(tmp_path / "a", [make_row(0, 0, 0.8, auroc_l1="0.8", auroc_l2="0.7")], **fields)
    (directory / "metrics.jsonl").write_text('{"normal_class": 0, "seed": 0, "epoch": 1, "auroc": 0.8}\n')
    (of_dataset,) = columns.by_dataset(report.read([directory]))
    curves = next(figure for kind, figure, _ in pictures.comparing(of_dataset) if kind == "curves")
    (panel,) = curves.axes
    assert [line.get_ydata().tolist() for line in panel.lines] == [[80.0]]  # by l1 alone


def test_error_maps_are_of_the_first_class_with_masks(tmp_path):
    rows = [make_row(0, 1, 0.8), make_row(1, 1, 0.7), make_row(1, 2, 0.7)]
    directory = write_run(tmp_path / "a", rows)
    for row in rows:
        masks = np.zeros((2, 8, 8), bool)
        masks[1, 2:4, 2:4] = row["normal_class"] == "1"
        images = np.zeros((2, 8, 8, 1), np.uint8)
        arrays = {"originals": images, "inputs": images[None], "outputs": images[None], "masks": masks}
        arrays |= {"labels": np.array(["good", "dent"]), "is_anomaly": np.array([False, True])}
        folder = results.job_directory(directory, row["normal_class"], row["seed"])
        folder.mkdir(parents=True)
        np.savez(folder / "illustrations.npz", **arrays, maps=np.zeros((2, 8, 8)))
    (of_dataset,) = columns.by_dataset(report.read([directory]))
    captions = {kind: caption for kind, _, caption in pictures.comparing(of_dataset)}
    assert captions["error_maps"].startswith("Normal class class 1, seed 1. ")
    for changed in ({"labels": np.array(["good"])}, {"maps": np.zeros((2, 8, 9))}, {"inputs": images}):
        np.savez(folder / "illustrations.npz", **{**arrays, **changed})
        with pytest.raises(RequestError, match="not of the same images"):
            job_files.read_illustrations(folder)
    two_channels = {name: np.repeat(arrays[name], 2, -1) for name in ("originals", "inputs", "outputs")}
    for changed in ({"labels": np.arange(2.0)}, {"originals": images * 1.0}, two_channels):
        np.savez(folder / "illustrations.npz", **{**arrays, **changed})
        with pytest.raises(RequestError, match=r"of other types|others than grey"):
            job_files.read_illustrations(folder)


def test_damaged_pictures_are_told_whatever_byte_is_broken(tmp_path):
    images, path = np.zeros((1, 8, 8, 1), np.uint8), tmp_path / "illustrations.npz"
    arrays = {"originals": images, "inputs": images[None], "outputs": images[None]}
    np.savez_compressed(path, **arrays, labels=np.array(["good"]), is_anomaly=np.array([False]))
    whole = path.read_bytes()
    job_files.read_illustrations(tmp_path)
    told = 0
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x22]) + whole[place + 1 :])
        try:
            job_files.read_illustrations(tmp_path)
        except RequestError:
            told += 1
    assert told > len(whole) / 2  # the rest are bytes of dates and the like


def test_speeds_of_several_devices_do_not_average():
    measured = {"num_test": "300", "score_seconds": "1", "score_memory_mib": "400"}
    of_paper = {"dataset": "", "images_per_second": "270", "auroc": "86.6", "memory_mb": "713"}
    of_one = make_results([(0, 0, 0.8), (1, 0, 0.9)], [of_paper | {"method": "ITAE"}], **measured)
    ((column,),) = columns.by_dataset([of_one])
    assert efficiency.compared([column])[0].images_per_second == 300
    for changed in ({"device": "1 x GPU"}, {"score_seconds": ""}, {"score_memory_mib": ""}):
        before = dict(of_one.rows[1])
        of_one.rows[1] |= changed
        assert efficiency.compared([column]) == []
        of_one.rows[1] |= before


def test_rows_of_another_config_than_the_runs_are_refused(tmp_path):
    directory = write_run(tmp_path / "a", [make_row(0, 0, 0.8)])
    (row,) = files.read_csv(directory / "results.csv")
    files.write_csv(directory / "results.csv", [row | {"width": "32"}])
    with pytest.raises(
        RequestError, match=r"results\.csv has width='32' in class 0, seed 0, but config\.json '64'"
    ):
        report.read([directory])


@pytest.mark.parametrize(("column", "value"), [("width", ""), ("epochs", ""), ("width", "9" * 5000)])
def test_rows_without_their_counts_are_damaged(tmp_path, column, value):
    directory = write_run(tmp_path / "a", [make_row(0, 0, 0.8)])
    (row,) = files.read_csv(directory / "results.csv")
    files.write_csv(directory / "results.csv", [row | {column: value}])
    with pytest.raises(RequestError, match=f"damaged .*{column}="):
        report.read([directory])


def test_results_whose_last_line_is_cut_are_damaged(tmp_path):
    directory = write_run(tmp_path / "a", [make_row(0, 0, 0.8)])
    path = directory / "results.csv"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(RequestError, match=r"damaged .*cut short"):
        report.read([directory])


@pytest.mark.parametrize("name", ["d" * 250, "日本語", "a b:c"])
def test_reports_are_written_whatever_the_data_set_and_its_classes_are_called(tmp_path, monkeypatch, name):
    monkeypatch.setattr(job_files, "read_illustrations", lambda directory: {})
    rows = [make_row(index, 0, 0.8, dataset=name, normal_class_name=f"{name} {index}") for index in range(2)]
    directory = write_run(tmp_path / "a", rows)
    (of_dataset,) = columns.by_dataset(report.read([directory]))
    shown = report._comparison(of_dataset, directory)
    assert [kind for kind, *_ in shown["pictures"]] == ["bars"]
    assert sorted(path.suffix for path in (directory / "figures").iterdir()) == [".pdf", ".png"]


@pytest.mark.parametrize(
    ("transform", "count", "titles"),
    [
        ("gray+rotate", 4, ["0°", "90°", "180°", "270°"]),
        ("identity", 1, [""]),
        ("something_else", 2, ["0", "1"]),
    ],
)
def test_members_of_rotations_are_told_by_their_angles(transform, count, titles):
    assert pictures.member_titles(transform, count) == titles


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("auroc", "nan", "auroc=nan, expected percent"),
        ("auroc", "800", "auroc=800, expected percent"),
        ("memory_mb", "", "memory_mb='', expected a positive number"),
        ("images_per_second", "inf", "images_per_second='inf', expected a positive number"),
    ],
)
def test_numbers_of_the_paper_that_cannot_be_are_refused(tmp_path, column, value, message):
    directory = write_run(tmp_path / "a", [make_row(0, 0, 0.8)])
    first, *rest = printed("figure3")
    files.write_csv(directory / "paper.csv", [first | {column: value}, *rest])
    with pytest.raises(RequestError, match=rf"paper\.csv: is damaged \({re.escape(message)}"):
        report.read([directory])


def test_runs_of_the_paper_without_an_sd_are_told_without_one():
    cells = [cell for cell in printed("table6") if cell["class"] != "SD"]
    row = make_row(1, 0, 0.99, dataset="mnist", transform="rotate")
    assert set(paper.cells(cells, row, "table6")) == {"1"}


@pytest.mark.parametrize("path", sorted(PAPER.glob("*.csv")), ids=lambda path: path.stem)
def test_the_papers_numbers_are_complete_and_say_how_far_to_trust_them(path):
    rows = files.read_csv(path)
    assert rows
    assert paper.read(path) == rows
    for row in rows:
        assert row["source"] in {"printed", "restored", "quoted", "derived", "unverified", "illegible"}
        assert (row["auroc"] == "") == (row["source"] == "illegible")
        assert not row["auroc"] or 0 <= float(row["auroc"]) <= 100
