"""Signals that wait until they can do no harm: until a state is saved, until an import is done."""

import contextlib
import io
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator

_STOP = (signal.SIGINT, signal.SIGTERM)
_LATER = signal.SIGALRM  # a signal that was put off comes again as this one
_SECONDS = 0.05


class Stop:
    """Whether somebody asked to stop."""

    requested = False


_outer: Stop | None = None


@contextlib.contextmanager
def deferred(wanted: bool = True) -> Iterator[Stop]:
    """Inside, the first SIGINT or SIGTERM only sets `requested`; the second one ends the process at once.

    At the end KeyboardInterrupt is raised if it was requested, so that none is ever lost. Python handles
    signals in the main thread alone; in another, or if not `wanted`, nothing changes. Inside of
    `deferred_throughout` it is that which defers.
    """
    if _outer is not None:
        yield _outer
        return
    stop = Stop()

    def handle(number, frame):
        stop.requested = True
        os.write(_terminal(), b"stopping as soon as all is saved; once more to leave at once\n")
        for each in _STOP:
            signal.signal(each, signal.SIG_DFL)

    with _handled(handle) if wanted else contextlib.nullcontext():
        yield stop
    if stop.requested:
        raise KeyboardInterrupt


@contextlib.contextmanager
def at_once() -> Iterator[None]:
    """Inside, SIGINT and SIGTERM end the process at once, even where Python has no say."""
    with _handled(signal.SIG_DFL):
        yield


@contextlib.contextmanager
def deferred_throughout() -> Iterator[None]:
    """As `deferred`, over all that is done inside; `requested` tells."""
    global _outer
    try:
        with deferred() as stop:
            _outer = stop
            yield
    finally:
        _outer = None


def requested() -> bool:
    """Whether a signal waits, inside of `deferred_throughout`."""
    return _outer is not None and _outer.requested


def _terminal() -> int:
    """Where our own lines go; a watched process has moved them."""
    with contextlib.suppress(AttributeError, ValueError, io.UnsupportedOperation):
        return sys.stderr.fileno()
    return 2


@contextlib.contextmanager
def as_exception() -> Iterator[None]:
    """Inside, SIGINT and SIGTERM raise KeyboardInterrupt, but not in the middle of an import.

    Libraries make other errors of an exception that is raised there.
    """

    def handle(number, frame):
        if _is_importing(frame):
            signal.setitimer(signal.ITIMER_REAL, _SECONDS)
        else:
            raise KeyboardInterrupt

    with _handled(handle):
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)


@contextlib.contextmanager
def _handled(handle: Callable) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handle) for number in (*_STOP, _LATER)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _is_importing(frame) -> bool:
    while frame is not None:
        if frame.f_code.co_filename == "<frozen importlib._bootstrap>":
            return True
        frame = frame.f_back
    return False
