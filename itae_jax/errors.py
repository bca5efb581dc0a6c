"""Errors that are told in one line."""


class RequestError(ValueError):
    """The request was wrong: the message says in one line what, where, and what to do.

    The command line prints the message alone and ends with exit code 2; every other exception is a
    fault of the program and shows its traceback.
    """


class DamagedError(RequestError):
    """A file is not as it was written; the message names it."""


class DivergedError(RuntimeError):
    """The loss is no longer a finite number; the message says when and at which rate."""
