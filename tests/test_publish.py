"""What is published of measured rows."""

import errno
import json
import re
import sys
from pathlib import Path

import pytest

from itae_jax import files
from itae_jax.config import Experiment, from_flat
from itae_jax.errors import RequestError
from itae_jax.report import tables
from itae_jax.runs import job_files, results

EXPERIMENTS = Path(__file__).parent.parent / "experiments"

pytestmark = pytest.mark.usefixtures("scripts")


@pytest.fixture
def publish(tmp_path, monkeypatch):
    """The script, with an empty directory of results."""
    import publish
    import publish_pictures
    import publish_rows

    monkeypatch.setattr(publish_rows, "RESULTS", tmp_path)
    monkeypatch.setattr(publish_pictures, "IMAGES", tmp_path / "images")
    monkeypatch.setattr(job_files, "check", lambda directory, row: None)  # the runs here are rows alone
    return publish


def row(index, seed=0, auroc=0.9, **columns):
    common = {
        "experiment": "table1_cifar10",
        "dataset": "cifar10",
        "method": "itae",
        "normal_class": str(index),
        "normal_class_name": f"class {index}",
        "seed": str(seed),
        "epochs": "60",
        "auroc": str(auroc),
        "num_test": "10",
        "device": "2 x CPU",
        "dtype": "float32",
        "width": "16",
        "transform": "gray+rotate",
        "settings": "data.name=cifar10 model.width=16 train.epochs=60",
        "data_copy": "tree",
        "commit": "0123",
        "average_precision": "0.6",
    }
    return dict.fromkeys(results.COLUMNS, "") | common | columns


def write(directory, *rows, columns=results.COLUMNS):
    cut = [{key: one[key] for key in columns} for one in rows]
    files.write_csv(directory / f"{rows[0]['experiment']}.csv", cut, columns)


def write_run(directory, *rows):
    fields = {"name": Path(rows[0]["experiment"]).name, "transform.name": rows[0]["transform"]}
    fields |= {"model.width": int(rows[0]["width"]), "train.epochs": int(rows[0]["epochs"])}
    fields["data.name"] = rows[0]["dataset"]
    experiment = from_flat(fields)
    rows = [row | {"settings": results.columns_of(experiment)["settings"]} for row in rows]
    with results.begun(directory, experiment):
        files.write_csv(directory / "results.csv", rows, results.COLUMNS)


def averages(publish):
    return [line.split(" | ")[5] for line in publish.summary_table()[2:]]


def test_classes_and_seeds_of_one_thing_average(publish, tmp_path):
    write(tmp_path, row(0, 0, 0.9), row(0, 1, 0.8), row(1, 0, 0.5), row(1, 1, 0.6))
    (line,) = publish.summary_table()[2:]
    assert "| table1_cifar10 (reduced) | width 16, 60 epochs | gray+rotate | 2 | 2 | 70.0 ± 0.0 |" in line
    page = publish.results_page()
    assert "| class 0 | 85.0 ± 7.1 | 78.5 | +6.5 |" in page
    assert "| class 1 | 50.0 | 60.0 | 55.0 | 7.1 |" in page  # by seed
    note = "- reduced, less than the paper's training: width 16 instead of 64, 60 of 500 epochs"
    assert note in page.splitlines()


SHIFTED = "data.name=cifar10 model.width=16 train.epochs=60 train.augment=flip+shift"
FLIPPED = SHIFTED.replace("+shift", "")


def changes(publish):
    """The table of what one setting changes, a list of cells a line."""
    page = publish.results_page()
    _, _, part = page.partition("## What one setting changes")
    lines = part.partition("\n## ")[0].splitlines()
    return [line.strip("| ").split(" | ") for line in lines if line.startswith("| table1")]


