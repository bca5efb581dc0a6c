"""Exceptions whose message the command line prints as one line, without a traceback."""

import errno

# A full disk: the request was right, and the same command resumes once there is room.
DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class RequestError(ValueError):
    """The request was wrong; the message says in one line what, where, and what to do.

    The command line prints the message and ends with exit code 2. Every other exception is a fault of
    the program and shows its traceback.
    """


class UntrainableError(RequestError):
    """A class has too few images to train on; a sweep goes on with the other classes."""


class DamagedError(RequestError):
    """A file differs from what was written; the message names it."""


class DivergedError(RuntimeError):
    """Training produced numbers that are not finite; the message gives the step and the rate."""
