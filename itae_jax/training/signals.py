"""SIGINT and SIGTERM: they stop a training only after its state is saved."""

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

INTERRUPTED = 130  # the exit code of an interrupted process
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stop:
    """Whether a signal asked to stop."""

    requested = False


_current: Stop | None = None  # of the outermost `deferred` block


@contextlib.contextmanager
def deferred(wanted: bool = True) -> Iterator[Stop]:
    """Makes the first SIGINT or SIGTERM only set `requested`; a second one ends the process at once.

    Raises KeyboardInterrupt at the end of the block if a stop was requested. An inner block uses the outer
    block's `Stop`. Does nothing if not `wanted`, nor in other threads than the main one, where Python handles
    no signals.
    """
    global _current
    if not wanted or not _is_main_thread():
        yield Stop()
        return
    if _current is not None:
        yield _current
        return
    stop = _current = Stop()

    def handle(number: int, frame: FrameType | None) -> None:
        stop.requested = True
        os.write(2, b"stopping as soon as everything is saved; signal again to stop at once\n")
        for each in _SIGNALS:
            signal.signal(each, signal.SIG_DFL)

    try:
        with _handled(handle):
            yield stop
    finally:
        _current = None
    if stop.requested:
        raise KeyboardInterrupt


def requested() -> bool:
    """Returns whether a signal asked to stop, inside of a `deferred` block."""
    return _current is not None and _current.requested


@contextlib.contextmanager
def at_once() -> Iterator[None]:
    """Makes SIGINT and SIGTERM end the process at once, even while Python cannot handle signals."""
    with _handled(signal.SIG_DFL):
        yield


@contextlib.contextmanager
def as_exception() -> Iterator[None]:
    """Makes SIGINT and SIGTERM raise KeyboardInterrupt, but end the process during an import.

    Libraries turn an exception that is raised while they are imported into other errors.
    """

    def handle(number: int, frame: FrameType | None) -> None:
        while frame is not None:
            if frame.f_code.co_filename == "<frozen importlib._bootstrap>":
                os.write(2, b"itae: interrupted\n")
                os._exit(INTERRUPTED)
            frame = frame.f_back
        raise KeyboardInterrupt

    with _handled(handle):
        yield


@contextlib.contextmanager
def _handled(handler: Callable | signal.Handlers) -> Iterator[None]:
    if not _is_main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)


def _is_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()
