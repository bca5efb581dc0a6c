"""A short form of `make test-faults`: a sweep that is killed, stopped or damaged loses nothing."""

import random
import shutil
import signal
from pathlib import Path

import faults
import pytest


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    program = str(Path(__file__).parent / "process.py"), "2"
    return faults.Sweep(tmp_path_factory.mktemp("faults"), "6", 20, program)


@pytest.fixture(scope="module")
def expected(sweep):
    out = sweep.directory / "undisturbed"
    sweep.finish(out)
    found = faults.contents(out)
    assert {"results.csv", "metrics.jsonl", "class_6/seed_0/scores.csv"} <= set(found)
    return found


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_sweep_stopped_during_training_ends_as_if_undisturbed(sweep, expected, number):
    out = sweep.directory / number.name
    assert faults.stop_at_random(sweep, out, number, 1, random.Random(0), while_training=1.0) == 1
    assert faults.contents(out) == expected


def test_a_sweep_whose_checkpoint_is_damaged_ends_as_if_undisturbed(sweep, expected):
    out = sweep.directory / "flipped"
    faults.spoil_newest_checkpoint(sweep, out, "flipped")
    assert faults.contents(out) == expected


@pytest.mark.parametrize("name", ["results.csv", "metrics.jsonl", "class_6/seed_0/scores.csv"])
def test_contents_shows_a_lost_line(sweep, expected, tmp_path, name):
    shutil.copytree(sweep.directory / "undisturbed", tmp_path / "copy")
    path = tmp_path / "copy" / name
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    found = faults.contents(tmp_path / "copy")
    assert [key for key in expected if found.get(key) != expected[key]] == [name]
