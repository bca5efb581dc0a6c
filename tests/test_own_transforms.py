"""Transforms of the user's own files: `module:attribute`, the check command, and the documentation."""

import csv
import json
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import training_tiny_networks

from itae_jax import ITAEDetector, cli, transforms
from itae_jax.errors import RequestError

ROOT = Path(__file__).parent.parent
DIGITS = str(ROOT / "experiments" / "digits.py")
SMALL = ["--set", "train.epochs=1", "model.width=2"]

GOOD = """
from itae_jax import Transform

def erase(image, index):
    return image.at[:, :5].set(0)

LEFT = Transform("left", 1, erase, erases="the left edge")

def make_left():
    return LEFT

def needs_more(name):
    return LEFT

def fails():
    raise OSError("no such mask")

def returns_none():
    return None

NUMBER = 3
NO_MEMBERS = Transform("none", 0, erase)
HALF_MEMBER = Transform("half", 1.5, erase)
NOT_CALLABLE = Transform("not", 1, "erase")
CROPS = Transform("crops", 1, lambda image, index: image[1:])
RAISES = Transform("raises", 1, lambda image, index: image[9, 9, 9, 9])
"""


@pytest.fixture
def tiny_network():
    """For single tests, so that the example of the documentation trains the real network."""
    with training_tiny_networks():
        yield


