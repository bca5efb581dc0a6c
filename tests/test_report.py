"""Tables beside the paper's numbers: arithmetic, what may be compared, how columns are called."""

import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from itae_jax import experiment, files
from itae_jax.data import Dataset
from itae_jax.data.mvtec_ad import CATEGORIES
from itae_jax.errors import RequestError
from itae_jax.methods.itae import ITAEConfig
from itae_jax.report import columns, efficiency, figures, paper, run_page, tables
from itae_jax.report.paper import Cell
from itae_jax.report.tables import AVERAGE, MINUS, SD
from itae_jax.runs.read import RunResults, read_paper
from itae_jax.runs.results import Result

PAPER = Path(__file__).parent.parent / "experiments" / "paper"


def make_result(index=0, seed=0, auroc=0.9, **fields):
    job = {"normal_class": index, "normal_class_name": f"class {index}", "seed": seed, "auroc": auroc}
    numbers = {"num_train": 9, "num_test": 300, "train_seconds": 1.0, "score_seconds": 1.0}
    common = {"experiment": "sweep", "dataset": "cifar10", "method": "itae", "epochs": 500, "device": "1 x GPU"}
    common |= {"dtype": "float32", "normal_label": "ok", "data_source": "png", "coverage": "complete"}
    return Result(**common | job | numbers | {"commit": ""} | fields)


def make_run(aurocs=((0, 0, 0.9),), *settings, table="", root="runs/x", name="sweep", **fields):
    """A run as if read: (class, seed, AUROC) with further fields; the paper's rows come with the table."""
    results = [make_result(*auroc, **fields) for auroc in aurocs]
    data = results[0].dataset if results[0].dataset in ("mnist", "mvtec_ad", "shanghaitech") else "cifar10"
    one = experiment.Experiment(name=name, paper_table=table)
    one = experiment.override(one, [f"data.name={data}", *settings])
    rows = files.read_csv(PAPER / f"{table}.csv") if table else []
    return RunResults(one, results, rows, {result.job: Path(root) for result in results})


def column_of(*arguments, **options):
    ((column, *_),) = columns.by_dataset([make_run(*arguments, **options)])
    return column


def titles_of(*runs):
    return [column.title for of_dataset in columns.by_dataset(runs) for column in of_dataset]


def test_lines_are_means_over_seeds_then_over_classes(rng):
    percent = rng.uniform(0, 100, (3, 4))
    results = [make_result(c, s, percent[c, s] / 100) for c in range(3) for s in range(4)]
    *classes, average, sd = tables.lines(results, {})
    np.testing.assert_allclose([line.value for line in classes], percent.mean(1))
    np.testing.assert_allclose([line.spread for line in classes], percent.std(1, ddof=1))
    assert (average.key, sd.key, {line.seeds for line in classes}) == (AVERAGE, SD, {4})
    np.testing.assert_allclose([average.value, average.spread], [percent.mean(), percent.mean(0).std(ddof=1)])
    assert sd.value == pytest.approx(percent.mean(1).std(ddof=1))
    average = tables.lines(results[1:], {})[-2]
    assert average.value == pytest.approx(np.mean([percent[0, 1:].mean(), *percent[1:].mean(1)]))
    assert (average.spread, average.seeds) == (None, 3)  # the classes have different seeds


def test_paper_numbers_stand_beside_the_same_classes():
    cells = {"0": Cell("90.0"), "1": Cell("70", "quoted"), "2": Cell("", "illegible"), "3": Cell("50")}
    summary = {"avg": Cell("80.0"), "SD": Cell("14.14")}

    def texts(cells, *aurocs):
        results = [make_result(index, 0, auroc) for index, auroc in enumerate(aurocs)]
        return [(line.text, line.paper_text) for line in tables.lines(results, cells)]

    both = [("95.0", "90.0 (+5.0)"), ("68.0", f"70 (quoted, {MINUS}2.0)")]
    everything = [("81.5", "80.0 (+1.5)"), ("19.09", "14.14 (+4.95)")]
    assert texts({key: cells[key] for key in "01"} | summary, 0.95, 0.68) == both + everything
    assert texts(cells | summary, 0.95, 0.68)[:3] == [*both, ("81.5", "80.0 (of these classes, +1.5)")]
    assert texts(cells | summary, 0.95)[-1] == ("95.0", "")
    assert texts(cells | summary, 0.95, 0.68, 0.5)[2:4] == [("50.0", "(illegible)"), ("71.0", "")]


