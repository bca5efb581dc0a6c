"""States on disk; the only module that names Orbax.

A state directory holds `arrays/`, which Orbax writes, and `about.json`: facts, the shape and type of each
array, and the SHA-256 of every file, because a flipped bit would otherwise come back as a number. The
directory is written atomically. Reading it executes nothing.
"""

import errno
import hashlib
import json
import logging
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

_LOG = logging.getLogger(__name__)
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
        needed = 2 * sum(array.nbytes for array in arrays.values()) + _OVERHEAD  # Orbax writes a second copy
        if shutil.disk_usage(partial).free < needed:  # Orbax would print several tracebacks
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(directory))
        _write_arrays((partial / _ARRAYS).absolute(), arrays)
        content = hashlib.sha256()  # does not depend on Orbax's file layout
        for name in sorted(arrays):
            content.update(name.encode() + np.ascontiguousarray(arrays[name]).tobytes())
        shapes = {name: [list(array.shape), array.dtype.name] for name, array in arrays.items()}
        digests = _digests(partial / _ARRAYS)
        about = {"facts": facts, "arrays": shapes, "content": content.hexdigest(), "files": digests}
        text = json.dumps({**about, "sha256": _digest_of(about)}, indent=1)
        (partial / _ABOUT).write_text(text, encoding="utf-8")
        files.remove(directory)
        os.replace(partial, directory)
        _LOG.info("saved %s, %.1f MiB", directory, sum(array.nbytes for array in arrays.values()) / 2**20)
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
      free: a key of the saved tree, under which any arrays come back, as a dict of names and arrays.

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
            which = f"{name} is {_describe(there)} there, expected {_describe(here)}"
            raise RequestError(f"{directory}: is of another network; {which}")
    shapes = {name: np.zeros(shape, dtype) for name, (shape, dtype) in saved.items()}
    arrays = _read_arrays((directory / _ARRAYS).absolute(), shapes)
    tree = fill(like, arrays)
    if free:
        tree[free] = {name.removeprefix(prefix): arrays[name] for name in arrays if name.startswith(prefix)}
    _LOG.info("read %s", directory)
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
    """The `keep` newest states of one training, `<directory>/<step>`, written while the training goes on.

    The directory holds nothing else. A checkpoint is due `minutes` after the last one, 0 for as often as
    possible. `on_notice` gets a line about each that is resumed from, or cannot be read or written.
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
                continue
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
    else:
        _orbax("save")(directory, arrays)


def _read_arrays(directory: Path, like: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    if jax.process_count() > 1:
        with _alone() as checkpointer:
            return checkpointer.restore(next(directory.rglob("_METADATA")).parent, like)
    return _orbax("load")(directory, like)


def _orbax(name: str) -> Callable:
    from orbax.checkpoint import v1 as ocp

    return getattr(ocp, name, None) or getattr(ocp, f"{name}_pytree")  # before Orbax 0.12, which jax2onnx needs


def _alone():
    """Returns a checkpointer that waits for no other process, which Orbax's V1 API cannot."""
    import orbax.checkpoint as ocp

    own = jax.process_index()
    alone = ocp.options.MultiprocessingOptions(
        primary_host=own, active_processes={own}, barrier_sync_key_prefix=f"process_{own}"
    )
    return ocp.StandardCheckpointer(multiprocessing_options=alone)


def check(directory: Path) -> dict:
    """Returns the content of about.json; raises DamagedError unless every file is as `save` wrote it.

    Other files do not matter: file managers leave theirs.
    """
    try:
        about = json.loads((directory / _ABOUT).read_text(encoding="utf-8"))
        if not all(isinstance(about[key], dict) for key in ("facts", "arrays", "files")):
            raise TypeError
        is_as_written = about.pop("sha256") == _digest_of(about)
        found = _digests(directory / _ARRAYS)
    except (OSError, ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        reason = type(error).__name__
        raise DamagedError(f"{directory}: is damaged: {_ABOUT} cannot be read ({reason})") from None
    if not is_as_written:
        raise DamagedError(f"{directory}: is damaged: {_ABOUT} is not as written")
    for name, listed in sorted(about["files"].items()):
        if (there := found.get(name)) != listed:
            what = "is missing" if there is None else "is not as written"
            raise DamagedError(f"{directory}: is damaged: {_ARRAYS}/{name} {what}")
    return about


def _digests(directory: Path) -> dict[str, str]:
    """Returns the SHA-256 of every file below a directory, by relative path."""
    paths = sorted(path for path in directory.rglob("*") if path.is_file())
    return {path.relative_to(directory).as_posix(): files.sha256(path) for path in paths}


def _digest_of(about: dict) -> str:
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()


def _describe(shape_and_type: list | None) -> str:
    return "missing" if shape_and_type is None else f"{shape_and_type[1]} {shape_and_type[0]}"