def test_what_one_setting_changes_is_told_of_trainings_alike_but_for_it(publish, tmp_path):
    write(tmp_path, row(0, 0, 0.9, settings=FLIPPED), row(0, 0, 0.85, settings=SHIFTED))
    how = ["table1_cifar10 (reduced)", "width 16, 60 epochs", "class 0"]
    told = [*how, "train.augment=flip", "90.0", "flip+shift", "85.0", "+5.0"]  # the experiment's own comes last
    assert changes(publish) == [told]
    without = FLIPPED.replace(" train.augment=flip", "")
    write(tmp_path, row(0, 0, 0.9, settings=without), row(0, 0, 0.95, settings=SHIFTED))
    told = [*how, "train.augment=none", "90.0", "flip+shift", "95.0", f"{tables.MINUS}5.0"]
    assert changes(publish) == [told]


@pytest.mark.parametrize(
    "other",
    [
        {"settings": FLIPPED, "normal_class": "1", "normal_class_name": "class 1"},
        {"settings": FLIPPED, "seed": "1"},
        {"settings": FLIPPED, "device": "1 x GPU"},
        {"settings": FLIPPED, "dtype": "bfloat16"},
        {"settings": FLIPPED, "transform": "identity"},
        {"settings": FLIPPED, "auroc": "", "note": "failed: the loss is nan"},
        {"settings": f"{FLIPPED} train.momentum=0.9"},
        {"settings": SHIFTED.replace("epochs=60", "epochs=30"), "epochs": "30"},
    ],
)
def test_what_differs_in_more_is_no_change_of_one_setting(publish, tmp_path, other):
    write(tmp_path, row(0, settings=SHIFTED), row(0) | other)
    assert changes(publish) == []


@pytest.mark.parametrize(
    "other",
    [
        {"dtype": "bfloat16"},
        {"width": "32"},
        {"epochs": "61"},
        {"device": "1 x GPU"},
        {"data_copy": "another"},
        {"transform": "rotate"},
        {"settings": "data.name=cifar10 model.width=16 train.epochs=60 train.augment=flip"},
        {"settings": "data.name=cifar10 model.width=16 train.epochs=60 train.loss=l1"},
        {"variant": "other"},
    ],
)
def test_what_was_made_otherwise_never_averages(publish, tmp_path, other):
    write(tmp_path, row(0, 0, 0.9), row(1, 0, 0.7, **other))
    assert averages(publish) == ["90.0", "70.0"]
    assert "80.0" not in publish.results_page()


def lines_of_summary(publish):
    return [line.split(" | ")[2:] for line in publish.summary_table()[2:]]


@pytest.mark.parametrize("setting", ["data.limit_test=2000", "evaluate.error=l2", "data.fit=crop"])
def test_tables_that_a_setting_tells_apart_name_it(publish, tmp_path, setting):
    one = row(0)
    write(
        tmp_path,
        *(row(k) for k in range(4)),
        *(row(k, settings=f"{one['settings']} {setting}") for k in range(4)),
    )
    headings = [line for line in publish.results_page().splitlines() if line.startswith("## table1")]
    assert len(set(headings)) == 2
    assert len({picture.path for picture in publish.drawn()}) == 2
    assert setting in headings[0] + headings[1]


@pytest.mark.parametrize("device", ["1 x INTEL XEON", "1 x amd epyc 7"])
def test_pictures_of_several_devices_have_files_of_their_own(publish, tmp_path, device):
    rows = [row(k, device=name) for k in range(4) for name in ("1 x AMD EPYC", device)]
    write(tmp_path, *rows)
    assert len({picture.path for picture in publish.drawn()}) == 2