@pytest.mark.parametrize(
    ("table", "dataset", "ours", "count", "average", "sd", "by_hand"),
    [
        # What the paper prints, and what its cells give by hand.
        ("table1", "MNIST", "mnist", 10, "98.3", "1.78", (98.29, 1.784)),
        ("table1", "Fashion-MNIST", "fashion_mnist", 10, "93.9", "4.7", (93.82, 4.700)),
        ("table1", "CIFAR-10", "cifar10", 10, "86.6", "5.35", (86.64, 5.345)),
        ("table1", "CIFAR-100", "cifar100", 20, "78.8", "8.82", (78.755, 8.825)),
        ("table1", "ImageNet", "imagenet2012", 10, "77.2", "5.77", (77.23, 5.768)),
        ("table2", "MVTec AD", "mvtec_ad", 15, "83.9", None, (83.933, None)),
    ],
)
def test_cells_of_the_paper_give_its_average_and_sd(table, dataset, ours, count, average, sd, by_hand):
    """The paper's cells as if they were our results."""
    of_itae = [row for row in files.read_csv(PAPER / f"{table}.csv") if row["dataset"] == dataset]
    of_itae = {row["class"]: row["auroc"] for row in of_itae if row["method"] == "ITAE"}
    assert (of_itae.pop("avg"), of_itae.pop("SD", None)) == (average, sd)
    assert len(of_itae) == count
    results = [
        make_result(int(key), 0, float(auroc) / 100, dataset=ours)
        if ours != "mvtec_ad"
        else make_result(0, 0, float(auroc) / 100, dataset=ours, normal_class_name=CATEGORIES[int(key)])
        for key, auroc in of_itae.items()
    ]
    run = make_run(table=table, dataset=ours)
    lines = {line.key: line for line in tables.lines(results, paper.cells(run))}
    assert lines[AVERAGE].value == pytest.approx(by_hand[0], abs=0.0051)
    differences = [f"{MINUS}0.1"] if ours == "fashion_mnist" else ["+0.0", f"{MINUS}0.0"]  # of rounding
    assert tables.paper_text(lines[AVERAGE].cell) == average and lines[AVERAGE].difference_text in differences
    if sd:
        assert lines[SD].value == pytest.approx(by_hand[1], abs=0.0051)
        assert tables.paper_text(lines[SD].cell) == sd
        assert lines[SD].value == pytest.approx(float(sd), abs=0.006)  # of rounded cells


L1 = "method.loss=l1"


@pytest.mark.parametrize(
    ("table", "dataset", "settings", "key", "number"),
    [
        ("table1", "mnist", [], "avg", "98.3"),
        ("table1", "mnist", ["method.name=vae"], "0", "92.1"),
        ("table1", "fashion_mnist", ["method.transform=rotate"], "avg", "93.9"),
        ("table1", "cifar10", ["method.transform=identity"], "avg", "59.3"),
        ("table1", "cifar10", ["method.name=vae"], "avg", "58.1"),
        ("table3", "shanghaitech", [], "avg", "72.5"),
        ("table4", "cifar10", ["method.transform=scale"], "avg", "57.8"),
        ("table4", "cifar10", ["method.transform=gray"], "avg", "65.6"),
        ("table4", "cifar10", ["method.transform=rotate"], "avg", "82.2"),
        ("table6", "mnist", ["method.transform=rotate"], "1", "99.94"),
    ],
)
def test_a_run_has_the_cells_of_its_method(table, dataset, settings, key, number):
    assert paper.cells(make_run(((0, 0, 0.9),), *settings, table=table, dataset=dataset))[key].text == number


@pytest.mark.parametrize(
    ("settings", "fields"),
    [
        (["method.transform=rotate"], {}),
        ([L1], {}),
        (["method.error=l2"], {}),
        (["method.name=vae", "paper_table=table4"], {}),
        (["data.name=folder"], {"coverage": "own"}),
        ([], {"dataset": "mine"}),
        ([], {"coverage": "partial"}),
        ([], {"coverage": "other"}),
    ],
)
def test_nothing_stands_beside_what_the_paper_did_not_do(settings, fields):
    assert paper.cells(make_run(((0, 0, 0.9),), *settings, table="table1", **fields)) == {}
    averages = paper.cells(make_run(table="table1", dataset="fashion_mnist"))
    assert averages.keys() == {"avg", "SD"} and paper.summary(averages, [0]) == {}


