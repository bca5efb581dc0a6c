"""The `itae` command on the digits, with the least network; test_own_transforms.py runs the real one."""

import csv
import gzip
import json
import os
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import roc_auc_score

from itae_jax import cli, files, progress
from itae_jax.report import run_page as report
from itae_jax.training import profiling

pytestmark = pytest.mark.usefixtures("tiny_network")

DIGITS = str(Path(__file__).parent.parent / "experiments" / "digits.py")
SMALL = ["--set", "train.epochs=2", "model.width=4"]
# Others read them, and files of older versions have the first of them: new ones come last.
COLUMNS = (
    "experiment,dataset,method,normal_class,normal_class_name,seed,epochs,auroc,num_train,num_test,"
    "train_seconds,score_seconds,device,dtype,width,transform,normal_label,settings,data_copy,commit,"
    "average_precision,best_f1,pixel_auroc,aupro,auroc_l1,auroc_l2,score_memory_mib,variant,note,num_anomalous"
)


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def contents(directory):
    return {path: path.read_bytes() for path in sorted(directory.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run of two classes; tests look at it and leave it as it is."""
    out = tmp_path_factory.mktemp("runs") / "two"
    assert cli.main(["run", DIGITS, "--classes", "6,8", "--out", str(out), *SMALL]) == 0
    return out


def test_results_have_the_documented_columns_and_a_row_a_class(finished):
    header = (finished / "results.csv").read_text().splitlines()[0]
    assert header.startswith(COLUMNS)
    rows = rows_of(finished / "results.csv")
    assert [(row["normal_class"], row["num_train"], row["num_test"]) for row in rows] == [
        ("6", "127", "599"),
        ("8", "111", "599"),
    ]
    assert all(row["device"] and row["data_copy"].startswith("scikit-learn") for row in rows)


def test_auroc_is_that_of_the_scores_written_beside_it(finished):
    for row in rows_of(finished / "results.csv"):
        scores = rows_of(finished / f"class_{row['normal_class']}" / "seed_0" / "scores.csv")
        errors = [f"error_{index}" for index in range(4)]
        assert list(scores[0]) == ["id", "label", "score", *errors, "score_l1", "score_l2"]
        assert len({score["id"] for score in scores}) == 599
        expected = roc_auc_score(
            [score["label"] != row["normal_class"] for score in scores],
            [float(score["score"]) for score in scores],
        )
        assert float(row["auroc"]) == pytest.approx(expected, abs=1e-6)


def test_scores_by_both_errors_come_from_one_training(finished):
    for row in rows_of(finished / "results.csv"):
        scores = rows_of(finished / f"class_{row['normal_class']}" / "seed_0" / "scores.csv")
        is_anomaly = [score["label"] != row["normal_class"] for score in scores]
        for kind in ("l1", "l2"):
            expected = roc_auc_score(is_anomaly, [float(score[f"score_{kind}"]) for score in scores])
            assert float(row[f"auroc_{kind}"]) == pytest.approx(expected, abs=1e-6)
        assert row["auroc"] == row["auroc_l1"] != row["auroc_l2"]
        assert [score["score"] for score in scores] == [score["score_l1"] for score in scores]
        assert 0 < float(row["average_precision"]) <= 1
        assert 0 < float(row["best_f1"]) <= 1
        assert 500 < int(row["num_anomalous"]) == sum(is_anomaly) < 599
        assert (row["pixel_auroc"], row["aupro"]) == ("", "")  # digits have no masks
        assert float(row["score_memory_mib"]) > 0


def test_config_records_everything_and_where_it_ran(finished):
    record = json.loads((finished / "config.json").read_text())
    assert record["model"]["width"] == 4
    assert record["train"]["learning_rate"] == 0.1
    assert record["seed"] == 0
    assert record["environment"]["versions"]["jax"]
    assert record["environment"]["device"].startswith("4 x ")


def test_metrics_hold_loss_and_rate_of_every_epoch(finished):
    entries = [json.loads(line) for line in (finished / "metrics.jsonl").read_text().splitlines()]
    assert [(entry["normal_class"], entry["epoch"]) for entry in entries] == [(6, 1), (6, 2), (8, 1), (8, 2)]
    assert all(0 < entry["loss"] < 1 for entry in entries)
    assert all(entry["learning_rate"] == pytest.approx(0.1) for entry in entries)


def test_the_same_command_again_does_nothing_and_says_so(finished, capsys):
    before = contents(finished)
    assert cli.main(["run", DIGITS, "--classes", "6,8", "--out", str(finished), *SMALL]) == 0
    assert "nothing to do: all 2 results are in" in capsys.readouterr().out
    after = contents(finished)
    assert {path.name for path in after if after[path] != before.get(path)} <= {"report.html"}


def test_another_config_in_the_same_directory_is_refused_with_the_difference(finished, capsys):
    before = contents(finished)
    assert cli.main(["run", DIGITS, "--out", str(finished), "--set", "train.epochs=2", "model.width=8"]) == 2
    assert "model.width: 4 -> 8" in one_line(capsys)
    assert contents(finished) == before


def test_an_interrupted_sweep_goes_on_to_the_same_bits(finished, tmp_path, monkeypatch, capsys):
    command = ["run", DIGITS, "--classes", "6,8", "--out", str(tmp_path / "out"), *SMALL]

    class Interrupted(progress.SweepProgress):
        def epoch(self, name, seed, epoch, loss, rate):
            if (name, epoch) == ("8", 2):
                raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(progress, "SweepProgress", Interrupted)
        assert cli.main(command) == 130
    assert "interrupted" in one_line(capsys)
    assert [row["normal_class"] for row in rows_of(tmp_path / "out" / "results.csv")] == ["6"]
    first = (tmp_path / "out" / "results.csv").read_text()
    with (tmp_path / "out" / "metrics.jsonl").open("a") as file:
        file.write('{"normal_class": 8, "se')  # as a kill in the middle of a line leaves it

    assert cli.main(command) == 0
    assert "nothing to do" not in capsys.readouterr().out
    assert (tmp_path / "out" / "results.csv").read_text().startswith(first)
    for path in ("metrics.jsonl", "class_6/seed_0/scores.csv", "class_8/seed_0/scores.csv"):
        assert (tmp_path / "out" / path).read_bytes() == (finished / path).read_bytes(), path


@pytest.fixture
def damaged_tree(tmp_path):
    """Two classes of 40 + 4 grey images of 16x16, of which one each cannot be read."""
    rng = np.random.default_rng(0)
    root = tmp_path / "tree"
    for name, low in (("dark", 0), ("bright", 128)):
        for split, count in (("train", 40), ("test", 4)):
            (root / split / name).mkdir(parents=True)
            for number in range(count):
                pixels = rng.integers(low, low + 128, (16, 16), np.uint8)
                Image.fromarray(pixels).save(root / split / name / f"{number:02d}.png")
    for path in (root / "train/dark/03.png", root / "test/bright/01.png"):
        path.write_bytes(path.read_bytes()[:150])
    return root


def test_images_that_cannot_be_read_are_left_out_and_listed(damaged_tree, tmp_path, capsys):
    out = tmp_path / "out"
    tree = ["data.name=folder", f"data.root={damaged_tree}"]
    assert cli.main(["run", DIGITS, "--classes", "dark", "--out", str(out), *SMALL, *tree]) == 0
    (row,) = rows_of(out / "results.csv")
    assert (row["normal_class_name"], row["num_train"], row["num_test"]) == ("dark", "39", "7")
    listed = [
        Path(entry["image"]).relative_to(damaged_tree).as_posix() for entry in rows_of(out / "unreadable.csv")
    ]
    assert listed == ["test/bright/01.png", "train/dark/03.png"]
    assert "2 images left out because they cannot be read" in capsys.readouterr().out
    scores = rows_of(out / "class_1" / "seed_0" / "scores.csv")
    assert "test/bright/01.png" not in {score["id"] for score in scores}


def test_or_the_first_of_them_ends_the_run(damaged_tree, tmp_path, capsys):
    tree = ["data.name=folder", f"data.root={damaged_tree}", "data.on_corrupt=error"]
    assert cli.main(["run", DIGITS, "--classes", "dark", "--out", str(tmp_path / "out"), *SMALL, *tree]) == 2
    assert "01.png: " in one_line(capsys)


class Links(HTMLParser):
    def __init__(self, page):
        super().__init__()
        self.links, self.images, self.scripts, self.text = [], 0, 0, ""
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.images += tag == "img"
        self.scripts += tag == "script"
        self.links += [value for key, value in attributes if key in ("src", "href", "srcset")]

    def handle_data(self, data):
        self.text += data


def test_the_report_is_one_page_that_needs_no_other_file(finished):
    page = Links((finished / "report.html").read_text())
    assert page.images == 5  # bars, restorations of two classes, histograms, ROC
    assert all(link.startswith("data:") for link in page.links)
    assert "average" in page.text


def test_the_page_may_go_elsewhere(finished, tmp_path, capsys):
    before, out = contents(finished), tmp_path / "new" / "page"
    assert cli.main(["report", str(finished), "--out", str(out)]) == 0
    assert capsys.readouterr().out.endswith(f"report: {out / 'report.html'}\n")
    assert {"report.html", "report.md", "report.csv", "figures"} <= {path.name for path in out.iterdir()}
    after = contents(finished)
    assert {path for path in after if after[path] != before.get(path)} <= set((finished / "figures").iterdir())
    (tmp_path / "file").touch()
    assert cli.main(["report", str(finished), "--out", str(tmp_path / "file")]) == 2
    assert "--out" in one_line(capsys)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("auroc", "1"),
        ("average_precision", "0.1"),
        ("best_f1", "0.1"),
        ("auroc_l2", "0"),
        ("num_anomalous", "1"),
        ("settings", ""),
        ("dataset", "mnist"),
        ("width", "64"),
        ("note", "hello"),
    ],
)
def test_rows_that_the_files_beside_them_contradict_are_refused(finished, tmp_path, capsys, column, value):
    copy = tmp_path / "copy"
    shutil.copytree(finished, copy)
    first, *rest = rows_of(copy / "results.csv")
    files.write_csv(copy / "results.csv", [first | {column: value}, *rest])
    before = contents(copy)
    assert cli.main(["report", str(copy)]) == 2
    assert column in one_line(capsys) or column == "note"
    assert contents(copy) == before


def test_the_report_escapes_class_names(finished, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(finished, copy)
    text = (copy / "results.csv").read_text().replace("itae,6,6,", "itae,6,<script>alert(1)</script>,")
    (copy / "results.csv").write_text(text)
    page = Links(report.write([copy]).read_text())
    assert page.scripts == 0
    assert "<script>alert(1)</script>" in page.text


@pytest.mark.parametrize("spoil", ["missing", "emptied", "cut"])
@pytest.mark.parametrize("name", ["scores.csv", "illustrations.npz"])
def test_damaged_results_are_reported_in_one_line(finished, tmp_path, capsys, name, spoil):
    copy = tmp_path / "copy"
    shutil.copytree(finished, copy)
    path = copy / "class_8" / "seed_0" / name
    if spoil == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[: 0 if spoil == "emptied" else -30])
    assert cli.main(["report", str(copy)]) == 2
    assert "damaged" in one_line(capsys)


def test_a_second_run_in_the_same_directory_is_refused(finished, capsys):
    command = ["run", DIGITS, "--classes", "1", "--out", str(finished), *SMALL]
    with files.locked(finished):
        assert cli.main(command) == 2
    assert f"another run (process {os.getpid()} on " in one_line(capsys)


def test_a_diverged_class_is_marked_and_the_others_go_on(tmp_path, capsys):
    out = tmp_path / "out"
    command = ["run", DIGITS, "--classes", "6,8", "--out", str(out), *SMALL, "train.learning_rate=3e38"]
    for _ in range(2):  # the second time from the rows alone
        assert cli.main(command) == 1
        told = capsys.readouterr()
        assert told.err == "itae: 2 trainings failed; see above\n"
        assert told.out.count("failed: the loss is nan at step 2 (epoch 1) at rate 3e+38") >= 2
    rows = rows_of(out / "results.csv")
    assert [(row["normal_class"], row["auroc"]) for row in rows] == [("6", ""), ("8", "")]
    assert all(
        row["note"].startswith("failed: ") and "lower train.learning_rate" in row["note"] for row in rows
    )


def test_without_both_kinds_of_test_images_there_are_scores_but_no_auroc(tmp_path, capsys):
    out = tmp_path / "out"
    command = ["run", DIGITS, "--classes", "6", "--out", str(out), *SMALL, "data.limit_test=2"]
    assert cli.main(command) == 0
    assert "AUROC is not defined: the 2 test images are all anomalous" in capsys.readouterr().out
    (row,) = rows_of(out / "results.csv")
    assert (row["auroc"], row["num_test"]) == ("", "2")
    assert len(rows_of(out / "class_6" / "seed_0" / "scores.csv")) == 2


def one_line(capsys):
    error = capsys.readouterr().err
    assert error.startswith("itae: ")
    assert error.count("\n") == 1, error
    return error


def test_a_results_file_of_other_columns_is_not_overwritten(tmp_path, capsys):
    (tmp_path / "results.csv").write_text("a,b\n1,2\n")
    assert cli.main(["run", DIGITS, "--out", str(tmp_path), *SMALL]) == 2
    assert "no config.json" in one_line(capsys)
    assert (tmp_path / "results.csv").read_text() == "a,b\n1,2\n"


@pytest.mark.parametrize("cut", [30, 300])
def test_a_results_file_cut_short_is_refused(finished, tmp_path, capsys, cut):
    copy = tmp_path / "copy"
    shutil.copytree(finished, copy)
    text = (copy / "results.csv").read_text()
    (copy / "results.csv").write_text(text[:-cut])
    for command in (["report", str(copy)], ["run", DIGITS, "--classes", "6,8", "--out", str(copy), *SMALL]):
        assert cli.main(command) == 2
        assert "is damaged" in one_line(capsys)


def test_transforms_lists_every_one_with_its_count(capsys):
    assert cli.main(["transforms"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines[1:5]] == [
        ["identity", "1"],
        ["gray", "1"],
        ["rotate", "4"],
        ["scale", "1"],
    ]


def test_help_needs_none_of_the_heavy_libraries():
    script = (
        "import sys, itae_jax.cli\n"
        "try: itae_jax.cli.main(['--help'])\n"
        "except SystemExit: pass\n"
        "print(sorted({'jax', 'numpy', 'matplotlib', 'sklearn'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[-1] == "[]"


def test_a_profile_of_some_steps_is_recorded(tmp_path, capsys):
    arguments = ["run", DIGITS, "--classes", "6", "--set", "train.epochs=4", "data.limit_test=50"]
    profile = tmp_path / "profile"
    assert cli.main([*arguments, "--out", str(tmp_path / "out"), "--profile", str(profile)]) == 0
    assert f"profile: {profile}" in capsys.readouterr().out
    (trace,) = profile.glob("plugins/profile/*/perfetto_trace.json.gz")
    assert b"traceEvents" in gzip.decompress(trace.read_bytes())
    assert list(trace.parent.glob("*.xplane.pb"))
    file = tmp_path / "file"
    file.touch()
    assert cli.main([*arguments, "--out", str(tmp_path / "other"), "--profile", str(file)]) == 2
    assert f"--profile {file}: is a file; name a directory" in capsys.readouterr().err


@pytest.mark.parametrize(("steps_per_call", "last"), [(1, 8), (2, 6), (50, 4)])
def test_as_few_calls_are_profiled_as_have_five_steps(tmp_path, monkeypatch, steps_per_call, last):
    call, told = 0, []
    monkeypatch.setattr(jax.profiler, "start_trace", lambda *_, **__: told.append(("start", call)))
    monkeypatch.setattr(jax.profiler, "stop_trace", lambda: told.append(("stop", call)))
    profile = profiling.Profile(tmp_path)
    while call < 12:
        call += 1
        profile.after_call(np.zeros(steps_per_call))
    profile.stop()
    assert told == [("start", 3), ("stop", last)]
    assert profile.is_written
