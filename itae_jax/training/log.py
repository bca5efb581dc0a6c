"""What a training writes while it runs: metrics.jsonl, and unreadable.csv with the images left out."""

import contextlib
import csv
import json
from pathlib import Path

from itae_jax import files
from itae_jax.errors import RequestError

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


class MetricsLog:
    """The lines of one training in metrics.jsonl; `job` says which it is in each of them."""

    def __init__(self, path: Path, job: dict):
        self._path, self._job, self._is_started = path, job, False

    def add(self, entry: dict) -> None:
        """Adds a line; the first time removes what an interrupted run wrote of this epoch and later ones."""
        if not self._is_started:
            kept = [
                json.dumps(old) + "\n"
                for old in read_metrics(self._path)
                if not old.items() >= self._job.items() or old["epoch"] < entry["epoch"]
            ]
            files.write_text(self._path, "".join(kept))
            self._is_started = True
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({**self._job, **entry}) + "\n")


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
