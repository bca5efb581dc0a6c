"""How fitting and scoring go, on a terminal as a bar, elsewhere in lines."""

import time


def training_bar(console):
    """A bar with loss, learning rate and the time left."""
    from rich import progress

    return progress.Progress(
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.TextColumn("loss {task.fields[loss]:.4f}  rate {task.fields[rate]:.4g}"),
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


class FitProgress(_Progress):
    """Of one training."""

    def __init__(self):
        super().__init__()
        self._bar = training_bar(self._console)

    def start(self, epochs: int) -> None:
        """A training of so many epochs begins."""
        self._epochs, self._tenth, self._pace = epochs, 0, _Pace(epochs)
        self._task = self._bar.add_task("compiling", total=epochs, loss=float("nan"), rate=0.0)
        if not self._console.is_terminal:
            self.say("compiling, half a minute or more")

    def epoch(self, epoch: int, loss: float, rate: float) -> None:
        """So many epochs are done."""
        self._bar.update(self._task, completed=epoch, description="training", loss=loss, rate=rate)
        left = self._pace.left(epoch)
        tenth = 10 * epoch // self._epochs
        if not self._console.is_terminal and tenth != self._tenth:
            self._tenth = tenth
            self.say(f"epoch {epoch}/{self._epochs}  loss {loss:.4f}  rate {rate:.4g}{left}")


class _Pace:
    """How long the rest takes, by how long it took since the first call: compiling lies before that."""

    def __init__(self, total: int):
        self._total, self._first = total, None

    def left(self, done: int) -> str:
        """In words, with what sets it off from those before it; empty where it is not known."""
        now = time.monotonic()
        self._first = self._first or (done, now)
        first, start = self._first
        if not first < done < self._total:
            return ""
        return f"  {_minutes((now - start) / (done - first) * (self._total - done))} left"


def _minutes(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


class SweepProgress(_Progress):
    """Of several trainings; elsewhere than on a terminal a line for every tenth of one."""

    def __init__(self, quiet: bool = False):
        super().__init__(quiet)
        self._bar = training_bar(self._console)

    def start(self, jobs: int, epochs: int) -> None:
        """So many trainings of so many epochs follow."""
        self._jobs, self._epochs, self._done, self._tenth = jobs, epochs, 0, 0
        self._pace = _Pace(jobs * epochs)
        self._task = self._bar.add_task("compiling", total=jobs * epochs, loss=float("nan"), rate=0.0)
        if not self._console.is_terminal:
            trainings = "one training" if jobs == 1 else f"{jobs} trainings"
            self.say(f"{trainings} of {epochs} epochs; compiling first, half a minute or more")

    def epoch(self, name: str, seed: int, epoch: int, loss: float, rate: float) -> None:
        """The training of class `name` has done `epoch` epochs."""
        done = self._done * self._epochs + epoch
        left = self._pace.left(done)
        self._bar.update(
            self._task,
            completed=done,
            description=f"class {name}, seed {seed}",
            loss=loss,
            rate=rate,
        )
        tenth = 10 * epoch // self._epochs
        if not self._console.is_terminal and tenth != self._tenth:
            self._tenth = tenth
            self.say(
                f"{self._done + 1}/{self._jobs}  class {name}  seed {seed}  epoch {epoch}/{self._epochs}  "
                f"loss {loss:.4f}  rate {rate:.4g}{left}"
            )

    def finished(self, row: dict[str, str]) -> None:
        """A row of results.csv was written."""
        self._done += 1
        self._tenth = 0
        outcome = f"AUROC {float(row['auroc']):.4f}" if row["auroc"] else row["note"]
        if row["train_seconds"]:
            outcome += f"  trained in {row['train_seconds']} s, scored in {row['score_seconds']} s"
        self.say(f"class {row['normal_class_name']}  seed {row['seed']}  {outcome}")

    def unreadable(self, rows: list[dict[str, str]], path) -> None:
        """Images were left out; `path` lists them."""
        self.say(f"{len(rows)} images left out because they cannot be read, listed in {path}:")
        for row in rows[:5]:
            self.say(f"  {row['image']}: {row['reason']}")


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
