"""Files and directories: atomic writes, CSV, locks, and errors that name the path."""

import contextlib
import csv
import hashlib
import io
import os
import shutil
import types
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

from itae_jax.errors import DISK_ERRORS, RequestError

STDOUT = Path("-")  # as --out: standard output
_MARK = ".itae_jax"  # a file in directories whose content is ours


def read_csv(path: Path) -> list[dict[str, str]]:
    """Reads the rows of a CSV file with a header.

    RequestError if semicolons divide the columns, or as of `csv_text`.
    """
    rows = csv.DictReader(csv_text(path))
    check_commas(path, rows.fieldnames or ())
    return list(rows)


def csv_text(path: Path) -> TextIO:
    """Opens a CSV file; leaves out a byte-order mark, as spreadsheets write it.

    RequestError for other encodings than UTF-8, by their NUL characters.
    """
    text = path.read_bytes().decode("utf-8-sig", "surrogateescape")
    if "\0" in text:
        raise RequestError(f"{path}: is not text in UTF-8; save it as such")
    return io.StringIO(text, newline="")


def check_commas(path: Path, header: Sequence[str]) -> None:
    """Raises RequestError if a file's header is divided by semicolons."""
    if len(header) == 1 and ";" in header[0]:
        raise RequestError(f"{path}: semicolons divide its columns; save it with commas")


def write_csv(path: Path, rows: Sequence[dict], columns: Sequence[str] | None = None) -> None:
    """Writes rows under a header, atomically; `columns` defaults to those of the first row."""
    buffer = io.StringIO()
    writer = csv.DictWriter(csv_lines(buffer), columns or list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, buffer.getvalue())


def csv_lines(file: TextIO) -> Any:
    r"""Ends the lines of a `csv.writer` by \n; if it did so itself, it would not quote \r in cells."""
    return types.SimpleNamespace(write=lambda line: file.write(line.removesuffix("\r\n") + "\n"))


def write_text(path: Path, text: str) -> None:
    """Writes UTF-8 text atomically."""
    write_bytes(path, text.encode("utf-8", "surrogateescape"))


def write_bytes(path: Path, content: bytes) -> None:
    """Writes atomically; with concurrent writers the last one wins. An OSError names `path`."""
    partial = path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}.partial")
    try:
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise OSError(error.errno, error.strerror, str(path)) from None


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yields a temporary path beside `path`, which replaces `path` if the block succeeds."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        yield partial
        os.replace(partial, path)
    finally:
        remove(partial)


def remove(path: Path) -> None:
    """Deletes a file or a directory tree if it exists; ignores errors."""
    with contextlib.suppress(OSError):
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def sha256(path: Path) -> str:
    """Returns the SHA-256 of a file's content, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def locked(directory: Path, name: Path | None = None) -> Iterator[None]:
    """Locks a directory, `name` in messages, in the block; RequestError if another process holds it."""
    import filelock

    lock = filelock.FileLock(directory / ".lock")
    try:
        lock.acquire(blocking=False)
    except filelock.Timeout:
        remedy = "wait, stop it, or name another directory"
        raise RequestError(f"--out {name or directory}: another run is writing there; {remedy}") from None
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def writing(path: Path, option: str = "") -> Iterator[None]:
    """Turns an OSError of writing to `path`, given by `option`, into a RequestError; a full disk passes."""
    try:
        yield
    except OSError as error:
        if error.errno in DISK_ERRORS:
            raise
        where = f"{option} {error.filename or path}".strip()
        raise RequestError(f"{where}: {error.strerror or error}; name a place that can be written") from None


def claim(directory: Path, option: str) -> None:
    """Makes a directory whose files this program may replace; RequestError if one of other files is there."""
    mark = directory / _MARK
    with writing(directory, option):
        directory.mkdir(parents=True, exist_ok=True)
        if not mark.is_file() and any(directory.iterdir()):
            raise RequestError(f"{option} {directory}: holds other files; name a new or empty directory")
        mark.touch()


def check_output_file(path: Path, is_ours: Callable[[Path], bool], option: str = "--out") -> None:
    """Raises RequestError if `path` is no place for a file, or holds one that is not ours."""
    if path.is_dir() or not path.parent.is_dir():
        raise RequestError(f"{option} {path}: name a file in an existing directory")
    if path.is_symlink() or (path.exists() and not path.is_file()):
        raise RequestError(f"{option} {path}: is not a regular file; name another")
    if path.exists() and path.stat().st_size and not is_ours(path):
        raise RequestError(f"{option} {path}: exists and was not written by this command; name another")
