"""What a result records of the machine: versions, devices, commit, cores."""

import contextlib
import functools
import hashlib
import os
import platform
import subprocess
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
    kind = devices[0].device_kind
    if devices[0].platform == "cpu":
        with contextlib.suppress(OSError, StopIteration):
            lines = Path("/proc/cpuinfo").read_text().splitlines()
            kind = next(line for line in lines if line.startswith("model name")).split(":")[1].strip()
    return f"{len(devices)} x {kind}"


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
