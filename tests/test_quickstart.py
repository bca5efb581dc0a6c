"""Every command of docs/quickstart.md does what it says, on generated images."""

import io
import re
import shlex
import subprocess
from pathlib import Path

import numpy as np
import pytest
from conftest import SMALL_FIT
from PIL import Image

from itae_jax import arguments, cli, config, transforms
from itae_jax.config import Experiment

PAGE = (Path(__file__).parent.parent / "docs" / "quickstart.md").read_text()
COMMANDS = [
    line.partition("#")[0].strip()
    for block in re.findall(r"^```\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    for line in block.splitlines()
]


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    """photos/good of 20 images, photos/new of three."""
    root, rng = tmp_path_factory.mktemp("quickstart"), np.random.default_rng(0)
    for folder, count in (("good", 20), ("new", 3)):
        (root / "photos" / folder).mkdir(parents=True)
        for number in range(count):
            pixels = rng.integers(0, 256, (20, 24), np.uint8)
            Image.fromarray(pixels).save(root / "photos" / folder / f"{number}.png")
    return root


def run(command, monkeypatch):
    feeding, pipe, command = command.rpartition("|")
    if pipe:
        output = subprocess.run(feeding, shell=True, capture_output=True, check=True).stdout
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(output)))
    program, *arguments = shlex.split(command)
    assert program == "itae"
    small = SMALL_FIT if arguments[0] == "fit" else []
    assert cli.main([*arguments, *small]) == 0, command


def test_the_commands_run_one_after_the_other(directory, monkeypatch):
    monkeypatch.chdir(directory)
    for command in COMMANDS:
        run(command, monkeypatch)
    made = {"model/normal_scores.csv", "model/report.html", "scores.csv", "scores.html", "heatmaps/0.png.png"}
    assert made <= {path.relative_to(directory).as_posix() for path in directory.rglob("*")}
    assert {command.split("itae ")[1].split()[0] for command in COMMANDS} == {"fit", "score", "report"}


def test_the_questions_name_options_fields_and_transforms_that_there_are():
    page = (Path(__file__).parent.parent / "docs" / "faq.md").read_text()
    lines = [
        line
        for block in re.findall(r"^```\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
        for line in block.splitlines()
    ]
    assert len(lines) == 4
    for line in lines:
        program, *words = shlex.split(line)
        asked = arguments.build().parse_args(words)
        assert program == "itae"
        transforms.get(config.override(Experiment(), getattr(asked, "set", [])).transform.name)
    for field in re.findall(r"--set\s+([\w.]+=\w+)", page):
        config.override(Experiment(), [field])
    for option in set(re.findall(r"`(--[a-z-]+)", page)):
        helps = [
            parser.format_help() for parser in arguments.build()._subparsers._group_actions[0].choices.values()
        ]
        assert any(option in text for text in helps), option


def test_each_command_names_the_next(directory, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    photos = directory / "photos"
    run(f"itae fit {photos}/good --out model", monkeypatch)
    for _ in range(2):
        following = re.search(r"next: (.*)", capsys.readouterr().out)[1]
        run(following.replace("IMAGES", f"{photos}/new"), monkeypatch)
    assert (tmp_path / "scores.html").is_file()


def test_the_python_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (code,) = re.findall(r"^```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    small = code.replace("width=16, epochs=50", "width=2, epochs=1, batch_size=8")
    assert small != code
    images = np.random.default_rng(0).integers(0, 256, (20, 16, 16), np.uint8)
    values = {"images": images, "new": images[:3]}
    exec(small, values)
    assert values["detector"].error_maps(values["new"]).shape == (3, 16, 16)
    assert (tmp_path / "detector" / "normal_scores.csv").is_file()
