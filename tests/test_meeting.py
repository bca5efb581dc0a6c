"""Processes find each other, or all that have come are told what is wrong."""

import contextlib
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from itae_jax import cli, meeting
from itae_jax.errors import RequestError

LONG, SHORT = 30, 1


@pytest.fixture
def address():
    with socket.socket() as free:
        free.bind(("localhost", 0))
        return f"localhost:{free.getsockname()[1]}"


@pytest.fixture
def come(address):
    """Starts a process that comes to the meeting; its future gives None or what it was told."""
    with ThreadPoolExecutor(8) as pool:

        def start(process_id, num_processes, seconds=LONG):
            def meet():
                try:
                    return meeting.meet(address, num_processes, process_id, lambda line: None, seconds)
                except RequestError as error:
                    return str(error)

            return pool.submit(meet)

        yield start


def told(*futures):
    """What all were told, which is the same."""
    lines = {future.result(timeout=2 * LONG) for future in futures}
    assert len(lines) == 1, lines
    return lines.pop()


@pytest.fixture
def visit(address):
    """A connection to the door of process 0."""
    with contextlib.ExitStack() as opened:

        def connect():
            host, port = address.split(":")
            for _ in range(200):
                with contextlib.suppress(ConnectionRefusedError):
                    return opened.enter_context(socket.create_connection((host, port), timeout=LONG))
                time.sleep(0.05)
            raise AssertionError("process 0 does not listen")

        yield connect


@pytest.mark.parametrize("order", [[0], [0, 1], [1, 0], [2, 3, 0, 1]])
def test_all_come_in_any_order_and_the_port_is_free_afterwards(order, come, address):
    for _ in range(2):
        assert told(*[come(process_id, len(order)) for process_id in order]) is None


def test_who_is_missing_is_told_to_all(come, address):
    line = told(come(0, 4, SHORT), come(2, 4, LONG))
    assert line.startswith(f"--coordinator {address}: 2 of 4 processes did not come (id 1, 3); ")


def test_an_id_given_twice_is_told_to_all(come):
    line = told(come(0, 3), come(1, 3), come(1, 3))
    assert line == "--process-id 1: given to two processes; give each its own, from 0 to 2"


def test_another_number_of_processes_is_told_to_all(come):
    line = told(come(0, 2), come(1, 3))
    assert line == "--num-processes: 3 for process 1 and 2 for process 0; give all the same"


def test_one_that_left_may_come_again(come, visit):
    host = come(0, 3)
    door = visit()
    door.sendall(b'{"id": 1, "of": 3}\n')
    door.close()
    time.sleep(0.5)  # until its end has come through
    assert told(host, come(1, 3), come(2, 3)) is None


@pytest.mark.parametrize(
    "words", [b"", b"GET / HTTP/1.1\r\n\r\n", b"\xff\xfe\n", b"[" * 5000, b'{"id": "x"}\n']
)
def test_strangers_are_sent_away(words, come, visit):
    host = come(0, 2)
    door = visit()
    with contextlib.suppress(ConnectionError):
        door.sendall(words)
        door.shutdown(socket.SHUT_WR)
    with contextlib.suppress(ConnectionError):
        assert door.recv(1) == b""
    assert told(host, come(1, 2)) is None


def test_a_process_0_that_is_interrupted_tells_those_who_have_come(come, address, monkeypatch):
    def interrupted(who, many, guests, num_processes):
        if guests:
            raise KeyboardInterrupt

    monkeypatch.setattr(meeting, "_what_is_wrong", interrupted)
    guests = come(1, 3, SHORT), come(2, 3, SHORT)
    with pytest.raises(KeyboardInterrupt):
        meeting.meet(address, 3, 0, lambda line: None, LONG)
    lines = {guest.result(timeout=LONG) for guest in guests}
    assert f"--coordinator {address}: process 0 was stopped while it waited; start all again" in lines


def test_nobody_there_is_told(come, address):
    assert told(come(1, 2, SHORT)).startswith(f"--coordinator {address}: process 0 does not answer there; ")


def test_who_is_waited_for_is_said(address):
    said = []
    with pytest.raises(RequestError, match="did not come"):
        meeting.meet(address, 3, 0, said.append, 0.1)
    assert said == [f"waiting for the other 2 of 3 processes at {address}"]


RUN = ["run", "experiments/digits.py", "--num-processes", "2"]


@pytest.mark.parametrize("host", ["nohost.invalid", "a" * 70, "..."])
def test_a_host_that_is_unknown_is_refused(host, tmp_path, capsys):
    out = tmp_path / "out"
    assert cli.main([*RUN, "--coordinator", f"{host}:1234", "--process-id", "1", "--out", str(out)]) == 2
    assert capsys.readouterr().err.startswith(f"itae: --coordinator {host}:1234: ")
    assert not out.exists()


def test_a_port_in_use_is_refused(tmp_path, capsys):
    out = tmp_path / "out"
    with meeting._listen(0) as taken:
        address = f"localhost:{taken.getsockname()[1]}"
        assert cli.main([*RUN, "--coordinator", address, "--process-id", "0", "--out", str(out)]) == 2
    error = capsys.readouterr().err
    assert error.startswith(
        f"itae: --coordinator {address}: process 0 cannot listen there (Address already in use)"
    )
    assert len(error.splitlines()) == 1
    assert not out.exists()