def test_other_systems_of_the_paper_stand_apart():
    rows = pd.DataFrame(files.read_csv(PAPER / "table1.csv"))
    rows = rows[(rows["dataset"] == "MNIST") & rows["class"].isin(["0", "1"])]
    of_paper = rows.pivot(index="method", columns="class", values="auroc")
    runs = [
        make_run(((0, 0, 0.9), (1, 0, 0.9)), *settings, table="table1", dataset="mnist")
        for settings in (["method.transform=rotate"], ["method.name=geotrans"])
    ]
    (group,) = columns.by_dataset(runs)
    others = tables.others_grid(group)
    assert set(others.header[1:]) == set(of_paper.index) - {"ITAE", "GeoTrans"}
    for system, *cells in zip(*[row[1:] for row in (others.header, *others.rows)], strict=True):
        assert cells[:2] == of_paper.loc[system].tolist()
        assert cells[2] == f"{of_paper.loc[system].astype(float).mean():.1f} (of these classes)"
    ((own,),) = columns.by_dataset([make_run(dataset="mine")])
    assert tables.others_grid([own]) is None


def test_best_of_the_methods_of_one_pass_stands_beside_the_others():
    aurocs = {"knn": (0.9, 0.5), "pca": (0.7, 0.6), "iforest": (0.6, 0.55)}
    runs = [
        make_run(((0, 0, first), (1, 0, second)), f"method.name={name}")
        for name, (first, second) in aurocs.items()
    ]
    (group,) = columns.by_dataset([make_run(((0, 0, 0.8), (1, 0, 0.9))), *runs])
    grid = tables.grid(group)
    assert grid.header[-1] == "best of knn, pca, iforest"
    assert [row[-1] for row in grid.rows] == ["90.0 (knn)", "60.0 (pca)", "70.0 (knn)", ""]
    for fewer in (runs, [runs[0], make_run()]):
        (group,) = columns.by_dataset(fewer)
        assert not tables.grid(group).header[-1].startswith("best of")


def test_table_5_is_two_columns_of_every_training():
    fields = {"further_aurocs": {"l1": 0.8, "l2": 0.7}, "best_f1": 0.5}
    run, other = (make_run(((0, 0, 0.8),), *loss, table="table5", **fields) for loss in ([], [L1]))
    ((by_l1, by_l2, *others),) = columns.by_dataset([run, other])
    cells = ["80.0", "78.5 (+1.5)", "70.0", f"77.8 ({MINUS}7.8)"]
    assert tables.grid([by_l1, by_l2]).rows[0] == ["class 0", *cells]
    assert [column.cells["0"].text for column in others] == ["74.2", "74.1"]
    assert len({by_l1.title, by_l2.title, *(column.title for column in others)}) == 4
    assert len(columns.trainings([by_l1, by_l2, *others])) == 2
    measures = columns.as_frame([run]).groupby("column", sort=False)["measure"].unique().map(list)
    assert measures.to_dict() == {by_l1.title: ["auroc_l1", "best_f1"], by_l2.title: ["auroc_l2"]}


def test_table_6_compares_mean_and_sd_over_the_runs():
    runs, settings = ((1, 0, 0.999), (1, 1, 0.9994)), "method.transform=rotate"
    column = column_of(runs, settings, table="table6", dataset="mnist")
    texts = {(line.text, line.paper_text) for line in column.lines}
    assert texts == {("99.92 ± 0.03", f"99.94 ± 0.01 ({MINUS}0.02)")}
    column.run.paper[:] = [row for row in column.run.paper if row["class"] != "SD"]
    assert paper.cells(column.run) == {"1": Cell("99.94")}


