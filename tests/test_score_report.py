"""The page of scores: what it measures, what it shows, and that it works in a browser."""

import base64
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
from conftest import SMALL_DETECTOR, SMALL_FIT, rows_of
from PIL import Image
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score
from test_read import whole, write_run

from itae_jax import ITAEDetector, cli
from itae_jax.detection import anomaly_map
from itae_jax.detection import model as trained
from itae_jax.errors import RequestError
from itae_jax.evaluate import metrics
from itae_jax.report import figures, run_page, score_measures, score_page
from itae_jax.runs.read import read_all

pytestmark = pytest.mark.usefixtures("tiny_network")

ODD_NAME = "<script>alert(1)</script>&.png"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def save(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def score(model, images, out, *more):
    assert cli.main(["score", str(model), str(images), "--out", str(out), *more]) == 0
    return out


def report(scores, model=None, rate=None):
    return score_page.write_for_scores(scores, model, rate).read_text()


def readable(scores):
    return [row for row in rows_of(scores) if row["score"]]


def captions(page, title):
    """The scores, names and further words below the pictures of a section."""
    section = page.partition(f"<h2>{title}</h2>")[2].partition("<h2>")[0]
    return re.findall(r"<figcaption><span[^>]*>(.*?)</span> ([^,<]*)(?:, )?(.*?)</figcaption>", section)


def numbers_of(page):
    return dict(re.findall(r"<dt>(.*?)</dt><dd>(.*?)</dd>", page))


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Folders good, dark and flat of 20, 6 and 6 images, and one that cannot be read."""
    root, rng = tmp_path_factory.mktemp("images"), np.random.default_rng(1)
    for label, count, high in (("good", 20, 256), ("dark", 6, 60), ("flat", 6, 1)):
        for number in range(count):
            name = ODD_NAME if (label, number) == ("dark", 0) else f"{number}.png"
            path = root / label / name.replace("/", "\N{DIVISION SLASH}")
            save(path, rng.integers(0, high, (20, 30), np.uint8))
    (root / "flat" / "broken.png").write_bytes(b"no image")
    return root


@pytest.fixture(scope="module")
def scores(images, small_model, tmp_path_factory):
    return score(small_model, images, tmp_path_factory.mktemp("scores") / "scores.csv")


@pytest.fixture(scope="module")
def page(scores, small_model):
    assert cli.main(["report", str(scores), "--model", str(small_model)]) == 0
    return scores.with_suffix(".html").read_text()


@pytest.fixture(scope="module")
def inspected(tmp_path_factory):
    """Test images laid out as MVTec AD's: 5 good ones, 4 of spots with masks and one without."""
    root, rng = tmp_path_factory.mktemp("inspected") / "nut", np.random.default_rng(2)
    for label in ("good", "spot"):
        for number in range(5):
            pixels = rng.integers(0, 256, (20, 20), np.uint8)
            mask = np.zeros_like(pixels)
            mask[3 : 9 + number, 4:10] = 255 * (label == "spot")
            pixels[mask > 0] = 128
            save(root / "test" / label / f"{number}.png", pixels)
            if label == "spot" and number < 4:
                save(root / "ground_truth" / label / f"{number}_mask.png", mask)
    return root


@pytest.fixture(scope="module")
def masked_page(inspected, small_model, tmp_path_factory):
    scores = score(small_model, inspected / "test", tmp_path_factory.mktemp("masked") / "scores.csv")
    return report(scores, small_model)


@pytest.fixture(scope="module")
def run_report(tmp_path_factory):
    """The page of a sweep whose class has a long name."""
    root, classes = tmp_path_factory.mktemp("run"), {"normal_class_name": "large_man-made_outdoor_things"}
    found = [whole(0, 0, **classes), whole(0, 1, **classes), whole(1)]
    return run_page.write(read_all([write_run(root / "run", found, "method.width=16")]), root).read_text()


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


def test_page_replaces_pages_alone(scores, tmp_path, refused):
    copy = tmp_path / "scores.csv"
    copy.write_bytes(scores.read_bytes())
    copy.with_suffix(".html").write_text("mine")
    assert "scores.html" in refused("report", copy)
    assert copy.with_suffix(".html").read_text() == "mine"


def test_page_needs_no_other_file_and_escapes_names(page):
    parsed = Page(page)
    assert all(link.startswith("data:") for link in parsed.links)
    assert parsed.tags.count("script") == 1
    assert "alert(1)" in parsed.text
    assert "broken.png: not an image" in parsed.text


def test_page_measures_the_scores_by_the_names_of_the_folders(page, scores, images):
    rows = readable(scores)
    labels = np.array([row["path"].removeprefix(f"{images}/").partition("/")[0] for row in rows])
    values, odd = np.array([float(row["score"]) for row in rows]), labels != "good"
    shown = {line[0]: line[1:] for line in Page(page).cells if line and line[0] in ("good", "dark", "flat")}
    above = np.array([row["is_anomaly"] == "1" for row in rows])
    for label in ("dark", "flat"):
        inside = labels == label
        auroc = 100 * roc_auc_score(odd[inside | ~odd], values[inside | ~odd])
        assert shown[label] == ["6", f"{100 * above[inside].mean():.1f}", f"{auroc:.1f}"]
    assert shown["good"] == ["20", f"{100 * above[~odd].mean():.1f}", ""]
    best = max(f1_score(odd, values >= value) for value in values)
    measures = (roc_auc_score(odd, values), average_precision_score(odd, values), best)
    numbers = numbers_of(page)
    assert (numbers["images"], numbers["cannot be read"]) == ("32", "1")
    assert [value for name, value in numbers.items() if "%" in name] == [
        f"{100 * value:.1f}" for value in measures
    ]
    share = odd.mean()
    low, high = metrics.auroc_interval(roc_auc_score(odd, values), (~odd).sum(), odd.sum())
    guesses = (
        f"chance 50.0; 95 % interval {100 * low:.1f} to {100 * high:.1f}",
        f"chance {100 * share:.1f}",
        f"if all are flagged {200 * share / (1 + share):.1f}",
    )
    assert re.findall(r"</dd><dd>(.*?)</dd>", page) == list(guesses)
    assert f1_score(odd, np.ones_like(odd)) == pytest.approx(2 * share / (1 + share))


def test_page_says_what_is_found_and_shows_the_worst_mistakes_of_both_kinds(scores, small_model):
    rows, normal = readable(scores), trained.load(small_model).normal
    for rate in (0.05, 0.5, 0.9):
        page, limit = report(scores, small_model, rate), normal.threshold(rate)
        good = sorted(-float(row["score"]) for row in rows if "/good/" in row["path"])
        odd = sorted(float(row["score"]) for row in rows if "/good/" not in row["path"])
        found, alarms = sum(value > limit for value in odd), sum(-value > limit for value in good)
        assert f"Finds {found} of 12 defects at {alarms} false alarms in 20 normal images." in page
        assert f"{12 - found} of 12 defects are missed;" in page
        assert [(float(one), word) for one, _, word in captions(page, "Defects with the lowest scores")] == [
            (round(value, 3), "" if value > limit else "missed") for value in odd[:6]
        ]
        shown = captions(page, "Normal images with the highest scores")
        assert all(name.startswith("good/") for _, name, _ in shown)
        assert [(float(one), word) for one, _, word in shown] == [
            (round(-value, 3), "false alarm" if -value > limit else "") for value in good[:6]
        ]
        assert {word for _, _, word in captions(page, "The oddest")} == {""}
        ranks = [f"higher than {(normal.scores_N < value).sum()} of 4 calibration images" for value in odd[:6]]
        assert re.findall("higher than .*? images", page)[:6] == ranks


def test_table_holds_every_score_and_component_highest_first(page, scores):
    rows = sorted(readable(scores), key=lambda row: -float(row["score"]))
    lines = [line for line in Page(page).cells if len(line) > 5]
    components = [name for name in rows[0] if name.startswith(("error_", "score_"))]
    assert len(components) == 4 + 3 * 3
    names = ["score", "p_value", *components]
    expected = [[f"{float(row[name]):.4f}" for name in names] for row in rows]
    assert sorted([line[1], line[3], *line[5:]] for line in lines) == sorted(expected)
    assert [line[1] for line in lines] == [line[0] for line in expected]


def test_table_has_small_pictures_of_the_highest_five_hundred_at_most(page, images, tmp_path):
    thumbnails = re.findall(r'<td class="text"><img src="data:image/jpeg;base64,([^"]*)"', page)
    assert len(thumbnails) == 32
    sizes = {Image.open(io.BytesIO(base64.b64decode(data))).size for data in thumbnails}
    assert max(map(max, sizes)) <= 64 and max(map(len, thumbnails)) < 4000
    rows = [f"{images}/good/0.png,{600 - i},0,0.5,1,\n" for i in range(600)]
    header = "\ufeffpath,score,is_anomaly,p_value,kl,reason\n"  # as a spreadsheet saves it
    (tmp_path / "scores.csv").write_text(header + "".join(rows))
    many = report(tmp_path / "scores.csv")
    assert len([line for line in Page(many).cells if len(line) > 4]) == 600
    assert many.count('<td class="text"><img ') == 500


def test_heat_maps_have_a_colour_bar_from_normal_to_the_usual_peak(page, small_model, images):
    model = trained.load(small_model)
    bar = r'alt="Heat map of ([^"]*)">.*?<i></i><span>1</span><span>(.*?)</span>.*?heat map up to (.*?)</p>'
    bars = re.findall(bar, page, re.DOTALL)
    assert len(bars) == page.count("Heat map of") == page.count('url("data:image/png') * 24
    for name, end, peak in bars:
        map_HxW = model.trained.anomaly_maps(model.reader.read(images / html.unescape(name))[None])[0]
        assert float(peak) == pytest.approx(anomaly_map.smooth(map_HxW).max(), abs=0.006)
        assert end == f"{model.normal.usual_peak:.2f}"


def test_model_adds_heat_maps_restorations_and_another_rate(page, scores, small_model, tmp_path):
    copy = Path(shutil.copy(scores, tmp_path))
    assert report(copy).count("Heat map of") == 0
    assert page.count("Heat map of") == 12 + 6 + 6
    for angle in ("0°", "90°", "180°", "270°"):
        assert page.count(f"<div>{angle}<img") == 12 + 6 + 6
    values, normal = [float(row["score"]) for row in readable(scores)], trained.load(small_model).normal
    for rate in (0.2, 0.9):
        shown = numbers_of(report(copy, small_model, rate))["above the threshold"]
        assert int(shown) == sum(value > normal.threshold(rate) for value in values)


def test_threshold_is_the_one_that_the_file_was_written_with(images, small_model, tmp_path):
    normal = trained.load(small_model).normal
    for rate in (0.05, 0.8):
        path = score(small_model, images, tmp_path / "scores.csv", "--false-positive-rate", str(rate))
        shown = numbers_of(report(path, small_model))["threshold"]
        scored = score_page.read_scores(path)
        np.testing.assert_array_equal(scored.is_anomaly_N, scored.scores_N > normal.threshold(rate))
        same = [value for value in normal.scores_N if ((scored.scores_N > value) == scored.is_anomaly_N).all()]
        assert shown in {f"{value:.3f}" for value in same}
        if rate == 0.05:
            assert shown == f"{normal.threshold(rate):.3f}"


def test_page_has_no_pictures_of_images_that_are_gone_and_no_auroc_without_a_normal_folder(scores, tmp_path):
    text = re.sub("/(dark|flat)/", "/gone/", scores.read_text()).replace("/good/", "/bright/")
    (tmp_path / "scores.csv").write_text(text)
    page = report(tmp_path / "scores.csv")
    assert page.count("(no picture: no such file)") == 12 + 6  # the oddest, and those nearest to the threshold
    assert "No AUROC: no folder is called good or normal: bright, gone;" in page
    assert "ROC curve" not in page and "By folder" not in page
    images = np.random.default_rng(0).integers(0, 256, (12, 16, 16), np.uint8)
    ITAEDetector(**SMALL_DETECTOR).fit(images).save(tmp_path / "model")
    assert "no picture: no such file" in score_page.write_for_model(tmp_path / "model", None).read_text()


def test_relative_paths_are_those_of_the_working_directory(images, small_model, tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(images.parent)
    scores = score(small_model, images.name, tmp_path / "scores.csv")
    assert "no such file" not in report(scores) and not caplog.messages
    monkeypatch.chdir(tmp_path)
    gone = f"None of the images is there, seen from {tmp_path}"
    assert gone in report(scores) and gone in caplog.text


def test_page_shows_images_as_large_as_the_model_takes(small_model, tmp_path):
    model, large = shutil.copytree(small_model, tmp_path / "model"), tmp_path / "images" / "large.png"
    save(large, np.zeros((4, 20_001), np.uint8))
    config = json.loads((model / "config.json").read_text())
    config["experiment"]["data"]["max_side"] = 30_000
    (model / "config.json").write_text(json.dumps(config))
    page = report(score(model, large, tmp_path / "scores.csv"), model)
    assert "no picture" not in page and "Heat map of" in page


def test_page_says_that_no_mask_is_of_these_images(scores, images, small_model, tmp_path):
    test = shutil.copytree(images, tmp_path / "set" / "test")
    (tmp_path / "set" / "ground_truth").mkdir()
    page = report(score(small_model, test, tmp_path / "scores.csv"), small_model)
    assert "holds no mask of these images" in page


def test_page_of_a_model_shows_its_calibration_images_and_settings(small_model, tmp_path):
    model = shutil.copytree(small_model, tmp_path / "model")
    assert cli.main(["report", str(model)]) == 0
    page = (model / "report.html").read_text()
    assert page.count("Heat map of") == 4
    assert "<code>method.width=2</code>" in page
    assert "Training loss" in page
    trained.load(model)


def test_page_of_a_vae_shows_what_it_has(images, small_model_of, small_model, tmp_path):
    scores = score(small_model_of("vae"), images, tmp_path / "scores.csv")
    page = report(scores, small_model_of("vae"))
    assert page.count("Heat map of") == page.count('alt="Restored"') == 12 + 6 + 6
    assert ">score reconstruction<" in page
    with pytest.raises(RequestError, match="is not the model that wrote"):
        report(scores, small_model)


@pytest.mark.parametrize("losses", [[0.031, 0.024, 0.022], [0.9, 0.2, 0.004], [0.02]])
def test_loss_curve_has_ticks_at_whole_epochs_and_several_losses(losses):
    figure = figures.loss_curve(dict(enumerate(losses, 1)))
    figure.draw_without_rendering()
    (ax,) = figure.axes
    low, high = ax.get_ylim()
    shown = [label.get_text() for label in ax.get_yticklabels() if low <= label.get_position()[1] <= high]
    assert len(shown) >= 3 and all(shown)
    assert all(tick == int(tick) for tick in ax.get_xticks())


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


def test_normal_names_the_folder_of_normal_images(images, small_model, tmp_path, capsys):
    for old, new in (("good", "1.OK"), ("dark", "2.NG")):
        shutil.copytree(images / old, tmp_path / "set" / new)
    scores = score(small_model, tmp_path / "set", tmp_path / "scores.csv")
    assert "No AUROC: no folder is called good or normal: 1.OK, 2.NG; --normal" in report(scores)
    assert cli.main(["report", str(scores), "--normal", "1.OK"]) == 0
    rows = rows_of(scores)
    expected = roc_auc_score(["NG" in row["path"] for row in rows], [float(row["score"]) for row in rows])
    assert numbers_of(scores.with_suffix(".html").read_text())["AUROC, %"] == f"{100 * expected:.1f}"
    assert cli.main(["report", str(small_model), "--normal", "1.OK"]) == 2


def test_masks_measure_the_pixels_of_the_models_anomaly_maps(masked_page, inspected, small_model):
    model, masks, maps = trained.load(small_model), [], []
    for path in sorted((inspected / "test").glob("*/*.png")):
        mask = inspected / "ground_truth" / path.parent.name / f"{path.stem}_mask.png"
        if path.parent.name == "good" or mask.exists():
            maps.append(model.trained.anomaly_maps(model.reader.read(path)[None])[0])
            masks.append(model.reader.read_mask(mask) if mask.exists() else np.zeros((16, 16), bool))
    masks, maps = np.array(masks), np.array(maps)
    numbers = numbers_of(masked_page)
    assert numbers["pixel AUROC, %"] == f"{100 * roc_auc_score(masks.ravel(), maps.ravel()):.1f}"
    assert numbers["AUPRO to 0.3, %"] == f"{100 * metrics.aupro(masks, maps):.1f}"
    assert "of 16 x 16, the size of the model's images, of 4 images with a mask and 5 normal" in " ".join(
        Page(masked_page).text.split()
    )
    paths = [str(path) for path in sorted((inspected / "test").glob("*/*.png"))]
    is_defect = np.array(["/spot/" in path for path in paths])
    found = score_measures.of_pixels(model, paths, is_defect, most_pixels=6 * 16 * 16)
    assert (found["marked"], found["normal"], found["left_out"]) == (3, 3, 3)


def test_outline_of_a_mask_lies_over_the_heat_map(masked_page):
    outlined = re.findall(r'<img src="data:image/jpeg;base64,([^"]*)" alt="Heat map of (\S*) with', masked_page)
    assert sorted({name for _, name in outlined}) == [f"spot/{number}.png" for number in range(4)]
    assert masked_page.count("Heat map of") == 10 + 5 + 5
    for data, _ in outlined:
        picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(data)))).astype(int)
        blue = picture[..., 2] - picture[..., 0]
        assert blue[2, 4:10].min() > 60 > blue[14:18, 14:18].max()


