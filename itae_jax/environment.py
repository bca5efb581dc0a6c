"""What a result records of the machine: versions, devices, commit, cores."""

import contextlib
import functools
import hashlib
import importlib.util
import logging
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

_PACKAGES = ("itae_jax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "scikit-learn", "torch")


def describe() -> dict:
    """Versions, Python, devices and commit, as JSON values."""
    import jax

    versions = {}
    for package in _PACKAGES:
        with contextlib.suppress(ModuleNotFoundError):
            versions[package] = version(package)
    return {
        "versions": versions,
        "python": platform.python_version(),
        "device": describe_devices(jax.local_devices()),
        "commit": source_commit(),
    }


def describe_devices(devices) -> str:
    """Number and kind of the devices: `2 x AMD EPYC 7763`."""
    return f"{len(devices)} x {_kind(devices[0])}"


def _kind(device) -> str:
    if device.platform == "cpu":
        with contextlib.suppress(OSError, StopIteration):
            lines = Path("/proc/cpuinfo").read_text().splitlines()
            return next(line for line in lines if line.startswith("model name")).split(":")[1].strip()
    return device.device_kind


def what_jax_finds() -> Iterator[str]:
    """Yields lines: the backend, each device with its memory where that is known, and why no other backend."""
    import jax

    notes: list[str] = []
    logger, handler = logging.getLogger("jax._src.xla_bridge"), logging.Handler(logging.INFO)
    handler.emit = lambda record: notes.append(_one_line(record))  # type: ignore[method-assign]
    before = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.level, logger.propagate = logging.INFO, False
    try:
        devices = jax.devices()
    finally:
        logger.level, logger.propagate = before
        logger.removeHandler(handler)
    yield f"backend: {jax.default_backend()}"
    for device in devices:
        limit = (device.memory_stats() or {}).get("bytes_limit")
        yield f"  {device.platform}:{device.id}  {_kind(device)}" + (
            f"  {limit / 2**30:.1f} GiB" if limit else ""
        )
    if asked := jax.config.jax_platforms:  # type: ignore[attr-defined]
        yield f"JAX_PLATFORMS={asked}: JAX looks for no other backend"
    is_noted = any("cuda" in note.lower() for note in notes)
    if jax.default_backend() == "cpu" and not is_noted and (not asked or _is_cuda(asked)):
        yield _why_no_cuda()
    yield from (f"JAX: {note}" for note in dict.fromkeys(notes))


def why_no_backend() -> str:
    """Returns in one line why JAX, if it is in use, has no devices; empty if it has some."""
    if "jax" not in sys.modules:
        return ""
    import jax

    try:
        jax.devices()
    except Exception as error:
        asked = jax.config.jax_platforms or ""  # type: ignore[attr-defined]
        why = str(error).partition(" (set JAX_PLATFORMS")[0].rstrip(".")
        if _is_cuda(asked) and (not why or not _has_cuda_plugin()):
            why = _why_no_cuda()
        return f"JAX_PLATFORMS={asked}: {why}; or unset JAX_PLATFORMS" if asked else f"JAX: {why}"
    return ""


def _is_cuda(asked: str) -> bool:
    return bool({"cuda", "gpu"} & set(asked.split(",")))


def _has_cuda_plugin() -> bool:
    return any(importlib.util.find_spec(f"jax_cuda{version}_plugin") for version in (12, 13))


def _why_no_cuda() -> str:
    if _has_cuda_plugin():
        return "JAX's CUDA plugin is installed, but no NVIDIA GPU can be seen"
    return "JAX's CUDA plugin is not installed; in a clone, pip install '.[cuda]'"


def _one_line(record: logging.LogRecord) -> str:
    reason = record.exc_info[1] if record.exc_info else None
    return " ".join(f"{record.getMessage()}{f': {reason}' if reason else ''}".split())


def cpu_kind() -> str:
    """A name for all CPUs of the same model and instructions."""
    about = platform.machine()
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        about = "\n".join(
            sorted({line for line in lines if line.startswith(("model name", "flags", "Features"))})
        )
    return f"cpu-{hashlib.sha256(about.encode()).hexdigest()[:12]}"


@functools.cache
def source_commit() -> str:
    """The commit of this source tree, with `+` for uncommitted changes; empty outside a clone."""

    def git(*arguments: str) -> str:
        command = ["git", *arguments]
        here = Path(__file__).parent
        return subprocess.run(command, cwd=here, capture_output=True, text=True, check=True).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", Path(__file__).name)  # fails in a repository of somebody else
        return git("describe", "--always", "--abbrev=12", "--dirty=+", "--exclude=*")
    except (OSError, subprocess.CalledProcessError):
        return ""


def cpu_cores() -> int:
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
