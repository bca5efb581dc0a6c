"""What is left to say when a process of several is lost.

XLA ends the others at once, mostly by an abort with its stack trace, which leaves Python no say. So what
it prints goes to a file, and a watcher, a process that does nothing but wait, tells in a line what happened.
"""

import contextlib
import os
import re
import subprocess
import sys
import tempfile
import traceback
from pathlib import Path

# Told what to say, the last line counts, and by an empty one that all is well.
_WATCHER = """
import sys
for line in sys.stdin:
    if not line.strip():
        sys.exit()
sys.stderr.write(line)
"""
# In what is raised on CPUs by an exchange with a process that is gone; of NCCL nothing was seen yet.
_WORDS_OF_LOSS = re.compile("gloo|connection (reset|closed) by peer|coordination service", re.IGNORECASE)
_watched = None


class _Watched:
    """This process, watched."""

    def __init__(self):
        file, path = tempfile.mkstemp(prefix="itae_", suffix=".log")
        self.log = Path(path)
        self._watcher = subprocess.Popen(
            [sys.executable, "-Sc", _WATCHER], stdin=subprocess.PIPE, start_new_session=True
        )
        sys.stdout.flush()
        sys.stderr.flush()
        ours = os.dup(1), os.dup(2)
        for native in (1, 2):
            os.dup2(file, native)
        os.close(file)
        sys.stdout, sys.stderr = (
            os.fdopen(descriptor, "w", buffering=1, encoding=stream.encoding, errors=stream.errors)
            for descriptor, stream in zip(ours, (sys.stdout, sys.stderr), strict=True)
        )

    def tell(self, line: str) -> None:
        with contextlib.suppress(OSError):
            self._watcher.stdin.write(f"itae: {line} (XLA's words: {self.log})\n".encode())
            self._watcher.stdin.flush()

    def release(self) -> None:
        with contextlib.suppress(OSError):
            self._watcher.communicate(b"\n")
        self.log.unlink(missing_ok=True)


def start(line: str) -> None:
    """From now on the end of this process without `leave` is told in this line."""
    global _watched
    _watched = _Watched()
    _watched.tell(line)


def tell(line: str) -> None:
    """From now on it is told in this line instead."""
    _watched.tell(line)


def fail(error: BaseException) -> None:
    """Ends a watched process that `error` has ended; does nothing in others.

    Where it tells of a lost process, the watcher's line is all that is printed.
    """
    if _watched is None:
        return
    if isinstance(error, (RuntimeError, ValueError)) and _WORDS_OF_LOSS.search(str(error)):
        os.write(2, "".join(traceback.format_exception(error)).encode())  # into the log
        os._exit(1)
    traceback.print_exception(error)
    leave(1)


def leave(code: int) -> None:
    """Ends a watched process; does nothing in others.

    One that failed does not wait for the others, which may wait for it.
    """
    global _watched
    if _watched is None:
        return
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    _watched.release()
    _watched = None
    if code:
        os._exit(code)
