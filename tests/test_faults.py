"""A short form of `make test-faults`: a sweep that is killed, stopped or damaged loses nothing."""

import random
import shutil
import signal

import faults
import pytest
from process import Process


class TinySweep(faults.Sweep):
    def start(self, out):
        return Process(2, *self.command, "--out", out)


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    return TinySweep(tmp_path_factory.mktemp("faults"), "6", 20)


@pytest.fixture(scope="module")
def expected(sweep):
    out = sweep.directory / "undisturbed"
    sweep.finish(out)
    found = faults.contents(out)
    assert {"results.csv", "metrics.jsonl", "class_6/seed_0/scores.csv"} <= set(found)
    return found


def test_a_sweep_killed_during_training_ends_as_if_undisturbed(sweep, expected):
    out = sweep.directory / "killed"
    assert faults.stop_at_random(sweep, out, signal.SIGKILL, 1, random.Random(0), while_training=1.0) == 1
    assert faults.contents(out) == expected


def test_contents_shows_lost_lines(sweep, expected, tmp_path):
    shutil.copytree(sweep.directory / "undisturbed", tmp_path / "copy")
    names = ["class_6/seed_0/scores.csv", "metrics.jsonl", "results.csv"]
    for path in (tmp_path / "copy" / name for name in names):
        path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    found = faults.contents(tmp_path / "copy")
    assert sorted(key for key in expected if found.get(key) != expected[key]) == names
