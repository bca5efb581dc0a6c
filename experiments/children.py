"""Calls of `itae` as processes of their own, one after another or side by side."""

import contextlib
import math
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence

INTERRUPTED = 130


class Children:
    """The processes under way. A signal is handed on to each, and each is waited for: it saves first."""

    def __init__(self):
        self._under_way: set[subprocess.Popen] = set()
        self._told: set[subprocess.Popen] = set()  # of the signal
        self._signal = 0
        self._lock = threading.RLock()  # a signal may come while this thread holds it

    def run(self, arguments: Sequence[str], end: float = math.inf) -> int | None:
        """The exit code; None if it had to be stopped at `end`, a time of `time.monotonic`.

        Negative for a child that a signal killed, INTERRUPTED after one to this process.
        """
        with self._lock:
            if self._signal:
                return INTERRUPTED
            if time.monotonic() >= end:
                return None
            # In a session of its own: or Ctrl-C would reach it twice, and the second one ends it at once.
            command = [sys.executable, "-m", "itae_jax", *arguments]
            process = subprocess.Popen(command, start_new_session=True)
            self._under_way.add(process)
            if self._signal and process not in self._told:  # it came while the process was being made
                self._tell(process)
        try:
            code = process.wait(None if end == math.inf else max(0, end - time.monotonic()))
            return INTERRUPTED if self._signal else code
        except subprocess.TimeoutExpired:
            process.terminate()
            process.wait()
            return None
        finally:
            with self._lock:
                self._under_way.discard(process)

    def hand_on(self, number: int, frame=None) -> None:
        """A handler of signals."""
        with self._lock:
            self._signal = number
            for process in self._under_way:
                self._tell(process)

    def _tell(self, process: subprocess.Popen) -> None:
        self._told.add(process)
        process.send_signal(signal.SIGINT if self._signal == signal.SIGINT else signal.SIGTERM)


@contextlib.contextmanager
def children() -> Iterator[Children]:
    """Hands SIGINT, SIGTERM and SIGHUP on to the children meanwhile; to be used in the main thread."""
    here, before = Children(), {}
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:  # as nohup has it
            before[number] = signal.signal(number, here.hand_on)
    try:
        yield here
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
