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
    def __init__(self):
        from rich.console import Console

        self._console = Console(highlight=False, soft_wrap=True)

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
        self._epochs, self._tenth, self._first = epochs, 0, None
        self._task = self._bar.add_task("compiling", total=epochs, loss=float("nan"), rate=0.0)
        if not self._console.is_terminal:
            self.say("compiling, half a minute or more")

    def epoch(self, epoch: int, loss: float, rate: float) -> None:
        """So many epochs are done."""
        self._bar.update(self._task, completed=epoch, description="training", loss=loss, rate=rate)
        now = time.monotonic()
        self._first = self._first or (epoch, now)
        tenth = 10 * epoch // self._epochs
        if not self._console.is_terminal and tenth != self._tenth:
            self._tenth = tenth
            first, start = self._first  # compiling lies before it
            left = (now - start) / max(1, epoch - first) * (self._epochs - epoch)
            told = f"  {_minutes(left)} left" if first < epoch < self._epochs else ""
            self.say(f"epoch {epoch}/{self._epochs}  loss {loss:.4f}  rate {rate:.4g}{told}")


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"


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
