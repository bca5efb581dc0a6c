"""States on disk: the only file that names Orbax.

A state directory holds `arrays/`, named arrays written by Orbax, and `about.json`: facts to go with
them, the shape and type of each, and the SHA-256 of every file and of the arrays' content, because a
flipped bit in an array would otherwise come back as a number. It appears whole or not at all. Reading
executes nothing.
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

import jax
import numpy as np

from itae_jax import files
from itae_jax.errors import DISK_ERRORS, DamagedError, RequestError

_OVERHEAD = 2**20  # of Orbax's own files, and of ours
_ABOUT, _ARRAYS, _PARTIAL = "about.json", "arrays", ".partial"


def save(directory: Path, tree, facts: dict | None = None) -> None:
    """Writes a tree of arrays, and facts that JSON can hold; replaces what is there.

    Raises:
      OSError: no space, or no right to write there.
    """
    arrays = {name: np.asarray(array) for name, array in _named(tree).items()}
    partial = directory.with_name(directory.name + _PARTIAL)
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        _check_room(partial, sum(array.nbytes for array in arrays.values()))
        with _orbax() as checkpointer:
            checkpointer.save((partial / _ARRAYS).absolute(), arrays)
        shapes = {name: [list(array.shape), array.dtype.name] for name, array in arrays.items()}
        about = {
            "facts": facts or {},
            "arrays": shapes,
            "content": _content(arrays),
            "files": _digests(partial / _ARRAYS),
        }
        text = json.dumps({**about, "sha256": _digest_of(about)}, indent=1)
        (partial / _ABOUT).write_text(text, encoding="utf-8")
        shutil.rmtree(directory, ignore_errors=True)
        os.replace(partial, directory)
    except Exception as error:  # Orbax tells of a full disk by errors of several kinds
        shutil.rmtree(partial, ignore_errors=True)
        number = next((number for number in DISK_ERRORS if os.strerror(number) in str(error)), None)
        if isinstance(error, OSError) or number is None:
            raise
        raise OSError(number, os.strerror(number), str(directory)) from None


def restore(directory: Path, like, fact_types: dict[str, type], free: str = "") -> tuple[object, dict]:
    """(tree, facts) that `save` wrote, with NumPy arrays in the place of the arrays of `like`.

    Raises:
      DamagedError: a file is missing, cut short or changed, or a fact not of its type.
      RequestError: intact, but of other names, shapes or types than `like`.
    """
    about = _read_about(directory)
    for fact, kind in fact_types.items():
        if not isinstance(about["facts"].get(fact), kind):
            raise DamagedError(f"{directory}: is damaged: {_ABOUT} does not tell {fact}")
    wanted = {name: [list(array.shape), np.dtype(array.dtype).name] for name, array in _named(like).items()}
    loose = {n: v for n, v in about["arrays"].items() if free and n.startswith(free + ".")}
    fixed = wanted
    wanted = wanted | loose
    for name in sorted(wanted.keys() | about["arrays"].keys()):
        there, here = about["arrays"].get(name), wanted.get(name)
        if there != here:
            raise RequestError(
                f"{directory}: is of another network; {name} is {_words(there)} there, expected {_words(here)}"
            )
    with _orbax() as checkpointer:
        names = {name: np.zeros(shape, dtype) for name, (shape, dtype) in wanted.items()}
        arrays = checkpointer.restore((directory / _ARRAYS).absolute(), names)
    leaves = [arrays[name] for name in fixed]
    tree = jax.tree.unflatten(jax.tree.structure(like), leaves)
    if free:
        tree = tree | {free: {name[len(free) + 1 :]: arrays[name] for name in loose}}
    return tree, about["facts"]


def check(directory: Path) -> None:
    """Raises DamagedError unless all that `save` wrote is there as written."""
    _read_about(directory)


def _orbax():
    """Orbax's checkpointer, of this process alone: it waits for no other."""
    import orbax.checkpoint as ocp

    if jax.process_count() == 1:
        return ocp.StandardCheckpointer()
    own = jax.process_index()
    alone = ocp.options.MultiprocessingOptions(
        primary_host=own, active_processes={own}, barrier_sync_key_prefix=f"process_{own}"
    )
    return ocp.StandardCheckpointer(multiprocessing_options=alone)


