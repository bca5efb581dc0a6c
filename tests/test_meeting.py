"""Processes find each other, or all that have come are told what is wrong."""

import contextlib
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from itae_jax import cli
from itae_jax.errors import RequestError
from itae_jax.training import meeting

RUN = ["run", str(Path(__file__).parent.parent / "experiments" / "digits.py"), "--num-processes", "2"]
LONG = 30  # seconds in which all come, however busy the machine is


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(meeting, "_SECONDS_TO_TELL", 0.5)
    monkeypatch.setattr(meeting, "_SECONDS_FOR_LATECOMERS", 0.1)


@pytest.fixture
def address():
    with socket.socket() as free:
        free.bind(("localhost", 0))
        return "localhost", free.getsockname()[1]


@pytest.fixture
def option(address):
    """How an error begins that is about the address."""
    return f"--coordinator localhost:{address[1]}: "


@pytest.fixture
def come(address):
    """Starts a process that comes to the meeting; its future gives None or what it was told."""
    with ThreadPoolExecutor(8) as pool:

        def start(process_id, num_processes, seconds=LONG):
            def meet():
                try:
                    return meeting.meet(address, num_processes, process_id, seconds=seconds)
                except RequestError as error:
                    return str(error)

            return pool.submit(meet)

        yield start


@pytest.fixture
def connect(address):
    """Connects to process 0, once it listens."""
    with contextlib.ExitStack() as opened:

        def once_it_listens():
            for _ in range(20 * LONG):
                with contextlib.suppress(ConnectionRefusedError):
                    return opened.enter_context(socket.create_connection(address, timeout=LONG))
                time.sleep(0.05)
            raise AssertionError("process 0 does not listen")

        yield once_it_listens


def told(*futures):
    """What all were told, which is the same."""
    lines = {future.result(timeout=2 * LONG) for future in futures}
    assert len(lines) == 1, lines
    return lines.pop()


def come_and_leave(connection):
    connection.sendall(b'{"id": 1, "of": 3}\n')
    connection.close()
    time.sleep(0.5)  # until its end has come through


@pytest.mark.parametrize("order", [[0], [0, 1], [1, 0], [2, 3, 0, 1]])
def test_all_come_in_any_order_and_the_port_is_free_afterwards(order, come):
    for _ in range(2):
        assert told(*[come(process_id, len(order)) for process_id in order]) is None


def test_who_is_missing_is_told_to_all(come, option):
    line = told(come(2, 4), come(0, 4, seconds=3))
    assert line.startswith(f"{option}2 of 4 processes did not come (id 1, 3); ")


@pytest.mark.parametrize(
    ("second", "line"),
    [
        ((1, 3), "--process-id 1: given to two processes; give each its own, from 0 to 2"),
        ((2, 4), "--num-processes: 4 for process 2 and 3 for process 0; give all the same"),
    ],
)
def test_what_does_not_fit_is_told_to_all(second, line, come):
    coordinator, first = come(0, 3), come(1, 3)
    time.sleep(0.5)
    assert told(come(*second), coordinator, first) == line


def test_what_does_not_fit_is_told_to_those_who_come_a_little_later(come, monkeypatch):
    monkeypatch.setattr(meeting, "_SECONDS_FOR_LATECOMERS", 3.0)
    early = come(0, 4), come(1, 4), come(1, 4)
    line = told(*early[1:])
    assert told(come(2, 4), come(3, 4), *early) == line


def test_one_that_left_may_come_again(come, connect):
    coordinator = come(0, 3)
    come_and_leave(connect())
    assert told(coordinator, come(1, 3), come(2, 3)) is None


def test_one_that_left_is_waited_for(come, connect, option):
    coordinator = come(0, 3, seconds=4)
    come_and_leave(connect())
    line = told(coordinator, come(2, 3))
    assert line.startswith(f"{option}1 of 3 processes did not come (id 1); ")


