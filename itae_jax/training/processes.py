"""Several processes that train as one: how they come together, part, and agree.

What has to be decided by one of them, the first decides: `from_leader`.
"""

import contextlib
import hashlib
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import jax
import numpy as np

from itae_jax import parallel
from itae_jax.errors import RequestError
from itae_jax.training import meeting, watch
from itae_jax.training import signals as interrupt

_SECONDS_TO_TELL = 2


@contextlib.contextmanager
def taking_part(
    coordinator: str | None,
    num_processes: int | None,
    process_id: int | None,
    is_distributed: bool,
    out: Path,
    say: Callable[[str], None],
) -> Iterator[Path]:
    """Makes this process one of several, if that is asked for; has to come before JAX computes anything.

    Args:
      coordinator: HOST:PORT of process 0; None, as are the next two: unknown, or there is one process.
      is_distributed: whether to find the others by what JAX knows of Slurm, TPU pods and other clusters.
      say: told in a line whom process 0 waits for.

    Yields:
      Where this process writes: `out`, or what is thrown away if it is not the first of several.

    Raises:
      RequestError: the others are not found, or cannot train with this one.
    """
    address = check_address(coordinator, num_processes, process_id)
    if address is not None and is_distributed:
        raise RequestError("--distributed: is instead of --coordinator, --num-processes and --process-id")
    if address is None and not is_distributed:
        yield out
        return
    if address is not None:
        meeting.meet(address, num_processes, process_id, say)
    name = "this process" if process_id is None else f"process {process_id}"
    watch.start(
        f"{name}: the processes did not all join within {parallel.SECONDS_TO_JOIN} seconds; start all again"
    )
    with interrupt.at_once():  # JAX waits where Python handles no signals
        parallel.join_processes(coordinator, num_processes, process_id)
    watch.tell(
        f"{name}: another process of this run was lost, or this one was killed; start all of them again alike, "
        "and the run goes on from its last checkpoint"
    )
    try:
        _check_devices()
        with interrupt.deferred_throughout(), tempfile.TemporaryDirectory(prefix="itae_") as scratch:
            yield out if is_leader() else Path(scratch)
    except KeyboardInterrupt:  # all of them, after the same step
        parallel.part_processes()
        raise
    except RequestError:
        if is_leader():
            time.sleep(_SECONDS_TO_TELL)  # its end is the end of the others, who may have the same to tell
        raise
    parallel.part_processes()


def _check_devices() -> None:
    if len(jax.devices()) != jax.process_count() * jax.local_device_count():
        raise RequestError("the processes do not have the same number of devices; give each as many")


def check_address(
    coordinator: str | None, num_processes: int | None, process_id: int | None
) -> tuple[str, int] | None:
    """Host and port of process 0; None if none of the three is given.

    Raises:
      RequestError: they can be none of a process among several.
    """
    given = [value is not None for value in (coordinator, num_processes, process_id)]
    if not any(given):
        return None
    if not all(given):
        raise RequestError("--coordinator, --num-processes and --process-id: give all three, or --distributed")
    host, _, port = coordinator.rpartition(":")
    is_bracketed = host.startswith("[") and host.endswith("]")
    host = host[1:-1] if is_bracketed else host
    is_number = port.isascii() and port.isdecimal() and 0 < int(port) < 2**16
    if not host or (":" in host) != is_bracketed or not is_number:
        raise RequestError(
            f"--coordinator {coordinator}: expected HOST:PORT of process 0, the port from 1 to 65535, an IPv6 "
            "address in brackets"
        )
    if num_processes < 1:
        raise RequestError(f"--num-processes {num_processes}: expected a whole number from 1 up")
    if not 0 <= process_id < num_processes:
        raise RequestError(
            f"--process-id {process_id} --num-processes {num_processes}: expected an id from 0 to "
            f"{num_processes - 1}"
        )
    return host, int(port)


def is_leader() -> bool:
    """Whether this is the process that decides and writes: the first."""
    return jax.process_index() == 0


def from_leader(value):
    """The first process's value, which JSON can hold, in all of them."""
    if jax.process_count() == 1:
        return value
    return json.loads(_bytes_from_leader(json.dumps(value).encode()))


def together(act: Callable):
    """What `act` gives here; RequestError in all processes if it raises it in the first."""
    failed, result = None, None
    try:
        result = act()
    except RequestError as error:
        failed = error
    told = from_leader(failed and str(failed))
    if told is not None and not is_leader():
        raise RequestError(told)
    if failed is not None:
        raise failed
    return result


def arrays_from_leader(find: Callable[[], tuple | None], like=None) -> tuple | None:
    """What `find` finds in the first process, in all of them: (tree, facts that JSON can hold) or None.

    Args:
      like: a tree of the same arrays or shapes.
    """
    if jax.process_count() == 1:
        return find()
    found = together(lambda: find() if is_leader() else None)
    facts = from_leader(found and found[1])
    if facts is None:
        return None
    leaves, structure = jax.tree.flatten(like)
    mine = [np.asarray(leaf) for leaf in jax.tree.leaves(found[0])] if found else []
    data = _bytes_from_leader(b"".join(leaf.tobytes() for leaf in mine))
    arrays = []
    for leaf in leaves:
        size = int(np.prod(leaf.shape)) * np.dtype(leaf.dtype).itemsize
        arrays.append(np.frombuffer(data[:size], leaf.dtype).reshape(leaf.shape))
        data = data[size:]
    return jax.tree.unflatten(structure, arrays), facts


def check_same(named: Callable[[], dict[str, str]]) -> None:
    """Raises RequestError in all processes unless each named text is the same in all of them.

    One process alone does not ask for them.
    """
    if jax.process_count() == 1:
        return
    from jax.experimental import multihost_utils

    values = named()
    digests = [np.frombuffer(hashlib.sha256(value.encode()).digest(), np.uint8) for value in values.values()]
    everywhere = multihost_utils.process_allgather(np.stack(digests))
    for place, name in enumerate(values):
        if (everywhere[:, place] != everywhere[0, place]).any():
            raise RequestError(f"the processes do not have the same {name}; give all the same command and data")


def _bytes_from_leader(data: bytes) -> bytes:
    from jax.experimental import multihost_utils

    size = int(multihost_utils.broadcast_one_to_all(np.array(len(data), np.int32)))
    mine = data if is_leader() else bytes(size)
    return multihost_utils.broadcast_one_to_all(np.frombuffer(mine, np.uint8)).tobytes()
