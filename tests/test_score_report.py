"""The page of scores: what it measures, what it shows, and that it works in a browser."""

import csv
import html
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

from itae_jax import ITAEDetector, cli, score_report, trained

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
    assert "AUROC" not in page


def test_the_page_of_a_model_shows_what_was_held_out_and_the_settings(small_model, tmp_path):
    model = shutil.copytree(small_model, tmp_path / "model")
    assert cli.main(["report", str(model)]) == 0
    page = (model / "report.html").read_text()
    assert page.count("Heat map of") == 4
    assert "<code>model.width=2</code>" in page
    assert "Training loss" in page
    trained.load(model)


def test_the_page_of_a_detector_fitted_on_arrays_has_no_pictures(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (12, 16, 16), np.uint8)
    parameters = {"transform": "rotate", "width": 2, "epochs": 1, "batch_size": 8}
    detector = ITAEDetector(**parameters, settings={"evaluate.batch_size": 8}).fit(images)
    detector.save(tmp_path / "model")
    assert cli.main(["report", str(tmp_path / "model")]) == 0
    assert "no picture: no such file" in (tmp_path / "model" / "report.html").read_text()


@pytest.mark.parametrize(
    ("paths", "labels"),
    [
        (["d/good/1.png", "d/crack/1.png"], ["good", "crack"]),
        (["d/Normal/a/1.png", "d/odd/b/2.png"], ["Normal", "odd"]),
        (["d/a/1.png", "d/b/1.png"], None),
        (["d/good/1.png", "d/2.png"], None),
        (["1.png"], None),
    ],
)
def test_labels_are_folders_of_which_one_is_normal(paths, labels):
    assert score_report.labels_of(paths) == labels


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
def test_in_a_browser_it_sorts_shows_its_pictures_and_fits_the_screen(page, tmp_path):
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
