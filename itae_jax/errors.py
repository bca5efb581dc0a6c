"""Errors that are told in one line."""

import contextlib
import errno
from collections.abc import Callable, Iterator
from pathlib import Path

# What making room, or rights, mends: the request was right, and the same one goes on later.
DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class RequestError(ValueError):
    """The request was wrong: the message says in one line what, where, and what to do.

    The command line prints the message alone and ends with exit code 2; every other exception is a
    fault of the program and shows its traceback.
    """


class UntrainableError(RequestError):
    """There is not enough to train on; in a sweep, the other classes may have it."""


class DamagedError(RequestError):
    """A file is not as it was written; the message names it."""


class DivergedError(RuntimeError):
    """Training no longer gives finite numbers; the message says when and at which rate."""


@contextlib.contextmanager
def writing(path: Path, option: str = "") -> Iterator[None]:
    """Makes a RequestError of what the system says against writing there, but for a full disk.

    Args:
      option: of the command line, to which the path was given.
    """
    try:
        yield
    except OSError as error:
        if error.errno in DISK_ERRORS:
            raise
        where = f"{option} {error.filename or path}".strip()
        raise RequestError(f"{where}: {error.strerror or error}; name a place that can be written") from None


def check_output_file(path: Path, is_ours: Callable[[Path], bool], option: str = "--out") -> None:
    """Raises RequestError unless nothing that the user may need is lost by writing a file there.

    Args:
      is_ours: whether a file that is there is of the kind that will be written.
    """
    if path.is_dir() or not path.parent.is_dir():
        raise RequestError(f"{option} {path}: name a file in a directory that is there")
    if path.is_symlink() or (path.exists() and not path.is_file()):
        raise RequestError(f"{option} {path}: is not a regular file; name another")
    if path.exists() and path.stat().st_size and not is_ours(path):
        raise RequestError(f"{option} {path}: is there, and was not written by this command; name another")