@pytest.mark.parametrize(
    "other", [{"device": "1 x GPU"}, {"data_copy": "tfds"}, {"device": "1 x GPU", "data_copy": "tfds"}]
)
def test_no_two_tables_read_alike(publish, tmp_path, other):
    first = row(0)
    write(
        tmp_path, first, row(0, auroc=0.7, **other), row(0, auroc=0.6, epochs="70", settings="train.epochs=70")
    )
    how = [line.split(" | ")[1] for line in publish.summary_table()[2:]]
    apart = [", ".join(one[key] for key in other) for one in (first, other)]
    assert how == [f"width 16, 60 epochs, {text}" for text in apart] + ["width 16, 70 epochs"]
    page = publish.results_page()
    assert all(f"## table1_cifar10 (reduced), {text}" in page for text in how)
    assert len(set(publish.docstrings()["table1_cifar10"])) == 3


def test_the_plain_autoencoder_stands_beside_the_same_classes_and_seeds_alone(publish, tmp_path):
    ours = [row(0, 0, 0.9), row(2, 0, 0.5)]
    plain = [row(index, 0, auroc, transform="identity") for index, auroc in ((0, 0.6), (1, 0.2), (2, 0.4))]
    write(tmp_path, *ours, plain[0], plain[2])
    # The paper's cells of these classes: (78.5 + 86.1) / 2, and of AE 57.1 and 59.9, of three classes 54.9 too.
    of_itae, of_ae = "82.3 (of these classes)", "58.5 (of these classes) |"
    assert lines_of_summary(publish) == [["gray+rotate", "2", "1", "70.0", of_itae, "50.0", of_ae]]
    of_ae = "57.3 (of these classes) |"
    apart = [
        ["gray+rotate", "2", "1", "70.0", of_itae, "", " |"],
        ["identity", "3", "1", "", "", "40.0", of_ae],
    ]
    write(tmp_path, *ours, *plain)
    assert lines_of_summary(publish) == apart
    write(tmp_path, *ours, row(0, 1, 0.6, transform="identity"), row(2, 1, 0.4, transform="identity"))
    assert len(lines_of_summary(publish)) == 2
    write(tmp_path, ours[0], plain[1])
    assert len(lines_of_summary(publish)) == 2
    l1 = {"settings": "data.name=cifar10 train.loss=l1", "transform": "identity"}
    write(tmp_path, row(0, 0, 0.9, settings="data.name=cifar10"), row(0, 0, 0.8, **l1))
    assert [line[0] for line in lines_of_summary(publish)] == ["gray+rotate", "identity, train.loss=l1"]
    variants = {"AE": "identity", "AE+S": "scale", "AE+G": "gray"}
    of_variants = [
        row(0, 0, 0.9, experiment="table4_transforms", variant=variant, transform=transform)
        for variant, transform in variants.items()
    ]
    (tmp_path / "table1_cifar10.csv").unlink()
    write(tmp_path, *of_variants)
    assert [(line[0], line[5]) for line in lines_of_summary(publish)] == [("scale", "90.0"), ("gray", "90.0")]


def test_rows_without_what_a_table_compares_are_left_out(publish, tmp_path):
    columns = {"experiment": "table5_losses", "variant": "l2"}
    write(tmp_path, row(0, 0, 0.9, **columns, auroc_l1="0.9"))
    assert [line[:4] for line in lines_of_summary(publish)] == [
        ["gray+rotate, l2 → l1", "1", "1", "90.0"],
        ["gray+rotate, l2 → l2", "0", "", ""],
    ]
    assert "l2 → l1 90.0 (1 class)" in publish.docstrings()["table5_losses"][0]


def test_failed_trainings_are_published_as_such(publish, tmp_path):
    write_run(tmp_path / "run", row(0, 0, 0.9), row(1, 0, "", note="failed: the loss is nan"))
    publish.publish_rows.add(tmp_path / "run")
    page = publish.results_page()
    assert "- class class 1, seed 0: failed: the loss is nan" in page
    assert averages(publish) == ["90.0"]
    write_run(tmp_path / "again", row(1, 0, 0.5))
    publish.publish_rows.add(tmp_path / "again")
    assert "failed" not in publish.results_page()
    assert averages(publish) == ["70.0"]


