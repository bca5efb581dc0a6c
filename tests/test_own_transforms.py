"""Transforms of the user's own files: `module:attribute`, and the command that checks them."""

import json
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import one_line

from itae_jax import ITAEDetector, cli, transforms
from itae_jax.errors import RequestError

SMALL = ["--set", "train.epochs=1", "method.width=2", "data.limit_test=20", "evaluate.batch_size=8"]

GOOD = """
import numpy as np
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
LEVEL = np.random.default_rng().uniform()
RANDOM = Transform("random", 1, lambda image, index: (image * 0 + LEVEL).astype(image.dtype))
"""


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


def test_get_imports_from_the_current_directory_and_composes(here, rng):
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
        ("own_bad:MISSING", r"no MISSING in .*own_bad\.py"),
        ("own_bad:NUMBER", "got int"),
        ("own_bad:returns_none", "got NoneType"),
        ("own_bad:needs_more", r"needs_more\(\) fails: TypeError"),
        ("own_bad:fails", r"fails\(\) fails: OSError: no such mask"),
        ("own_bad:NO_MEMBERS", "count=0, expected a whole number"),
        ("own_bad:HALF_MEMBER", r"count=1\.5, expected"),
        ("own_bad:NOT_CALLABLE", "erase='erase', expected a function"),
        ("rotate+own_bad:MISSING", "no MISSING"),
        ("own_syntax:X", "importing own_syntax fails: SyntaxError"),
        ("own_import:X", "importing own_import fails: .*'not_installed'"),
    ],
)
def test_get_refuses_what_cannot_be_used_with_the_reason(here, name, message):
    here("own_bad", GOOD)
    here("own_syntax", "def broken(:\n")
    here("own_import", "import not_installed\n")
    with pytest.raises(
        RequestError, match=rf"method\.transform='{re.escape(name.partition('+')[2] or name)}'.*{message}"
    ):
        transforms.get(name)


@pytest.mark.parametrize(
    ("attribute", "message"),
    [
        ("CROPS", "makes float32 (15, 16, 1) of images of 16x16x1, expected float32 (16, 16, 1)"),
        ("RAISES", "on images of 16x16x1: IndexError"),
        ("MISSING", "no MISSING"),
    ],
)
def test_run_refuses_a_broken_transform_in_one_line_before_it_writes(here, capsys, attribute, message):
    here("own_run", GOOD)
    assert cli.main(["run", "digits", "--out", "out", *SMALL, f"method.transform=own_run:{attribute}"]) == 2
    assert message in one_line(capsys)
    assert not Path("out").exists()


def test_transforms_check_prints_each_check_and_exits_with_1_if_one_fails(here, capsys):
    here("own_check", GOOD)
    assert cli.main(["transforms", "check", "own_check:RANDOM"]) == 1
    *passed, failed = sorted(capsys.readouterr().out.splitlines(), key=lambda line: "FAILED" in line)
    assert len(passed) == 10 and all(re.match(r"[a-z ]+ ok  ", line) for line in passed)
    assert re.match("same elsewhere +FAILED", failed)
    assert cli.main(["transforms", "check", "own_check:MISSING"]) == 2
    assert "no MISSING" in one_line(capsys)


def test_code_that_a_file_names_runs_only_if_the_user_names_it_too(
    here, small_model, tiny_network, tmp_path, capsys
):
    four = "\nFOUR = Transform('four', 4, lambda image, index: image.at[index].set(0))"
    here("of_a_stranger", "open('executed', 'w').close()\n" + GOOD + four)
    shutil.copytree(small_model, tmp_path / "model")
    path = tmp_path / "model" / "config.json"
    record = json.loads(path.read_text())
    record["experiment"]["method"]["transform"] = name = "of_a_stranger:FOUR"
    path.write_text(json.dumps(record))
    (tmp_path / "run.json").write_text(json.dumps(record["experiment"]))
    model = str(tmp_path / "model")
    for command in (
        ["score", model, str(small_model.parent / "good"), "--out", "scores.csv"],
        ["report", model],
        ["export", model, "--out", "file.jaxexport"],
        ["run", "run.json"],
    ):
        assert cli.main(command) == 2
        assert f"{name}, code that is not part of itae_jax" in one_line(capsys)
    for trust in ("", "other:TRANSFORM"):
        with pytest.raises(RequestError, match=f"trust='{name}'"):
            ITAEDetector.load(model, trust)
    assert not (tmp_path / "executed").exists()
    assert cli.main(["report", model, "--trust", name]) == 0
    assert (tmp_path / "executed").exists()
    assert ITAEDetector.load(model, name).get_params()["transform"] == name