class Checkpoints:
    """The newest states of one training, `<directory>/<step>`, written while the training goes on.

    Args:
      directory: holds nothing else.
      minutes: between two; 0: as often as asked.
      keep: how many of the newest stay.
      on_notice: told in a line of what could not be read or written.
    """

    def __init__(self, directory: Path, minutes: float, keep: int, on_notice: Callable[[str], None] = print):
        self.directory, self._minutes, self._keep, self._on_notice = directory, minutes, keep, on_notice
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._writing: Future | None = None
        self._started = self._saved = time.monotonic()
        self._seconds_before = 0.0
        for partial in directory.glob(f"*{_PARTIAL}"):
            shutil.rmtree(partial, ignore_errors=True)

    def seconds(self) -> float:
        """Time spent since the training first started, without the pauses."""
        return self._seconds_before + time.monotonic() - self._started

    def steps(self) -> list[int]:
        """The steps of which there is a state, newest first."""
        names = (path.name for path in self.directory.glob("*") if path.name.isdecimal())
        return sorted(map(int, names), reverse=True)

    def restore(self, like, fact_types: dict[str, type]) -> tuple[object, dict] | None:
        """The newest readable state and its facts; None if there is none.

        Damaged ones are told of and removed.
        """
        self.wait()
        for step in self.steps():
            try:
                tree, facts = restore(self.directory / str(step), like, {**fact_types, "seconds": float})
            except DamagedError as error:
                self._on_notice(f"{error}; going on from the checkpoint before it")
                files.remove(self.directory / str(step))
            else:
                self._seconds_before = facts["seconds"]
                self._on_notice(f"going on from {self.directory / str(step)}")
                return tree, facts
        return None

    def due(self) -> bool:
        """Whether it is time for the next one."""
        return time.monotonic() - self._saved >= 60 * self._minutes

    def save(self, step: int, tree, facts: dict) -> None:
        """Writes a state in the background; waits for the one before it. Arrays are copied first."""
        self.wait()
        copied = jax.tree.map(np.array, tree)
        facts = {**facts, "seconds": self.seconds()}
        self._writing = self._writer.submit(self._write, step, copied, facts)
        self._saved = time.monotonic()

    def wait(self) -> None:
        """Until what is being written is on disk; a failure is told, and the training may go on."""
        if self._writing is not None:
            try:
                self._writing.result()
            except Exception as error:  # no reason to give up the training
                why = getattr(error, "strerror", None) or f"{type(error).__name__}: {error}".partition("\n")[0]
                self._on_notice(f"{self.directory}: checkpoint not written ({why}); going on")
            self._writing = None

    def remove(self) -> None:
        """Deletes all of them: the training is done and its result saved."""
        self.wait()
        files.remove(self.directory)

    def _write(self, step, tree, facts) -> None:
        save(self.directory / str(step), tree, facts)
        for old in self.steps()[self._keep :]:
            files.remove(self.directory / str(old))


def _named(tree) -> dict[str, object]:
    """The leaves of a tree by their path, joined by dots."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in leaves}


def _read_about(directory: Path) -> dict:
    """about.json, after every file has been compared with it."""
    try:
        about = json.loads((directory / _ABOUT).read_text(encoding="utf-8"))
        if not all(isinstance(about[key], dict) for key in ("facts", "arrays", "files")):
            raise TypeError
        if about.pop("sha256") != _digest_of(about):
            raise DamagedError(f"{directory}: is damaged: {_ABOUT} is not as written")
        found = _digests(directory / _ARRAYS)
    except (OSError, ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        why = type(error).__name__
        raise DamagedError(f"{directory}: is damaged: {_ABOUT} cannot be read ({why})") from None
    if found.keys() - about["files"].keys():
        raise DamagedError(f"{directory}: is damaged: {_ARRAYS} holds files that {_ABOUT} does not tell of")
    for name, digest in about["files"].items():
        if found.get(name) != digest:
            what = "is not as written" if name in found else "is missing"
            raise DamagedError(f"{directory}: is damaged: {_ARRAYS}/{name} {what}")
    return about


def _digests(directory: Path) -> dict[str, str]:
    files = sorted(path for path in directory.rglob("*") if path.is_file())
    digests = {}
    for path in files:
        with path.open("rb") as file:
            digests[path.relative_to(directory).as_posix()] = hashlib.file_digest(file, "sha256").hexdigest()
    return digests


def _check_room(directory: Path, num_bytes: int) -> None:
    """Raises OSError unless Orbax, which copies what it writes once, has room for so many bytes of arrays.

    It would find out too, but in several threads at a time, each of which prints its traceback.
    """
    if shutil.disk_usage(directory).free < 2 * num_bytes + _OVERHEAD:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(directory.with_suffix("")))


def _content(arrays: dict[str, np.ndarray]) -> str:
    """The SHA-256 of all arrays, which does not depend on how Orbax lays them out."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        digest.update(name.encode() + np.ascontiguousarray(arrays[name]).tobytes())
    return digest.hexdigest()


def _digest_of(about: dict) -> str:
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()


def _words(shape_and_type) -> str:
    return "missing" if shape_and_type is None else f"{shape_and_type[1]} {shape_and_type[0]}"
