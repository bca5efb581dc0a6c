"""Many devices as one: the only file that names pmap.

A function written for a slice of a batch is mapped over the devices. Inside it `mean` averages over
all slices and `example_indices` tells each image its place in the whole batch, so that random
draws, and with them the result, do not depend on how many devices share the work.
"""

import os
from collections.abc import Callable, Sequence

import jax
import numpy as np
from jax import lax
from jax.flatten_util import ravel_pytree
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from itae_jax.errors import RequestError

AXIS = "devices"


def use_cpu_cores() -> None:
    """Makes one virtual CPU device a core; has to come before JAX computes anything.

    Most of XLA's CPU convolutions use one core each, however many there are. A count already given
    in XLA_FLAGS is left alone.
    """
    if "xla_force_host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
        jax.config.update("jax_num_cpu_devices", cpu_cores())


def use_deterministic_operations() -> None:
    """Leaves XLA's GPU backend only operations that give the same bits every time.

    Has to come before JAX computes anything.
    """
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_gpu_deterministic_ops=true".strip()


def cpu_cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def choose_devices(batch_size: int, requested: int = 0) -> list[jax.Device]:
    """The local devices that share a batch.

    With `requested` 0 all of them; on the CPU backend the most whose number divides the batch.

    Raises:
      RequestError: more devices requested than there are, or a batch that they cannot share evenly.
    """
    devices = jax.local_devices()
    if requested > len(devices):
        raise RequestError(f"compute.devices={requested}: this machine has {len(devices)}")
    count = requested or len(devices)
    if batch_size % count and not requested and devices[0].platform == "cpu":
        count = max(n for n in range(1, count + 1) if batch_size % n == 0)
    if batch_size % count:
        raise RequestError(
            f"train.batch_size={batch_size} is not divisible by the {count} devices; "
            "change it, or set compute.devices"
        )
    return devices[:count]


def replicate(tree, devices: Sequence[jax.Device]):
    """The tree with every leaf on every device, as `split_batch` functions hand it back."""
    mesh = Mesh(np.asarray(devices), (AXIS,))
    return jax.device_put(tree, NamedSharding(mesh, PartitionSpec()))


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
      (whole arguments..., batch, axis=0) -> result; `axis` is the batch's axis of images. Its
      attribute `memory_bytes` takes the same and tells what the program takes on each device.
    """
    mapped = jax.pmap(
        function,
        axis_name=AXIS,
        in_axes=(*[None] * whole, 0),
        out_axes=None if replicated_result else 0,
        devices=devices,
        donate_argnums=(0,) if donate else (),
    )

    def on_devices(arguments, axis):
        *shared, batch = arguments
        shape = batch.shape
        slices = batch.reshape(*shape[:axis], len(devices), -1, *shape[axis + 1 :])
        return *shared, np.moveaxis(slices, axis, 0)

    def call(*arguments, axis: int = 0):
        result = mapped(*on_devices(arguments, axis))
        if replicated_result:
            return result
        return jax.tree.map(lambda rows: rows.reshape(-1, *rows.shape[2:]), result)

    def memory_bytes(*arguments, axis: int = 0) -> int | None:
        sizes = mapped.lower(*on_devices(arguments, axis)).compile().memory_analysis()
        if sizes is None:
            return None
        return sizes.argument_size_in_bytes + sizes.output_size_in_bytes + sizes.temp_size_in_bytes

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
