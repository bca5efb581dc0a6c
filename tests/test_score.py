"""`itae score`: rows, heat maps, bad files, order, and what it refuses."""

import codecs
import csv
import dataclasses
import io
import json
import os
import select
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import SMALL_DETECTOR, SMALL_FITS, contents, rows_of, save_images
from PIL import Image

from itae_jax import ITAEDetector, cli, files
from itae_jax.data.reader import Reader
from itae_jax.detection import anomaly_map
from itae_jax.detection import model as models
from itae_jax.detection.threshold import NormalScores, threshold
from itae_jax.methods import vae
from itae_jax.training.learner import learner_for

pytestmark = pytest.mark.usefixtures("tiny_network")

NAMES = ["black.png", "z.png", "a/1.png", "a/2.jpg", "b/1.jpg", "b/1.png"]
NAMES += ["b/broken.png", "b/comma, 'quote\" and\nline\r.png"]


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


@pytest.mark.parametrize("method", ["defects", "pca"])
def test_score_writes_a_row_for_every_image_in_the_order_of_names(
    small_model_of, images, tmp_path, capsys, method
):
    model, out = small_model_of(method), tmp_path / "scores.csv"
    assert run(model, images, out) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["scores.csv"]
    loaded = models.load(model)
    components = loaded.trained.learner.method.components
    rows = files.read_csv(out)
    assert list(rows[0]) == ["path", "score", "is_anomaly", "p_value", *components, "reason"]
    assert [row["path"] for row in rows] == [str(images / name) for name in NAMES]
    bad = rows.pop(NAMES.index("b/broken.png"))
    assert bad.pop("path") and bad.pop("reason") and not any(bad.values())
    pixels = np.stack([Reader(16, 1, loaded.reader.fit).read(images / row["path"]) for row in rows])
    expected = loaded.trained.score(pixels)
    np.testing.assert_allclose([float(row["score"]) for row in rows], expected.scores_N, rtol=1e-6)
    for name in components:
        np.testing.assert_allclose([float(row[name]) for row in rows], expected.columns[name], rtol=1e-5)
    above = expected.scores_N > loaded.normal.threshold(0.05)
    for row in rows:
        as_high = sum(value >= float(row["score"]) for value in loaded.normal.scores_N)
        assert float(row["p_value"]) == (1 + as_high) / (1 + len(loaded.normal.ids))
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


@pytest.mark.parametrize("levels", [1000, 7])
def test_p_values_of_exchangeable_scores_are_uniform_and_agree_with_every_threshold(rng, levels):
    """Each of 40 scores in turn is the new one, the others are the calibration set; few levels make ties."""
    scores, rates = rng.choice(1000, 40, replace=False) % levels, np.arange(1, 40) / 40
    found = []
    for left_out in range(40):
        others = np.float64(np.delete(scores, left_out))
        normal = NormalScores(tuple(map(str, others)), others, others, {})
        found.append(normal.p_values(scores[left_out]))
        above = [scores[left_out] > normal.threshold(rate) for rate in rates]
        assert above == [found[-1] <= rate + 1e-9 for rate in rates]
    shares = np.mean(np.array(found)[:, None] <= rates + 1e-9, axis=0)
    assert (shares <= rates + 1e-9).all()
    if levels == 1000:
        np.testing.assert_allclose(np.sort(found), np.arange(1, 41) / 40)


