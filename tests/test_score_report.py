"""The page of scores: what it measures, what it shows, and that it works in a browser."""

import base64
import csv
import html
import io
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from conftest import SMALL_FIT
from PIL import Image
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

from itae_jax import ITAEDetector, cli
from itae_jax.detection import model as trained
from itae_jax.evaluate import metrics as measures
from itae_jax.report import figures, score_measures
from itae_jax.report import score_page as score_report

pytestmark = pytest.mark.usefixtures("tiny_network")

ODD_NAME = "<script>alert(1)</script>&.png"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Folders good, dark and flat of 20, 6 and 6 images, and one that cannot be read."""
    root, rng = tmp_path_factory.mktemp("images"), np.random.default_rng(1)
    for label, count, high in (("good", 20, 256), ("dark", 6, 60), ("flat", 6, 1)):
        (root / label).mkdir()
        for number in range(count):
            pixels = rng.integers(0, high, (20, 30), np.uint8)
            name = ODD_NAME if (label, number) == ("dark", 0) else f"{number}.png"
            path = root / label / name.replace("/", "\N{DIVISION SLASH}")
            Image.fromarray(pixels).save(path)
    (root / "flat" / "broken.png").write_bytes(b"no image")
    return root


@pytest.fixture(scope="module")
def scores(images, small_model, tmp_path_factory):
    path = tmp_path_factory.mktemp("scores") / "scores.csv"
    assert cli.main(["score", str(small_model), str(images), "--out", str(path)]) == 0
    return path


@pytest.fixture(scope="module")
def page(scores, small_model):
    assert cli.main(["report", str(scores), "--model", str(small_model)]) == 0
    return scores.with_suffix(".html").read_text()


class Page(HTMLParser):
    def __init__(self, page):
        super().__init__()
        self.links, self.tags, self.cells, self.text, self.in_cell = [], [], [[]], "", False
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.links += [value for key, value in attributes if key in ("src", "href", "srcset")]
        if tag == "tr":
            self.cells.append([])
        if tag == "td":
            self.cells[-1].append("")
            self.in_cell = True

    def handle_endtag(self, tag):
        self.in_cell = self.in_cell and tag != "td"

    def handle_data(self, data):
        self.text += data
        if self.in_cell:
            self.cells[-1][-1] += data


def readable(scores):
    with scores.open(newline="") as file:
        return [row for row in csv.DictReader(file) if row["score"]]


def test_it_needs_no_other_file_and_escapes_what_files_are_called(page):
    parsed = Page(page)
    assert all(link.startswith("data:") for link in parsed.links)
    assert parsed.tags.count("script") == 1
    assert "alert(1)" in parsed.text
    assert "flat/broken.png: not an image" in parsed.text or "broken.png: not an image" in parsed.text


def test_it_measures_the_scores_by_the_names_of_the_folders(page, scores, images):
    rows = readable(scores)
    labels = [row["path"].removeprefix(f"{images}/").partition("/")[0] for row in rows]
    odd = np.array([label != "good" for label in labels])
    values = np.array([float(row["score"]) for row in rows])
    shown = {line[0]: line[1:] for line in Page(page).cells if line and line[0] in ("good", "dark", "flat")}
    above = np.array([row["is_anomaly"] == "1" for row in rows])
    for label in ("dark", "flat"):
        inside = np.array([other == label for other in labels])
        kept = inside | ~odd
        auroc = 100 * roc_auc_score(odd[kept], values[kept])
        assert shown[label] == ["6", f"{100 * above[inside].mean():.1f}", f"{auroc:.1f}"]
    assert shown["good"] == ["20", f"{100 * above[~odd].mean():.1f}", ""]
    best = max(f1_score(odd, values >= value) for value in values)
    measures = (roc_auc_score(odd, values), average_precision_score(odd, values), best)
    numbers = re.findall(r"<dt>(.*?)</dt><dd>(.*?)</dd>", page)
    assert numbers[0] == ("images", "32")
    assert ("cannot be read", "1") in numbers
    assert [value for name, value in numbers if "%" in name] == [f"{100 * value:.1f}" for value in measures]


def test_the_table_holds_every_score_highest_first(page, scores):
    lines = [line for line in Page(page).cells if len(line) == 8]
    assert len(lines) == 32
    shown = [float(line[1]) for line in lines]
    assert shown == sorted(shown, reverse=True)
    assert sorted(shown) == sorted(round(float(row["score"]), 4) for row in readable(scores))


def test_with_the_model_come_heat_maps_restorations_and_another_rate(page, scores, small_model, tmp_path):
    copy = shutil.copy(scores, tmp_path)
    assert cli.main(["report", copy]) == 0
    plain = (tmp_path / "scores.html").read_text()
    assert plain.count("Heat map of") == 0
    assert page.count("Heat map of") == 12
    assert page.count('alt="Restored"') == 12 * 4
    for angle in ("0°", "90°", "180°", "270°"):
        assert page.count(f"<div>{angle}<img") == 12
    counts = []
    for rate in ("0.2", "0.9"):
        assert cli.main(["report", copy, "--model", str(small_model), "--false-alarms", rate]) == 0
        text = (tmp_path / "scores.html").read_text()
        counts.append(int(re.search(r"<dt>above the threshold</dt><dd>(\d+)<", text)[1]))
    values = [float(row["score"]) for row in readable(scores)]
    normal = trained.load(small_model).normal
    assert counts == [sum(value > normal.threshold(rate) for value in values) for rate in (0.2, 0.9)]


def test_the_threshold_is_the_one_that_the_file_was_written_with(images, small_model, tmp_path):
    normal = trained.load(small_model).normal
    for rate in (0.05, 0.5, 0.8):
        command = ["score", str(small_model), str(images), "--out", str(tmp_path / "scores.csv")]
        assert cli.main([*command, "--false-alarms", str(rate)]) == 0
        assert cli.main(["report", str(tmp_path / "scores.csv"), "--model", str(small_model)]) == 0
        shown = re.search(r"<dt>threshold</dt><dd>(.*?)<", (tmp_path / "scores.html").read_text())[1]
        scored = score_report.read_scores(tmp_path / "scores.csv")
        np.testing.assert_array_equal(scored.is_anomaly_N, scored.scores_N > normal.threshold(rate))
        possible = {
            value for value in normal.scores_N if ((scored.scores_N > value) == scored.is_anomaly_N).all()
        }
        assert shown in {f"{value:.3f}" for value in possible}
        if rate == 0.05:
            assert shown == f"{normal.threshold(rate):.3f}"


def test_images_that_are_gone_leave_a_page_without_their_pictures(scores, tmp_path):
    text = (
        scores.read_text().replace("/good/", "/gone/").replace("/dark/", "/gone/").replace("/flat/", "/gone/")
    )
    (tmp_path / "scores.csv").write_text(text)
    assert cli.main(["report", str(tmp_path / "scores.csv")]) == 0
    page = (tmp_path / "scores.html").read_text()
    assert page.count("(no picture: no such file)") == 12
    assert "No AUROC: the images do not lie in folders by kind" in page and "ROC curve" not in page


def test_the_page_of_a_model_shows_what_was_held_out_and_the_settings(small_model, tmp_path):
    model = shutil.copytree(small_model, tmp_path / "model")
    assert cli.main(["report", str(model)]) == 0
    page = (model / "report.html").read_text()
    assert page.count("Heat map of") == 4
    assert "<code>model.width=2</code>" in page
    assert "Training loss" in page
    trained.load(model)


@pytest.mark.parametrize("losses", [[0.031, 0.024, 0.022], [0.9, 0.2, 0.004], [0.02]])
def test_a_loss_plot_has_ticks_at_whole_epochs_and_several_losses(losses):
    entries = [{"epoch": epoch, "loss": loss} for epoch, loss in enumerate(losses, 1)]
    figure = figures.loss_curve(entries)
    figure.draw_without_rendering()
    (ax,) = figure.axes
    low, high = ax.get_ylim()
    shown = [label.get_text() for label in ax.get_yticklabels() if low <= label.get_position()[1] <= high]
    assert len(shown) >= 3 and all(shown)
    assert all(tick == int(tick) for tick in ax.get_xticks())


def test_the_page_of_a_detector_fitted_on_arrays_has_no_pictures(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (12, 16, 16), np.uint8)
    parameters = {"transform": "rotate", "width": 2, "epochs": 1, "batch_size": 8}
    detector = ITAEDetector(**parameters, settings={"evaluate.batch_size": 8}).fit(images)
    detector.save(tmp_path / "model")
    assert cli.main(["report", str(tmp_path / "model")]) == 0
    assert "no picture: no such file" in (tmp_path / "model" / "report.html").read_text()


@pytest.mark.parametrize(
    ("paths", "labels", "why"),
    [
        (["d/good/1.png", "d/crack/1.png"], ["good", "crack"], ""),
        (["d/Normal/a/1.png", "d/odd/b/2.png"], ["Normal", "odd"], ""),
        (["d/a/1.png", "d/b/1.png"], None, "no folder is called good or normal: a, b"),
        (["d/good/1.png", "d/normal/1.png"], None, "all folders are of normal images: good, normal"),
        (["d/good/1.png", "d/2.png"], None, "the images do not lie in folders by kind"),
        (["1.png"], None, "the images do not lie in folders by kind"),
    ],
)
def test_labels_are_folders_of_which_some_are_normal(paths, labels, why):
    found, reason = score_measures.labels_of(paths)
    assert found == labels
    assert reason.startswith(why) and bool(reason) == (labels is None)


def score_and_report(model, images, out):
    assert cli.main(["score", str(model), str(images), "--out", str(out)]) == 0
    assert cli.main(["report", str(out), "--model", str(model)]) == 0
    return out.with_suffix(".html").read_text()


def test_folders_without_a_normal_one_have_no_roc_and_the_page_says_why(images, small_model, tmp_path):
    shutil.copytree(images, tmp_path / "images")
    (tmp_path / "images" / "good").rename(tmp_path / "images" / "bright")
    page = score_and_report(small_model, tmp_path / "images", tmp_path / "scores.csv")
    assert "No AUROC: no folder is called good or normal: bright, dark, flat." in page
    assert "ROC curve" not in page and "By folder" not in page


@pytest.fixture(scope="module")
def inspected(tmp_path_factory):
    """Test images laid out as MVTec AD's: 5 good ones, 4 of spots with masks and one without."""
    root, rng = tmp_path_factory.mktemp("inspected") / "nut", np.random.default_rng(2)
    (root / "ground_truth" / "spot").mkdir(parents=True)
    for label, count in (("good", 5), ("spot", 5)):
        (root / "test" / label).mkdir(parents=True)
        for number in range(count):
            pixels = rng.integers(0, 256, (20, 20), np.uint8)
            mask = np.zeros_like(pixels)
            mask[3 : 9 + number, 4:10] = 255
            if label == "spot":
                pixels[mask > 0] = 128
            Image.fromarray(pixels).save(root / "test" / label / f"{number}.png")
            if label == "spot" and number < 4:
                Image.fromarray(mask).save(root / "ground_truth" / label / f"{number}_mask.png")
    return root


