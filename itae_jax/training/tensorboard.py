"""`--tensorboard DIR`: the metrics of trainings as TensorBoard scalars, in a directory for each training."""

import importlib.util
import logging
import struct
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from itae_jax import files
from itae_jax.errors import RequestError

_LOG = logging.getLogger(__name__)
_NAME = "events.out.tfevents.itae_jax"  # TensorBoard reads every file whose name contains tfevents
_OWNER = ".itae_jax_training"  # unlike the mark of `files.claim`, it makes no other file ours


def check_installed() -> None:
    """Raises RequestError without the package that knows TensorBoard's format."""
    if importlib.util.find_spec("tensorboardX") is None:
        raise RequestError("--tensorboard: tensorboardX is not installed; pip install tensorboardX")


class EventFile:
    """The scalars of one training by epoch; other files in `directory` stay.

    `owner` is the directory of the run or of the model that the training is of.
    """

    def __init__(self, directory: Path, owner: Path):
        self._directory, self._owner, self._has_failed = directory, str(owner.resolve()), False

    def check(self) -> None:
        """Raises RequestError if the directory has scalars of another owner."""
        mark = self._directory / _OWNER
        with files.writing(self._directory, "--tensorboard"):
            owner = mark.read_text("utf-8", "surrogateescape") if mark.exists() else self._owner
        if owner != self._owner:
            what = f"holds the scalars of {owner}"
            raise RequestError(f"--tensorboard {self._directory}: {what}; name another directory")

    def make(self) -> None:
        """Makes the directory; RequestError if it cannot be written."""
        with files.writing(self._directory, "--tensorboard"):
            self._directory.mkdir(parents=True, exist_ok=True)
            files.write_text(self._directory / _OWNER, self._owner)

    def start(self, entries: Sequence[dict[str, Any]]) -> None:
        """Begins the file anew, with these entries; in place, as TensorBoard may have it open."""
        from tensorboardX.proto.event_pb2 import Event

        version = Event(wall_time=time.time(), file_version="brain.Event:2")
        if (self._directory / _NAME).is_symlink():
            files.remove(self._directory / _NAME)  # or a file elsewhere would be written
        self._write(_record(version), "wb")
        for entry in entries:
            self.add(entry)

    def add(self, entry: dict[str, Any]) -> None:
        """Adds the numbers of an entry of metrics.jsonl, as scalars of its epoch."""
        from tensorboardX.proto.event_pb2 import Event
        from tensorboardX.proto.summary_pb2 import Summary

        numbers = {name: value for name, value in entry.items() if isinstance(value, int | float)}
        epoch = numbers.pop("epoch")
        values = [Summary.Value(tag=name, simple_value=number) for name, number in numbers.items()]
        event = Event(wall_time=time.time(), step=epoch, summary=Summary(value=values))
        self._write(_record(event), "ab")

    def _write(self, record: bytes, mode: str) -> None:
        """Writes to the file; warns once where that fails, since training goes on."""
        if self._has_failed:
            return
        try:
            with (self._directory / _NAME).open(mode) as file:
                file.write(record)
        except OSError as error:
            _LOG.warning("--tensorboard %s: %s; scalars are missing", self._directory, error.strerror)
            self._has_failed = True


def claim(event_files: Iterable[EventFile]) -> None:
    """Makes the directories of event files; RequestError before, if one has scalars of another owner."""
    event_files = list(event_files)
    for one in event_files:
        one.check()
    for one in event_files:
        one.make()


def _record(event: Any) -> bytes:
    """An event as a record of TFRecord: length, checksum, content, checksum."""
    from tensorboardX.record_writer import masked_crc32c

    content = event.SerializeToString()
    parts = struct.pack("<Q", len(content)), content
    return b"".join(part + struct.pack("<I", masked_crc32c(part)) for part in parts)