def test_what_was_measured_is_never_lost_to_another_training(publish, tmp_path):
    for name, of_run in (
        ("a", row(0, 0, 0.9, normal_class_name="cat")),
        ("b", row(0, 0, "", normal_class_name="cat", note="failed: the loss is nan")),
        ("c", row(0, 0, 0.5, normal_class_name="cow")),
    ):
        write_run(tmp_path / name, of_run, row(1))
        publish.publish_rows.add(tmp_path / name)
    stored = publish.publish_rows.read_rows(tmp_path / "table1_cifar10.csv")
    names = [(one["normal_class_name"], one["auroc"]) for one in stored]
    assert sorted(names) == [("cat", "0.9"), ("class 1", "0.9"), ("cow", "0.5")]


@pytest.fixture
def command(publish, tmp_path, monkeypatch):
    """Arguments -> exit code of the script, where no page is written."""
    monkeypatch.setattr(publish, "write_text", lambda path, text: None)

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["publish.py", *map(str, words)])
        return publish.main()

    return run


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"commit": "0123+"}, "uncommitted"),
        ({"experiment": "scaling"}, "no experiments/scaling.py"),
        ({"experiment": "../../evil"}, "experiment='../../evil'"),
    ],
)
def test_all_runs_are_published_or_none(command, tmp_path, capsys, columns, message):
    write(tmp_path, row(0))
    before = {path: path.read_bytes() for path in tmp_path.glob("*")}
    write_run(tmp_path / "good", row(1))
    write_run(tmp_path / "other", row(0, experiment="table1_mnist", dataset="mnist"))
    write_run(tmp_path / "bad", row(2, **columns))
    assert command(tmp_path / "good", tmp_path / "other", tmp_path / "bad") == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert {path: path.read_bytes() for path in tmp_path.glob("*") if path.is_file()} == before
    assert command(tmp_path / "good", tmp_path / "other") == 0
    assert (tmp_path / "table1_mnist.csv").exists()


def test_runs_in_which_nothing_has_finished_are_left_out(command, tmp_path, capsys):
    write_run(tmp_path / "good", row(1))
    with results.begun(tmp_path / "begun", Experiment()):
        pass
    assert command(tmp_path / "begun", tmp_path / "good") == 0
    assert f"{tmp_path / 'begun'}: no training has finished there yet; left out" in capsys.readouterr().err
    assert [one["normal_class"] for one in files.read_csv(tmp_path / "table1_cifar10.csv")] == ["1"]
    assert command(tmp_path / "nowhere") == 2
    assert "no results.csv there" in capsys.readouterr().err


def test_a_run_of_nothing_but_failures_stops_no_other(command, publish, tmp_path):
    write_run(tmp_path / "failed", row(0, 0, "", note="failed: the loss is nan"))
    write_run(tmp_path / "good", row(1))
    assert command(tmp_path / "failed", tmp_path / "good") == 0
    assert "class 0, seed 0: failed: the loss is nan" in publish.results_page()
    write_run(tmp_path / "alone", row(0, 0, "", note="failed: the loss is nan", experiment="table1_mnist"))
    assert command(tmp_path / "alone") == 0
    assert "reduced: no AUROC" in publish.pages()[EXPERIMENTS / "table1_mnist.py"]
    assert not any("table1_mnist" in line for line in publish.summary_table())


def test_a_folder_called_by_a_part_of_an_experiments_name_is_named(publish, tmp_path):
    write(tmp_path, row(0, dataset="cifar", settings="data.name=folder"), row(1))
    page = publish.results_page()
    assert "## table1_cifar10: cifar, " in page
    assert "## table1_cifar10 (reduced), " in page


def test_checking_adds_nothing(command, tmp_path, capsys):
    write_run(tmp_path / "good", row(1))
    assert command("--check", tmp_path / "good") == 2
    assert "--check adds nothing" in capsys.readouterr().err
    assert not list(tmp_path.glob("*.csv"))