def test_mvtec_categories_are_found_by_name_and_stay_apart():
    """Each run counts the categories that it finds."""
    runs = [
        make_run(((0, 0, auroc),), table="table2", dataset="mvtec_ad", normal_class_name=name, data_source=name)
        for auroc, name in ((0.6, "cable"), (0.9, "bottle"))
    ]
    (of_dataset,) = columns.by_dataset(runs)
    assert [row[0] for row in tables.grid(of_dataset).rows] == ["bottle", "cable", "average"]
    assert [row[1:] for row in tables.grid(of_dataset).rows[:2]] == [
        ["", "", "90.0", f"94.1 ({MINUS}4.1)"],
        ["60.0", f"83.2 ({MINUS}23.2)", "", ""],
    ]
    assert columns.DIFFERENT_CLASSES in columns.notes(of_dataset)
    assert columns.as_frame(runs)["class"].tolist() == [8, "avg", 0, "avg"]


@pytest.mark.parametrize(
    ("first", "second", "titles"),
    [
        (["data.fit=pad"], ["data.fit=crop"], ["ITAE (data.fit=pad)", "ITAE (data.fit=crop)"]),
        ([], [L1], ["ITAE", "gray+rotate, loss=l1"]),
        ([], ["variant=mine"], ["ITAE", "mine"]),
        ([], ["method.name=vae"], ["ITAE", "VAE"]),
        ([], ["method.transform=identity", "train.epochs=1"], ["ITAE", "AE, 1 epoch"]),
        ([], ["train.epochs=60"], ["ITAE", "ITAE (train.epochs=60)"]),
        ([], [], ["ITAE (w16/x)", "ITAE (w64/x)"]),
    ],
)
def test_columns_are_told_apart_by_what_differs(first, second, titles):
    runs = [
        make_run(((0, 0, 0.9),), *settings, root=f"runs/{width}/x")
        for settings, width in ((first, "w16"), (second, "w64"))
    ]
    assert titles_of(*runs) == titles
    assert titles_of(make_run(), make_run(data_source="jpg")) == ["ITAE (png)", "ITAE (jpg)"]
    assert titles_of(make_run(), make_run(name="other")) == ["ITAE (sweep)", "ITAE (other)"]


def test_another_recipe_is_named_and_compared_with_the_papers_number():
    recipe = [f"{name}={value}" for name, value in ITAEConfig.RECIPES["improved"].items()]
    column, by_paper = column_of(((0, 0, 0.9),), *recipe, table="table1"), column_of(table="table1")
    assert (by_paper.title, column.title) == ("ITAE", "ITAE, improved recipe")
    assert column.has_paper and column.lines[0].cell == by_paper.lines[0].cell
    assert not column_of(((0, 0, 0.9),), *recipe, "method.loss=l1", table="table1").has_paper


def test_measures_have_averages_over_the_classes_that_have_them():
    run = make_run(((0, 0, 0.6), (1, 0, 0.8)), num_test=4, num_anomalous=3)
    run.results[0] = make_result(0, 0, 0.6, num_test=4, num_anomalous=3, pixel_auroc=0.9)
    grid = tables.measures_grid(run)
    assert grid.header == ["normal class", "AUROC", "anomalous", "F1 if all are flagged", "pixel AUROC"]
    assert grid.rows[0] == ["class 0", "60.0", "75.0", "85.7", "90.0"]
    averages = [f"{number} (2 classes)" for number in ("70.0", "75.0", "85.7")]
    assert grid.rows[2] == ["average", *averages, "90.0 (1 class)"]
    further = {"l1": 0.9, "l2": 0.8}  # l1 is the method's own score
    assert tables.measures_grid(make_run(further_aurocs=further)).rows == [["class 0", "90.0", "80.0"]]


def test_methods_stand_side_by_side_by_data_set():
    plain = "method.transform=identity"
    one, other = make_run(((0, 0, 0.9), (1, 0, 0.8))), make_run(((0, 0, 0.6),), plain)
    first, second = columns.by_dataset([one, other, make_run(dataset="mine")])
    assert tables.grid(first).header == ["normal class", "ITAE", "AE"]
    assert tables.grid(first).rows == [
        ["class 0", "90.0", "60.0"],
        ["class 1", "80.0", ""],
        ["average", "85.0 (2 classes)", "60.0 (1 class)"],
        ["SD over classes", "7.1", ""],
    ]
    assert [column.run.dataset for column in second] == ["mine"]
    for text in (run_page.text_tables([one, other]), run_page.markdown([one, other])):
        assert text.count(columns.DIFFERENT_CLASSES) == 1
    same = [one, make_run(((0, 0, 0.6), (1, 0, 0.7)), plain)]
    assert tables.grid(columns.by_dataset(same)[0]).rows[2] == ["average", "85.0", "65.0"]
    assert columns.DIFFERENT_CLASSES not in run_page.text_tables(same) + run_page.markdown(same)