@pytest.mark.parametrize(("method", "rate"), [*((method, 0.05) for method in SMALL_FITS), ("pca", 0.4)])
def test_maps_are_the_models_and_masks_lie_where_few_normal_images_reach(
    small_model_of, images, tmp_path, method, rate
):
    loaded, model, maps = models.load(small_model_of(method)), tmp_path / "model", tmp_path / "maps"
    found = loaded.trained.anomaly_maps(loaded.reader.read(images / "z.png")[None])
    peaks_N = np.quantile(found, np.linspace(0.1, 0.8, len(loaded.normal.ids)))  # lower than the model's own
    normal = dataclasses.replace(loaded.normal, peaks_N=peaks_N)
    dataclasses.replace(loaded, normal=normal).save(model)
    options = ["--maps", str(maps), "--false-positive-rate", str(rate)]
    assert run(model, images, tmp_path / "scores.csv", *options) == 0
    loaded, readable = models.load(model), [name for name in NAMES if name != "b/broken.png"]
    names = {path.relative_to(maps).as_posix() for path in maps.rglob("*.*[!x]")}
    assert names == {f"{name}.{ending}" for name in readable for ending in ("npy", "mask.png")}
    marked = []
    for name in readable:
        map_HxW = np.load(maps / f"{name}.npy")
        assert (map_HxW.dtype, map_HxW.shape) == (np.float32, (16, 16))
        expected = loaded.trained.anomaly_maps(loaded.reader.read(images / name)[None])[0]
        np.testing.assert_allclose(map_HxW, expected, rtol=1e-4)
        with Image.open(images / name) as image, Image.open(maps / f"{name}.mask.png") as mask:
            assert (mask.size, mask.mode) == (image.size, "L")
            over = loaded.reader.lay_over(anomaly_map.smooth(map_HxW), *image.size)
            np.testing.assert_array_equal(mask, np.where(over > threshold(peaks_N, rate), 255, 0))
            marked.append(np.asarray(mask).mean() / 255)
    assert 0 < np.mean(marked) < 1


def test_heat_maps_replace_nothing_of_the_user(small_model, images, tmp_path, refused):
    own, precious, maps = tmp_path / "own", tmp_path / "precious.png", tmp_path / "maps"
    own.mkdir()
    for path in (own / "z.png.png", precious):
        shutil.copy(images / "z.png", path)
    before, out = contents(own), tmp_path / "scores.csv"
    for source in (images, images / "z.png"):
        message = refused("score", small_model, source, "--out", out, "--heatmaps", own)
        assert str(own) in message and "other files" in message
    assert contents(own) == before
    for _ in range(2):  # its own directory may be used again
        assert run(small_model, images / "z.png", out, "--heatmaps", str(maps)) == 0
        (maps / "z.png.png").unlink()
        (maps / "z.png.png").symlink_to(precious)
    assert precious.read_bytes() == (images / "z.png").read_bytes()


def test_a_heat_map_that_cannot_be_written_costs_no_scores(small_model, images, tmp_path, capsys):
    long = tmp_path / ("n" * 250 + ".png")
    shutil.copy(images / "z.png", long)
    out, maps = tmp_path / "scores.csv", tmp_path / "maps"
    command = ["score", small_model, long, images / "z.png", "--out", out, "--heatmaps", maps]
    assert cli.main([*map(str, command)]) == 0
    assert all(row["score"] for row in files.read_csv(out)) and len(list(maps.rglob("z.png.png"))) == 1
    told = capsys.readouterr().out
    assert "maps cannot be written: 1 (" in told and "name too long" in told


def test_the_limit_of_pixels_is_the_models_not_pillows(small_model, images, tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)  # Pillow refuses twice as many
    out = tmp_path / "scores.csv"
    assert run(small_model, images / "z.png", out) == 0
    assert [bool(row["score"]) for row in files.read_csv(out)] == [True]


def test_masks_of_a_data_set_are_never_scored(small_model, images, tmp_path, refused, monkeypatch, capsys):
    for name in ("test/good", "ground_truth/crack"):
        shutil.copytree(images, tmp_path / "set" / name)
    root, out = tmp_path / "set", tmp_path / "scores.csv"
    mask = next((root / "ground_truth").rglob("*.png"))
    for sources in ([root], sorted(root.iterdir()), [root / "ground_truth" / "crack"], [mask]):
        assert str(root / "test") in refused("score", small_model, *sources, "--out", out)
    for source in (root, root / "ground_truth"):
        assert "holds test images" in refused("fit", source, "--out", tmp_path / "model")
    with monkeypatch.context() as patch:
        lines = "\n".join(map(str, (mask, next((root / "test").rglob("*.png")))))
        patch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(lines.encode())))
        assert run(small_model, "-", out) == 0
    assert len(files.read_csv(out)) == 1 and "1 with masks in ground_truth" in capsys.readouterr().out