def test_runs_with_damaged_files_or_that_contradict_each_other_are_not_published(
    command, tmp_path, capsys, monkeypatch
):
    write(tmp_path, row(0))
    before = (tmp_path / "table1_cifar10.csv").read_bytes()
    write_run(tmp_path / "a", row(1, 0, 0.9))
    write_run(tmp_path / "b", row(1, 0, 0.8))
    assert command(tmp_path / "a", tmp_path / "b") == 2
    assert "auroc=0.8, but 0.9 in" in capsys.readouterr().err

    def damaged(directory, row):
        raise job_files.damaged(directory, ValueError("broken"))

    monkeypatch.setattr(job_files, "check", damaged)
    assert command(tmp_path / "a") == 2
    assert "class_1/seed_0: its results are damaged (broken)" in capsys.readouterr().err
    (tmp_path / "table1_cifar10.csv").write_bytes(before + b"<<<<<<< HEAD\n")
    assert command() == 2
    assert "table1_cifar10.csv: is damaged" in capsys.readouterr().err
    (tmp_path / "table1_cifar10.csv").write_bytes(before)


def test_what_cannot_be_written_leaves_all_as_it_was(command, publish, tmp_path, capsys, monkeypatch):
    write(tmp_path, row(0))
    before = (tmp_path / "table1_cifar10.csv").read_bytes()
    write_run(tmp_path / "a", row(1))

    def full(path, text):
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(publish, "write_text", full)
    assert command(tmp_path / "a") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "No space left on device" in line
    assert (tmp_path / "table1_cifar10.csv").read_bytes() == before


def test_pictures_show_the_rows_there_are(command, publish, tmp_path):
    images, rows = tmp_path / "images", [row(index, 0, 0.9) for index in range(4)]
    images.mkdir()
    for changed, is_new in ((rows, True), (rows, False), ([*rows[1:], row(0, 0, 0.8)], True)):
        write(tmp_path, *changed)
        (picture,) = publish.drawn()
        assert picture.is_drawn() != is_new
        assert command() == 0
        assert picture.is_drawn()
        assert f"(images/{picture.path.name})" in publish.results_page()
        assert list(images.iterdir()) == [picture.path]
    write(tmp_path, *rows[1:])
    assert command() == 0
    assert not list(images.iterdir())


def test_names_of_data_sets_break_neither_pages_nor_experiment_files(publish, tmp_path):
    name = 'a\\x """ <!-- results: end --> | b'
    write(tmp_path, row(0, dataset=name))
    page = publish.pages()
    compile(page[EXPERIMENTS / "table1_cifar10.py"], "table1_cifar10.py", "exec")
    for path in ("README.md", "docs/results.md"):
        text = page[EXPERIMENTS.parent / path]
        assert text.count("<!-- results: end -->") == (path == "README.md")
        assert "a\\\\x" in text and "\\| b" in text


def test_what_has_no_row_is_said(publish, tmp_path):
    write(tmp_path, row(0))
    told = publish.unmeasured()
    assert "`table4_transforms`" in told
    assert "`table1_cifar10`" not in told
    assert "at the paper's full size" in told
    write(tmp_path, row(0, width="64", epochs="500", settings="data.name=cifar10"))
    assert "at the paper's full size" not in publish.unmeasured()


def test_variants_stand_side_by_side(publish, tmp_path):
    names = {"AE": "identity", "AE+G+R": "gray+rotate"}
    rows = [
        row(0, 0, 0.9, experiment="table4_transforms", variant=variant, transform=transform)
        for variant, transform in names.items()
    ]
    write(tmp_path, *rows)
    page = publish.results_page()
    paper = f"paper (ours {tables.MINUS} paper)"
    assert f"| normal class | AE | {paper} | AE+G+R | {paper} |" in page
    assert "| class 0 | 90.0 | 57.1 (+32.9) | 90.0 | 78.5 (+11.5) |" in page


