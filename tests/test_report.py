"""The table beside the paper's numbers."""

import csv
from pathlib import Path

import pytest

from itae_jax import report
from itae_jax.config import Experiment

PAPER = Path(__file__).parent.parent / "experiments" / "paper"


def results(aurocs, paper=None):
    rows = [
        {
            "normal_class": str(index),
            "normal_class_name": f"class {index}",
            "seed": str(seed),
            "auroc": str(auroc),
            "dataset": "cifar10",
        }
        for index, seed, auroc in aurocs
    ]
    cells = {key: {"auroc": str(value), "source": "printed"} for key, value in (paper or {}).items()}
    return report.RunResults(Path(), Experiment(), rows[0], rows, [], cells)


def test_average_is_over_classes_of_means_over_seeds():
    lines = report.table(results([(0, 0, 0.9), (0, 1, 0.7), (3, 0, 0.5)]))
    assert [(line.name, line.auroc) for line in lines] == [
        ("class 0", pytest.approx(80)),
        ("class 3", pytest.approx(50)),
        ("average", pytest.approx(65)),
    ]


def test_the_papers_average_stands_only_beside_all_its_classes():
    paper = {"0": 90.0, "1": 70.0, "avg": 80.0, "SD": 14.1}
    complete = report.table(results([(0, 0, 0.95), (1, 0, 0.72)], paper))
    assert [line.cells for line in complete] == [
        ("class 0", "95.0", "90.0", "+5.0"),
        ("class 1", "72.0", "70.0", "+2.0"),
        ("average", "83.5", "80.0", "+3.5"),
    ]
    assert report.table(results([(0, 0, 0.95)], paper))[-1].cells == ("average", "95.0", "", "")


def test_text_table_lines_up():
    lines = report.text_table(results([(0, 0, 0.95)], {"0": 90.0})).splitlines()
    assert lines[1].split() == ["class", "0", "95.0", "90.0", "+5.0"]
    assert "paper" not in report.text_table(results([(0, 0, 0.95)]))


def printed_cells():
    with (PAPER / "table1.csv").open(newline="") as file:
        return list(csv.DictReader(file))


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
    cells = report.paper_cells(printed_cells(), {"dataset": dataset, "transform": transform})
    assert cells["avg"]["auroc"] == average


@pytest.mark.parametrize(
    ("dataset", "transform"), [("cifar10", "rotate"), ("cifar10", "scale"), ("mine", "identity")]
)
def test_nothing_stands_beside_what_the_paper_did_not_do(dataset, transform):
    assert report.paper_cells(printed_cells(), {"dataset": dataset, "transform": transform}) == {}


def test_classes_of_fashion_mnist_are_compared_by_their_average_alone():
    cells = report.paper_cells(printed_cells(), {"dataset": "fashion_mnist", "transform": "rotate"})
    assert set(cells) == {"avg", "SD"}
    assert report.covers(cells, "fashion_mnist", [str(i) for i in range(10)])
    assert not report.covers(cells, "fashion_mnist", ["0"])


@pytest.mark.parametrize("path", sorted(PAPER.glob("*.csv")), ids=lambda path: path.stem)
def test_the_papers_numbers_are_complete_and_say_how_far_to_trust_them(path):
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows
    for row in rows:
        assert row["source"] in {"printed", "restored", "quoted", "derived", "unverified", "illegible"}
        assert (row["auroc"] == "") == (row["source"] == "illegible")
        assert not row["auroc"] or 0 <= float(row["auroc"]) <= 100
