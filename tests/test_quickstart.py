"""The commands and options of docs/quickstart.md and docs/faq.md work, on generated images."""

import io
import re
import shlex
import subprocess
from pathlib import Path

import numpy as np
import pytest
from conftest import SMALL_FIT, save_images

from itae_jax import arguments, cli, experiment, transforms

pytestmark = pytest.mark.usefixtures("tiny_network")

DOCS = Path(__file__).parent.parent / "docs"
PAGE, QUESTIONS = ((DOCS / name).read_text() for name in ("quickstart.md", "faq.md"))


def commands_of(page):
    blocks = re.findall(r"^```\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    return [line.partition("#")[0].strip() for block in blocks for line in block.splitlines()]


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    """photos/good of 20 images, photos/new of three."""
    root = tmp_path_factory.mktemp("quickstart")
    for folder, count in (("good", 20), ("new", 3)):
        save_images(root / "photos" / folder, count, size=(24, 20))
    return root


def run(command, monkeypatch):
    feeding, pipe, command = command.rpartition("|")
    if pipe:
        output = subprocess.run(feeding, shell=True, capture_output=True, check=True).stdout
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(output)))
    program, *words = shlex.split(command)
    assert program == "itae"
    assert cli.main([*words, *(SMALL_FIT if words[0] == "fit" else [])]) == 0, command


def test_quickstart_commands_run_one_after_the_other(directory, monkeypatch):
    monkeypatch.chdir(directory)
    commands = commands_of(PAGE)
    for command in commands:
        run(command, monkeypatch)
    made = {"model/normal_scores.csv", "model/report.html", "scores.csv", "scores.html", "heatmaps/000.png.png"}
    assert made <= {path.relative_to(directory).as_posix() for path in directory.rglob("*")}
    assert {command.split("itae ")[1].split()[0] for command in commands} == {"fit", "score", "report"}


def test_each_command_names_the_next(directory, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    photos = directory / "photos"
    run(f"itae fit {photos}/good --out model", monkeypatch)
    for _ in range(2):
        following = re.search(r"next: (.*)", capsys.readouterr().out)[1]
        run(following.replace("IMAGES", f"{photos}/new"), monkeypatch)
    assert (tmp_path / "scores.html").is_file()


def test_questions_name_options_settings_and_transforms_that_exist(capsys):
    lines = commands_of(QUESTIONS)
    assert len(lines) == 4
    for line in lines:
        program, *words = shlex.split(line)
        asked = arguments.build().parse_args(words)
        assert program == "itae"
        changed = experiment.override(experiment.Experiment(), getattr(asked, "set", []))
        transforms.get(changed.method.transform)
    for setting in re.findall(r"--set\s+([\w.]+=\w+)", QUESTIONS):
        experiment.override(experiment.Experiment(), [setting])
    for command in ("fit", "score", "report", "export"):
        with pytest.raises(SystemExit):
            arguments.build().parse_args([command, "--help"])
    assert set(re.findall(r"`(--[a-z-]+)", QUESTIONS)) <= set(re.findall(r"--[a-z-]+", capsys.readouterr().out))


def test_quickstart_python_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (code,) = re.findall(r"^```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    small = code.replace("width=16, epochs=50", "width=2, epochs=1, batch_size=8")
    assert small != code
    images = np.random.default_rng(0).integers(0, 256, (20, 16, 16), np.uint8)
    values = {"images": images, "new": images[:3]}
    exec(small, values)
    assert values["detector"].anomaly_maps(values["new"]).shape == (3, 16, 16)
    assert (tmp_path / "detector" / "normal_scores.csv").is_file()