def test_speed_and_memory_of_scoring_stand_beside_the_papers(publish, tmp_path):
    numbers = {"num_test": "300", "score_memory_mib": "400"}
    of_variants = [
        ("AE", "identity", "float32", {"score_seconds": "1", "auroc": "0.5"}),
        ("ITAE", "gray+rotate", "float32", {"score_seconds": "4", "auroc": "0.8"}),
        ("ITAE-bfloat16", "gray+rotate", "bfloat16", {"score_seconds": "2", "auroc": "0.7"}),
    ]
    rows = []
    for variant, transform, dtype, measured in of_variants:
        shared = {"experiment": "figure3_efficiency", "variant": variant, "transform": transform}
        settings = "data.name=cifar10" + " compute.dtype=bfloat16" * (dtype == "bfloat16")
        rows += [row(k, **numbers, **shared, **measured, dtype=dtype, settings=settings) for k in (0, 1)]
    rows[1]["score_memory_mib"] = "500"
    write(tmp_path, *rows)
    page = publish.results_page()
    assert page.count("## figure3_efficiency") == 1
    megabytes = [round(mib * 2**20 / 1e6) for mib in (500, 400)]
    assert f"| AE (reduced) | 300 | {megabytes[0]} | 50.0 (2 classes) |" in page
    assert f"| ITAE (reduced) | 75 | {megabytes[1]} | 80.0 (2 classes) |" in page
    assert f"| ITAE-bfloat16 (reduced) | 150 | {megabytes[1]} | 70.0 (2 classes) |" in page
    assert "| paper: ITAE | 270 | 713 | 86.6 (all classes) |" in page
    write(tmp_path, *(one | {"score_memory_mib": ""} for one in rows))  # as older versions have them
    assert "paper: ITAE" not in publish.results_page()


def test_variants_that_another_experiment_measured_alike_are_taken_over(publish, tmp_path):
    own = {"experiment": "table4_transforms", "variant": "AE+S", "transform": "scale"}
    augmented = "data.name=cifar10 model.width=16 train.epochs=60 train.augment=flip+shift"
    erasing = "data.name=cifar10 transform.name={} model.width=16 train.epochs=60 train.augment=flip+shift"
    write(tmp_path, row(1, 0, 0.3, **own, settings=erasing.format("scale")))
    plain = row(1, 0, 0.2, transform="identity", settings=erasing.format("identity"))
    other_class, other_seed = row(0, 0, 0.7, settings=augmented), row(1, 1, 0.6, settings=augmented)
    unlike = [row(1, 0, 0.5, settings=settings) for settings in (augmented + " compute.dtype=bfloat16", "")]
    write(tmp_path, row(1, 0, 0.8, settings=augmented), plain, other_class, other_seed, *unlike)
    page = publish.results_page()
    (table,) = [part for part in page.split("\n## ") if part.startswith("table4_transforms")]
    assert [cell.strip() for cell in table.splitlines()[2].split("|")[2:-1:2]] == ["AE", "AE+S", "AE+G+R"]
    line = "| class 1 | 20.0 | 54.9 (-34.9) | 30.0 | 41.8 (-11.8) | 80.0 | 89.8 (-9.8) |"
    assert line.replace("-", tables.MINUS) in table
    assert "class 0" not in table
    assert table.count("commit 0123; class 1 measured in table1_cifar10. ") == 2
    assert "(reduced)" in table.splitlines()[0]


def test_what_failed_elsewhere_is_not_taken_over(publish, tmp_path):
    own = {"experiment": "table4_transforms", "variant": "AE+S", "transform": "scale"}
    scaled = SHIFTED.replace("name=cifar10", "name=cifar10 transform.name=scale")
    write(tmp_path, row(1, 0, 0.3, **own, settings=scaled))
    write(tmp_path, row(1, 0, "", settings=SHIFTED, note="failed: the loss is nan"))
    (table,) = [part for part in publish.results_page().split("\n## ") if part.startswith("table4")]
    assert "failed" not in table
    assert "AE+G+R" not in table


