"""Sweeps: what a run directory holds, resuming, refusals, and odd but valid data."""

import json

import numpy as np
import pytest
from conftest import SMALL_RUN, contents, rows_of
from PIL import Image
from sklearn.metrics import roc_auc_score

from itae_jax import data, experiment
from itae_jax.data.dataset import Dataset, OneClassSplit
from itae_jax.data.images import as_images
from itae_jax.errors import RequestError
from itae_jax.evaluate import frame_normality, restoration
from itae_jax.progress import ConsoleProgress
from itae_jax.runs import read, results, sweep

pytestmark = pytest.mark.usefixtures("tiny_network")


def run(out, *assignments, classes=None, seeds=(0,), progress=None):
    """Runs the digits, or what the assignments make of them."""
    (one,) = experiment.load(experiment.find("digits"), [*SMALL_RUN, *assignments]).values()
    with progress or ConsoleProgress(quiet=True) as shown:
        return sweep.run(one, out, classes, seeds, shown)


def scores_of(out, row):
    return rows_of(out / f"class_{row['normal_class']}" / f"seed_{row['seed']}" / "scores.csv")


def test_results_have_a_row_a_class(finished_run):
    rows = rows_of(finished_run / "results.csv")
    assert [row["normal_class"] for row in rows] == ["6", "8"]
    for row in rows:
        assert (row["num_train"], row["num_test"]) == ("48", "120")
        assert (row["method"], row["status"], row["note"], row["coverage"]) == ("itae", "done", "", "complete")
        assert row["device"] and row["data_source"].startswith("scikit-learn")
        assert float(row["train_seconds"]) > 0 and float(row["score_memory_mib"]) > 0
        assert (row["pixel_auroc"], row["aupro"]) == ("", "")  # digits have no masks


def test_aurocs_are_scikit_learns_of_the_scores_written(finished_run):
    for row in rows_of(finished_run / "results.csv"):
        scores = scores_of(finished_run, row)
        errors = [f"error_{index}" for index in range(4)]
        rules = ["", *(f"_combine_{rule}" for rule in restoration.COMBINATIONS[1:])]
        columns = [f"score_{error}{rule}" for rule in rules for error in restoration.ERRORS]
        assert list(scores[0]) == ["id", "label", "score", *errors, *columns]
        assert len({score["id"] for score in scores}) == 120
        is_anomaly = [score["label"] != row["normal_class"] for score in scores]
        for column in ("score", *columns):
            auroc = f"auroc_{column.removeprefix('score_')}" if column != "score" else "auroc"
            expected = roc_auc_score(is_anomaly, [float(score[column]) for score in scores])
            assert float(row[auroc]) == pytest.approx(expected, abs=1e-6)
        assert int(row["num_anomalous"]) == sum(is_anomaly)
        assert [score["score"] for score in scores] == [score["score_l1"] for score in scores]
        assert all(score["score_l1"] != score["score_l2"] for score in scores)


def test_sweep_records_its_settings_metrics_and_where_it_ran(finished_run):
    record = json.loads((finished_run / "config.json").read_text())
    assert experiment.read_record(finished_run / "config.json").method.width == record["method"]["width"] == 4
    assert record["environment"]["versions"]["jax"] and record["environment"]["device"].startswith("4 x ")
    entries = [json.loads(line) for line in (finished_run / "metrics.jsonl").read_text().splitlines()]
    assert [(entry["normal_class"], entry["epoch"]) for entry in entries] == [(6, 1), (6, 2), (8, 1), (8, 2)]
    assert all(0 < entry["loss"] < 2 and entry["learning_rate"] == 0.1 for entry in entries)


def test_the_same_sweep_again_computes_nothing_and_more_of_it_only_the_rest(finished_run, tmp_path):
    before = contents(finished_run)
    again, new = run(finished_run, classes=["6", "8"])
    assert new == 0 and [result.normal_class for result in again] == [6, 8]
    assert contents(finished_run) == before

    out = tmp_path / "out"
    assert [run(out, classes=["6"])[1], run(out, classes=["6", "8"])[1]] == [1, 1]
    ours, theirs = (rows_of(directory / "results.csv") for directory in (out, finished_run))
    assert [row["auroc"] for row in ours] == [row["auroc"] for row in theirs]


