"""Progress of training and scoring: a bar on a terminal, lines elsewhere; more or less of it on demand."""

import contextlib
import logging
import os
import sys
import time
from collections.abc import Iterator
from typing import Protocol

_SILENCE = 120.0  # seconds after which a line is printed where there is no terminal


@contextlib.contextmanager
def printing(quiet: bool = False, verbose: bool = False, on_stderr: bool = False) -> Iterator[None]:
    """Changes what is printed within the block.

    Args:
      quiet: drops what goes to standard output.
      verbose: prints what the package logs at INFO, on standard error.
      on_stderr: prints on standard error what would go to standard output.
    """
    logger, handler = logging.getLogger("itae_jax"), _OnStderr()
    handler.setFormatter(logging.Formatter("%(asctime)s %(name)s: %(message)s"))
    with contextlib.ExitStack() as stack:
        if quiet:
            nowhere = stack.enter_context(open(os.devnull, "w", encoding="utf-8"))
            stack.enter_context(contextlib.redirect_stdout(nowhere))
        elif on_stderr:
            stack.enter_context(contextlib.redirect_stdout(sys.stderr))
        if verbose:
            stack.callback(logger.setLevel, logger.level)
            stack.callback(logger.removeHandler, handler)
            stack.callback(setattr, logger, "propagate", logger.propagate)
            logger.propagate = False  # Orbax gives the root a handler, which would print again
            logger.setLevel(logging.INFO)
            logger.addHandler(handler)
        yield


class _OnStderr(logging.Handler):
    """Prints above a bar, which takes the place of sys.stderr while it is shown."""

    def emit(self, record: logging.LogRecord) -> None:
        print(self.format(record), file=sys.stderr)


class Progress(Protocol):
    """Shows how far training and scoring are."""

    def start(self, trainings: int, epochs: int) -> None:
        """So many trainings of so many epochs follow."""

    def step(self, name: str, epochs: float) -> None:
        """The training `name` has done so many epochs, a fraction included."""

    def epoch(self, name: str, epoch: int, loss: float, rate: float) -> None:
        """The training `name` has done `epoch` epochs, with this mean loss and learning rate."""

    def finished(self, line: str) -> None:
        """A training is done; `line` is its result."""

    def scored(self, count: int) -> None:
        """So many more images are scored."""

    def say(self, text: str) -> None:
        """Prints a line."""


class ConsoleProgress(Progress):
    """A bar on the console with lines above it; without a terminal a line for every tenth of a training."""

    def __init__(self, quiet: bool = False):
        from rich import progress
        from rich.console import Console

        self._console = Console(highlight=False, soft_wrap=True, quiet=quiet)
        title, about = map(progress.TextColumn, ("{task.description}", "{task.fields[about]}"))
        columns = (
            title,
            progress.BarColumn(),
            about,
            progress.TimeElapsedColumn(),
            progress.TimeRemainingColumn(),
        )
        is_off = not self._console.is_terminal
        self._bar = progress.Progress(*columns, console=self._console, disable=is_off, transient=True)
        self._training: progress.TaskID | None = None
        self._scoring: progress.TaskID | None = None
        self._about, self._tenth, self._spoke = "", 0, time.monotonic()

    def __enter__(self) -> "ConsoleProgress":
        self._bar.start()
        return self

    def __exit__(self, *exception) -> None:
        self._bar.stop()

    def say(self, text: str) -> None:
        self._console.print(text, markup=False)

    def start(self, trainings: int, epochs: int) -> None:
        self._trainings, self._epochs, self._done = trainings, epochs, 0
        self._pace = _Pace()
        self._training = self._bar.add_task("compiling", total=trainings * epochs, about="")
        if not self._console.is_terminal:
            what = "1 training" if trainings == 1 else f"{trainings} trainings"
            self.say(f"{what} of {epochs} epoch{'s' * (epochs != 1)}; compiling comes first")

    def step(self, name: str, epochs: float) -> None:
        done = self._done * self._epochs + epochs
        left = self._pace.left(epochs, self._trainings * self._epochs - done)
        assert self._training is not None, "start comes first"
        self._bar.update(self._training, completed=done, description=name or "training", about=self._about)
        is_whole = isinstance(epochs, int)
        tenth = 10 * int(epochs) // self._epochs if is_whole else self._tenth
        now = time.monotonic()
        if self._console.is_terminal or (tenth == self._tenth and now - self._spoke < _SILENCE):
            return
        self._tenth, self._spoke = tenth, now
        place = f"{self._done + 1}/{self._trainings}" if self._trainings > 1 else ""
        epoch = f"epoch {epochs}" if is_whole else f"epoch {epochs:.2f}"
        parts = [place, name, f"{epoch}/{self._epochs}", self._about, left and f"{left} left"]
        self.say("  ".join(filter(None, parts)))

    def epoch(self, name: str, epoch: int, loss: float, rate: float) -> None:
        self._about = f"loss {loss:.4f}  learning rate {rate:.4g}"
        self.step(name, epoch)

    def finished(self, line: str) -> None:
        self._done, self._about, self._tenth = self._done + 1, "", 0
        self._pace.next_training()
        self.say(line)

    def scored(self, count: int) -> None:
        if self._scoring is None:
            self._scoring = self._bar.add_task("scoring", total=None, about="0 images")
        self._bar.update(self._scoring, advance=count)
        self._bar.update(self._scoring, about=f"{self._bar.tasks[-1].completed:.0f} images")


class _Pace:
    """Estimates the time left by the epochs computed here since the first call, which compiles.

    Epochs that an earlier run computed, or that a failed training never reached, do not count.
    """

    def __init__(self):
        self._start: float | None = None
        self._last: float | None = None
        self._computed = 0.0

    def next_training(self) -> None:
        self._last = None

    def left(self, epoch: float, rest: float) -> str:
        """The time for `rest` epochs, after `epoch` epochs of this training; empty where it is not known."""
        now = time.monotonic()
        if self._start is None:
            self._start, self._last = now, epoch
        if self._last is None:
            self._last = 0 if epoch <= 1 else epoch  # a new training, or a resumed one
        self._computed += epoch - self._last
        self._last = epoch
        if not self._computed or not rest:
            return ""
        seconds = (now - self._start) / self._computed * rest
        if seconds < 90:
            return f"{seconds:.0f} s"
        return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
