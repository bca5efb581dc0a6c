"""`itae score`: rows, heat maps, bad files, order, and what it refuses."""

import csv
import io
import os
import shutil

import numpy as np
import pytest
from PIL import Image

from itae_jax import ITAEDetector, cli
from itae_jax.data import reader as decode
from itae_jax.detection import model as trained
from itae_jax.detection import score

pytestmark = pytest.mark.usefixtures("tiny_network")

COLUMNS = ["path", "score", "is_anomaly", "error_0", "error_1", "error_2", "error_3", "reason"]


def rows_of(path):
    with path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        return list(csv.DictReader(file))


def save_image(path, rng, size=(20, 20), low=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(rng.integers(low, 256, (size[1], size[0]), np.uint8)).save(path)


@pytest.fixture
def model(small_model):
    return small_model


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Seven images of several sizes in folders, one of them black, and one that cannot be read."""
    root, rng = tmp_path_factory.mktemp("new"), np.random.default_rng(1)
    for name, size in (
        ("a/1.png", (20, 20)),
        ("a/2.jpg", (40, 24)),
        ("b/1.png", (17, 31)),
        ("z.png", (16, 16)),
    ):
        save_image(root / name, rng, size)
    save_image(root / "b" / "comma, 'quote\" and\nline.png", rng)
    save_image(root / "b" / "1.jpg", rng)
    Image.new("L", (20, 20)).save(root / "black.png")
    (root / "b" / "broken.png").write_bytes((root / "b" / "1.png").read_bytes()[:60])
    return root


def run(model, images, out, *more):
    return cli.main(["score", str(model), str(images), "--out", str(out), *more])


def test_a_row_for_every_image_in_the_order_of_their_names(model, images, tmp_path, capsys):
    assert run(model, images, tmp_path / "scores.csv") == 0
    assert [path.name for path in tmp_path.iterdir()] == ["scores.csv"]
    rows = rows_of(tmp_path / "scores.csv")
    assert list(rows[0]) == COLUMNS
    names = ["black.png", "z.png", "a/1.png", "a/2.jpg"]
    names += ["b/1.jpg", "b/1.png", "b/broken.png", "b/comma, 'quote\" and\nline.png"]
    assert [row["path"] for row in rows] == [str(images / name) for name in names]
    bad = rows[names.index("b/broken.png")]
    assert bad["reason"]
    assert not any(bad[column] for column in COLUMNS[1:-1])
    loaded = trained.load(model)
    for row in rows:
        if row is not bad:
            errors = np.array([float(row[f"error_{i}"]) for i in range(4)])
            expected = (errors / loaded.fitted.normal_errors_T).mean()
            assert float(row["score"]) == pytest.approx(expected, rel=1e-6)
            assert row["reason"] == ""
            assert row["is_anomaly"] == str(int(float(row["score"]) > loaded.normal.threshold(0.05)))
    said = capsys.readouterr().out
    assert "1 images cannot be read" in said
    assert f"next: itae report {tmp_path / 'scores.csv'} --model {model}" in said


def test_the_threshold_follows_the_rate_and_the_scores_do_not(model, images, tmp_path, capsys):
    counts, scores = [], []
    for rate in ("0.2", "0.5", "0.95"):
        assert run(model, images, tmp_path / "scores.csv", "--false-alarms", rate) == 0
        rows = [row for row in rows_of(tmp_path / "scores.csv") if row["score"]]
        counts.append(sum(int(row["is_anomaly"]) for row in rows))
        scores.append([row["score"] for row in rows])
    assert counts == sorted(counts) and counts[0] < counts[2]
    assert scores[0] == scores[1] == scores[2]
    capsys.readouterr()
    assert run(model, images, tmp_path / "scores.csv", "--false-alarms", "0.001") == 0
    assert "at most 20.0 % of normal images" in capsys.readouterr().out  # all that 4 held-out images can tell


def test_an_image_scores_alike_alone_among_others_and_with_heat_maps(model, images, tmp_path):
    assert run(model, images, tmp_path / "all.csv") == 0
    assert run(model, images, tmp_path / "maps.csv", "--heatmaps", str(tmp_path / "maps")) == 0
    together = {row["path"]: row for row in rows_of(tmp_path / "all.csv")}
    for row in rows_of(tmp_path / "maps.csv"):
        if row["score"]:
            assert float(row["score"]) == pytest.approx(float(together[row["path"]]["score"]), rel=1e-6)
    for name in ("z.png", "a/2.jpg"):
        assert run(model, images / name, tmp_path / "one.csv") == 0
        assert rows_of(tmp_path / "one.csv") == [together[str(images / name)]]


def test_chunks_make_no_difference(model, images, tmp_path, monkeypatch):
    assert run(model, images, tmp_path / "whole.csv") == 0
    monkeypatch.setattr(score, "_AT_A_TIME", 3)
    assert run(model, images, tmp_path / "chunks.csv") == 0
    assert (tmp_path / "whole.csv").read_bytes() == (tmp_path / "chunks.csv").read_bytes()


def test_the_detector_gives_the_same_scores(model, images, tmp_path):
    assert run(model, images, tmp_path / "scores.csv") == 0
    rows = [row for row in rows_of(tmp_path / "scores.csv") if row["score"]]
    reader = decode.Reader(size=16, channels=1, fit=trained.load(model).reader.fit)
    pixels = np.stack([reader.read(images / row["path"]) for row in rows])
    expected = ITAEDetector.load(model).anomaly_scores(pixels)
    np.testing.assert_allclose([float(row["score"]) for row in rows], expected, rtol=1e-6)


def test_heat_maps_have_the_images_size_and_names(model, images, tmp_path):
    assert run(model, images, tmp_path / "scores.csv", "--heatmaps", str(tmp_path / "maps")) == 0
    maps = {path.relative_to(tmp_path / "maps").as_posix() for path in (tmp_path / "maps").rglob("*.png")}
    assert maps == {
        f"{path.relative_to(images).as_posix()}.png"
        for path in images.rglob("*")
        if path.is_file() and path.name != "broken.png"
    }
    for name in maps:
        with Image.open(tmp_path / "maps" / name) as drawn, Image.open(images / name[:-4]) as image:
            assert drawn.size == image.size
            assert drawn.mode == "RGB"


class Stdin:
    def __init__(self, data):
        self.buffer = io.BytesIO(data)


def test_paths_come_from_standard_input(model, images, tmp_path, monkeypatch):
    monkeypatch.chdir(images)
    lines = [os.fsencode(images / "z.png"), b"a/1.png", b"", b"../" + images.name.encode() + b"/black.png"]
    lines += [b"nowhere.png", b"a", b"odd\xff.png"]
    monkeypatch.setattr("sys.stdin", Stdin(b"\n".join(lines)))
    maps = tmp_path / "maps"
    assert run(model, "-", tmp_path / "scores.csv", "--heatmaps", str(maps)) == 0
    rows = rows_of(tmp_path / "scores.csv")
    assert [os.fsencode(row["path"]) for row in rows] == [line for line in lines if line]
    assert [bool(row["reason"]) for row in rows] == [False, False, False, True, True, True]
    assert rows[3]["reason"] == "no such file"
    drawn = sorted(path for path in maps.rglob("*.png"))
    absolute = maps / images.relative_to("/")
    assert drawn == sorted([maps / "a/1.png.png", absolute / "z.png.png", absolute / "black.png.png"])


def test_a_detector_saved_from_python_scores_files_too(images, tmp_path):
    rng = np.random.default_rng(0)
    parameters = {"width": 2, "epochs": 1, "batch_size": 8, "settings": {"evaluate.batch_size": 8}}
    grey = ITAEDetector(transform="rotate", **parameters).fit(rng.integers(0, 256, (12, 16, 16), np.uint8))
    grey.save(tmp_path / "square")
    assert run(tmp_path / "square", images, tmp_path / "scores.csv") == 0
    assert sum(bool(row["score"]) for row in rows_of(tmp_path / "scores.csv")) == 7
    wide = ITAEDetector(transform="identity", **parameters).fit(rng.integers(0, 256, (12, 31, 17), np.uint8))
    wide.save(tmp_path / "wide")
    assert run(tmp_path / "wide", images, tmp_path / "scores.csv") == 0
    rows = rows_of(tmp_path / "scores.csv")
    assert [row["path"] for row in rows if row["score"]] == [str(images / "b/1.png")]
    assert rows[0]["reason"] == "is 20x20, the model takes 31x17"


def one_line(capsys):
    error = capsys.readouterr().err
    assert error.startswith("itae: ")
    assert error.count("\n") == 1, error
    return error


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": "nowhere"}, "no trained model there"),
        ({"source": "nowhere"}, "nowhere: no such folder or file"),
        ({"source": "empty"}, "no images in it"),
        ({"source": "-"}, "no path on standard input"),
        ({"out": "empty"}, "name a file in a directory that is there"),
        ({"out": "nowhere/scores.csv"}, "name a file in a directory that is there"),
        ({"out": "file/scores.csv"}, "name a file in a directory that is there"),
        ({"more": ["--false-alarms", "0"]}, "between 0 and 1"),
        ({"more": ["--false-alarms", "nan"]}, "between 0 and 1"),
        ({"more": ["--heatmaps", "new/maps"]}, "outside it"),
        ({"more": ["--heatmaps", "file"]}, "file"),
    ],
)
def test_a_wrong_request_gets_one_line(model, images, tmp_path, monkeypatch, capsys, change, message):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.stdin", Stdin(b"\n"))
    shutil.copytree(images, tmp_path / "new")
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("mine")
    before = sorted(tmp_path.rglob("*"))
    arguments = {"model": model, "source": "new", "out": "scores.csv", "more": []} | change
    assert run(arguments["model"], arguments["source"], arguments["out"], *arguments["more"]) == 2
    assert message in one_line(capsys)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_model_of_rows_is_refused(images, tmp_path, capsys):
    rows = np.random.default_rng(0).normal(size=(12, 256))
    detector = ITAEDetector(transform="rotate", width=2, epochs=1, batch_size=8, image_shape=(16, 16))
    detector.set_params(settings={"evaluate.batch_size": 8}).fit(rows).save(tmp_path / "model")
    assert run(tmp_path / "model", images, tmp_path / "scores.csv") == 2
    assert "fitted on rows" in one_line(capsys)
