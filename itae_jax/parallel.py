"""Many devices as one, in one process or several: the only module that names pmap and jax.distributed.

A function of a slice of a batch is mapped over the devices. Inside it, `mean` averages over all slices and
`example_indices` gives each image's place in the whole batch, so that random draws, and with them the
result, do not depend on the number of devices.

Several processes take the same steps on the same batches, each on the slices of its own devices.
"""

import contextlib
import functools
import logging
import os
import re
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax import lax
from jax.flatten_util import ravel_pytree
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from itae_jax import environment
from itae_jax.errors import RequestError

AXIS = "devices"
_LOG = logging.getLogger(__name__)
_LONG = 0.5  # seconds of a compilation that is worth a line
SECONDS_TO_JOIN = 120  # until all processes must have joined
SECONDS_TO_PART = 600  # that the first process to finish waits for the last
SECONDS_OF_SILENCE = 20  # until a process that sends nothing counts as lost
_CACHE_BYTES = 2**30


def prepare_backends() -> None:
    """Configures JAX backends; call before the first JAX computation."""
    use_cpu_cores()
    _log_compilations()
    # Take GPU memory as needed: several trainings may share one GPU.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")


def use_cpu_cores() -> None:
    """Makes each core a virtual CPU device, unless XLA_FLAGS sets a count; call before the first computation.

    Most of XLA's CPU convolutions use only one core.
    """
    if "xla_force_host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
        jax.config.update("jax_num_cpu_devices", environment.cpu_cores())


@functools.cache
def _log_compilations() -> None:
    def log(event: str, duration_secs: float, **about: str | int) -> None:
        if event == "/jax/core/compile/backend_compile_duration" and duration_secs >= _LONG:
            _LOG.info("compiled %s in %.1f s", about.get("fun_name", "a program"), duration_secs)

    jax.monitoring.register_event_duration_secs_listener(log)


def keep_programs() -> None:
    """Caches compiled programs on disk, about 1 GiB, for later processes on the same kind of machine.

    JAX_COMPILATION_CACHE_DIR names another directory, JAX_ENABLE_COMPILATION_CACHE=0 turns it off. Programs of
    several processes are not cached: only one writes, and the others would wait. A directory that cannot be
    written costs time, and no warning.
    """
    cache = jax.config.jax_compilation_cache_dir  # type: ignore[attr-defined]
    if jax.process_count() == 1 and not cache:
        home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
        # A program for a CPU need not run on others that share the directory.
        kind = environment.cpu_kind() if jax.default_backend() == "cpu" else jax.default_backend()
        directory = Path(home, "itae_jax", kind)
        if directory.is_absolute():  # not without a home directory
            _trim(directory)
            jax.config.update("jax_compilation_cache_dir", str(directory))
            jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
            warnings.showwarning = functools.partial(_show_warning, warnings.showwarning, directory)
    if _LOG.isEnabledFor(logging.INFO):
        _LOG.info("backend %s, %s", jax.default_backend(), environment.describe())


def _show_warning(
    show: Callable[..., None], directory: Path, message: Warning | str, *about: Any, **options: Any
) -> None:
    """Logs a warning of the cache, and shows any other.

    If a program cannot be read, removes all of its name: JAX never replaces a damaged one.
    """
    pattern = "Error (reading|writing) persistent compilation cache entry for '([^']+)'"
    of_cache = re.match(pattern, str(message))
    if not of_cache:
        show(message, *about, **options)
        return
    _LOG.info("%s", message)
    if of_cache[1] == "reading":
        with contextlib.suppress(OSError):
            for path in directory.glob("*"):
                if path.name.rsplit("-", 2)[0] == of_cache[2]:
                    path.unlink()


def _trim(directory: Path) -> None:
    """Removes the oldest files beyond the limit: JAX's own limit looks at every file for each that it adds."""
    total = 0
    with contextlib.suppress(OSError):  # another process removes them too
        for path in sorted(directory.glob("*"), key=os.path.getmtime, reverse=True):
            total += path.stat().st_size
            if total > _CACHE_BYTES:
                path.unlink()


def use_deterministic_operations() -> None:
    """Makes XLA's GPU backend give the same bits every time; call before the first JAX computation."""
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_gpu_deterministic_ops=true".strip()