@pytest.fixture(scope="module")
def masked_page(inspected, small_model, tmp_path_factory):
    out = tmp_path_factory.mktemp("masked") / "scores.csv"
    return score_and_report(small_model, inspected / "test", out)


def test_masks_give_pixel_measures_of_the_models_error_maps(masked_page, inspected, small_model):
    model, masks, maps = trained.load(small_model), [], []
    for path in sorted((inspected / "test").glob("*/*.png")):
        mask = inspected / "ground_truth" / path.parent.name / f"{path.stem}_mask.png"
        if path.parent.name == "good" or mask.exists():
            maps.append(model.fitted.error_maps(model.reader.read(path)[None])[0])
            masks.append(model.reader.read_mask(mask) if mask.exists() else np.zeros((16, 16), bool))
    masks, maps = np.array(masks), np.array(maps)
    numbers = dict(re.findall(r"<dt>(.*?)</dt><dd>(.*?)</dd>", masked_page))
    assert numbers["pixel AUROC, %"] == f"{100 * roc_auc_score(masks.ravel(), maps.ravel()):.1f}"
    assert numbers["AUPRO to 0.3, %"] == f"{100 * measures.aupro(masks, maps):.1f}"
    text = " ".join(Page(masked_page).text.split())
    assert "error maps of 16 x 16, the size of the model's images, of 4 images with a mask and 5 normal" in text


