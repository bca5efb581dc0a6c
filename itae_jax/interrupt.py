"""Signals that wait until a state is saved."""

import contextlib
import signal
import threading
from collections.abc import Iterator

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stop:
    """Whether somebody asked to stop."""

    requested = False


@contextlib.contextmanager
def deferred(wanted: bool = True) -> Iterator[Stop]:
    """Inside, the first SIGINT or SIGTERM only sets `requested`; the second one ends the process at once.

    Python handles signals in the main thread alone; in another, or if not `wanted`, nothing changes.
    """
    stop = Stop()
    if not wanted or threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {number: signal.getsignal(number) for number in _SIGNALS}

    def handle(number, frame):
        stop.requested = True
        for each in _SIGNALS:
            signal.signal(each, signal.SIG_DFL)

    try:
        for number in _SIGNALS:
            signal.signal(number, handle)
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def terminate_as_interrupt() -> Iterator[None]:
    """Inside, SIGTERM raises KeyboardInterrupt, as SIGINT does."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(number, frame):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