@pytest.mark.parametrize(
    "words",
    [
        *(b"", b"GET / HTTP/1.1\r\n\r\n", b"\xff\xfe\n", b"[" * 5000, b'{"id": "x"}\n', b"null\n"),
        *(b'{"id": 7, "of": 2}\n', b'{"id": 0, "of": 2}\n', b'{"id": true, "of": true}\n'),
    ],
)
def test_who_is_no_process_of_the_run_is_sent_away(words, come, connect):
    coordinator, stranger = come(0, 2), connect()
    with contextlib.suppress(OSError):
        stranger.sendall(words)
        stranger.shutdown(socket.SHUT_WR)
    with contextlib.suppress(ConnectionError):
        assert stranger.recv(1) == b""
    assert told(coordinator, come(1, 2)) is None


@pytest.mark.parametrize("words", [b"", b"[[["])
def test_who_connects_and_says_no_line_does_not_hold_up_the_others(words, come, connect):
    coordinator, stranger = come(0, 2), connect()
    stranger.sendall(words)
    assert told(coordinator, come(1, 2)) is None


def test_who_listens_and_says_nothing_is_waited_for_no_longer(come, address):
    with meeting._listen(address[1]):
        assert "somebody listens there" in told(come(1, 2, seconds=1))


def test_a_process_0_that_is_interrupted_tells_those_who_have_come(come, address, option, monkeypatch):
    def interrupted(who, many, present, num_processes):
        if present:
            raise KeyboardInterrupt

    monkeypatch.setattr(meeting, "_what_is_wrong", interrupted)
    others = come(1, 3), come(2, 3)
    with pytest.raises(KeyboardInterrupt):
        meeting.meet(address, 3, 0, seconds=LONG)
    assert told(*others) == f"{option}process 0 was stopped while it waited; start all again"


def test_nobody_there_is_told(come, option):
    assert told(come(1, 2, seconds=1)).startswith(f"{option}did not meet process 0 there (Connection refused)")


def test_who_is_waited_for_is_said(address):
    said = []
    with pytest.raises(RequestError, match="did not come"):
        meeting.meet(address, 3, 0, said.append, 0.1)
    assert said == [f"waiting for the other 2 of 3 processes at localhost:{address[1]}"]


@pytest.fixture
def unknown(monkeypatch):
    """Sets the error of looking for a host, whatever network there is."""

    def answer(number, line):
        def look_up(*arguments, **options):
            raise socket.gaierror(number, line)

        monkeypatch.setattr(socket, "getaddrinfo", look_up)

    return answer


def test_a_host_that_may_be_known_in_a_moment_is_looked_up_again(come, option, unknown):
    unknown(socket.EAI_AGAIN, "Temporary failure in name resolution")
    assert told(come(1, 2, seconds=1)).startswith(f"{option}did not meet process 0 there (Temporary failure")


@pytest.mark.parametrize("process_id", ["0", "1"])
@pytest.mark.parametrize("host", ["nohost.invalid", "a" * 70, "..."])
def test_a_host_that_is_unknown_is_refused(host, process_id, tmp_path, capsys, unknown):
    out = tmp_path / "out"
    if host == "nohost.invalid":
        unknown(socket.EAI_NONAME, "Name or service not known")
    assert cli.main([*RUN, "--coordinator", f"{host}:1234", "--process-id", process_id, "--out", str(out)]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"itae: --coordinator {host}:1234: ")
    assert "name a host that is known here" in error
    assert not out.exists()


def test_a_port_in_use_is_refused(tmp_path, capsys):
    out = tmp_path / "out"
    with meeting._listen(0) as taken:
        address = f"localhost:{taken.getsockname()[1]}"
        assert cli.main([*RUN, "--coordinator", address, "--process-id", "0", "--out", str(out)]) == 2
    printed, error = capsys.readouterr()
    assert printed == ""
    assert error.startswith(f"itae: --coordinator {address}: process 0 cannot listen there (Address already in")
    assert len(error.splitlines()) == 1
    assert not out.exists()
