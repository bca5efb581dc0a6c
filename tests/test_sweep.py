"""Sweeps: what a run directory holds, resuming, refusals, and odd but valid data."""

import json
import shutil

import numpy as np
import pytest
from conftest import contents, rows_of
from PIL import Image
from sklearn.metrics import roc_auc_score

from itae_jax import data, experiment
from itae_jax.data.dataset import Dataset, OneClassSplit
from itae_jax.data.images import as_images
from itae_jax.errors import RequestError
from itae_jax.evaluate import frame_normality
from itae_jax.progress import ConsoleProgress
from itae_jax.runs import read, results, sweep

pytestmark = pytest.mark.usefixtures("tiny_network")
SMALL = ["train.epochs=2", "method.width=4", "data.limit_train=48", "data.limit_test=120"]


def run(out, *assignments, classes=None, seeds=(0,), progress=None):
    """Runs the digits, or what the assignments make of them."""
    (one,) = experiment.load(experiment.find("digits"), [*SMALL, *assignments]).values()
    with progress or ConsoleProgress(quiet=True) as shown:
        return sweep.run(one, out, classes, seeds, shown)


@pytest.fixture(scope="module")
def finished(tmp_path_factory, tiny_network):
    """A run of two classes; tests look at it and leave it as it is."""
    out = tmp_path_factory.mktemp("runs") / "two"
    run(out, classes=["6", "8"])
    return out


def scores_of(out, row):
    return rows_of(out / f"class_{row['normal_class']}" / f"seed_{row['seed']}" / "scores.csv")


def test_results_have_a_row_a_class(finished):
    rows = rows_of(finished / "results.csv")
    assert [(row["normal_class"], row["num_train"], row["num_test"]) for row in rows] == [
        ("6", "48", "120"),
        ("8", "48", "120"),
    ]
    for row in rows:
        assert (row["method"], row["status"], row["note"], row["coverage"]) == ("itae", "done", "", "complete")
        assert row["device"] and row["data_source"].startswith("scikit-learn")
        assert float(row["train_seconds"]) > 0 and float(row["score_memory_mib"]) > 0
        assert (row["pixel_auroc"], row["aupro"]) == ("", "")  # digits have no masks


def test_aurocs_are_scikit_learns_of_the_scores_written(finished):
    for row in rows_of(finished / "results.csv"):
        scores = scores_of(finished, row)
        errors = [f"error_{index}" for index in range(4)]
        assert list(scores[0]) == ["id", "label", "score", *errors, "score_l1", "score_l2"]
        assert len({score["id"] for score in scores}) == 120
        is_anomaly = [score["label"] != row["normal_class"] for score in scores]
        for column, auroc in (("score", "auroc"), ("score_l1", "auroc_l1"), ("score_l2", "auroc_l2")):
            expected = roc_auc_score(is_anomaly, [float(score[column]) for score in scores])
            assert float(row[auroc]) == pytest.approx(expected, abs=1e-6)
        assert int(row["num_anomalous"]) == sum(is_anomaly)
        assert [score["score"] for score in scores] == [score["score_l1"] for score in scores]
        assert all(score["score_l1"] != score["score_l2"] for score in scores)


def test_config_records_everything_and_where_it_ran(finished):
    record = json.loads((finished / "config.json").read_text())
    assert record["method"]["name"], record["method"]["width"] == ("itae", 4)
    assert record["train"]["learning_rate"] == 0.1 and record["seed"] == 0
    assert record["environment"]["versions"]["jax"] and record["environment"]["device"].startswith("4 x ")
    assert experiment.read_record(finished / "config.json").method.width == 4


def test_metrics_hold_loss_and_rate_of_every_epoch(finished):
    entries = [json.loads(line) for line in (finished / "metrics.jsonl").read_text().splitlines()]
    assert [(entry["normal_class"], entry["epoch"]) for entry in entries] == [(6, 1), (6, 2), (8, 1), (8, 2)]
    assert all(0 < entry["loss"] < 2 and entry["learning_rate"] == 0.1 for entry in entries)


def test_the_same_sweep_again_computes_nothing_and_more_of_it_only_the_rest(finished, tmp_path):
    before = contents(finished)
    again, new = run(finished, classes=["6", "8"])
    assert new == 0 and [result.normal_class for result in again] == [6, 8]
    assert contents(finished) == before

    out = tmp_path / "out"
    assert [run(out, classes=["6"])[1], run(out, classes=["6", "8"])[1]] == [1, 1]
    ours, theirs = (rows_of(directory / "results.csv") for directory in (out, finished))
    assert [row["auroc"] for row in ours] == [row["auroc"] for row in theirs]