def test_experiment_files_tell_what_they_have_given(publish, tmp_path):
    write(tmp_path, row(0, train_seconds="60"), row(1, 0, 0.7, train_seconds="240"))
    path = EXPERIMENTS / "table1_cifar10.py"
    old, new = path.read_text(), publish.pages()[path]
    assert "  width 16, 60 epochs, reduced: ITAE 80.0 (2 classes); 2 min a training on 2 x CPU\n" in new
    assert (
        new.count("Reduced, for a CPU: python experiments/reduced.py table1_cifar10 table1_cifar10_ae\n") == 1
    )
    for part in (0, 2):  # what comes before, and the code
        assert re.split(r"(Reduced, for.*?\n\"\"\"\n)", old, flags=re.S)[part] in new
    assert "\n\nMeasured: nothing yet.\n" in publish.pages()[EXPERIMENTS / "table1_mnist.py"]


def test_rows_of_older_versions_are_told_beside_new_ones(publish, tmp_path):
    old = results.COLUMNS[: results.COLUMNS.index("commit") + 1]
    write(tmp_path, row(0), columns=old)
    assert averages(publish) == ["90.0"]
    write_run(tmp_path / "run", row(1, 0, 0.7, best_f1="0.5"), row(0, 0, 0.8))
    publish.publish_rows.add(tmp_path / "run")
    stored = publish.publish_rows.read_rows(tmp_path / "table1_cifar10.csv")
    assert [(one["normal_class"], one["auroc"], one["best_f1"]) for one in stored] == [
        ("0", "0.8", ""),  # in the place of the old one
        ("1", "0.7", "0.5"),
    ]


@pytest.mark.parametrize("commit", ["", "0123+"])
def test_a_row_without_its_commit_is_refused(publish, tmp_path, commit):
    write_run(tmp_path / "run", row(0, commit=commit))
    with pytest.raises(RequestError, match="commit"):
        publish.publish_rows.add(tmp_path / "run")


def write_bench(path, **ours):
    """A file of `itae bench`: our seconds of each task at width 16, where PyTorch's best is 0.1."""
    timings = [
        {"task": task, "width": 16, "contender": name, "seconds": seconds, "images_per_second": 32 / seconds}
        for task, itae in ours.items()
        for name, seconds in (("itae_jax", itae), ("torch eager", 0.2), ("torch compile", 0.1))
    ]
    environment = {"device": "2 x CPU", "versions": {"jax": "0", "torch": "2"}, "commit": "0123"}
    settings = {"batch_size": 32, "image": [32, 32, 3], "transform": "gray+rotate", "dtype": "float32"}
    path.write_text(json.dumps({"environment": environment, "settings": settings, "timings": timings}))


def test_speed_is_told_over_all_measurements_of_a_device(tmp_path):
    import publish_speed

    write_bench(tmp_path / "bench_network_cpu.json", training=0.15, scoring=0.11)
    told = "Time on 2 x CPU, float32, batches of 32 images of 32x32x3, as a multiple of PyTorch's best"
    slower = ", so that above 1 is slower"
    expected = f"{told}{slower}: training 1.50 at width 16; scoring 1.10 at width 16."
    assert publish_speed.speed_line(tmp_path) == ["", expected]
    write_bench(tmp_path / "bench_network_cpu_again.json", training=0.12, scoring=0.11)
    expected = f"{told} (2 measurements){slower}: training 1.20 to 1.50 at width 16; scoring 1.10 at width 16."
    assert publish_speed.speed_line(tmp_path) == ["", expected]
    page = "\n".join(publish_speed.sections(tmp_path))
    assert "| training | 16 | itae_jax | 32 | 0.1500 | 213 |" in page
    assert "| training | 16 | 1.20 |" in page
    assert "No speed has been measured beside PyTorch on a GPU or TPU yet." in page