def test_several_folders_and_files_give_their_rows_in_turn(small_model, images, tmp_path, refused, monkeypatch):
    monkeypatch.chdir(images.parent)
    asked = [f"{images.name}/z.png", f"{images.name}/a"]
    out, maps = tmp_path / "scores.csv", tmp_path / "maps"
    command = ["score", str(small_model), *asked, "--out", str(out)]
    assert cli.main(command) == run(small_model, images.name, tmp_path / "all.csv") == 0
    rows = {row["path"]: row for row in files.read_csv(tmp_path / "all.csv")}
    inside = sorted(path for path in rows if path.startswith(asked[1]))
    assert files.read_csv(out) == [rows[path] for path in (asked[0], *inside)]
    assert cli.main([*command, "--heatmaps", str(maps)]) == 0
    assert all((maps / f"{path}.png").exists() for path in (asked[0], *inside))
    Path("dangling.png").symlink_to("nowhere.png")  # as *.png may name it
    assert cli.main([*command[:2], "dangling.png", *command[2:]]) == 0
    assert files.read_csv(out)[0]["reason"] == "no such file"
    for more, message in (("nowhere", "nowhere: no such folder"), ("-", "-: stands alone")):
        assert message in refused("score", small_model, *asked, more, "--out", out)


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
    for option in ("--heatmaps", "--maps"):
        assert option in refused("score", model, images, "--out", out, option, tmp_path / "maps")
    assert run(model, images, out) == 0
    learner_for.cache_clear()


class Stdin:
    def __init__(self, data):
        self.buffer = io.BytesIO(data)


def test_score_takes_paths_from_standard_input(small_model, images, tmp_path, monkeypatch):
    monkeypatch.chdir(images)
    lines = [os.fsencode(images / "z.png"), b"a/1.png", b"", b"../" + images.name.encode() + b"/black.png"]
    lines += [b"nowhere.png", b"a", b"odd\xff.png"]
    monkeypatch.setattr("sys.stdin", Stdin(codecs.BOM_UTF8 + b"\n".join(lines)))
    maps = tmp_path / "maps"
    assert run(small_model, "-", tmp_path / "scores.csv", "--heatmaps", str(maps)) == 0
    rows = files.read_csv(tmp_path / "scores.csv")
    assert [os.fsencode(row["path"]) for row in rows] == [line for line in lines if line]
    assert [bool(row["reason"]) for row in rows] == [False, False, False, True, True, True]
    absolute = maps / images.relative_to("/")
    expected = [maps / "a/1.png.png", absolute / "z.png.png", absolute / "black.png.png"]
    assert sorted(maps.rglob("*.png")) == sorted(expected)
    lines = [b"z.png\n"] * 1100  # more than are in memory at once
    lines[40] = b"nowhere.png\n"
    monkeypatch.setattr("sys.stdin", Stdin(b"".join(lines)))
    assert run(small_model, "-", tmp_path / "scores.csv") == 0
    many = files.read_csv(tmp_path / "scores.csv")
    assert [index for index, row in enumerate(many) if row["reason"]] == [40]
    (score,) = {row["score"] for row in many} - {""}  # heat maps change its rounding
    assert len(many) == 1100 and float(score) == pytest.approx(float(rows[0]["score"]), rel=1e-6)


class Service(subprocess.Popen):
    """A process that scores the paths that it is sent, and is killed at the end of the block."""

    def __init__(self, model, *more):
        command = [sys.executable, "-m", "itae_jax", "score", str(model), "-", "--out", "-", *more]
        pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        super().__init__(command, bufsize=0, **pipes)

    def __exit__(self, *exception):
        self.kill()
        super().__exit__(*exception)

    def line(self):
        assert select.select([self.stdout], [], [], 60)[0], "no line"
        return self.stdout.readline()