@pytest.fixture
def here(tmp_path, monkeypatch):
    """(module name, source) -> a module file in the current directory, which is empty before."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    written = []

    def write(name, source):
        (tmp_path / f"{name}.py").write_text(source)
        written.append(name)

    yield write
    for name in written:
        sys.modules.pop(name, None)


def one_line(capsys):
    error = capsys.readouterr().err
    assert error.startswith("itae: ")
    assert error.count("\n") == 1
    return error


def test_a_module_in_the_current_directory_is_found_and_composes(here, rng):
    here("own_left", GOOD)
    image = np.float32(rng.uniform(-1, 1, (16, 16, 3)))
    for name in ("own_left:LEFT", "own_left:make_left"):
        transform = transforms.get(name)
        assert transform.name == name
        assert not np.asarray(transform.apply(image, 0))[:, :5].any()
    both = transforms.get("gray+own_left:LEFT")
    assert (both.name, both.count, both.out_channels(3)) == ("gray+own_left:LEFT", 1, 1)
    assert transforms.get("own_left:LEFT+rotate").count == 4
    assert transforms.get("own_left:LEFT") == transforms.get("own_left:LEFT"), "compiled once"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere_at_all:X", "no module nowhere_at_all; put nowhere_at_all.py into the current directory"),
        ("own_bad.deeper:X", "no module own_bad.deeper"),
        ("own_bad.py:LEFT", "expected module:attribute"),
        ("own_bad:", "expected module:attribute"),
        (":LEFT", "expected module:attribute"),
        ("a/b:LEFT", "expected module:attribute"),
        ("own_bad:MISSING", r"there is no MISSING in .*own_bad\.py"),
        ("own_bad:NUMBER", "returns one, got int"),
        ("own_bad:returns_none", "returns one, got NoneType"),
        ("own_bad:needs_more", r"needs_more\(\) fails: TypeError"),
        ("own_bad:fails", r"fails\(\) fails: OSError: no such mask"),
        ("own_bad:NO_MEMBERS", "count=0, expected a whole number from 1 up"),
        ("own_bad:HALF_MEMBER", r"count=1\.5, expected"),
        ("own_bad:NOT_CALLABLE", "erase='erase', expected a function"),
        ("rotate+own_bad:MISSING", "there is no MISSING"),
        ("own_syntax:X", "importing own_syntax fails: SyntaxError"),
        ("own_import:X", "importing own_import fails: No module named 'not_installed'"),
    ],
)
def test_what_cannot_be_used_is_refused_with_the_reason(here, name, message):
    here("own_bad", GOOD)
    here("own_syntax", "def broken(:\n")
    here("own_import", "import not_installed\n")
    with pytest.raises(RequestError, match=message):
        transforms.get(name)


@pytest.mark.parametrize(
    ("attribute", "message"),
    [
        (
            "CROPS",
            "makes (15, 16, 1) of images of 16x16x1, expected (16, 16, 1); itae transforms check own_run",
        ),
        ("RAISES", "on images of 16x16x1: IndexError"),
        ("MISSING", "there is no MISSING"),
    ],
)
def test_a_run_refuses_it_in_one_line_before_it_writes(here, capsys, attribute, message):
    here("own_run", GOOD)
    assert cli.main(["run", DIGITS, "--out", "out", *SMALL, f"transform.name=own_run:{attribute}"]) == 2
    assert message in one_line(capsys)
    assert not Path("out").exists()


def test_a_run_records_the_name_and_finds_it_again(here, capsys, tiny_network):
    here("own_again", GOOD)
    command = ["run", DIGITS, "--classes", "6", "--out", "out", *SMALL, "transform.name=own_again:LEFT"]
    assert cli.main(command) == 0
    assert json.loads(Path("out/config.json").read_text())["transform"]["name"] == "own_again:LEFT"
    capsys.readouterr()
    assert cli.main(command) == 0
    assert "nothing to do" in capsys.readouterr().out
    assert cli.main(["report", "out"]) == 0


def test_check_prints_a_line_for_each_law_and_the_exit_code_says_whether_all_hold(here, capsys):
    here("own_check", GOOD)
    assert cli.main(["transforms", "check", "own_check:LEFT"]) == 0
    good = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in good if "ok" in line.split()[1:3]]
    assert not any("FAILED" in line for line in good)
    assert cli.main(["transforms", "check", "own_check:CROPS"]) == 1
    assert any(
        re.match(r"shape +FAILED  member 0 makes 15x16x1", line)
        for line in capsys.readouterr().out.splitlines()
    )
    assert cli.main(["transforms", "check", "own_check:MISSING"]) == 2
    assert "there is no MISSING" in one_line(capsys)


def test_check_tells_a_transform_that_another_process_makes_otherwise(here, capsys):
    here(
        "own_random",
        "import numpy as np\nfrom itae_jax import Transform\n"
        "mask = np.float32(np.random.default_rng().integers(0, 2, (16, 1, 1)))\n"
        "T = Transform('t', 1, lambda image, index: image * mask[0].astype(image.dtype) * 0"
        " + image * mask[:, :, 0].mean().astype(image.dtype) * (image > mask.mean()))\n",
    )
    assert cli.main(["transforms", "check", "own_random:T"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("same elsewhere") and "FAILED" in line for line in lines)


def test_the_example_of_the_documentation_obeys_the_laws_and_trains(here, capsys):
    text = (ROOT / "docs" / "transforms.md").read_text()
    name, source = re.search(r"`(\w+)\.py`:\n\n```python\n(.*?)```", text, re.DOTALL).groups()
    assert len(source.splitlines()) < 20
    here(name, source)
    spec = re.search(r"itae transforms check (\S+)", text).group(1)
    assert spec.startswith(f"{name}:")
    assert cli.main(["transforms", "check", spec]) == 0
    command = ["run", DIGITS, "--classes", "6", "--out", "out", *SMALL, f"transform.name={spec}"]
    assert cli.main(command) == 0
    with Path("out/results.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert 0 < float(row["auroc"]) < 1
    state = Path("out/class_6/seed_0/state")
    assert sum(path.stat().st_size for path in state.rglob("*") if path.is_file()) > 60_000  # a U-Net's


def test_code_that_a_model_names_runs_only_if_the_user_names_it_too(
    here, small_model, tiny_network, tmp_path, capsys
):
    four = "\nFOUR = Transform('four', 4, lambda image, index: image.at[index].set(0))"
    here("of_a_stranger", "open('executed', 'w').close()\n" + GOOD + four)
    shutil.copytree(small_model, tmp_path / "model")
    path = tmp_path / "model" / "config.json"
    record = json.loads(path.read_text())
    record["experiment"]["transform"]["name"] = name = "of_a_stranger:FOUR"
    path.write_text(json.dumps(record))
    model = str(tmp_path / "model")
    for command in (
        ["score", model, str(small_model.parent / "good"), "--out", "scores.csv"],
        ["report", model],
        ["export", model, "--out", "file.jaxexport"],
        ["run", str(path)],
    ):
        if command[0] == "run":
            path.write_text(json.dumps(record["experiment"]))
        assert cli.main(command) == 2
        error = capsys.readouterr().err
        assert f"the transform {name}, code that is not part of itae_jax" in error and error.count("\n") == 1
    path.write_text(json.dumps(record))
    with pytest.raises(RequestError, match=f"transform='{name}'"):
        ITAEDetector.load(model)
    assert not (tmp_path / "executed").exists()
    assert cli.main(["report", model, "--transform", name]) == 0
    assert (tmp_path / "executed").exists()
