"""States on disk; the only module that names Orbax.

A state directory holds `arrays/`, which Orbax writes, and `about.json`: facts, the shape and type of each
array, and the SHA-256 of every file, because a flipped bit would otherwise come back as a number. The
directory is written atomically. Reading it executes nothing.
"""

import errno
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import numpy as np

from itae_jax import files
from itae_jax.errors import DISK_ERRORS, DamagedError, RequestError

_OVERHEAD = 2**20  # bytes of Orbax's own files and about.json
_ABOUT, _ARRAYS, _PARTIAL = "about.json", "arrays", ".partial"

Facts = dict[str, Any]  # JSON values


def save(directory: Path, tree: Any, facts: Facts) -> None:
    """Writes a tree of arrays and facts atomically; replaces what is there."""
    arrays = {name: np.asarray(array) for name, array in named(tree).items()}
    partial = directory.with_name(directory.name + _PARTIAL)
    files.remove(partial)
    partial.mkdir(parents=True)
    try:
        _check_room(partial, sum(array.nbytes for array in arrays.values()))
        _write_arrays((partial / _ARRAYS).absolute(), arrays)
        about = {
            "facts": facts,
            "arrays": {name: [list(array.shape), array.dtype.name] for name, array in arrays.items()},
            "content": _content(arrays),
            "files": _digests(partial / _ARRAYS),
        }
        text = json.dumps({**about, "sha256": _digest_of(about)}, indent=1)
        (partial / _ABOUT).write_text(text, encoding="utf-8")
        files.remove(directory)
        os.replace(partial, directory)
    except Exception as error:  # Orbax raises different errors if the disk is full
        files.remove(partial)
        number = next((number for number in DISK_ERRORS if os.strerror(number) in str(error)), None)
        if isinstance(error, OSError) or number is None:
            raise
        raise OSError(number, os.strerror(number), str(directory)) from None


def restore(directory: Path, like: dict, fact_types: dict[str, type], free: str = "") -> tuple[dict, Facts]:
    """Reads what `save` wrote: a tree of NumPy arrays in the structure of `like`, and the facts.

    Args:
      like: a tree of arrays or shapes.
      fact_types: the type of each fact that must be there.
      free: a key of the saved tree. All arrays under it, whatever their shapes, come back under this key, as a
        dict of names and arrays.

    Raises:
      DamagedError: a file is missing, cut short or changed, or a fact has another type.
      RequestError: an array has another name, shape or type than in `like`.
    """
    about = check(directory)
    for fact, kind in fact_types.items():
        if not isinstance(about["facts"].get(fact), kind):
            raise DamagedError(f"{directory}: is damaged: {_ABOUT} has no {fact} of type {kind.__name__}")
    saved, prefix = about["arrays"], f"{free}." if free else ""
    wanted = {name: [list(array.shape), np.dtype(array.dtype).name] for name, array in named(like).items()}
    for name in sorted(wanted.keys() | saved.keys()):
        there, here = saved.get(name), wanted.get(name)
        if there != here and not (prefix and name.startswith(prefix)):
            raise RequestError(
                f"{directory}: is of another network; {name} is {_describe(there)} there, expected "
                f"{_describe(here)}"
            )
    shapes = {name: np.zeros(shape, dtype) for name, (shape, dtype) in saved.items()}
    arrays = _read_arrays((directory / _ARRAYS).absolute(), shapes)
    tree = fill(like, arrays)
    if free:
        tree[free] = {name.removeprefix(prefix): arrays[name] for name in arrays if name.startswith(prefix)}
    return tree, about["facts"]


