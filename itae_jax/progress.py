"""How fitting and scoring go, on a terminal as a bar, elsewhere in lines."""

import time

# Where there is no terminal, something is said after so many seconds.
_SILENCE = 120.0


def _training_bar(console):
    """A bar with what is told of the last epoch, and the time left."""
    from rich import progress

    return progress.Progress(
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.TextColumn("{task.fields[told]}"),
        progress.TimeElapsedColumn(),
        progress.TextColumn("left"),
        progress.TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    )


class _Progress:
    def __init__(self, quiet: bool = False):
        from rich.console import Console

        self._console = Console(highlight=False, soft_wrap=True, quiet=quiet)

    def __enter__(self):
        self._bar.start()
        return self

    def __exit__(self, *exception):
        self._bar.stop()

    def say(self, text: str) -> None:
        """A line above the bar."""
        self._console.print(text, markup=False)


class _TrainingProgress(_Progress):
    """Of trainings; without a terminal a line for every tenth of one, and after a while of silence."""

    def __init__(self, quiet: bool = False):
        super().__init__(quiet)
        self._bar = _training_bar(self._console)

    def _start(self, trainings: int, epochs: int) -> None:
        self._trainings, self._epochs, self._total = trainings, epochs, trainings * epochs
        self._pace = _Pace()
        self._task = self._bar.add_task("compiling", total=self._total, told="")
        self._finished, self._spoke = 0, time.monotonic()
        self._begin()

    def _begin(self) -> None:
        """The next training begins."""
        self._tenth, self._told = 0, ""
        self._pace.begin()

    def _tell(self, description: str, epoch: float, place: str = "") -> None:
        """So many epochs of a training are done, a whole number of them or not; `place` is which one it is."""
        done = self._finished * self._epochs + epoch
        left, now = self._pace.left(epoch, self._total - done), time.monotonic()
        self._bar.update(self._task, completed=done, description=description, told=self._told)
        is_whole = isinstance(epoch, int)
        tenth = 10 * epoch // self._epochs if is_whole else self._tenth
        if self._console.is_terminal or (tenth == self._tenth and now - self._spoke < _SILENCE):
            return
        self._tenth, self._spoke = tenth, now
        told = f"  {self._told}" if self._told else ""
        self.say(f"{place}epoch {epoch if is_whole else f'{epoch:.2f}'}/{self._epochs}{told}{left}")

    def _report(self, loss: float, rate: float) -> None:
        self._told = f"loss {loss:.4f}  rate {rate:.4g}"


class FitProgress(_TrainingProgress):
    """Of one training."""

    def start(self, epochs: int) -> None:
        """A training of so many epochs begins."""
        self._start(1, epochs)
        if not self._console.is_terminal:
            self.say("compiling, half a minute or more")

    def step(self, epochs: float) -> None:
        """So many epochs are done, the last of them in part."""
        self._tell("training", epochs)

    def epoch(self, epoch: int, loss: float, rate: float) -> None:
        """So many epochs are done."""
        self._report(loss, rate)
        self._tell("training", epoch)


class SweepProgress(_TrainingProgress):
    """Of several trainings."""

    def start(self, jobs: int, epochs: int) -> None:
        """So many trainings of so many epochs follow."""
        self._start(jobs, epochs)
        if not self._console.is_terminal:
            trainings = "one training" if jobs == 1 else f"{jobs} trainings"
            passes = f"{epochs} epoch{'s' * (epochs != 1)}"
            self.say(f"{trainings} of {passes}; compiling first, half a minute or more")

    def step(self, name: str, seed: int, epochs: float) -> None:
        """The training of class `name` has done so many epochs, the last of them in part."""
        place = f"{self._finished + 1}/{self._trainings}  class {name}  seed {seed}  "
        self._tell(f"class {name}, seed {seed}", epochs, place)

    def epoch(self, name: str, seed: int, epoch: int, loss: float, rate: float) -> None:
        """The training of class `name` has done `epoch` epochs."""
        self._report(loss, rate)
        self.step(name, seed, epoch)

    def finished(self, row: dict[str, str]) -> None:
        """A row of results.csv was written."""
        self._finished += 1
        self._begin()
        outcome = f"AUROC {float(row['auroc']):.4f}" if row["auroc"] else row["note"]
        if row["train_seconds"]:
            outcome += f"  trained in {row['train_seconds']} s, scored in {row['score_seconds']} s"
        self.say(f"class {row['normal_class_name']}  seed {row['seed']}  {outcome}")

    def unreadable(self, rows: list[dict[str, str]], path) -> None:
        """Images were left out; `path` lists them."""
        self.say(f"{len(rows)} images left out because they cannot be read, listed in {path}:")
        for row in rows[:5]:
            self.say(f"  {row['image']}: {row['reason']}")


class _Pace:
    """How long the rest takes, by the epochs computed since the first call: compiling lies before that.

    Epochs that an earlier run computed, or that a failed training never came to, do not count.
    """

    def __init__(self):
        self._start, self._computed, self._last = None, 0.0, 0.0

    def begin(self) -> None:
        """The next training begins."""
        self._last = None

    def left(self, epoch: float, rest: float) -> str:
        """In words, with what sets it off from those before it; empty where it is not known.

        Args:
          epoch: so many of this training are done.
          rest: so many of all trainings are left.
        """
        now = time.monotonic()
        if self._start is None:
            self._start, self._last = now, epoch
        if self._last is None:
            self._last = 0 if epoch <= 1 else epoch  # begun now, or gone on with
        self._computed += epoch - self._last
        self._last = epoch
        if not self._computed or not rest:
            return ""
        return f"  {duration((now - self._start) / self._computed * rest)} left"


def duration(seconds: float) -> str:
    """A time in the unit that suits it."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


class ScoreProgress(_Progress):
    """Of scoring however many images."""

    def __init__(self):
        from rich import progress

        super().__init__()
        self._bar = progress.Progress(
            progress.SpinnerColumn(),
            progress.TextColumn("{task.completed} images"),
            progress.TimeElapsedColumn(),
            console=self._console,
            disable=not self._console.is_terminal,
            transient=True,
        )
        self._task = self._bar.add_task("scoring", total=None)

    def scored(self, count: int) -> None:
        """So many more images are scored."""
        self._bar.update(self._task, advance=count)