def test_of_many_images_some_are_drawn_for_the_pixels(inspected, small_model, monkeypatch):
    paths = [str(path) for path in sorted((inspected / "test").glob("*/*.png"))]
    is_defect = np.array(["/spot/" in path for path in paths])
    monkeypatch.setattr(score_measures, "_MOST_PIXELS", 6 * 16 * 16)
    found = score_measures.of_pixels(trained.load(small_model), paths, is_defect)
    assert (found["marked"], found["normal"], found["left_out"]) == (3, 3, 3)


def test_the_outline_of_a_mask_lies_over_the_heat_map(masked_page, small_model, inspected):
    outlined = re.findall(r'<img src="data:image/jpeg;base64,([^"]*)" alt="Heat map of (\S*) with', masked_page)
    assert sorted(name for _, name in outlined) == [f"spot/{number}.png" for number in range(4)]
    assert masked_page.count("Heat map of") == 10
    for data, _ in outlined:
        picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(data)))).astype(int)
        blue = picture[..., 2] - picture[..., 0]
        assert blue[2, 4:10].min() > 60 > blue[14:18, 14:18].max()


def test_images_that_the_model_was_trained_on_are_told_and_do_not_measure(tmp_path):
    rng = np.random.default_rng(3)
    for label, count, high in (("good", 20, 256), ("flat", 3, 2)):
        (tmp_path / "all" / label).mkdir(parents=True)
        for number in range(count):
            pixels = rng.integers(0, high, (20, 20), np.uint8)
            Image.fromarray(pixels).save(tmp_path / "all" / label / f"{number}.png")
    model, good = tmp_path / "model", tmp_path / "all" / "good"
    assert cli.main(["fit", str(good), "--out", str(model), *SMALL_FIT]) == 0
    page = score_and_report(model, tmp_path / "all", tmp_path / "scores.csv")
    assert "The model was trained on 16 of these; they score lower than new ones and are not counted." in page
    held_out = {str(good / Path(name).name): 0 for name in trained.load(model).normal.ids}
    rows = readable(tmp_path / "scores.csv")
    kept = [row for row in rows if row["path"] in held_out or "/flat/" in row["path"]]
    assert len(kept) == 7
    auroc = roc_auc_score(["/flat/" in row["path"] for row in kept], [float(row["score"]) for row in kept])
    assert f"<dt>AUROC, %</dt><dd>{100 * auroc:.1f}</dd>" in page
    assert {line[0]: line[1] for line in Page(page).cells if len(line) == 4} == {"good": "4", "flat": "3"}

    for name in held_out:
        Path(name).rename(tmp_path / Path(name).name)
    page = score_and_report(model, tmp_path / "all", tmp_path / "scores.csv")
    assert f"16 of these lie in {good}, where the model was trained; its files have changed since" in page
    good.rename(tmp_path / "all" / "normal")
    page = score_and_report(model, tmp_path / "all", tmp_path / "scores.csv")
    assert f"is not known: {good} is not there." in page