def choose_devices(batch_size: int, requested: int = 0) -> list[jax.Device]:
    """Returns the devices that share a batch: those of all processes, or the local ones.

    `requested` is how many; 0 for all, or in one process on CPUs the most that divide the batch. RequestError
    if there are fewer, some of several processes stay unused, or they cannot share the batch evenly.
    """
    devices, has_several = jax.devices(), jax.process_count() > 1
    if has_several and requested not in (0, len(devices)):
        raise RequestError(f"compute.devices={requested}: the processes have {len(devices)} in all; leave it 0")
    if requested > len(devices):
        raise RequestError(f"compute.devices={requested}: this machine has {len(devices)}")
    count = requested or len(devices)
    if batch_size % count and not requested and not has_several and devices[0].platform == "cpu":
        count = max(n for n in range(1, count + 1) if batch_size % n == 0)
    if batch_size % count:
        remedy = "change it" if has_several else "change it, or set compute.devices"
        raise RequestError(f"train.batch_size={batch_size} is not divisible by the {count} devices; {remedy}")
    return devices[:count]


def replicate(tree: Any, devices: Sequence[jax.Device]) -> Any:
    """Returns the tree with every leaf on every local device; RequestError in a fork, as a call raises."""
    check_not_forked()
    return jax.device_put(tree, _sharding(tuple(devices), PartitionSpec()))


@functools.cache
def _sharding(devices: tuple[jax.Device, ...], spec: PartitionSpec) -> NamedSharding:
    return NamedSharding(Mesh(np.asarray(_local(devices)), (AXIS,)), spec)


def _local(devices: Sequence[jax.Device]) -> list[jax.Device]:
    return [device for device in devices if device.process_index == jax.process_index()]


class split_batch:  # in lower case, like functools.partial, because it is used as a function
    """Maps `function(*whole arguments, batch)` over devices, which share the batch in equal slices.

    Calling it with the same arguments returns the result on the local devices. Every process passes the
    whole batch, a NumPy array; `axis` is the batch's axis of images. `rows_of` joins a result of rows.

    Args:
      function: (whole arguments..., slice of the batch) -> result; may call `mean` and `example_indices`.
      replicated_result: True if the result is the same on every device, and is returned once; False if it has
        a row for each image, and is returned as devices x rows x ...
      whole: the number of arguments before the batch; every device gets them whole.
      donate: whether the result may reuse the memory of the first argument.
    """

    def __init__(
        self,
        function: Callable,
        devices: Sequence[jax.Device],
        *,
        replicated_result: bool,
        whole: int = 1,
        donate: bool = False,
    ):
        check_not_forked()
        self._devices = tuple(devices)
        own = [i for i, device in enumerate(devices) if device in _local(devices)]
        self._own = slice(own[0], own[-1] + 1)
        self._is_gathered = not replicated_result and len(own) < len(devices)

        def all_rows(*arguments):
            return lax.all_gather(function(*arguments), AXIS)

        self._mapped = jax.pmap(
            all_rows if self._is_gathered else function,
            axis_name=AXIS,
            in_axes=(*[None] * whole, 0),
            out_axes=None if replicated_result or self._is_gathered else 0,
            devices=self._devices,
            donate_argnums=(0,) if donate else (),
        )

    def __call__(self, *arguments: Any, axis: int = 0) -> Any:
        check_not_forked()
        result = self._mapped(*self._on_devices(arguments, axis))
        if self._is_gathered and self._devices[0].platform == "cpu":
            jax.block_until_ready(result)  # queued exchanges can wait for each other's threads
        return result

    def memory_bytes(self, *arguments: Any, axis: int = 0) -> int | None:
        """Returns the memory that a call takes on each device by XLA's account; None if unknown."""
        sizes = self._mapped.lower(*self._on_devices(arguments, axis)).compile().memory_analysis()
        if sizes is None:
            return None
        shared = sizes.alias_size_in_bytes  # a donated argument is also a result
        return sizes.argument_size_in_bytes + sizes.output_size_in_bytes + sizes.temp_size_in_bytes - shared

    def _on_devices(self, arguments: tuple, axis: int) -> tuple:
        *shared, batch = arguments
        shape = batch.shape
        slices = batch.reshape(*shape[:axis], len(self._devices), -1, *shape[axis + 1 :])
        slices = np.moveaxis(slices, axis, 0)[self._own]
        # Copied here and not by the call, so that `jax.transfer_guard` can forbid all other copies.
        shared[1:] = replicate(shared[1:], self._devices)
        return *shared, jax.device_put(slices, _sharding(self._devices, PartitionSpec(AXIS)))