def test_another_config_or_other_data_is_refused_with_the_difference(finished_run, monkeypatch):
    before = contents(finished_run)
    with pytest.raises(RequestError, match=rf"{finished_run}: .*method\.width: 4 -> 8"):
        run(finished_run, "method.width=8")
    monkeypatch.setattr(data, "load", lambda config: toy(source="elsewhere"))
    with pytest.raises(RequestError, match=r"scikit-learn.*; now elsewhere"):
        run(finished_run)
    assert contents(finished_run) == before


class Interrupted(ConsoleProgress):
    """Interrupts the second training."""

    def epoch(self, name, epoch, loss, rate):
        if "8" in name and epoch == 2:
            raise KeyboardInterrupt


def test_interrupted_sweep_resumes_to_the_same_bits(finished_run, tmp_path):
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        run(out, classes=["6", "8"], progress=Interrupted(quiet=True))
    first = (out / "results.csv").read_text()
    assert [row["normal_class"] for row in rows_of(out / "results.csv")] == ["6"]
    with (out / "metrics.jsonl").open("a") as file:
        file.write('{"normal_class": 8, "se')  # as a kill in the middle of a line leaves it
    assert run(out, classes=["6", "8"])[1] == 1
    assert (out / "results.csv").read_text().startswith(first)
    for path in ("metrics.jsonl", "class_6/seed_0/scores.csv", "class_8/seed_0/scores.csv"):
        assert (out / path).read_bytes() == (finished_run / path).read_bytes(), path


def test_state_that_is_damaged_is_trained_again(finished_run, tmp_path):
    out, results_csv = tmp_path / "out", tmp_path / "out" / "results.csv"
    run(out, classes=["6"])
    results_csv.unlink()
    about = out / "class_6" / "seed_0" / "state" / "about.json"
    about.write_text(about.read_text()[:-9])
    assert run(out, classes=["6"])[1] == 1
    assert results.read(results_csv)[6, 0].auroc == results.read(finished_run / "results.csv")[6, 0].auroc


def test_aurocs_while_training_end_at_the_result(tmp_path):
    (result,), _ = run(tmp_path, "evaluate.every_epochs=1", classes=["6"])
    curves = read.training_curves(read.read(tmp_path))
    assert list(curves[6, 0]) == [1, 2]
    assert curves[6, 0][2] == pytest.approx(result.auroc, abs=1e-6)


BROKEN = b"no image"


def noise(**folders):
    """A tree {split/class: images}, of 4 grey images a class and split but for those given as train_a."""
    rng = np.random.default_rng(0)
    tree = {
        f"{split}/{name}": list(rng.integers(0, 256, (4, 16, 16)))
        for split in ("train", "test")
        for name in "ab"
    }
    return tree | {name.replace("_", "/"): images for name, images in folders.items()}


@pytest.fixture
def run_tree(tmp_path):
    """Writes a tree, runs its classes, and returns the results."""

    def make(tree, *assignments, classes=("a",)):
        root = tmp_path / "tree"
        for folder, images in tree.items():
            (root / folder).mkdir(parents=True, exist_ok=True)
            for number, image in enumerate(images):
                path = root / folder / f"{number}.png"
                if image is BROKEN:
                    path.write_bytes(image)
                else:
                    Image.fromarray(np.asarray(image, np.uint8)).save(path)
        tree = ["data.name=folder", f"data.root={root}", "train.batch_size=4", *assignments]
        return run(tmp_path / "out", *tree, classes=classes)[0]

    return make


def constant(value):
    return noise(train_a=[np.full((16, 16), value)] * 4, test_a=[np.full((16, 16), value)] * 4)