def test_where_all_normal_images_were_trained_on_there_is_no_auroc(small_model, tmp_path):
    good, held_out = small_model.parent / "good", trained.load(small_model).normal.ids
    (tmp_path / "bad").mkdir()
    (tmp_path / "normal").symlink_to(good)
    Image.fromarray(np.zeros((20, 20), np.uint8)).save(tmp_path / "bad" / "0.png")
    names = {path.name for path in good.iterdir()} - {Path(name).name for name in held_out}
    paths = [*(f"{tmp_path}/normal/{name}" for name in names), f"{tmp_path}/bad/0.png"]
    header = "path,score,is_anomaly,error_0,error_1,error_2,error_3,reason"
    lines = [header, *(f"{path},1,0,1,1,1,1," for path in paths)]
    (tmp_path / "scores.csv").write_text("\n".join(lines) + "\n")
    assert cli.main(["report", str(tmp_path / "scores.csv"), "--model", str(small_model)]) == 0
    page = (tmp_path / "scores.html").read_text()
    assert "No AUROC: the model was trained on all of the normal images." in page


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "columns are not"),
        ("path,score\na,1\n", "columns are not"),
        ("path,score,is_anomaly,error_0,reason\n", "no image in it has a score"),
        ("path,score,is_anomaly,error_0,reason\na,,,,broken\n", "no image in it has a score"),
        ("path,score,is_anomaly,error_0,reason\na,1,0\n", "cut short"),
        ("path,score,is_anomaly,error_0,reason\na,high,0,1,\n", "could not convert"),
        ("path,score,is_anomaly,error_0,reason\na,inf,0,1,\n", "not finite"),
    ],
)
def test_files_that_are_not_scores_are_refused_in_one_line(tmp_path, capsys, text, message):
    (tmp_path / "scores.csv").write_text(text)
    assert cli.main(["report", str(tmp_path / "scores.csv")]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["scores.csv"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["SCORES", "--false-alarms", "0.1"], "needs --model"),
        (["SCORES", "SCORES"], "one file of scores or one model at a time"),
        (["SCORES", "--model", "nowhere"], "nowhere: no trained model there"),
        (["nowhere", "--model", "MODEL"], "nowhere: no such file or directory"),
    ],
)
def test_a_wrong_request_gets_one_line(scores, small_model, capsys, arguments, message):
    named = {"SCORES": str(scores), "MODEL": str(small_model)}
    assert cli.main(["report", *(named.get(word, word) for word in arguments)]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


# Puts the page into frames of two widths, clicks, and tells what there is to see.
DRIVER = """<!doctype html><meta charset="utf-8"><link rel="icon" href="data:,"><pre id="seen"></pre><script>
const page = PAGE;
async function look(width) {
  const frame = document.createElement("iframe");
  frame.style = `width: ${width}px; height: 800px; border: 0`;
  frame.srcdoc = page;
  await new Promise(done => { frame.onload = done; document.body.append(frame); });
  const doc = frame.contentDocument;
  const column = n => [...doc.querySelectorAll(`#scores tbody td:nth-child(${n})`)].map(td => td.textContent);
  const click = n => doc.querySelector(`#scores th:nth-child(${n}) button`).click();
  const orders = [];
  for (const n of [1, 1, 2, 2, 3, 5]) { click(n); orders.push([n, column(n)]); }
  return {
    width, orders, overflow: doc.documentElement.scrollWidth - width,
    pictures: [...doc.images].map(image => image.complete && image.naturalWidth),
    sorted: [...doc.querySelectorAll("#scores th[aria-sort]")].map(th => th.textContent),
  };
}
(async () => { seen.textContent = JSON.stringify([await look(400), await look(1280)]); })();
</script>"""


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on PATH")
@pytest.mark.parametrize("name", ["page", "masked_page"])
def test_in_a_browser_it_sorts_shows_its_pictures_and_fits_the_screen(name, request, tmp_path):
    page = request.getfixturevalue(name)
    (tmp_path / "driver.html").write_text(DRIVER.replace("PAGE", json.dumps(page).replace("<", "\\u003c")))
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
    command += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
    command += [f"--user-data-dir={tmp_path / 'profile'}", "--enable-logging=stderr"]
    command += ["--virtual-time-budget=20000", "--window-size=1400,1000", "--dump-dom"]
    command += [f"file://{tmp_path / 'driver.html'}"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert [line for line in result.stderr.splitlines() if "CONSOLE" in line] == []
    views = json.loads(html.unescape(re.search(r'<pre id="seen">(.*?)</pre>', result.stdout, re.DOTALL)[1]))
    assert [view["width"] for view in views] == [400, 1280]
    for view in views:
        assert view["overflow"] <= 0
        assert len(view["pictures"]) == page.count("<img ")
        assert all(view["pictures"])
        assert view["sorted"] == ["error 0"]
        orders = dict(enumerate(values for _, values in view["orders"]))
        plain = [name for name in orders[0] if "script" not in name]
        assert plain == sorted(plain, key=lambda name: (name[:4], int(re.search(r"\d+", name)[0])))
        assert orders[1] == orders[0][::-1]
        numbers = [list(map(float, orders[n])) for n in (2, 3, 5)]
        assert numbers[0] == sorted(numbers[0], reverse=True)
        assert numbers[1] == sorted(numbers[0])
        assert numbers[2] == sorted(numbers[2], reverse=True)
        assert orders[4] == sorted(orders[4], reverse=True)


def test_images_that_were_all_trained_on_still_make_a_page(small_model, tmp_path, capsys):
    scores = tmp_path / "scores.csv"
    held_out = {Path(id).name for id in trained.load(small_model).normal.ids}
    trained_on = next(p for p in sorted((small_model.parent / "good").iterdir()) if p.name not in held_out)
    assert cli.main(["score", str(small_model), str(trained_on), "--out", str(scores)]) == 0
    assert cli.main(["report", str(scores), "--model", str(small_model)]) == 0
    assert "The model was trained on 1 of these" in scores.with_suffix(".html").read_text()