def test_a_process_answers_each_path_before_the_next_is_sent_until_it_is_interrupted(
    small_model_of, images, tmp_path
):
    model, maps = small_model_of("vae"), tmp_path / "maps"
    assert run(model, images, tmp_path / "all.csv") == 0
    scores = {row["path"]: row["score"] for row in files.read_csv(tmp_path / "all.csv")}
    with Service(model, "--maps", str(maps)) as service:
        header = service.line()
        assert header == (tmp_path / "all.csv").read_bytes().splitlines(True)[0]
        for name in ("z.png", "a/2.jpg", "b/broken.png", "nowhere.png", "n" * 300, "a", "black.png"):
            path = str(images / name)
            service.stdin.write(os.fsencode(path) + b"\n")
            (row,) = csv.DictReader([header.decode(), service.line().decode()])
            assert row["path"] == path and bool(row["reason"]) != bool(row["score"])
            assert bool(row["score"]) == os.path.exists(f"{maps}{path}.npy") == bool(scores.get(path))
            if row["score"]:
                assert float(row["score"]) == pytest.approx(float(scores[path]), rel=1e-5)
        service.send_signal(signal.SIGINT)
        rest, errors = service.communicate(timeout=60)
        assert (service.returncode, rest, errors) == (130, b"", b"itae: interrupted\n")


def test_a_process_whose_reader_has_gone_ends_without_a_traceback(small_model_of, images):
    with Service(small_model_of("vae")) as service:
        service.line()
        service.stdout.close()
        service.stdin.write(os.fsencode(images / "z.png") + b"\n")
        assert (service.wait(60), service.stderr.read()) == (1, b"")


def test_standard_output_gets_the_bytes_of_the_file_and_standard_error_the_rest(
    small_model, images, tmp_path, capfd, monkeypatch
):
    assert run(small_model, images, tmp_path / "scores.csv") == 0
    said = capfd.readouterr().out
    assert run(small_model, images, "-") == 0
    printed = capfd.readouterr()
    assert os.fsencode(printed.out) == (tmp_path / "scores.csv").read_bytes()
    assert printed.err == said.replace(f", listed in {tmp_path / 'scores.csv'}", "").partition("next:")[0]
    assert run(small_model, images, "-", "--json") == 2
    printed = capfd.readouterr()
    assert printed.out == "" and printed.err.startswith("itae: --json") and printed.err.count("\n") == 1
    monkeypatch.setattr("sys.stdin", Stdin(b"\n"))
    assert run(small_model, "-", "-") == 2
    printed = capfd.readouterr()
    assert printed.out.count("\n") == 1 and printed.err.startswith("itae: -: no path on standard input")


def test_score_takes_a_detector_unless_it_is_of_rows(images, tmp_path, rng, refused):
    out = tmp_path / "scores.csv"
    wide = ITAEDetector(**SMALL_DETECTOR | {"transform": "identity"}).fit(
        rng.integers(0, 256, (12, 31, 17), np.uint8)
    )
    wide.save(tmp_path / "wide")
    assert run(tmp_path / "wide", images, out) == 0
    rows = files.read_csv(out)
    assert {row["path"] for row in rows if not row["score"]} == {str(images / "b/broken.png")}
    reader = Reader(17, 1, "letterbox", aspect=17 / 31)
    pixels = np.stack([reader.read(images / row["path"]) for row in rows if row["score"]])
    scores = [float(row["score"]) for row in rows if row["score"]]
    np.testing.assert_allclose(scores, -wide.score_samples(pixels[..., 0]), rtol=1e-4)
    rows = ITAEDetector(image_shape=(16, 16), **SMALL_DETECTOR).fit(rng.normal(size=(12, 256)))
    rows.save(tmp_path / "rows")
    for command in (["score", tmp_path / "rows", images], ["export", tmp_path / "rows"]):
        assert "fitted on rows" in refused(*command, "--out", tmp_path / "new.csv")