def test_images_that_the_model_was_trained_on_do_not_count(tmp_path):
    rng = np.random.default_rng(3)
    for label, count, high in (("good", 20, 256), ("flat", 3, 2)):
        for number in range(count):
            save(tmp_path / "all" / label / f"{number}.png", rng.integers(0, high, (20, 20), np.uint8))
    model, good, scores = tmp_path / "model", tmp_path / "all" / "good", tmp_path / "scores.csv"
    assert cli.main(["fit", str(good), "--out", str(model), *SMALL_FIT]) == 0
    page = report(score(model, tmp_path / "all", scores), model)
    assert "The model was trained on 16 of these" in page
    held_out = {str(good / Path(name).name) for name in trained.load(model).normal.ids}
    kept = [row for row in readable(scores) if row["path"] in held_out or "/flat/" in row["path"]]
    auroc = roc_auc_score(["/flat/" in row["path"] for row in kept], [float(row["score"]) for row in kept])
    assert len(kept) == 7 and numbers_of(page)["AUROC, %"] == f"{100 * auroc:.1f}"
    assert {line[0]: line[1] for line in Page(page).cells if len(line) == 4} == {"good": "4", "flat": "3"}

    lines = [line for line in scores.read_text().splitlines() if line.split(",")[0] not in held_out]
    scores.write_text("\n".join(lines) + "\n")
    assert "No AUROC: the model was trained on all of the normal images." in report(scores, model)
    good.rename(tmp_path / "all" / "normal")
    assert "It is unknown whether" in report(score(model, tmp_path / "all", scores), model)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "columns are not"),
        ("path,score\na,1\n", "columns are not"),
        ("path,score,is_anomaly,p_value,error_0,reason\n", "no image in it has a score"),
        ("path,score,is_anomaly,p_value,error_0,reason\na,,,,,broken\n", "no image in it has a score"),
        ("path,score,is_anomaly,p_value,error_0,reason\na,1,0\n", "cut short"),
        ("path,score,is_anomaly,p_value,error_0,reason\na,high,0,1,1,\n", "could not convert"),
        ("path,score,is_anomaly,p_value,error_0,reason\na,inf,0,1,1,\n", "not finite"),
        ("path,score,is_anomaly,error_0,reason\na,1,0,1,\n", "columns are not"),
    ],
)
def test_files_that_are_not_scores_are_refused(tmp_path, text, message):
    (tmp_path / "scores.csv").write_text(text)
    with pytest.raises(RequestError, match=rf"scores\.csv: .*{message}"):
        score_page.write_for_scores(tmp_path / "scores.csv", None, None)
    assert [path.name for path in tmp_path.iterdir()] == ["scores.csv"]


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
  for (const n of doc.querySelector("#scores") ? [1, 1, 2, 2, 3, 6] : []) { click(n); orders.push(column(n)); }
  const visible = () => [...doc.querySelectorAll("#scores tbody tr")].filter(row => row.offsetHeight)
    .map(row => row.cells[0].textContent);
  const filtered = [];
  if (doc.querySelector("#scores")) {
    doc.querySelector("#part").value = " T/1";
    doc.querySelector("#part").dispatchEvent(new Event("input"));
    filtered.push(visible());
    doc.querySelector("#part").value = "";
    doc.querySelector("#only").click();
    filtered.push(visible(), doc.querySelector("#count").value);
  }
  return {
    width, orders, filtered, overflow: doc.documentElement.scrollWidth - width,
    pictures: [...doc.images].map(image => image.complete && image.naturalWidth),
    sorted: [...doc.querySelectorAll("#scores th[aria-sort]")].map(th => th.textContent),
  };
}
(async () => { seen.textContent = JSON.stringify([await look(400), await look(1280)]); })();
</script>"""


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on PATH")
@pytest.mark.parametrize("name", ["page", "masked_page", "run_report"])
def test_in_a_browser_a_page_sorts_shows_its_pictures_and_fits_the_screen(name, request, tmp_path):
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
        assert len(view["pictures"]) == page.count("<img ") and all(view["pictures"])
        if name == "run_report":
            continue
        assert view["sorted"] == ["error 0°"]
        names, above = view["orders"][0], sum(line[2] == "yes" for line in Page(page).cells if len(line) > 5)
        assert sorted(view["filtered"][0]) == sorted(name for name in names if "t/1" in name.lower())
        assert len(view["filtered"][1]) == above
        assert view["filtered"][2] == f"{above} of {len(names)}"
        orders = view["orders"]
        plain = [name for name in orders[0] if "script" not in name]
        assert plain == sorted(plain, key=lambda name: (name[:4], int(re.search(r"\d+", name)[0])))
        assert orders[1] == orders[0][::-1]
        numbers = [list(map(float, orders[n])) for n in (2, 3, 5)]
        assert numbers[0] == sorted(numbers[0], reverse=True)
        assert numbers[1] == sorted(numbers[0])
        assert numbers[2] == sorted(numbers[2], reverse=True)
        assert orders[4] == sorted(orders[4], reverse=True)
