"""Processes that are to train together find each other first, here and not in JAX.

JAX ends a process that does not find the others by an abort of its own, minutes later and with no word on
which one is missing. So all meet at the coordinator's address, and leave it to JAX when everyone has come.

Each guest sends the host (process 0) one line of JSON, {"id": I, "of": N}, and gets one back when all have
come, or something is wrong: {"refused": null or what is wrong}.
"""

import contextlib
import json
import os
import socket
import time
from collections.abc import Callable

from itae_jax.errors import RequestError

SECONDS = 300
_SECONDS_TO_TELL = 5  # within which a guest that has come says who it is
_SECONDS_BETWEEN = 0.3
_LONGEST_LINE = 600


def meet(
    coordinator: str, num_processes: int, process_id: int, say: Callable[[str], None], seconds: float = SECONDS
) -> None:
    """Returns when all processes have come, each with an id of its own.

    Args:
      coordinator: HOST:PORT of process 0.
      say: what process 0 calls with a line on whom it waits for.
      seconds: how long to wait.

    Raises:
      RequestError: what is wrong, in every process that has come: some did not, an id came twice, the
        port is taken, nobody answers there.
    """
    host, _, port = coordinator.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if process_id == 0:
        if num_processes > 1:
            say(f"waiting for the other {num_processes - 1} of {num_processes} processes at {coordinator}")
        _host(coordinator, int(port), num_processes, time.monotonic() + seconds)
    else:
        _visit(coordinator, (host, int(port)), num_processes, process_id, seconds)


def _host(coordinator: str, port: int, num_processes: int, end: float) -> None:
    try:
        door = _listen(port)
    except OSError as error:
        why = os.strerror(error.errno)
        raise RequestError(
            f"--coordinator {coordinator}: process 0 cannot listen there ({why}); if another run or another "
            "process 0 uses the port, name another one to all"
        ) from None
    visitors: list[socket.socket] = []
    refused: str | None = f"--coordinator {coordinator}: process 0 was stopped while it waited; start all again"
    try:
        with door:
            refused = _wait(door, coordinator, visitors, num_processes, end)
    finally:
        for visitor in visitors:
            with contextlib.suppress(OSError), visitor:
                _send(visitor, {"refused": refused})
    if refused:
        raise RequestError(refused)


def _wait(
    door: socket.socket, coordinator: str, visitors: list[socket.socket], num_processes: int, end: float
) -> str | None:
    """Adds to `visitors` until all processes are among them; what is wrong, if something is."""
    guests: dict[int, socket.socket] = {}
    while len(guests) < num_processes - 1:
        door.settimeout(max(end - time.monotonic(), 0.001))
        try:
            visitor, _ = door.accept()
        except TimeoutError:
            return _who_is_missing(coordinator, guests, num_processes)
        visitors.append(visitor)
        visitor.settimeout(_SECONDS_TO_TELL)
        match _receive(visitor):
            case {"id": int(who), "of": int(many)}:
                refused = _what_is_wrong(who, many, guests, num_processes)
                if refused:
                    return refused
                guests[who] = visitor
            case _:  # a stranger
                visitor.close()
    return None


def _listen(port: int) -> socket.socket:
    if socket.has_dualstack_ipv6():
        return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)
    return socket.create_server(("", port))


def _what_is_wrong(who: int, many: int, guests: dict[int, socket.socket], num_processes: int) -> str | None:
    if many != num_processes:
        return f"--num-processes: {many} for process {who} and {num_processes} for process 0; give all the same"
    if who in guests and not _has_left(guests[who]):
        return f"--process-id {who}: given to two processes; give each its own, from 0 to {num_processes - 1}"
    return None


def _has_left(guest: socket.socket) -> bool:
    guest.setblocking(False)
    try:
        return not guest.recv(1)
    except BlockingIOError:
        return False
    except OSError:
        return True


def _who_is_missing(coordinator: str, guests: dict, num_processes: int) -> str:
    missing = [str(who) for who in range(1, num_processes) if who not in guests]
    named = ", ".join([*missing[:10], *(["..."] if len(missing) > 10 else [])])
    return (
        f"--coordinator {coordinator}: {len(missing)} of {num_processes} processes did not come (id {named}); "
        "start all of them within minutes, each with an address at which it reaches process 0"
    )


def _visit(
    coordinator: str, address: tuple[str, int], num_processes: int, process_id: int, seconds: float
) -> None:
    end = time.monotonic() + seconds
    refused = f"--coordinator {coordinator}: process 0 does not answer there; start it, or correct the address"
    while (left := end - time.monotonic()) > 0:
        try:
            with socket.create_connection(address, timeout=left) as door:
                _send(door, {"id": process_id, "of": num_processes})
                # Process 0 may have begun to wait later than this one: it is the one to give up.
                door.settimeout(left + seconds)
                match _receive(door):
                    case {"refused": None}:
                        return
                    case {"refused": str(refused)}:
                        raise RequestError(refused)
        except (socket.gaierror, UnicodeError) as error:
            why = getattr(error, "strerror", None) or "not a name of a host"
            raise RequestError(
                f"--coordinator {coordinator}: {why}; name a host that is known here, or its number"
            ) from None
        except OSError:  # not there yet, or not reached
            pass
        time.sleep(_SECONDS_BETWEEN)
    raise RequestError(refused)


def _send(to: socket.socket, message: dict) -> None:
    to.sendall(json.dumps(message).encode() + b"\n")


def _receive(source: socket.socket):
    """What the other side says in a line of JSON; None if it says something else, or leaves."""
    try:
        with source.makefile("rb") as lines:
            return json.loads(lines.readline(_LONGEST_LINE))
    except (OSError, ValueError):
        return None
