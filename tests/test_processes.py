"""Several processes, each with its own devices, give what one gives, and end together."""

import csv
import json
import os
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
# 21 steps: of 127 images 3 batches of 32 in each of 7 epochs.
SETTINGS = ["compute.dtype=float64", "train.epochs=7", "data.limit_test=100"]


def start(devices, *arguments):
    """A process with so many devices that runs `itae` with these arguments."""
    environment = {key: value for key, value in os.environ.items() if key not in ("XLA_FLAGS", "JAX_PLATFORMS")}
    return subprocess.Popen(
        [sys.executable, str(HERE / "process.py"), str(devices), *map(str, arguments)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def start_two(devices, *arguments, second=()):
    """Two processes that train together; `second` is what the second is told besides."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    together = [*arguments, "--coordinator", address, "--num-processes", 2, "--process-id"]
    return [start(devices, *together, 0), start(devices, *together, 1, *second)]


def finish(*processes, seconds=120):
    """(exit code, stdout, stderr) of each."""
    try:
        outputs = [process.communicate(timeout=seconds) for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [(process.returncode, *output) for process, output in zip(processes, outputs, strict=True)]


def losses(out):
    return [json.loads(line)["loss"] for line in (out / "metrics.jsonl").read_text().splitlines()]


def scores(out):
    with (out / "class_6" / "seed_0" / "scores.csv").open() as file:
        return [float(row["score"]) for row in csv.DictReader(file)]


def result(out):
    with (out / "results.csv").open() as file:
        (row,) = csv.DictReader(file)
    return row


def test_eight_devices_and_two_processes_give_what_one_device_gives(tmp_path, tiny_network):
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
        assert float(result(out)["auroc"]) == pytest.approx(float(result(one)["auroc"]), abs=1e-3)


def until(condition, *processes, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end and all(process.poll() is None for process in processes)
        time.sleep(0.05)


def newest_checkpoint(out):
    steps = [int(path.name) for path in out.glob("class_6/seed_0/checkpoints/*") if path.name.isdecimal()]
    return max(steps, default=0)


def test_processes_stop_together_and_one_that_is_lost_ends_the_others(tmp_path):
    out = tmp_path / "out"
    endless = ["--set", "train.epochs=100000", "train.checkpoint_minutes=0.01", "data.limit_test=100"]
    command = [*RUN, "--out", out, *endless]

    # One is asked to stop: all save, and leave after the same step.
    both = start_two(1, *command)
    until(lambda: newest_checkpoint(out), *both)
    both[1].send_signal(signal.SIGTERM)
    leader, follower = finish(*both)
    assert leader[0] == follower[0] == 130, leader[2] + follower[2]
    assert "interrupted; all that was done is saved" in leader[2]

    # They go on; one is lost: the other says so, and ends.
    before = newest_checkpoint(out)
    both = start_two(1, *command)
    until(lambda: newest_checkpoint(out) > before, *both)
    both[1].kill()
    start_of_loss = time.monotonic()
    leader, _ = finish(*both)
    assert time.monotonic() - start_of_loss < 60
    assert leader[0] in (1, -signal.SIGABRT)
    assert f"going on from {out / 'class_6' / 'seed_0' / 'checkpoints' / str(before)}" in leader[1]
    assert leader[2].startswith("itae: process 0: another process of this run was lost")
    assert len(leader[2].splitlines()) == 1

    # One process with both devices goes on from there.
    before = newest_checkpoint(out)
    alone = start(2, *command)
    until(lambda: newest_checkpoint(out) > before, alone)
    alone.send_signal(signal.SIGINT)
    ((code, _, _),) = finish(alone)
    assert code == 130


def test_processes_with_another_command_are_refused_together(tmp_path):
    both = start_two(1, *RUN, "--out", tmp_path, "--set", *SETTINGS, second=["--set", "train.loss=l1"])
    for code, _, errors in finish(*both):
        assert code == 2
        assert errors == "itae: the processes do not have the same config; give all the same command and data\n"


@pytest.mark.parametrize(
    ("address", "number", "process_id", "more", "told"),
    [
        (None, None, "0", [], "give all three, or --distributed"),
        ("host", "2", "0", [], "expected HOST:PORT"),
        ("host:65536", "2", "0", [], "from 1 to 65535"),
        ("::1:80", "2", "0", [], "address in brackets"),
        ("[::1:80", "2", "0", [], "address in brackets"),
        ("host:1", "2", "2", [], "an id from 0 to 1"),
        ("host:1", "0", "0", [], "a whole number from 1 up"),
        ("host:1", "2", "0", ["--distributed"], "is instead of"),
    ],
)
def test_what_can_be_no_address_is_refused(address, number, process_id, more, told, tmp_path, capsys):
    given = {"--coordinator": address, "--num-processes": number, "--process-id": process_id}
    options = [word for option, value in given.items() if value is not None for word in (option, value)]
    assert cli.main([*RUN, "--out", str(tmp_path / "out"), *options, *more]) == 2
    assert told in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_distributed_without_a_cluster_is_refused(tmp_path, monkeypatch):
    for name in list(os.environ):
        if name.startswith(("SLURM_", "OMPI_", "KUBERNETES_", "JAX_COORDINATOR")):
            monkeypatch.delenv(name)
    ((code, output, errors),) = finish(start(1, *RUN, "--out", tmp_path / "out", "--distributed"))
    assert (code, output) == (2, "")
    assert errors.startswith("itae: --distributed: JAX finds no Slurm")
    assert len(errors.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_what_the_first_process_alone_refuses_all_refuse(tmp_path):
    (tmp_path / "results.csv").touch()
    leader, follower = finish(*start_two(1, *RUN, "--out", tmp_path, "--set", *SETTINGS))
    assert leader[1].startswith("waiting for the other 1 of 2 processes")
    assert len(leader[1].splitlines()) == 1
    assert follower[1] == ""
    for code, _, errors in (leader, follower):
        assert code == 2
        assert errors == f"itae: --out {tmp_path}: has results.csv but no config.json; name another directory\n"


def test_a_training_that_diverges_fails_in_all_and_a_sweep_goes_on(tmp_path):
    out = tmp_path / "out"
    classes = ["--classes", "6,8", "--set", "compute.dtype=float32", "train.learning_rate=1e38"]
    often = ["train.checkpoint_minutes=0.0001"]
    leader, follower = finish(*start_two(1, *RUN, "--out", out, "--set", *SETTINGS, *classes, *often))
    assert leader[0] == follower[0] == 1
    assert "2 trainings failed" in leader[2]
    assert follower[1:] == ("", "")
    with (out / "results.csv").open() as file:
        assert [row["note"][:7] for row in csv.DictReader(file)] == ["failed:", "failed:"]


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (RuntimeError("all-reduce failed: Connection reset by peer"), "itae: process 0: lost (XLA's words: "),
        (ValueError("all-reduce failed: [external/gloo/pair.cc:538]"), "itae: process 0: lost (XLA's words: "),
        (RuntimeError("out of memory"), "RuntimeError: out of memory"),
        (RuntimeError("RESOURCE_EXHAUSTED: in NCCL"), "RuntimeError: RESOURCE_EXHAUSTED"),
        (RuntimeError("Connection refused by the storage"), "RuntimeError: Connection refused"),
        (ConnectionResetError("Connection reset by peer"), "ConnectionResetError: Connection reset"),
    ],
)
def test_an_error_that_tells_of_a_lost_process_is_told_in_a_line_and_others_as_they_are(error, told):
    source = f"from itae_jax import watch; watch.start('process 0: lost'); watch.fail({error!r})"
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr.startswith(told)
    assert len(done.stderr.splitlines()) == 1
