"""Processes that are to train together find each other first, here and not in JAX.

JAX ends a process that does not find the others by an abort of its own, minutes later and with no word on
which one is missing. So all meet at the coordinator's address, and leave it to JAX when everyone has come.

Each process sends the coordinator, process 0, one line of JSON, {"id": I, "of": N}, and gets one back when
all have come, or something is wrong: {"refused": null or what is wrong}.
"""

import contextlib
import json
import os
import socket
import time
from collections.abc import Callable

from itae_jax.errors import RequestError

SECONDS = 300
_SECONDS_TO_TELL = 2.0  # within which who connects has to say who it is
_SECONDS_FOR_LATECOMERS = 5.0  # in which a refusal is told to them, too
_SECONDS_BETWEEN = 0.3
_LONGEST_LINE = 600


def meet(
    address: tuple[str, int],
    num_processes: int,
    process_id: int,
    say: Callable[[str], None] = lambda line: None,
    seconds: float = SECONDS,
) -> None:
    """Returns when all processes have come, each with an id of its own.

    Args:
      address: host and port of process 0.
      say: what process 0 calls with a line on whom it waits for.
      seconds: how long to wait.

    Raises:
      RequestError: not all came in time, or an id or number does not fit, which all that have come are
        told; process 0 cannot listen on the port; another process cannot reach it.
    """
    end = time.monotonic() + seconds
    _check_host(address)
    if process_id == 0:
        _coordinate(address, num_processes, end, say)
    else:
        _join(address, num_processes, process_id, end)


def _check_host(address: tuple[str, int]) -> None:
    try:
        socket.getaddrinfo(*address)
    except (socket.gaierror, UnicodeError) as error:
        if getattr(error, "errno", None) == socket.EAI_AGAIN:  # it may be known in a moment
            return
        why = getattr(error, "strerror", None) or "not a name of a host"
        raise RequestError(
            f"{_option(address)}: {why}; name a host that is known here, or its number"
        ) from None


def _coordinate(address: tuple[str, int], num_processes: int, end: float, say: Callable[[str], None]) -> None:
    where = _option(address)
    try:
        listener = _listen(address[1])
    except OSError as error:
        raise RequestError(
            f"{where}: process 0 cannot listen there ({os.strerror(error.errno)}); stop what uses the port, or "
            "name another one to all"
        ) from None
    connections: list[socket.socket] = []
    refused: str | None = f"{where}: process 0 was stopped while it waited; start all again"
    with listener:
        try:
            if num_processes > 1:
                others = f"the other {num_processes - 1} of {num_processes} processes"
                say(f"waiting for {others} at {_written(address)}")
            refused = _wait_for_all(listener, connections, where, num_processes, end)
        finally:
            for connection in connections:
                _dismiss(connection, refused)
        if refused:
            latest = time.monotonic() + _SECONDS_FOR_LATECOMERS
            while (connection := _accept(listener, latest)) is not None:
                _dismiss(connection, refused)
            raise RequestError(refused)


def _listen(port: int) -> socket.socket:
    if socket.has_dualstack_ipv6():
        return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)
    return socket.create_server(("", port))


def _wait_for_all(
    listener: socket.socket, connections: list[socket.socket], where: str, num_processes: int, end: float
) -> str | None:
    """Adds to `connections` until every process is among them; what is wrong, if something is."""
    present: dict[int, socket.socket] = {}
    while True:
        if len(present) == num_processes - 1:
            present = _still_there(present)
            if len(present) == num_processes - 1:
                return None
        connection = _accept(listener, end)
        if connection is None:
            return _who_is_missing(where, _still_there(present), num_processes)
        connections.append(connection)
        match _receive(connection, min(end, time.monotonic() + _SECONDS_TO_TELL)):
            case {"id": int(who), "of": int(many)} if 0 < who < many and many is not True:
                refused = _what_is_wrong(who, many, present, num_processes)
                if refused:
                    return refused
                present[who] = connection
            case _:  # none of ours
                connection.close()


def _accept(listener: socket.socket, end: float) -> socket.socket | None:
    listener.settimeout(max(end - time.monotonic(), 0.001))
    try:
        return listener.accept()[0]
    except TimeoutError:
        return None


def _dismiss(connection: socket.socket, refused: str | None) -> None:
    with contextlib.suppress(OSError), connection:
        _send(connection, {"refused": refused})


def _still_there(present: dict[int, socket.socket]) -> dict[int, socket.socket]:
    return {who: connection for who, connection in present.items() if not _has_left(connection)}


def _has_left(connection: socket.socket) -> bool:
    connection.setblocking(False)
    try:
        return not connection.recv(1)
    except BlockingIOError:
        return False
    except OSError:
        return True


def _what_is_wrong(who: int, many: int, present: dict[int, socket.socket], num_processes: int) -> str | None:
    if many != num_processes:
        return f"--num-processes: {many} for process {who} and {num_processes} for process 0; give all the same"
    if who in present and not _has_left(present[who]):
        return f"--process-id {who}: given to two processes; give each its own, from 0 to {num_processes - 1}"
    return None


def _who_is_missing(where: str, present: dict[int, socket.socket], num_processes: int) -> str:
    missing = [str(who) for who in range(1, num_processes) if who not in present]
    named = ", ".join([*missing[:10], *(["..."] if len(missing) > 10 else [])])
    return (
        f"{where}: {len(missing)} of {num_processes} processes did not come (id {named}); start all of them "
        "within minutes, each with an address at which it reaches process 0"
    )


def _join(address: tuple[str, int], num_processes: int, process_id: int, end: float) -> None:
    where, why = _option(address), "no answer"
    while (left := end - time.monotonic()) > 0:
        try:
            with socket.create_connection(address, timeout=left) as connection:
                _send(connection, {"id": process_id, "of": num_processes})
                match _receive(connection, end):
                    case {"refused": None}:
                        return
                    case {"refused": str(refused)} if refused.isprintable():
                        raise RequestError(refused)
                why = "somebody listens there, perhaps a run that has begun, but did not let this process in"
        except OSError as error:  # not there yet, or not reached
            why = error.strerror or str(error)
        time.sleep(_SECONDS_BETWEEN)
    raise RequestError(f"{where}: did not meet process 0 there ({why}); start all, or correct the address")


def _option(address: tuple[str, int]) -> str:
    return f"--coordinator {_written(address)}"


def _written(address: tuple[str, int]) -> str:
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _send(to: socket.socket, message: dict) -> None:
    to.sendall(json.dumps(message).encode() + b"\n")


def _receive(source: socket.socket, end: float):
    """What the other side says in a line of JSON until then; None if it says something else, or nothing."""
    line = b""
    try:
        while not line.endswith(b"\n") and len(line) < _LONGEST_LINE and (left := end - time.monotonic()) > 0:
            source.settimeout(left)
            part = source.recv(_LONGEST_LINE)
            if not part:
                break
            line += part
        return json.loads(line)
    except (OSError, ValueError, RecursionError):
        return None
