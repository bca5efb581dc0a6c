"""The one kind of error that is the user's to mend."""


class RequestError(ValueError):
    """The request was wrong: the message says in one line what, where, and what to do.

    The command line prints the message alone and ends with exit code 2; every other exception is a
    fault of the program and shows its traceback.
    """