def rows_of(result: Any) -> Any:
    """Returns the rows of a result of `split_batch`, NumPy arrays in the batch's order; waits for them."""
    return jax.tree.map(lambda slices: np.asarray(slices).reshape(-1, *slices.shape[2:]), result)


def is_forked() -> bool:
    """Returns whether this process is a fork of one that used JAX, whose threads are missing here."""
    return _first_process() != os.getpid()


def check_not_forked() -> None:
    """Raises RequestError in a fork of a process that used JAX, where JAX would hang."""
    if is_forked():
        remedy = 'start processes by multiprocessing.get_context("spawn")'
        raise RequestError(f"this process was forked from one that used JAX, and would hang; {remedy}")


@functools.cache
def _first_process() -> int:
    return os.getpid()


def mean(tree: Any) -> Any:
    """Averages all leaves over all devices in one exchange; for use inside a mapped function.

    On the CPU backend a waiting exchange holds one thread a device, so that several could wait forever.
    """
    flat, restore = ravel_pytree(tree)
    return restore(lax.pmean(flat, AXIS))


def all_images(images_bxHxWxC: jax.Array) -> jax.Array:
    """Returns the whole batch from this device's slice of it; for use inside a mapped function."""
    return lax.all_gather(images_bxHxWxC, AXIS, tiled=True)


def example_indices(slice_size: int) -> jax.Array:
    """Returns the places of this device's images in the whole batch; for use inside a mapped function."""
    return lax.axis_index(AXIS) * slice_size + jax.numpy.arange(slice_size, dtype="int32")


def join_processes(coordinator: str | None, num_processes: int | None, process_id: int | None) -> None:
    """Joins the other processes; call before the first JAX computation.

    If one of them does not come, JAX ends this process (see docs/scaling.md). `coordinator` is HOST:PORT of
    process 0; all None if JAX can find them from Slurm, a TPU pod or another cluster, else RequestError.
    """
    jax.config.update("jax_enable_preemption_service", False)  # it would catch SIGTERM
    detection = None if coordinator is None else "deactivate"
    limits: dict[str, Any] = {"initialization_timeout": SECONDS_TO_JOIN}
    limits |= {"heartbeat_timeout_seconds": SECONDS_OF_SILENCE, "shutdown_timeout_seconds": SECONDS_TO_PART}
    given = coordinator, num_processes, process_id
    try:
        jax.distributed.initialize(*given, cluster_detection_method=detection, **limits)
    except ValueError as error:
        what = f"JAX finds no Slurm, TPU pod or other cluster here ({error})"
        remedy = "give --coordinator, --num-processes and --process-id instead"
        raise RequestError(f"--distributed: {what}; {remedy}") from None


def part_processes() -> None:
    """Waits until all processes have finished; afterwards each may end without stopping the others."""
    jax.distributed.shutdown()


def any_of(flags: Sequence[bool], devices: Sequence[jax.Device]) -> jax.Array:
    """Returns 1 for each flag that any process sets, else 0; only reading the answer waits for the others."""
    devices = tuple(devices)
    rows = np.tile(np.array(flags, np.int32), (len(_local(devices)), 1))
    return _maximum(devices)(jax.device_put(rows, _sharding(devices, PartitionSpec(AXIS))))


def is_any(flag: bool, devices: Sequence[jax.Device]) -> bool:
    """Returns whether the flag is set in any process; waits for all of them."""
    return flag if jax.process_count() == 1 else bool(np.asarray(any_of([flag], devices)).any())


@functools.cache
def _maximum(devices: tuple[jax.Device, ...]) -> Callable:
    return jax.pmap(lambda row: lax.pmax(row, AXIS), axis_name=AXIS, out_axes=None, devices=devices)
