"""Several processes, each with its own devices, train as one and end together."""

import csv
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from itae_jax import cli

HERE = Path(__file__).parent
RUN = ["run", str(HERE.parent / "experiments" / "digits.py"), "--classes", "6"]
# 21 steps: 7 epochs with 3 batches of 32 of the 127 images.
SETTINGS = ["compute.dtype=float64", "train.epochs=7", "data.limit_test=100"]


def start(devices, *arguments):
    """Starts a process with so many devices that runs `itae` with these arguments."""
    environment = {key: value for key, value in os.environ.items() if key not in ("XLA_FLAGS", "JAX_PLATFORMS")}
    return subprocess.Popen(
        [sys.executable, str(HERE / "process.py"), str(devices), *map(str, arguments)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def start_two(devices, *arguments, second=()):
    """Starts two processes that train together; only the second gets the arguments `second`."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    together = [*arguments, "--coordinator", address, "--num-processes", 2, "--process-id"]
    return [start(devices, *together, 0), start(devices, *together, 1, *second)]


def finish(*processes, seconds=240):
    """Returns (exit code, stdout, stderr) of each, without what Gloo prints when CPUs connect."""
    try:
        outputs = [process.communicate(timeout=seconds) for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [
        (process.returncode, re.sub(r"\[Gloo\] .*\n", "", printed), errors)
        for process, (printed, errors) in zip(processes, outputs, strict=True)
    ]


def losses(out):
    return [json.loads(line)["loss"] for line in (out / "metrics.jsonl").read_text().splitlines()]


def scores(out):
    with (out / "class_6" / "seed_0" / "scores.csv").open() as file:
        return [float(row["score"]) for row in csv.DictReader(file)]


def results(out):
    with (out / "results.csv").open() as file:
        return list(csv.DictReader(file))


def test_run_gives_the_same_on_eight_devices_in_two_processes_and_on_one_device(tmp_path, tiny_network):
    one, eight, two = (tmp_path / name for name in ("one", "eight", "two"))
    alone = start(8, *RUN, "--out", eight, "--set", *SETTINGS)
    with jax.enable_x64(True):
        assert cli.main([*RUN, "--out", str(one), "--set", *SETTINGS, "compute.devices=1"]) == 0
    ((code, _, errors),) = finish(alone)
    assert code == 0, errors
    leader, follower = finish(*start_two(2, *RUN, "--out", two, "--set", *SETTINGS))
    assert leader[0] == follower[0] == 0, leader[2] + follower[2]
    assert "AUROC" in leader[1]
    assert follower[1:] == ("", "")
    for out in (eight, two):
        np.testing.assert_allclose(losses(out), losses(one), rtol=1e-9)
        np.testing.assert_allclose(scores(out), scores(one), rtol=1e-6)
        assert float(results(out)[0]["auroc"]) == pytest.approx(float(results(one)[0]["auroc"]), abs=1e-3)


def until(condition, *processes, seconds=240):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end or any(process.poll() is not None for process in processes):
            for process in processes:
                process.kill()
            raise AssertionError(finish(*processes))
        time.sleep(0.05)


def newest_checkpoint(out):
    steps = [int(path.name) for path in out.glob("class_6/seed_0/checkpoints/*") if path.name.isdecimal()]
    return max(steps, default=0)


def test_processes_stop_together_resume_and_do_not_wait_for_a_lost_one(tmp_path):
    out = tmp_path / "out"
    endless = ["--set", "train.epochs=100000", "train.checkpoint_minutes=0.01", "data.limit_test=100"]
    command = [*RUN, "--out", out, *endless]

    def train(*processes):
        """Lets them train until there is a new checkpoint; returns the one that they resumed from."""
        before = newest_checkpoint(out)
        until(lambda: newest_checkpoint(out) > before, *processes)
        return str(out / "class_6" / "seed_0" / "checkpoints" / str(before))

    both = start_two(1, *command)
    train(*both)
    both[1].send_signal(signal.SIGTERM)
    leader, follower = finish(*both)
    assert leader[0] == follower[0] == 130, leader[2] + follower[2]
    assert "interrupted; everything is saved" in leader[2]

    alone = start(2, *command)
    resumed = train(alone)
    alone.send_signal(signal.SIGINT)
    ((code, printed, errors),) = finish(alone)
    assert code == 130, errors
    assert f"resuming from {resumed}" in printed

    both = start_two(1, *command)
    resumed = train(*both)
    both[1].kill()
    start_of_loss = time.monotonic()
    leader, _ = finish(*both)
    assert time.monotonic() - start_of_loss < 60
    assert leader[0] != 0
    assert f"resuming from {resumed}" in leader[1]


def test_processes_with_different_settings_are_all_refused(tmp_path):
    both = start_two(1, *RUN, "--out", tmp_path, "--set", *SETTINGS, second=["--set", "method.loss=l1"])
    for code, _, errors in finish(*both):
        assert code == 2
        assert (
            errors.startswith("itae: the processes do not have the same config; ") and errors.count("\n") == 1
        )


def test_a_request_that_process_0_refuses_is_refused_by_all(tmp_path):
    (tmp_path / "results.csv").touch()
    for code, printed, errors in finish(*start_two(1, *RUN, "--out", tmp_path, "--set", *SETTINGS)):
        assert (code, printed) == (2, "")
        assert errors.startswith(f"itae: --out {tmp_path}: ") and errors.count("\n") == 1


def test_a_process_that_fails_alone_ends_the_other(tmp_path):
    missing = ["--set", "data.name=folder", f"data.root={tmp_path / 'missing'}"]
    other, failed = finish(*start_two(1, *RUN, "--out", tmp_path / "out", "--set", *SETTINGS, second=missing))
    assert failed[0] == 2 and str(tmp_path / "missing") in failed[2], failed
    assert other[0] != 0


def test_a_training_that_diverges_fails_in_all_processes_and_the_next_one_starts(tmp_path):
    classes = ["--classes", "6,8", "--set", "compute.dtype=float32", "train.learning_rate=1e38"]
    often = ["train.checkpoint_minutes=0.0001"]
    leader, follower = finish(*start_two(1, *RUN, "--out", tmp_path, "--set", *SETTINGS, *classes, *often))
    assert leader[0] == follower[0] == 1
    assert "2 trainings failed" in leader[2]
    assert follower[1:] == ("", "")
    assert len(results(tmp_path)) == 2


@pytest.mark.parametrize(
    ("address", "number", "process_id", "more", "named"),
    [
        (None, None, "0", [], "--coordinator, --num-processes and --process-id"),
        ("host", "2", "0", [], "--coordinator host"),
        ("host:65536", "2", "0", [], "--coordinator host:65536"),
        ("::1:80", "2", "0", [], "--coordinator ::1:80"),
        ("[::1:80", "2", "0", [], "--coordinator [::1:80"),
        ("host:1", "2", "2", [], "--process-id 2"),
        ("[::1]:80", "0", "0", [], "--num-processes 0"),
        ("host:1", "2", "0", ["--distributed"], "--distributed"),
    ],
)
def test_options_that_are_wrong_are_refused_in_one_line(
    address, number, process_id, more, named, tmp_path, capsys
):
    given = {"--coordinator": address, "--num-processes": number, "--process-id": process_id}
    options = [word for option, value in given.items() if value is not None for word in (option, value)]
    assert cli.main([*RUN, "--out", str(tmp_path / "out"), *options, *more]) == 2
    errors = capsys.readouterr().err
    assert named in errors and errors.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_distributed_without_a_cluster_is_refused_in_one_line(tmp_path, monkeypatch):
    for name in list(os.environ):
        if name.startswith(("SLURM_", "OMPI_", "KUBERNETES_", "JAX_COORDINATOR")):
            monkeypatch.delenv(name)
    ((code, printed, errors),) = finish(start(1, *RUN, "--out", tmp_path / "out", "--distributed"))
    assert (code, printed) == (2, "")
    assert errors.startswith("itae: --distributed: ") and errors.count("\n") == 1
    assert not (tmp_path / "out").exists()
