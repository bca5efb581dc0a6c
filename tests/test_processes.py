"""Several processes, each with its own devices, train as one and end together."""

import os
import re
import signal
import socket
import time
from pathlib import Path

import jax
import numpy as np
from conftest import rows_of
from process import Process

from itae_jax import cli, progress
from itae_jax.training import log

HERE = Path(__file__).parent
RUN = ["run", str(HERE.parent / "experiments" / "digits.py"), "--classes", "6"]
SETTINGS = ["--set", "compute.dtype=float64", "train.epochs=2", "data.limit_test=40", "evaluate.batch_size=8"]


def start_two(devices, *arguments, second=()):
    """Starts two processes that train together; only the second gets the arguments `second`."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    together = [*arguments, "--coordinator", address, "--num-processes", 2, "--process-id"]
    return [Process(devices, *together, 0), Process(devices, *together, 1, *second)]


def finish(*processes, seconds=240):
    """Returns (exit code, stdout, stderr) of each, without what Gloo prints when CPUs connect."""
    try:
        outputs = [process.communicate(timeout=seconds) for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [
        (process.returncode, re.sub(r"(?m)^.*(Gloo|peer ranks).*\n|^\n", "", printed), errors)
        for process, (printed, errors) in zip(processes, outputs, strict=True)
    ]


def assert_all_refused(found, message):
    for code, printed, errors in found:
        assert (code, printed) == (2, "")
        assert errors.startswith(f"itae: {message}") and errors.count("\n") == 1


def test_run_gives_the_same_on_four_devices_in_two_processes_and_on_one_device(tmp_path, tiny_network):
    from test_tensorboard import event_file, expected, scalars_of

    one, two, scalars = (tmp_path / name for name in ("one", "two", "scalars"))
    settings = [*SETTINGS, "train.epochs=3"]
    both = start_two(2, *RUN, "--out", two, "--tensorboard", scalars, *settings)
    with jax.enable_x64(True):
        assert cli.main([*RUN, "--out", str(one), *settings, "compute.devices=1"]) == 0
    leader, follower = finish(*both)
    assert leader[0] == follower[0] == 0, leader[2] + follower[2]
    assert "AUROC" in leader[1]
    assert follower[1:] == ("", "")
    for file, column, rtol in (("results.csv", "auroc", 1e-3), ("class_6/seed_0/scores.csv", "score", 1e-6)):
        ours, theirs = ([float(row[column]) for row in rows_of(out / file)] for out in (two, one))
        np.testing.assert_allclose(ours, theirs, rtol=rtol)
    ours, theirs = ([entry["loss"] for entry in log.read_metrics(out / "metrics.jsonl")] for out in (two, one))
    np.testing.assert_allclose(ours, theirs, rtol=1e-9)
    *epochs, _ = scalars_of(event_file(scalars / "class_6" / "seed_0"))  # there is one: process 0 alone writes
    assert epochs == expected(two / "metrics.jsonl", normal_class=6, seed=0)


def newest_checkpoint(out):
    steps = [int(path.name) for path in out.glob("class_6/seed_0/checkpoints/*") if path.name.isdecimal()]
    return max(steps, default=0)


def wait_for_a_checkpoint(out, *processes, seconds=240):
    before, end = newest_checkpoint(out), time.monotonic() + seconds
    while newest_checkpoint(out) == before:
        if time.monotonic() > end or any(process.poll() is not None for process in processes):
            for process in processes:
                process.kill()
            raise AssertionError(finish(*processes))
        time.sleep(0.05)


def test_processes_stop_together_resume_and_do_not_wait_for_a_lost_one(
    tmp_path, tiny_network, monkeypatch, capsys
):
    endless = ["--set", "train.epochs=100000", "train.checkpoint_minutes=0.01", "data.limit_test=40"]
    endless += ["evaluate.batch_size=8"]
    command = [*RUN, "--out", str(tmp_path), *endless]
    both = start_two(1, *command)
    wait_for_a_checkpoint(tmp_path, *both)
    both[1].send_signal(signal.SIGTERM)
    leader, follower = finish(*both)
    assert leader[0] == follower[0] == 130, leader[2] + follower[2]
    assert "interrupted; everything is saved" in leader[2]

    stopped_at, said = newest_checkpoint(tmp_path), f"resuming from {tmp_path}/class_6/seed_0/checkpoints/"
    monkeypatch.setattr(progress.ConsoleProgress, "epoch", lambda *_: signal.raise_signal(signal.SIGINT))
    with jax.enable_x64(True):
        assert cli.main([*command, "compute.devices=2"]) == 130
    assert f"{said}{stopped_at}" in capsys.readouterr().out

    stopped_at = newest_checkpoint(tmp_path)
    both = start_two(1, *command)
    wait_for_a_checkpoint(tmp_path, *both)
    both[1].kill()
    start_of_loss = time.monotonic()
    leader, _ = finish(*both)
    assert time.monotonic() - start_of_loss < 60
    assert leader[0] != 0
    assert f"{said}{stopped_at}" in leader[1]


def test_processes_with_different_settings_are_all_refused(tmp_path):
    both = start_two(1, *RUN, "--out", tmp_path, *SETTINGS, second=["--set", "method.loss=l1"])
    assert_all_refused(finish(*both), "the processes do not have the same config; ")


def test_a_request_that_process_0_refuses_is_refused_by_all(tmp_path):
    (tmp_path / "results.csv").touch()
    assert_all_refused(finish(*start_two(1, *RUN, "--out", tmp_path, *SETTINGS)), f"--out {tmp_path}: ")


def test_a_process_that_fails_alone_ends_the_other(tmp_path):
    missing = ["--set", "data.name=folder", f"data.root={tmp_path / 'missing'}"]
    other, failed = finish(*start_two(1, *RUN, "--out", tmp_path / "out", *SETTINGS, second=missing))
    assert failed[0] == 2 and str(tmp_path / "missing") in failed[2], failed
    assert other[0] != 0


def test_a_training_that_diverges_fails_in_all_processes_and_the_next_one_starts(tmp_path):
    settings = ["train.epochs=2", "data.limit_test=40", "train.learning_rate=1e38"]
    settings += ["train.checkpoint_minutes=0.0001", "evaluate.batch_size=8"]
    command = [*RUN, "--classes", "6,8", "--out", tmp_path, "--set", *settings]
    leader, follower = finish(*start_two(1, *command))
    assert leader[0] == follower[0] == 1
    assert "2 trainings failed" in leader[2]
    assert follower[1:] == ("", "")
    assert len(rows_of(tmp_path / "results.csv")) == 2


def test_distributed_without_a_cluster_is_refused_in_one_line(tmp_path, monkeypatch):
    for name in list(os.environ):
        if name.startswith(("SLURM_", "OMPI_", "KUBERNETES_", "JAX_COORDINATOR")):
            monkeypatch.delenv(name)
    found = finish(Process(1, *RUN, "--out", tmp_path / "out", "--distributed"))
    assert_all_refused(found, "--distributed: ")
    assert not (tmp_path / "out").exists()
