"""Many devices as one, of one process or of several: the only file that names pmap and jax.distributed.

A function written for a slice of a batch is mapped over the devices. Inside it `mean` averages over
all slices and `example_indices` tells each image its place in the whole batch, so that random
draws, and with them the result, do not depend on how many devices share the work.

Processes take the same steps on the same batches, each on its own devices' slices of them.
"""

import functools
import os
from collections.abc import Callable, Sequence

import jax
import numpy as np
from jax import lax
from jax.flatten_util import ravel_pytree
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from itae_jax import environment
from itae_jax.errors import RequestError

AXIS = "devices"
# How long processes wait for each other at the start and at the end, and until a silent one counts as lost.
SECONDS_TO_JOIN = 120
_SECONDS_TO_PART = 600
_SECONDS_OF_SILENCE = 20


def prepare_backends() -> None:
    """What every command wants of JAX's backends; has to come before JAX computes anything."""
    use_cpu_cores()
    leave_memory_to_others()


def use_cpu_cores() -> None:
    """Makes one virtual CPU device a core; has to come before JAX computes anything.

    Most of XLA's CPU convolutions use one core each, however many there are. A count already given
    in XLA_FLAGS is left alone.
    """
    if "xla_force_host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
        jax.config.update("jax_num_cpu_devices", environment.cpu_cores())


def keep_programs() -> None:
    """Keeps what is compiled for an accelerator on disk, for the next process.

    A directory already given in JAX_COMPILATION_CACHE_DIR is left alone. For the CPU nothing is kept
    unasked: its programs may not run on the next machine that shares the directory.
    """
    alone = jax.process_count() == 1  # of several one alone writes there, and the others would wait for it
    if alone and not jax.config.jax_compilation_cache_dir and jax.default_backend() != "cpu":
        cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
        jax.config.update("jax_compilation_cache_dir", os.path.join(cache, "itae_jax"))


def leave_memory_to_others() -> None:
    """Takes a GPU's memory as it is needed, not most of it at once: several trainings may share one.

    Has to come before JAX computes anything.
    """
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")


def use_deterministic_operations() -> None:
    """Leaves XLA's GPU backend only operations that give the same bits every time.

    Has to come before JAX computes anything.
    """
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_gpu_deterministic_ops=true".strip()


def choose_devices(batch_size: int, requested: int = 0) -> list[jax.Device]:
    """The devices that share a batch: of all processes, or else the local ones.

    With `requested` 0 all of them; on the CPU backend of one process the most whose number divides
    the batch.

    Raises:
      RequestError: more devices requested than there are, fewer than all of several processes, or a
        batch that they cannot share evenly.
    """
    devices = jax.devices()
    if jax.process_count() > 1:
        if requested not in (0, len(devices)):
            raise RequestError(
                f"compute.devices={requested}: the processes have {len(devices)} in all; leave it 0"
            )
        requested = len(devices)
    if requested > len(devices):
        raise RequestError(f"compute.devices={requested}: this machine has {len(devices)}")
    count = requested or len(devices)
    if batch_size % count and not requested and devices[0].platform == "cpu":
        count = max(n for n in range(1, count + 1) if batch_size % n == 0)
    if batch_size % count:
        remedy = "change it" if jax.process_count() > 1 else "change it, or set compute.devices"
        raise RequestError(f"train.batch_size={batch_size} is not divisible by the {count} devices; {remedy}")
    return devices[:count]


def replicate(tree, devices: Sequence[jax.Device]):
    """The tree with every leaf on every local device, as `split_batch` functions hand it back."""
    return jax.device_put(tree, _sharding(tuple(devices), PartitionSpec()))


@functools.cache
def _sharding(devices: tuple[jax.Device, ...], spec: PartitionSpec) -> NamedSharding:
    return NamedSharding(Mesh(np.asarray(_local(devices)), (AXIS,)), spec)


def _local(devices: Sequence[jax.Device]) -> list[jax.Device]:
    return [device for device in devices if device.process_index == jax.process_index()]