def test_another_config_or_other_data_is_refused_with_the_difference(finished, monkeypatch):
    before = contents(finished)
    with pytest.raises(RequestError, match=rf"{finished}: .*method\.width: 4 -> 8"):
        run(finished, "method.width=8")
    monkeypatch.setattr(data, "load", lambda config: toy(source="elsewhere"))
    with pytest.raises(RequestError, match=r"scikit-learn.*; now elsewhere"):
        run(finished)
    assert contents(finished) == before


class Interrupted(ConsoleProgress):
    """Interrupts the second training."""

    def epoch(self, name, epoch, loss, rate):
        if "8" in name and epoch == 2:
            raise KeyboardInterrupt


def test_interrupted_sweep_resumes_to_the_same_bits(finished, tmp_path):
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
        assert (out / path).read_bytes() == (finished / path).read_bytes(), path


def test_state_that_is_damaged_is_trained_again(finished, tmp_path):
    out, results_csv = tmp_path / "out", tmp_path / "out" / "results.csv"
    run(out, classes=["6"])
    results_csv.unlink()
    about = out / "class_6" / "seed_0" / "state" / "about.json"
    about.write_text(about.read_text()[:-9])
    assert run(out, classes=["6"])[1] == 1
    assert results.read(results_csv)[6, 0].auroc == results.read(finished / "results.csv")[6, 0].auroc


def test_aurocs_while_training_end_at_the_result(tmp_path):
    (result,), _ = run(tmp_path, "evaluate.every_epochs=1", classes=["6"])
    curves = read.training_curves(read.read(tmp_path))
    assert list(curves[6, 0]) == [1, 2]
    assert curves[6, 0][2] == pytest.approx(result.auroc, abs=1e-6)


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("auroc", "1", "auroc"),
        ("num_anomalous", "1", "num_anomalous"),
        ("num_test", "119", "120 of 119"),
        ("dataset", "mnist", "dataset='mnist'"),
        ("epochs", "3", "epochs=3"),
        ("method", "vae", "method='vae'"),
        ("status", "failed", "status"),
    ],
)
def test_results_that_other_files_contradict_are_refused(finished, tmp_path, column, value, message):
    copy = shutil.copytree(finished, tmp_path / "copy")
    rows = rows_of(copy / "results.csv")
    rows[0][column] = value
    lines = [",".join(rows[0]), *(",".join(row.values()) for row in rows)]
    (copy / "results.csv").write_text("\n".join(lines) + "\n")
    with pytest.raises(RequestError, match=rf"{copy}.*{message}"):
        one = read.read(copy)
        read.read_scores(one, one.results[0])


def test_diverged_class_is_marked_and_the_others_go_on(tmp_path):
    settings = ["train.learning_rate=1e6", "method.weight_decay=1e6", "method.output=linear"]
    found, new = run(tmp_path, *settings, classes=["6", "8"])
    assert new == 2 and [(one.normal_class, one.auroc, one.status) for one in found] == [
        (6, None, "failed"),
        (8, None, "failed"),
    ]
    assert all("lower train.learning_rate" in one.note for one in found)
    assert run(tmp_path, *settings, classes=["6", "8"]) == (found, 0)


def test_test_images_of_one_kind_have_scores_but_no_auroc(tmp_path):
    (result,), _ = run(tmp_path, "data.limit_test=2", classes=["6"])
    assert (result.auroc, result.status, result.num_test) == (None, "undefined", 2)
    assert "2 test images are all anomalous" in result.note
    assert len(rows_of(tmp_path / "class_6" / "seed_0" / "scores.csv")) == 2


@pytest.fixture
def run_tree(tmp_path):
    """Writes a tree {split/class: images H x W, or bytes}, runs its classes, and returns the results."""

    def make(tree, *assignments, classes=("0",)):
        root = tmp_path / "tree"
        for folder, images in tree.items():
            (root / folder).mkdir(parents=True, exist_ok=True)
            for number, image in enumerate(images):
                path = root / folder / f"{number}.png"
                if isinstance(image, bytes):
                    path.write_bytes(image)
                else:
                    Image.fromarray(np.asarray(image, np.uint8)).save(path)
        tree = ["data.name=folder", f"data.root={root}", "train.batch_size=4", *assignments]
        return run(tmp_path / "out", *tree, classes=classes)[0]

    return make


def constant(value, count):
    return [np.full((16, 16), value)] * count


@pytest.mark.parametrize("value", [0, 128, 255])
def test_constant_images_have_an_auroc(run_tree, value):
    tree = {"train/a": constant(value, 8), "test/a": constant(value, 2), "test/b": constant(255 - value, 2)}
    (result,) = run_tree(tree)
    assert 0 <= result.auroc <= 1