def test_seeds_have_a_table_of_their_own():
    column = column_of(((0, 0, 0.9), (0, 1, 0.7), (3, 1, 0.5)))
    grid = tables.seeds_grid(column)
    assert grid.header == ["normal class", "seed 0", "seed 1", "mean", "SD"]
    assert grid.rows == [["class 0", "90.0", "70.0", "80.0", "14.1"], ["class 3", "", "50.0", "50.0", ""]]
    assert tables.seeds_grid(column_of()) is None
    assert "| class 0 | 90.0 | 70.0 | 80.0 | 14.1 |" in run_page.markdown([column.run])


def test_notes_name_settings_and_data_that_differ():
    runs = [make_run(), make_run(((0, 0, 0.8),), "method.name=vae", "method.channels=16", data_source="jpg")]
    differing, data = columns.notes(columns.by_dataset(runs)[0])
    assert "ITAE: defaults; VAE: " in differing
    assert "method.name=vae" in differing and "method.channels=16" in differing
    assert "ITAE: png; VAE: jpg" in data


@pytest.mark.parametrize(
    ("settings", "fields", "expected"),
    [
        ([], {}, ""),
        (["method.width=16"], {}, "method.width 16 instead of 64"),
        (["method.name=vae", "train.epochs=60"], {}, "train.epochs 60 instead of 100"),
        (["data.limit_train=9", "data.limit_test=7"], {}, "at most 9 training images, at most 7 test images"),
        ([], {"coverage": "partial"}, "a part of the data set"),
        ([], {"coverage": "other"}, "other classes"),
        (["method.width=16", "data.name=folder"], {"coverage": "own"}, ""),
        (["method.width=16", "paper_table="], {}, ""),
        (["data.image_size=64"], {"dataset": "shanghaitech"}, "images of 64 instead of 480"),
        ([], {"dataset": "shanghaitech"}, ""),
    ],
)
def test_runs_below_the_papers_setup_are_reduced(settings, fields, expected):
    assert paper.reduced(make_run(((0, 0, 0.9),), *settings, table="table1", **fields)) == expected


def test_whatever_shows_reduced_results_says_so():
    runs = [make_run(((0, 0, 0.9),), "method.width=16", table="table1")]
    text = "reduced: method.width 16 instead of 64"
    for page in (run_page.text_tables(runs), run_page.markdown(runs)):
        assert text in page and f"ITAE, {text}" not in page
    runs.append(make_run(((0, 0, 0.8),), "method.transform=identity", table="table1"))
    for page in (run_page.text_tables(runs), run_page.markdown(runs)):
        assert page.count(f"ITAE, {text}") == 1
    reduced = columns.as_frame(runs).groupby("column")["reduced"].first()
    assert reduced.to_dict() == {"ITAE": text.removeprefix("reduced: "), "AE": "no"}


def test_text_markdown_and_csv_hold_the_same_numbers():
    run = make_run(((4, 0, 0.95),), table="table1", dataset="cifar100", best_f1=0.5)
    words = run_page.text_tables([run]).splitlines()[2].split()
    assert words == ["class", "4", "95.0", "77.7", "(quoted,", "+17.3)"]
    assert "| class 4 | 95.0 | 77.7 (quoted, +17.3) |" in run_page.markdown([run])
    rows = pd.read_csv(io.StringIO(columns.as_frame([run]).to_csv(index=False))).set_index(["measure", "class"])
    row = rows.loc["auroc", "4"]
    assert row[["ours", "paper", "paper_source", "difference"]].tolist() == [95, 77.7, "quoted", 17.3]
    assert rows.loc["best_f1"]["ours"].tolist() == [50, 50]
    assert "paper" not in run_page.text_tables([make_run()])


def test_names_in_markdown_are_escaped():
    run = make_run(normal_class_name="a|b\n<img src=x> \\ &")
    assert "| a\\|b &lt;img src=x> \\\\ &amp; | 90.0 |" in run_page.markdown([run])
    assert "a|b <img src=x>" in run_page.text_tables([run])


