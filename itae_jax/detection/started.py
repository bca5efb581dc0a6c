"""The notes of an unfinished fit, from which the same command resumes."""

import contextlib
import dataclasses
import json
from pathlib import Path
from typing import Any

from itae_jax import experiment, files
from itae_jax.errors import RequestError

STARTED, CHECKPOINTS = "started.json", "checkpoints"  # in the directory of an unfinished fit


def differences(before: dict, old_seed: int, now: dict, seed: int) -> str:
    """What differs between the details of two fits; empty if nothing does."""
    old, new = ({**details.get("asked", {}), **details} for details in (before, now))
    old["seed"], new["seed"] = old_seed, seed
    names = sorted({*before.get("asked", {}), *now["asked"], *now, "seed", "calibrated"} - {"asked"})
    different = {name: (old.get(name), new.get(name)) for name in names if old.get(name) != new.get(name)}
    other_files = different.pop("files", None)
    return experiment.as_text(different) or ("it is of other images" if other_files else "")


@dataclasses.dataclass
class Started:
    """The notes of an unfinished fit, written as JSON whenever they change.

    Attributes:
      ratings: AUROC on surrogates by title of each candidate rated so far.
      seconds: the time that this took.
      chosen: the title of the candidate that trains; empty until it is chosen.
      epochs: those of the chosen candidate; 0 until it is chosen.
    """

    work: Path
    seed: int
    details: dict
    ratings: dict[str, float] = dataclasses.field(default_factory=dict)
    seconds: float = 0.0
    epochs: int = 0
    chosen: str = ""

    @classmethod
    def read(cls, work: Path, seed: int, details: dict) -> "Started":
        """Reads the notes, if there are any; RequestError if they are of another request."""
        path, notes = work / STARTED, dict[str, Any]()
        different = "its notes are damaged, or of another version"
        if not path.exists():
            return cls(work, seed, details)
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
            notes |= json.loads(path.read_text(encoding="utf-8"))
            known = (notes[name] for name in ("seconds", "epochs", "chosen"))
            found = cls(work, seed, details, dict(notes["ratings"]), *known)
            different = differences(notes["details"], notes["seed"], details, seed)
        if different and not (notes.get("ratings") or any((work / CHECKPOINTS).glob("*"))):
            return cls(work, seed, details)  # nothing would be lost
        if different:
            remedy = "undo the change to resume it, name another --out, or delete it"
            raise RequestError(f"{work}: holds an interrupted fit of another request ({different}); {remedy}")
        return found

    def write(self) -> None:
        notes = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        files.write_text(self.work / STARTED, json.dumps({**notes, "work": ""}))