def test_calibrate_gives_a_copy_of_the_model_another_calibration_set(small_model, images, tmp_path, capsys):
    before, new, out = contents(small_model), tmp_path / "new", tmp_path / "scores.csv"
    assert cli.main(["calibrate", str(small_model), str(images), "--out", str(new)]) == 0
    assert "files left out: 1," in capsys.readouterr().out
    assert contents(small_model) == before and [path.name for path in tmp_path.iterdir()] == ["new"]
    names = {path.name for path in small_model.iterdir()}
    assert {path.name for path in new.iterdir()} == names | {"unreadable.csv"}
    (broken,) = files.read_csv(new / "unreadable.csv")
    assert broken["image"] == str(images / "b" / "broken.png")
    old, copy = models.load(small_model), models.load(new)
    pixels = np.stack([old.reader.read(images / name) for name in NAMES if name != "b/broken.png"])
    np.testing.assert_array_equal(copy.trained.score(pixels).scores_N, old.trained.score(pixels).scores_N)
    assert copy.normal.ids == tuple(str(images / name) for name in NAMES if name != "b/broken.png")
    np.testing.assert_allclose(copy.normal.scores_N, old.trained.score(pixels).scores_N, rtol=1e-6)
    assert run(new, images, out, "--maps", str(tmp_path / "maps")) == 0  # which calibrating computes too
    ranks = sorted(float(row["p_value"]) for row in files.read_csv(out) if row["score"])
    np.testing.assert_allclose(ranks, np.arange(2, 9) / 8)  # of 7 images beside themselves
    for command in (["report", out, "--model", new], ["report", new], ["export", new, "--out", tmp_path / "f"]):
        assert cli.main([*map(str, command)]) == 0


def test_calibrate_refuses_images_that_the_model_was_trained_on(small_model, tmp_path, refused):
    good = small_model.parent / "good"
    assert "trained on 16 of" in refused("calibrate", small_model, good, "--out", tmp_path / "new")
    assert list(tmp_path.iterdir()) == []


def test_scoring_nothing_readable_is_refused_and_writes_why(small_model, images, tmp_path, refused):
    image, out = images / "b/broken.png", tmp_path / "scores.csv"
    assert "no image can be read" in refused("score", small_model, image, "--out", out)
    (row,) = rows_of(out)
    assert (row["path"], row["score"]) == (str(image), "") and row["reason"]


def test_score_of_one_image_counts_it(small_model, images, tmp_path, capsys, refused):
    image, out = images / NAMES[0], tmp_path / "scores.csv"
    assert run(small_model, image, out, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert [type(found[name]) for name in ("num_scored", "num_anomalies", "num_unreadable")] == [int] * 3
    assert found["num_scored"] == 1
    assert "scored next time" in refused("score", small_model, image, "--out", out, "--heatmaps", image.parent)


def test_scoring_an_image_loads_no_library_that_it_does_not_need(small_model_of, images, tmp_path):
    code = "import sys, tiny_net; from itae_jax import cli, models; models.build = tiny_net.build; "
    code += "assert cli.main(sys.argv[1:]) == 0; print(*sys.modules)"
    command = ["score", small_model_of("defects"), images / "z.png", "--out", tmp_path / "x.csv", "--quiet"]
    command = [sys.executable, "-c", code, *map(str, command)]
    path = f"{Path(__file__).parent}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    loaded = subprocess.check_output(command, text=True, env=os.environ | {"PYTHONPATH": path}).split()
    heavy = {"tensorflow_datasets", "grain", "matplotlib", "sklearn", "pandas", "scipy"}
    assert "jax" in loaded and not heavy.intersection(loaded)


@pytest.mark.parametrize(("options", "most_gib"), [([], 0.7), (["--heatmaps", "maps"], 1.0)])
def test_large_images_take_little_memory(small_model_of, tmp_path, options, most_gib):
    large = np.tile(np.arange(5000, dtype=np.uint8)[None, :, None], (4000, 1, 3))
    (tmp_path / "new").mkdir()
    for index in range(4):
        Image.fromarray(large).save(tmp_path / "new" / f"{index}.jpg")
    code = "import sys; from itae_jax import cli, environment; environment.cpu_cores = lambda: 4; "
    code += "cli.main(sys.argv[1:]); print(*open('/proc/self/status'))"
    command = ["score", small_model_of("pca"), tmp_path / "new", "--out", tmp_path / "scores.csv", "--quiet"]
    command = [sys.executable, "-c", code, *map(str, command), *options]
    status = subprocess.check_output(command, text=True, cwd=tmp_path)
    assert len([*(tmp_path / "maps").glob("*.png")]) == 4 * bool(options)
    peak_kib = int(status.partition("VmHWM:")[2].split()[0])
    assert 2**17 < peak_kib < most_gib * 2**20