def test_one_training_image_and_one_test_image_are_enough_to_run(run_tree, rng):
    tree = {"train/a": rng.integers(0, 256, (1, 16, 16)), "train/b": rng.integers(0, 256, (4, 16, 16))}
    tree["test/b"] = rng.integers(0, 256, (1, 16, 16))
    (result,) = run_tree(tree, "train.batch_size=1")
    assert (result.num_train, result.num_test, result.status) == (1, 1, "undefined")
    assert "the 1 test images are all anomalous" in result.note


def test_unreadable_images_are_left_out_and_listed_or_end_the_run(run_tree, rng, tmp_path):
    noise = {
        f"{split}/{name}": list(rng.integers(0, 256, (6, 16, 16)))
        for split in ("train", "test")
        for name in "ab"
    }
    noise["train/a"][3] = noise["test/b"][1] = b"no image"
    with pytest.raises(RequestError, match=r"[ab]/[13]\.png"):
        run_tree(noise, "data.on_corrupt=error")
    (result,) = run_tree(noise)
    assert (result.num_train, result.num_test, result.status) == (5, 11, "done")
    listed = [
        row["image"].removeprefix(f"{tmp_path}/tree/") for row in rows_of(tmp_path / "out/unreadable.csv")
    ]
    assert listed == ["test/b/1.png", "train/a/3.png"]
    assert "test/b/1.png" not in {row["id"] for row in rows_of(tmp_path / "out/class_0/seed_0/scores.csv")}


def test_class_that_cannot_be_trained_does_not_end_the_sweep(run_tree, rng, tmp_path):
    tree = {
        f"{split}/{name}": list(rng.integers(0, 256, (4, 16, 16)))
        for split in ("train", "test")
        for name in "ab"
    }
    tree["train/a"] = [b"no image"] * 4
    first, second = run_tree(tree, classes=("0", "1"))
    assert (first.status, second.status) == ("failed", "done")
    assert "of 4 training images fewer than train.batch_size=4 can be read" in first.note


def test_unreadable_test_images_leave_no_scores(run_tree, rng):
    tree = {f"train/{name}": rng.integers(0, 256, (4, 16, 16)) for name in "ab"}
    (result,) = run_tree(tree | {"test/a": [b"no image"], "test/b": [b"no image"]})
    assert (result.status, result.num_test) == ("undefined", 0)
    assert "no test image can be read" in result.note


def test_refused_images_leave_a_directory_that_another_config_may_use(run_tree, rng, tmp_path):
    """What only reading shows comes after config.json is written, but before a training has started."""
    tree = {
        f"{split}/{name}": list(rng.integers(0, 256, (4, 16, 16)))
        for split in ("train", "test")
        for name in "ab"
    }
    tree["train/a"][2] = np.zeros((20, 20))
    with pytest.raises(RequestError, match=r"2\.png: is 20x20.*data\.image_size"):
        run_tree(tree, "data.image_size=0")
    (result,) = run_tree(tree, "data.image_size=16")
    assert result.status == "done"
    assert json.loads((tmp_path / "out" / "config.json").read_text())["data"]["image_size"] == 16


def test_measures_of_pixels_come_with_masks(run_tree, rng, tmp_path):
    ramp = np.tile(np.arange(16, dtype=np.uint8) * 17, (16, 1))
    tree = {"plate/train/good": [ramp] * 4, "plate/test/good": [ramp] * 2, "plate/test/dent": [255 - ramp] * 4}
    marks = tmp_path / "tree" / "plate" / "ground_truth" / "dent"
    marks.mkdir(parents=True)
    Image.fromarray(ramp).save(marks / "0_mask.png")  # of greys: from half on it is the defect
    Image.fromarray(np.zeros_like(ramp)).save(marks / "2_mask.png")
    (marks / "3_mask.png").write_bytes(b"no image")  # and 1 has none
    (result,) = run_tree(tree, "data.name=mvtec_ad")
    assert 0 <= result.pixel_auroc <= 1 and 0 <= result.aupro <= 1
    one = read.read(tmp_path / "out")
    shown = read.read_illustrations(one, result)
    known = dict(zip(shown["labels"].tolist(), shown["masks"], strict=True))
    np.testing.assert_array_equal(known["dent"], ramp > 127)
    assert not known["good"].any()
    scores = [float(row["score"]) for row in rows_of(tmp_path / "out/class_0/seed_0/scores.csv")]
    for mean in shown["maps"].mean((1, 2)):
        assert np.isclose(scores, mean, rtol=1e-4).any()
    assert [row["image"].rpartition("/")[2] for row in rows_of(tmp_path / "out/unreadable.csv")] == [
        "3_mask.png"
    ]


def toy(name="toy", source="here", videos=()):
    """Four training and eight test images of noise."""
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