def split_batch(
    function: Callable,
    devices: Sequence[jax.Device],
    *,
    replicated_result: bool,
    whole: int = 1,
    donate: bool = False,
) -> Callable:
    """Maps `function(*whole arguments, batch)` over devices: the batch in equal slices.

    Args:
      function: (whole arguments..., slice of the batch) -> result. May call `mean` and
        `example_indices`.
      devices: who shares the batch.
      replicated_result: True if the result is the same on every device and comes back once; False
        if it is a row for every image, and the rows come back in the batch's order.
      whole: how many arguments before the batch every device gets whole.
      donate: whether the memory of the first of them may be reused for the result.

    Returns:
      (whole arguments..., batch, axis=0) -> result, on the local devices; every process hands in the
      whole batch, a NumPy array whose axis of images is `axis`. Its attribute `memory_bytes` takes
      the same and tells what the program takes on each device.
    """
    devices = tuple(devices)
    own = [place for place, device in enumerate(devices) if device.process_index == jax.process_index()]
    gathered = not replicated_result and len(own) < len(devices)

    def all_rows(*arguments):
        return lax.all_gather(function(*arguments), AXIS)

    mapped = jax.pmap(
        all_rows if gathered else function,
        axis_name=AXIS,
        in_axes=(*[None] * whole, 0),
        out_axes=None if replicated_result or gathered else 0,
        devices=devices,
        donate_argnums=(0,) if donate else (),
    )

    def on_devices(arguments, axis):
        *shared, batch = arguments
        shape = batch.shape
        slices = batch.reshape(*shape[:axis], len(devices), -1, *shape[axis + 1 :])
        slices = np.moveaxis(slices, axis, 0)[own[0] : own[-1] + 1]
        # Said, not left to the call: `jax.transfer_guard` shows that nothing else is copied.
        shared[1:] = replicate(shared[1:], devices)
        return *shared, jax.device_put(slices, _sharding(devices, PartitionSpec(AXIS)))

    def call(*arguments, axis: int = 0):
        result = mapped(*on_devices(arguments, axis))
        if gathered and devices[0].platform == "cpu":
            jax.block_until_ready(result)  # exchanges that queue can wait for each other's threads
        if replicated_result:
            return result
        return jax.tree.map(lambda rows: rows.reshape(-1, *rows.shape[2:]), result)

    def memory_bytes(*arguments, axis: int = 0) -> int | None:
        sizes = mapped.lower(*on_devices(arguments, axis)).compile().memory_analysis()
        if sizes is None:
            return None
        shared = sizes.alias_size_in_bytes  # donated: an argument and a result in one
        return sizes.argument_size_in_bytes + sizes.output_size_in_bytes + sizes.temp_size_in_bytes - shared

    call.memory_bytes = memory_bytes
    return call


def mean(tree):
    """The average over all devices, of all leaves in one exchange; inside a mapped function only.

    One exchange is fast, and safe on the CPU backend, where each that waits holds a thread of a pool
    as small as the number of devices: of many at once the last would wait for ever.
    """
    flat, restore = ravel_pytree(tree)
    return restore(lax.pmean(flat, AXIS))


def example_indices(slice_size: int) -> jax.Array:
    """The places of this device's images in the whole batch; inside a mapped function only."""
    return lax.axis_index(AXIS) * slice_size + jax.numpy.arange(slice_size, dtype="int32")


def join_processes(coordinator: str | None, num_processes: int | None, process_id: int | None) -> None:
    """Joins the other processes, who have met before (`meeting`): JAX does not tell well that one is missing.

    All None: found out from Slurm, a TPU pod or another cluster that JAX knows.

    Raises:
      RequestError: the others cannot be found.
    """
    jax.config.update("jax_enable_preemption_service", False)  # it takes SIGTERM for itself
    try:
        jax.distributed.initialize(
            coordinator,
            num_processes,
            process_id,
            cluster_detection_method=None if coordinator is None else "deactivate",
            initialization_timeout=SECONDS_TO_JOIN,
            heartbeat_timeout_seconds=_SECONDS_OF_SILENCE,
            shutdown_timeout_seconds=_SECONDS_TO_PART,
        )
    except (ValueError, RuntimeError) as error:
        why = next(iter(str(error).splitlines()), type(error).__name__)
        if coordinator is None and isinstance(error, ValueError):
            raise RequestError(
                f"--distributed: JAX finds no Slurm, TPU pod or other cluster that it knows here ({why}); give "
                "--coordinator, --num-processes and --process-id instead"
            ) from None
        where = f"--coordinator {coordinator}" if coordinator else "--distributed"
        raise RequestError(f"{where}: JAX cannot join the processes ({why})") from None


def part_processes() -> None:
    """Waits until all processes come to their end; from then on the end of one is no loss to the others."""
    jax.distributed.shutdown()


def any_of(flags: Sequence[bool], devices: Sequence[jax.Device]) -> jax.Array:
    """For each flag whether it is set in any process, as 0 or 1.

    Every process has to call this; none waits before it reads the answer.
    """
    devices = tuple(devices)
    rows = np.tile(np.array(flags, np.int32), (len(_local(devices)), 1))
    return _maximum(devices)(jax.device_put(rows, _sharding(devices, PartitionSpec(AXIS))))


def is_any(flag: bool, devices: Sequence[jax.Device]) -> bool:
    """Whether the flag is set in any process; waits for all of them."""
    return flag if jax.process_count() == 1 else bool(np.asarray(any_of([flag], devices)).any())


@functools.cache
def _maximum(devices: tuple[jax.Device, ...]) -> Callable:
    return jax.pmap(lambda row: lax.pmax(row, AXIS), axis_name=AXIS, out_axes=None, devices=devices)
