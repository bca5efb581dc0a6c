"""What publish.py makes of finished runs."""

import dataclasses
import json
import re

import pytest
from conftest import rows_of
from test_report import make_result

from itae_jax import experiment
from itae_jax.config import DataConfig, TrainConfig
from itae_jax.runs import directory, read, results
from itae_jax.training import log

pytestmark = pytest.mark.usefixtures("scripts")

CIFAR10 = experiment.load(experiment.find("table1_cifar10"))[""]


@pytest.fixture
def publish(tmp_path, monkeypatch):
    """The script, with an empty directory of results and a copy of README.md."""
    import publish

    readme = (publish.ROOT / "README.md").read_text(encoding="utf-8")
    for folder in ("results", "root/docs"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "root" / "README.md").write_text(readme, encoding="utf-8")
    monkeypatch.setattr(publish, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(publish, "ROOT", tmp_path / "root")
    monkeypatch.setattr(read, "check_files", lambda run, result: None)  # the runs here are rows alone
    return publish


def result(number, seed=0, auroc=0.9, one=CIFAR10, **fields):
    of_run = {"experiment": one.name, "variant": one.variant, "dataset": one.data.name, "data_source": "a tree"}
    of_run |= {"method": one.method.NAME, "epochs": one.train.epochs, "dtype": one.compute.dtype}
    of_run |= {"normal_class_name": f"name {number}", "status": "failed" if auroc is None else "done"}
    known = make_result(number, seed, auroc, device="2 x CPU", commit="0123abcd", **of_run)
    return dataclasses.replace(known, **fields)


def write_run(path, *found, one=CIFAR10):
    """Writes a run directory of these results."""
    one = dataclasses.replace(one, data=dataclasses.replace(one.data, root=str(path)))
    with directory.opened(path, one):
        results.write(path / "results.csv", found)
    return path


def published(publish):
    """The published rows: (directory, class, seed, AUROC)."""
    files = sorted(publish.RESULTS.glob("*/*/results.csv"))
    rows = [(f"{path.parent.parent.name}/{path.parent.name}", row) for path in files for row in rows_of(path)]
    return [(name, int(row["normal_class"]), int(row["seed"]), row["auroc"][:4]) for name, row in rows]


def test_add_joins_runs_of_one_config_and_replaces_what_was_measured_again(publish, tmp_path):
    other = dataclasses.replace(CIFAR10, train=TrainConfig(epochs=5))
    runs = [
        write_run(tmp_path / "a", result(0), result(1, auroc=None)),
        write_run(tmp_path / "b", result(0, auroc=0.8), result(1, auroc=0.7), result(0, 1)),
        write_run(tmp_path / "c", result(0, auroc=None)),  # a failure replaces nothing that was measured
        write_run(tmp_path / "d", result(0, one=other), one=other),
        write_run(tmp_path / "e", result(0, data_source="another tree")),
    ]
    publish.add(runs)
    assert published(publish) == [
        ("table1_cifar10/1", 0, 0, "0.80"),
        ("table1_cifar10/1", 0, 1, "0.90"),
        ("table1_cifar10/1", 1, 0, "0.70"),
        ("table1_cifar10/2", 0, 0, "0.90"),
        ("table1_cifar10/3", 0, 0, "0.90"),
    ]
    assert experiment.read_record(publish.RESULTS / "table1_cifar10/1/config.json").data.root == ""


@pytest.mark.parametrize("commit", ["", "0123abcd+"])
def test_add_refuses_all_runs_if_one_has_no_commit(publish, tmp_path, capsys, commit):
    good = write_run(tmp_path / "good", result(0))
    bad = write_run(tmp_path / "bad", result(1, commit=commit))
    assert publish.main([str(good), str(bad)]) == 2
    assert re.search(r"publish: \S*bad: class 1\b.*commit", capsys.readouterr().err)
    assert published(publish) == []


def test_add_keeps_the_curves_of_training(publish, tmp_path):
    one = experiment.load(experiment.find("figure4_curves"))["ITAE"]
    run = write_run(tmp_path / "run", result(7, one=one), one=one)
    curves = log.MetricsLog(run / "metrics.jsonl", {"normal_class": 7, "seed": 0})
    curves.add({"epoch": 5, "loss": 0.1, "learning_rate": 0.1, "auroc": 0.75})
    publish.add([run])
    (kept,) = read.read_all([publish.RESULTS / "figure4_curves" / "1"])
    assert read.training_curves(kept) == {(7, 0): {5: 0.75}}


def test_summary_averages_a_run_and_sets_the_paper_beside_it(publish, tmp_path):
    classes = result(0, 0, 0.9), result(0, 1, 0.8), result(2, 0, 0.5), result(2, 1, 0.6)
    few = DataConfig(name="cifar10", limit_test=9)
    reduced = dataclasses.replace(CIFAR10, data=few, train=TrainConfig(epochs=5))
    publish.add([write_run(tmp_path / "a", *classes)])
    publish.add([write_run(tmp_path / "b", result(0, one=reduced), one=reduced)])
    averages, of_a_class = publish.summary().to_dict("records")
    assert (averages["classes"], averages["seeds"], averages["AUROC"]) == (2, 2, "70.0 ± 0.0")
    # The paper's cells of the two classes are 78.5 and 86.1.
    assert averages["paper"].startswith("82.3")
    assert (averages["settings"], averages["method"]) == ("", "ITAE")
    assert of_a_class["settings"] == "limit_test=9, epochs=5, augment=none"
    assert (of_a_class["classes"], of_a_class["paper"]) == ("class name 0", "78.5")


def test_main_writes_pages_that_check_finds_up_to_date(publish, tmp_path, capsys):
    run = write_run(tmp_path / "run", result(0, normal_class_name="a | <b>"))
    environment = {"device": "2 x CPU", "versions": {"jax": "0"}, "commit": "0123"}
    passes = [{"pipeline": 10.0, "bare": 20.0, "resident_mib": 100.0}]
    speed = {"environment": environment, "settings": {"count": 10, "threads": 2}, "passes": passes}
    speed["scoring"] = [{"read": 40.0, "score": 30.0, "both": 27.0}]
    (publish.RESULTS / "bench_data_cpu.json").write_text(json.dumps(speed))
    assert publish.main([str(run)]) == 0
    root = publish.ROOT
    assert "| class a \\| &lt;b> | 90.0 |" in (root / "docs" / "results.md").read_text()
    assert "| 90.0 (78.5), class a \\| &lt;b> |" in (root / "README.md").read_text()
    speed_page = (root / "docs" / "speed.md").read_text()
    assert "0.50 times" in speed_page and "0.90 times" in speed_page
    assert publish.main(["--check"]) == 0
    (root / "docs" / "results.md").write_text("changed")
    assert publish.main(["--check"]) == 1
    assert "docs/results.md" in capsys.readouterr().err


def test_pages_compare_commits_and_say_where_the_rating_of_paste_first_falls(publish, tmp_path):
    publish.add([write_run(tmp_path / "run", result(0))])
    for name, seconds in (("now", 0.3), ("before", 0.6)):
        path = publish.RESULTS / "since_cpu" / "some_method" / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        fastest = {"contender": "itae_jax", "case": "x", "rounds": [1.0, seconds]}
        timings = [fastest | {"kind": kind} for kind in ("training", "scoring")]
        environment = {"device": "2 x CPU", "versions": {"jax": "0"}, "commit": name}
        path.write_text(json.dumps({"environment": environment, "timings": timings}))
    for transform, tests in (("paste", (0.5, 0.7, 0.65, 0.8)), ("blur", (0.6, 0.7, 0.75, 0.85))):
        ratings = (0.5, 0.6, 0.55, 0.7)  # which fall at the third point
        found = [{"surrogates": one, "test": other} for one, other in zip(ratings, tests, strict=True)]
        rows = [{"transform": transform, "data": "parts", "found": found}]
        path = publish.RESULTS / "follow_fit_cpu.json"
        path.write_text(json.dumps((json.loads(path.read_text()) if path.exists() else []) + rows))
    pages = {path.name: text for path, text in publish.pages().items()}
    assert "some method 0.50 and 0.50" in pages["speed.md"]
    assert "65.0 on parts" in pages["results.md"] and "80.0" in pages["results.md"]
    assert "| blur | 50.0 → 70.0 | 60.0 → 85.0 |" in pages["results.md"]


def test_tables_in_the_documents_are_those_of_the_measured_results():
    import publish

    assert publish.main(["--check"]) == 0
