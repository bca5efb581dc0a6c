"""The `itae` command: exit codes, what is printed and where pages go."""

import gzip
import os
import subprocess
import sys

import jax
import numpy as np
import pytest
from conftest import contents, one_line, rows_of

from itae_jax import cli, experiment, progress
from itae_jax.errors import RequestError
from itae_jax.runs import directory
from itae_jax.training import profiling

pytestmark = pytest.mark.usefixtures("tiny_network")
SMALL = ["--set", "train.epochs=2", "method.width=4", "data.limit_train=40", "data.limit_test=60"]


def command(out, *more):
    return ["run", "digits", "--classes", "6", "--out", str(out), *SMALL, *more]


@pytest.fixture(scope="module")
def finished(tmp_path_factory, tiny_network):
    """A run of one class; tests look at it and leave it as it is."""
    out = tmp_path_factory.mktemp("runs") / "one"
    assert cli.main(command(out)) == 0
    return out


def test_run_prints_its_result_and_where_the_report_is(finished, tmp_path, capsys):
    out = tmp_path / "out"
    assert cli.main(command(out)) == 0
    told = capsys.readouterr()
    (row,) = rows_of(out / "results.csv")
    assert f"AUROC {float(row['auroc']):.4f}" in told.out and told.err == ""
    assert told.out.splitlines()[-1] == f"report: {out / 'report.html'}"
    assert (out / "report.html").read_bytes()


def test_run_again_says_that_nothing_is_to_do(finished, capsys):
    before = {path: content for path, content in contents(finished).items() if path.stem != "report"}
    assert cli.main(command(finished)) == 0
    assert "nothing to do" in capsys.readouterr().out
    after = contents(finished)
    assert {path: after[path] for path in before} == before


def test_run_of_another_config_is_refused_with_the_difference(finished, capsys):
    before = contents(finished)
    assert cli.main([*command(finished), "method.width=8"]) == 2
    assert "method.width: 4 -> 8" in one_line(capsys)
    assert contents(finished) == before


def test_interrupted_run_says_so_and_the_same_command_resumes(finished, tmp_path, monkeypatch, capsys):
    class Interrupted(progress.ConsoleProgress):
        def epoch(self, name, epoch, loss, rate):
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(progress, "ConsoleProgress", Interrupted)
        assert cli.main(command(tmp_path / "out")) == 130
    assert "interrupted" in one_line(capsys)
    assert cli.main(command(tmp_path / "out")) == 0
    for path in ("metrics.jsonl", "class_6/seed_0/scores.csv"):
        assert (tmp_path / "out" / path).read_bytes() == (finished / path).read_bytes(), path


def test_run_with_failed_trainings_ends_with_1_every_time(tmp_path, capsys):
    settings = ["train.learning_rate=1e6", "method.weight_decay=1e6"]
    for _ in range(2):  # the second time from results.csv alone
        assert cli.main([*command(tmp_path), *settings]) == 1
        told = capsys.readouterr()
        assert told.err.count("\n") == 1 and "1 trainings failed" in told.err
        assert "lower train.learning_rate" in told.out


def test_run_beside_another_in_the_same_directory_is_refused(tmp_path, capsys):
    out = tmp_path / "out"
    with directory.opened(out, experiment.Experiment(name="first")):
        before = contents(out)
        assert cli.main(command(out)) == 2
        assert str(out) in one_line(capsys)
        assert contents(out) == before


def test_report_may_go_elsewhere(finished, tmp_path, capsys):
    before, out = contents(finished), tmp_path / "new" / "page"
    assert cli.main(["report", str(finished), "--out", str(out)]) == 0
    assert capsys.readouterr().out.endswith(f"report: {out / 'report.html'}\n")
    after = contents(finished)
    changed = {path for path in after if after[path] != before.get(path)}
    assert changed <= set((finished / "figures").iterdir())


def test_page_is_text_whatever_names_look_like(tmp_path, rng):
    from PIL import Image

    evil = "<script>document.title = 'taken'<|script>".replace("|", "&#47;")
    for folder in (f"{split}/{name}" for split in ("train", "test") for name in (evil, "b")):
        (tmp_path / "tree" / folder).mkdir(parents=True)
        for number in range(4):
            Image.fromarray(rng.integers(0, 256, (16, 16), np.uint8)).save(
                tmp_path / "tree" / folder / f"{number}.png"
            )
    tree = ["--set", "data.name=folder", f"data.root={tmp_path}/tree", "train.batch_size=4", "train.epochs=1"]
    assert cli.main(["run", "digits", "--classes", "0", "--out", str(tmp_path / "out"), *tree]) == 0
    page = (tmp_path / "out" / "report.html").read_text()
    assert "<script>document" not in page and "&lt;script&gt;document" in page


def test_transforms_are_listed_with_their_count(capsys):
    assert cli.main(["transforms"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert {("identity", "1"), ("gray", "1"), ("rotate", "4"), ("scale", "1")} <= {
        tuple(line.split()[:2]) for line in lines
    }


def test_help_needs_none_of_the_heavy_libraries():
    script = (
        "import sys, itae_jax.cli\n"
        "try: itae_jax.cli.main(['--help'])\n"
        "except SystemExit: pass\n"
        "print(sorted({'jax', 'numpy', 'matplotlib', 'sklearn'} & set(sys.modules)))"
    )
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, env=os.environ
    )
    assert result.stdout.splitlines()[-1] == "[]"


def test_profile_of_some_steps_is_recorded(tmp_path, capsys):
    profile, out = tmp_path / "profile", tmp_path / "out"
    assert cli.main([*command(out), "train.epochs=8", "--profile", str(profile)]) == 0
    assert f"profile: {profile}" in capsys.readouterr().out
    (trace,) = profile.glob("plugins/profile/*/perfetto_trace.json.gz")
    assert b"traceEvents" in gzip.decompress(trace.read_bytes())
    assert list(trace.parent.glob("*.xplane.pb"))


@pytest.mark.parametrize(("steps_per_call", "last"), [(1, 8), (2, 6), (50, 4)])
def test_profile_has_as_few_calls_as_have_five_steps(tmp_path, monkeypatch, steps_per_call, last):
    call, told = 0, []
    monkeypatch.setattr(jax.profiler, "start_trace", lambda *_, **__: told.append(("start", call)))
    monkeypatch.setattr(jax.profiler, "stop_trace", lambda: told.append(("stop", call)))
    profile = profiling.Profile(tmp_path)
    while call < 12:
        call += 1
        profile.after_call({"loss": np.zeros(steps_per_call)})
    profile.stop()
    assert told == [("start", 3), ("stop", last)] and profile.is_written
    (tmp_path / "file").touch()
    with pytest.raises(RequestError, match=r"--profile .*file: is a file; name a directory"):
        profiling.Profile(tmp_path / "file")
