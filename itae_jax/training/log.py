"""What a training writes while it runs: metrics.jsonl, and unreadable.csv with the files left out."""

import contextlib
import csv
import json
import math
from pathlib import Path

from itae_jax import files
from itae_jax.errors import RequestError
from itae_jax.training.tensorboard import EventFile

_MOST_EPOCHS = 10**9


def read_unreadable(path: Path) -> dict[str, str]:
    """The images that an unreadable.csv lists, and why; none without a file; RequestError if damaged."""
    try:
        rows = files.read_csv(path) if path.exists() else []
        return {row["image"]: row["reason"] for row in rows}
    except (KeyError, csv.Error) as error:
        raise RequestError(f"{path}: is damaged ({error}); remove it") from None


def add_unreadable(path: Path, unreadable: dict[str, str]) -> None:
    """Adds images to an unreadable.csv."""
    known = read_unreadable(path)
    if unreadable.keys() - known.keys():
        rows = [{"image": name, "reason": why} for name, why in sorted((known | unreadable).items())]
        files.write_csv(path, rows)


def about_unreadable(path: Path) -> str:
    """Says how many files an unreadable.csv lists; empty without any."""
    count = len(read_unreadable(path))
    return f"files left out: {count}, listed in {path}" if count else ""


class MetricsLog:
    """The lines of one training in metrics.jsonl; `job` says which it is in each of them.

    `events` gets the same, if given.
    """

    def __init__(self, path: Path, job: dict, events: EventFile | None = None):
        self._path, self._job, self._events, self._is_started = path, job, events, False

    def add(self, entry: dict) -> None:
        """Adds a line; the first time removes what an interrupted run wrote of this epoch and later ones."""
        self._start(entry["epoch"])
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({**self._job, **entry}) + "\n")
        if self._events:
            self._events.add(entry)

    def finish(self, entry: dict) -> None:
        """Adds an entry of the finished training to `events` alone."""
        if self._events:
            self._start(math.inf)
            self._events.add(entry)

    def _start(self, epoch: float) -> None:
        if self._is_started:
            return
        kept = [old for old in read_metrics(self._path) if not self._is_mine(old) or old["epoch"] < epoch]
        files.write_text(self._path, "".join(json.dumps(old) + "\n" for old in kept))
        if self._events:
            mine = [old for old in kept if self._is_mine(old)]
            self._events.start([{name: old[name] for name in old if name not in self._job} for old in mine])
        self._is_started = True

    def _is_mine(self, entry: dict) -> bool:
        return entry.items() >= self._job.items()


def copy_metrics(source: Path, target: Path, job: dict) -> None:
    """Copies the lines of one training from one metrics.jsonl to another."""
    metrics = MetricsLog(target, job)
    for entry in read_metrics(source):
        if entry.items() >= job.items():
            metrics.add(entry)


def read_metrics(path: Path) -> list[dict]:
    """The entries of metrics.jsonl; leaves out lines that a kill cut short, and foreign ones."""
    entries = []
    text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
    for line in text.splitlines():
        with contextlib.suppress(ValueError, RecursionError):
            entry = json.loads(line)
            epoch = entry.get("epoch") if isinstance(entry, dict) else None
            if type(epoch) is int and 0 < epoch < _MOST_EPOCHS:
                entries.append(entry)
    return entries