def test_names_in_pictures_are_one_line_without_mathematics():
    assert figures.label("US$ bill,\nCA$ bill") == r"US\$ bill, CA\$ bill"
    assert figures.label("caf\udce9") == "caf?"
    assert figures.label("x" * 50) == "x" * 39 + "…"
    panels = [(name, np.array([False, True]), np.array([0.0, 1.0])) for name in ("$x^$", "caf\udce9")]
    figures.roc_curves(panels).canvas.draw()


def test_failed_trainings_are_named_and_do_not_count():
    failed = {"auroc": None, "status": "failed", "note": "the loss is nan"}
    run = make_run()
    run.results.append(make_result(1, **failed))
    for page in (run_page.text_tables([run]), run_page.markdown([run])):
        assert "class class 1, seed 0: failed: the loss is nan" in page
    assert [line.value for line in tables.lines(run.results, {})] == [pytest.approx(90)] * 2
    run.results[:] = [make_result(**failed)]
    assert run_page.text_tables([run]).splitlines()[1:] == ["class class 0, seed 0: failed: the loss is nan"]
    assert "the loss is nan" in run_page.markdown([run])
    assert columns.as_frame([run]).to_csv(index=False).count("\n") == 1


def test_speeds_are_compared_where_all_are_known_and_of_one_device():
    aurocs = ((0, 0, 0.8), (1, 0, 0.9))
    ours, *papers = efficiency.compared([column_of(aurocs, table="figure3", score_memory_mib=400.0)])
    assert ours == ("ITAE", 300, pytest.approx(400 * 1.048576), pytest.approx(85), "2 classes", False)
    assert papers[1][:4] == ("paper: ITAE", 270, 713, 86.6) and papers[1].is_paper
    assert efficiency.compared([column_of(aurocs, table="table1", score_memory_mib=400.0)]) == []
    for changed in ({"device": "2 x GPU"}, {"score_seconds": None}, {"score_memory_mib": None}):
        run = make_run(aurocs, table="figure3", score_memory_mib=400.0)
        run.results[1] = make_result(1, 0, 0.9, **{"score_memory_mib": 400.0} | changed)
        assert efficiency.compared(columns.by_dataset([run])[0]) == []


@pytest.mark.parametrize("path", sorted(PAPER.glob("*.csv")), ids=lambda path: path.stem)
def test_numbers_of_the_paper_say_how_they_were_read(path):
    for row in read_paper(path):
        assert row["source"] in {"printed", "restored", "quoted", "derived", "unverified", "illegible"}
        assert (row["auroc"] == "") == (row["source"] == "illegible")


@pytest.mark.parametrize(
    ("column", "value"),
    [("auroc", "nan"), ("auroc", "800"), ("memory_mb", ""), ("images_per_second", "inf")],
)
def test_impossible_numbers_of_the_paper_are_refused(tmp_path, column, value):
    first, *rest = files.read_csv(PAPER / "figure3.csv")
    files.write_csv(tmp_path / "paper.csv", [first | {column: value}, *rest])
    with pytest.raises(RequestError, match=rf"paper\.csv: is damaged \({column}=.*{value}.*, expected"):
        read_paper(tmp_path / "paper.csv")


def test_a_sweep_gets_the_rows_of_its_data_set():
    images, labels = np.zeros((2, 8, 8, 1), np.uint8), np.array([0, 1])
    names = {"name": "mnist", "source": "", "class_names": ("a", "b"), "test_ids": ("0", "1")}
    train, test = ({f"{part}_images": images, f"{part}_labels": labels} for part in ("train", "test"))
    dataset = Dataset.labelled(**names, **train, **test)
    one = experiment.Experiment(paper_table="table1")
    rows = paper.rows_for(one, dataset, PAPER / "table1.csv")
    assert {row["dataset"] for row in rows} == {"MNIST"} and len(rows) > 50
    assert paper.rows_for(experiment.Experiment(), dataset, PAPER / "table1.csv") == []
    with pytest.raises(RequestError, match=r"paper_table='table1'.*nowhere\.csv"):
        paper.rows_for(one, dataset, PAPER / "nowhere.csv")
