"""`itae score`: rows, heat maps, bad files, order, and what it refuses."""

import io
import os

import numpy as np
import pytest
from conftest import SMALL_DETECTOR, SMALL_FITS, save_images
from PIL import Image

from itae_jax import ITAEDetector, cli, files
from itae_jax.data.reader import Reader
from itae_jax.detection import model as models
from itae_jax.methods import vae
from itae_jax.training.learner import learner_for

pytestmark = pytest.mark.usefixtures("tiny_network")

NAMES = ["black.png", "z.png", "a/1.png", "a/2.jpg", "b/1.jpg", "b/1.png"]
NAMES += ["b/broken.png", "b/comma, 'quote\" and\nline.png"]


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Images of several sizes in folders, one of them black, and one that cannot be read."""
    root, rng = tmp_path_factory.mktemp("new"), np.random.default_rng(1)
    sizes = {"a/2.jpg": (24, 40), "b/1.png": (31, 17), "z.png": (16, 16)}
    for name in NAMES:
        (root / name).parent.mkdir(exist_ok=True)
        pixels = rng.integers(0, 256 * (name != "black.png") + 1, sizes.get(name, (20, 20))) // 2
        Image.fromarray(np.uint8(pixels)).save(root / name)
    (root / "b" / "broken.png").write_bytes((root / "b" / "1.png").read_bytes()[:60])
    return root


def run(model, source, out, *more):
    return cli.main(["score", str(model), str(source), "--out", str(out), *more])


@pytest.mark.parametrize("method", SMALL_FITS)
def test_score_writes_a_row_for_every_image_in_the_order_of_names(
    small_model_of, images, tmp_path, capsys, method
):
    model, out = small_model_of(method), tmp_path / "scores.csv"
    assert run(model, images, out) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["scores.csv"]
    loaded = models.load(model)
    components = loaded.trained.learner.method.components
    rows = files.read_csv(out)
    assert list(rows[0]) == ["path", "score", "is_anomaly", *components, "reason"]
    assert [row["path"] for row in rows] == [str(images / name) for name in NAMES]
    bad = rows.pop(NAMES.index("b/broken.png"))
    assert bad.pop("path") and bad.pop("reason") and not any(bad.values())
    pixels = np.stack([Reader(16, 1, loaded.reader.fit).read(images / row["path"]) for row in rows])
    expected = loaded.trained.score(pixels)
    np.testing.assert_allclose([float(row["score"]) for row in rows], expected.scores_N, rtol=1e-6)
    for name in components:
        np.testing.assert_allclose([float(row[name]) for row in rows], expected.columns[name], rtol=1e-5)
    above = expected.scores_N > loaded.normal.threshold(0.05)
    assert [row["is_anomaly"] for row in rows] == [str(int(one)) for one in above]
    assert not any(row["reason"] for row in rows)
    said = capsys.readouterr().out
    assert "cannot be read: 1;" in said
    assert f"itae report {out} --model {model}" in said


def test_score_applies_the_false_positive_rate_to_the_same_scores(small_model, tmp_path, capsys):
    counts, scores = [], []
    for rate in ("0.001", "0.5", "0.95"):
        out = tmp_path / "scores.csv"
        assert run(small_model, small_model.parent / "good", out, "--false-positive-rate", rate) == 0
        rows = files.read_csv(out)
        counts.append(sum(int(row["is_anomaly"]) for row in rows))
        scores.append([row["score"] for row in rows])
    assert counts == sorted(counts) and counts[0] < counts[2]
    assert scores[0] == scores[1] == scores[2]
    said = capsys.readouterr().out
    assert "at most 20.0 %" in said and "999 calibration images" in said  # there are 4


@pytest.mark.parametrize("method", SMALL_FITS)
def test_score_of_an_image_is_its_own(small_model_of, images, tmp_path, method):
    model, maps = small_model_of(method), tmp_path / "maps"
    assert run(model, images, tmp_path / "all.csv") == 0
    assert run(model, images, tmp_path / "maps.csv", "--heatmaps", str(maps)) == 0
    together = {row["path"]: row for row in files.read_csv(tmp_path / "all.csv")}
    for row in files.read_csv(tmp_path / "maps.csv"):
        drawn = (maps / row["path"]).relative_to(images).as_posix() + ".png"
        assert (maps / drawn).exists() == bool(row["score"])
        if row["score"]:
            assert float(row["score"]) == pytest.approx(float(together[row["path"]]["score"]), rel=1e-6)
            with Image.open(maps / drawn) as heatmap, Image.open(row["path"]) as image:
                assert (heatmap.size, heatmap.mode) == (image.size, "RGB")
    for name in ("z.png", "a/2.jpg"):
        assert run(model, images / name, tmp_path / "one.csv") == 0
        assert files.read_csv(tmp_path / "one.csv") == [together[str(images / name)]]


def test_score_without_anomaly_maps_refuses_heat_maps_alone(images, tmp_path, monkeypatch, refused):
    save_images(tmp_path / "good", 20)
    monkeypatch.delattr(vae.VAE, "anomaly_map")
    learner_for.cache_clear()
    model, out = tmp_path / "model", tmp_path / "scores.csv"
    assert cli.main(["fit", str(tmp_path / "good"), "--out", str(model), *SMALL_FITS["vae"]]) == 0
    assert {row["peak"] for row in files.read_csv(model / "normal_scores.csv")} == {"0.0"}
    assert "--heatmaps" in refused("score", model, images, "--out", out, "--heatmaps", tmp_path / "maps")
    assert run(model, images, out) == 0
    learner_for.cache_clear()


class Stdin:
    def __init__(self, data):
        self.buffer = io.BytesIO(data)


def test_score_takes_paths_from_standard_input(small_model, images, tmp_path, monkeypatch):
    monkeypatch.chdir(images)
    lines = [os.fsencode(images / "z.png"), b"a/1.png", b"", b"../" + images.name.encode() + b"/black.png"]
    lines += [b"nowhere.png", b"a", b"odd\xff.png"]
    monkeypatch.setattr("sys.stdin", Stdin(b"\n".join(lines)))
    maps = tmp_path / "maps"
    assert run(small_model, "-", tmp_path / "scores.csv", "--heatmaps", str(maps)) == 0
    rows = files.read_csv(tmp_path / "scores.csv")
    assert [os.fsencode(row["path"]) for row in rows] == [line for line in lines if line]
    assert [bool(row["reason"]) for row in rows] == [False, False, False, True, True, True]
    absolute = maps / images.relative_to("/")
    expected = [maps / "a/1.png.png", absolute / "z.png.png", absolute / "black.png.png"]
    assert sorted(maps.rglob("*.png")) == sorted(expected)
    monkeypatch.setattr("sys.stdin", Stdin(b"z.png\n" * 1100))  # more than are in memory at once
    assert run(small_model, "-", tmp_path / "scores.csv") == 0
    many = files.read_csv(tmp_path / "scores.csv")
    (score,) = {row["score"] for row in many}  # heat maps change its rounding
    assert len(many) == 1100 and float(score) == pytest.approx(float(rows[0]["score"]), rel=1e-6)


def test_score_takes_a_detector_unless_it_is_of_rows(images, tmp_path, rng, refused):
    out = tmp_path / "scores.csv"
    wide = ITAEDetector(**SMALL_DETECTOR | {"transform": "identity"}).fit(
        rng.integers(0, 256, (12, 31, 17), np.uint8)
    )
    wide.save(tmp_path / "wide")
    assert run(tmp_path / "wide", images, out) == 0
    rows = files.read_csv(out)
    assert [row["path"] for row in rows if row["score"]] == [str(images / "b/1.png")]
    assert "20x20" in rows[0]["reason"] and "31x17" in rows[0]["reason"]
    rows = ITAEDetector(image_shape=(16, 16), **SMALL_DETECTOR).fit(rng.normal(size=(12, 256)))
    rows.save(tmp_path / "rows")
    for command in (["score", tmp_path / "rows", images], ["export", tmp_path / "rows"]):
        assert "fitted on rows" in refused(*command, "--out", tmp_path / "new.csv")