def named(tree: Any) -> dict[str, Any]:
    """Returns the leaves of a tree by their paths, joined by dots."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in leaves}


def fill(like: Any, tree: Any) -> Any:
    """Returns the leaves of `tree` in the structure of `like`, which has the same names."""
    leaves = named(tree)
    return jax.tree.unflatten(jax.tree.structure(like), [leaves[name] for name in named(like)])


class Checkpoints:
    """The newest states of one training, `<directory>/<step>`, written while the training goes on.

    Args:
      directory: holds nothing else.
      minutes: between two checkpoints; 0: as often as possible.
      keep: how many of the newest to keep.
      on_notice: gets a line about each checkpoint that is resumed from, or cannot be read or written.
    """

    def __init__(self, directory: Path, minutes: float, keep: int, on_notice: Callable[[str], None] = print):
        self.directory, self._minutes, self._keep, self._on_notice = directory, minutes, keep, on_notice
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._writing: Future | None = None
        self._started = self._saved = time.monotonic()
        self._seconds_before = 0.0
        for partial in directory.glob(f"*{_PARTIAL}"):
            files.remove(partial)

    def seconds(self) -> float:
        """Returns the time spent on this training, without pauses between interruptions and resumptions."""
        return self._seconds_before + time.monotonic() - self._started

    def steps(self) -> list[int]:
        """Returns the steps that have a checkpoint, newest first."""
        names = (path.name for path in self.directory.glob("*") if path.name.isdecimal())
        return sorted(map(int, names), reverse=True)

    def restore(self, like: dict, fact_types: dict[str, type]) -> tuple[dict, Facts] | None:
        """Returns the newest intact state and its facts, or None; deletes damaged ones."""
        self.wait()
        for step in self.steps():
            path = self.directory / str(step)
            try:
                tree, facts = restore(path, like, {**fact_types, "seconds": float})
            except DamagedError as error:
                self._on_notice(f"{error}; trying the previous checkpoint")
                files.remove(path)
            else:
                self._seconds_before = facts["seconds"]
                self._on_notice(f"resuming from {path}")
                return tree, facts
        return None

    def due(self) -> bool:
        """Returns whether it is time for the next checkpoint."""
        return time.monotonic() - self._saved >= 60 * self._minutes

    def save(self, step: int, tree: Any, facts: Facts) -> None:
        """Copies the arrays and writes them in the background; waits for the previous checkpoint first."""
        self.wait()
        copied = jax.tree.map(np.array, tree)
        self._writing = self._writer.submit(self._write, step, copied, {**facts, "seconds": self.seconds()})
        self._saved = time.monotonic()

    def wait(self) -> None:
        """Waits until the last checkpoint is on disk; a failure gives a notice, and training may go on."""
        if self._writing is not None:
            try:
                self._writing.result()
            except Exception as error:
                why = getattr(error, "strerror", None) or f"{type(error).__name__}: {error}".partition("\n")[0]
                self._on_notice(f"{self.directory}: checkpoint not written ({why}); training goes on")
            self._writing = None

    def remove(self) -> None:
        """Deletes all checkpoints, once the training is done and its result saved."""
        self.wait()
        files.remove(self.directory)

    def _write(self, step: int, tree: Any, facts: Facts) -> None:
        save(self.directory / str(step), tree, facts)
        for old in self.steps()[self._keep :]:
            files.remove(self.directory / str(old))


def _write_arrays(directory: Path, arrays: dict[str, np.ndarray]) -> None:
    if jax.process_count() > 1:
        with _alone() as checkpointer:
            checkpointer.save(directory, arrays)
        return
    from orbax.checkpoint import v1 as ocp

    write = getattr(ocp, "save", None) or ocp.save_pytree  # the name before Orbax 0.12, which jax2onnx needs
    write(directory, arrays)


def _read_arrays(directory: Path, like: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    if jax.process_count() > 1:
        written = next(directory.rglob("_METADATA")).parent
        with _alone() as checkpointer:
            return checkpointer.restore(written, like)
    from orbax.checkpoint import v1 as ocp

    read = getattr(ocp, "load", None) or ocp.load_pytree
    return read(directory, like)


def _alone():
    """Returns a checkpointer that waits for no other process, which Orbax's V1 API cannot."""
    import orbax.checkpoint as ocp

    own = jax.process_index()
    alone = ocp.options.MultiprocessingOptions(
        primary_host=own, active_processes={own}, barrier_sync_key_prefix=f"process_{own}"
    )
    return ocp.StandardCheckpointer(multiprocessing_options=alone)


def check(directory: Path) -> dict:
    """Returns the content of about.json; raises DamagedError unless every file is as `save` wrote it."""
    try:
        about = json.loads((directory / _ABOUT).read_text(encoding="utf-8"))
        if not all(isinstance(about[key], dict) for key in ("facts", "arrays", "files")):
            raise TypeError
        is_as_written = about.pop("sha256") == _digest_of(about)
        found = _digests(directory / _ARRAYS)
    except (OSError, ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise DamagedError(
            f"{directory}: is damaged: {_ABOUT} cannot be read ({type(error).__name__})"
        ) from None
    if not is_as_written:
        raise DamagedError(f"{directory}: is damaged: {_ABOUT} is not as written")
    for name in sorted(found.keys() | about["files"].keys()):
        there, listed = found.get(name), about["files"].get(name)
        if there != listed:
            what = f"is not listed in {_ABOUT}" if listed is None else "is not as written"
            what = "is missing" if there is None else what
            raise DamagedError(f"{directory}: is damaged: {_ARRAYS}/{name} {what}")
    return about


def _digests(directory: Path) -> dict[str, str]:
    """Returns the SHA-256 of every file below a directory, by relative path."""

    digests = {}
    for path in sorted(path for path in directory.rglob("*") if path.is_file()):
        with path.open("rb") as file:
            digests[path.relative_to(directory).as_posix()] = hashlib.file_digest(file, "sha256").hexdigest()
    return digests


def _check_room(directory: Path, num_bytes: int) -> None:
    """Raises OSError if Orbax, which writes a second copy, lacks room; it would print several tracebacks."""
    if shutil.disk_usage(directory).free < 2 * num_bytes + _OVERHEAD:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(directory.with_suffix("")))


def _content(arrays: dict[str, np.ndarray]) -> str:
    """Returns the SHA-256 of all arrays, which does not depend on Orbax's file layout."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        digest.update(name.encode() + np.ascontiguousarray(arrays[name]).tobytes())
    return digest.hexdigest()


def _digest_of(about: dict) -> str:
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()


def _describe(shape_and_type: list | None) -> str:
    return "missing" if shape_and_type is None else f"{shape_and_type[1]} {shape_and_type[0]}"