@pytest.mark.parametrize(
    ("tree", "batch_size", "status", "counts", "note"),
    [
        *((constant(value), 4, "done", (4, 8), "") for value in (0, 255)),
        (noise(train_a=noise()["train/a"][:1]), 1, "done", (1, 8), ""),
        (noise(test_a=[], test_b=noise()["test/b"][:1]), 4, "undefined", (4, 1), "are all anomalous"),
        (noise(test_b=[]), 4, "undefined", (4, 4), "the 4 test images are all normal"),
        (noise(test_a=[BROKEN], test_b=[BROKEN]), 4, "undefined", (4, 0), "no test image can be read"),
        (noise(train_a=[BROKEN] * 4), 4, "failed", (4, 8), "fewer than train.batch_size=4"),
    ],
)
def test_odd_data_give_a_result_that_says_what_it_lacks(run_tree, tree, batch_size, status, counts, note):
    first, second = run_tree(tree, f"train.batch_size={batch_size}", classes=("a", "b"))
    assert (first.status, (first.num_train, first.num_test)) == (status, counts)
    assert note in first.note and (first.auroc is None) == (status != "done")
    assert second.normal_class_name == "b"  # the sweep goes on


def test_unreadable_images_are_left_out_and_listed_or_end_the_run(run_tree, tmp_path):
    tree = noise()
    tree["train/a"] = [*tree["train/a"], BROKEN]
    tree["test/b"][1] = BROKEN
    with pytest.raises(RequestError, match=r"(a/4|b/1)\.png"):
        run_tree(tree, "data.on_corrupt=error")
    (result,) = run_tree(tree)
    assert (result.num_train, result.num_test, result.status) == (4, 7, "done")
    listed = [row["image"] for row in rows_of(tmp_path / "out" / "unreadable.csv")]
    assert listed == [str(tmp_path / "tree" / name) for name in ("test/b/1.png", "train/a/4.png")]
    scores = rows_of(tmp_path / "out" / "class_0" / "seed_0" / "scores.csv")
    assert "test/b/1.png" not in {row["id"] for row in scores}


def test_refused_images_leave_a_directory_that_another_config_may_use(run_tree, tmp_path):
    """What only reading shows comes after config.json is written, but before a training has started."""
    tree = noise(train_a=[*noise()["train/a"], np.zeros((20, 20))])
    with pytest.raises(RequestError, match=r"4\.png: is 20x20.*data\.image_size"):
        run_tree(tree, "data.image_size=0")
    (result,) = run_tree(tree, "data.image_size=16")
    assert result.status == "done"
    assert experiment.read_record(tmp_path / "out" / "config.json").data.image_size == 16


def toy(name="toy", source="here", videos=()):
    """32 training and eight test images of noise."""
    rng = np.random.default_rng(0)
    train, test = (as_images(rng.integers(0, 256, (count, 16, 16, 1), np.uint8)) for count in (32, 8))
    labels, ids = ("ok", "odd") * 4, tuple(f"{video}/{i}" for i, video in enumerate(videos or "aaaabbbb"))
    split = OneClassSplit(train, test, labels, ids, "ok", video_ids=tuple(videos))
    return Dataset(name, source, ("ok",), (0,), (16, 16, 1), lambda *_: split)


def test_video_is_judged_within_each_video(tmp_path, monkeypatch):
    videos = "abababaa"
    monkeypatch.setattr(data, "load", lambda config: toy("shanghaitech", videos=videos))
    (result,), _ = run(tmp_path, "data.name=shanghaitech")
    rows = rows_of(tmp_path / "class_0" / "seed_0" / "scores.csv")
    scores = np.array([float(row["score"]) for row in rows])
    expected = roc_auc_score(
        [row["label"] == "odd" for row in rows], 1 - frame_normality(scores, np.array(list(videos)))
    )
    assert result.auroc == pytest.approx(expected)
    is_anomaly, judged = read.read_scores(read.read(tmp_path), result)
    assert roc_auc_score(is_anomaly, judged) == pytest.approx(expected)
