"""Several processes that train as one: how they join, agree and part.

Process 0 is the leader: it decides what only one process can decide, and alone writes to --out.
"""

import contextlib
import hashlib
import json
import math
import re
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax.traverse_util import unflatten_dict

from itae_jax import parallel
from itae_jax.errors import RequestError
from itae_jax.training import checkpoint, signals

_SECONDS_TO_PRINT = 2


@contextlib.contextmanager
def taking_part(
    coordinator: str | None, num_processes: int | None, process_id: int | None, is_distributed: bool, out: Path
) -> Iterator[Path]:
    """Joins the other processes if the options ask for it; enter before the first JAX computation.

    Args:
      coordinator: HOST:PORT of process 0. It, the number of processes and the id of this one are None for a
        single process.
      is_distributed: whether JAX finds these three from Slurm, a TPU pod or another cluster.

    Yields the directory to write to: `out`, or a temporary one if this is not process 0. RequestError if the
    options are wrong, or the processes do not have the same number of devices.
    """
    if not _check_options(coordinator, num_processes, process_id, is_distributed):
        yield out
        return
    with signals.at_once():  # Python handles no signals while JAX waits
        parallel.join_processes(coordinator, num_processes, process_id)
    try:
        if len(jax.devices()) != jax.process_count() * jax.local_device_count():
            raise RequestError("the processes do not have the same number of devices; give each as many")
        with signals.deferred(), tempfile.TemporaryDirectory(prefix="itae_") as scratch:
            yield out if is_leader() else Path(scratch)
    except KeyboardInterrupt:  # in all processes, after the same step
        parallel.part_processes()
        raise
    except RequestError:
        if is_leader():  # its end stops the others, which may be about to print the same error
            time.sleep(_SECONDS_TO_PRINT)
        raise
    parallel.part_processes()


def _check_options(
    coordinator: str | None, num_processes: int | None, process_id: int | None, is_distributed: bool
) -> bool:
    """Returns whether the options ask for several processes; raises RequestError if they are wrong."""
    if coordinator is None and num_processes is None and process_id is None:
        return is_distributed
    if is_distributed:
        raise RequestError("--distributed: replaces --coordinator, --num-processes and --process-id; drop them")
    if coordinator is None or num_processes is None or process_id is None:
        raise RequestError("--coordinator, --num-processes and --process-id: give all three, or --distributed")
    address = re.fullmatch(r"(?:[^:\[\]\s]+|\[[^\[\]\s]+\]):([0-9]+)", coordinator)
    if address is None or not 0 < int(address[1]) < 2**16:
        expected = "HOST:PORT of process 0, the port from 1 to 65535, an IPv6 address in brackets"
        raise RequestError(f"--coordinator {coordinator}: expected {expected}")
    if not 0 <= process_id < num_processes:
        given = f"--process-id {process_id} --num-processes {num_processes}"
        expected = "at least 1 process and an id from 0 up to one less than their number"
        raise RequestError(f"{given}: expected {expected}")
    return True


def is_leader() -> bool:
    """Returns whether this is process 0, which decides and writes."""
    return jax.process_index() == 0


def from_leader(value: Any) -> Any:
    """Returns process 0's value, which JSON can hold, in all processes."""
    if jax.process_count() == 1:
        return value
    return json.loads(_bytes_from_leader(json.dumps(value).encode()))


def together(act: Callable[[], Any]) -> Any:
    """Returns what `act` returns here; if process 0 raises RequestError, raises it in all processes."""
    failed, result = None, None
    try:
        result = act()
    except RequestError as error:
        failed = error
    message = from_leader(failed and str(failed))
    if message is not None and not is_leader():
        raise RequestError(message)
    if failed is not None:
        raise failed
    return result


def arrays_from_leader(find: Callable[[], tuple[Any, dict] | None]) -> tuple[dict, dict] | None:
    """Returns what `find` finds in process 0, in all processes: None, or a tree of arrays and facts.

    The tree comes back as nested dicts of NumPy arrays; `checkpoint.fill` gives it another structure.
    """
    found = together(lambda: find() if is_leader() else None)
    mine = {name: np.asarray(array) for name, array in checkpoint.named(found[0] if found else {}).items()}
    header = [[name, array.shape, array.dtype.name] for name, array in mine.items()]
    message = from_leader(found and {"facts": found[1], "arrays": header})
    if message is None:
        return None
    data = memoryview(_bytes_from_leader(b"".join(array.tobytes() for array in mine.values())))
    arrays = {}
    for name, shape, dtype in message["arrays"]:
        size = math.prod(shape) * np.dtype(dtype).itemsize
        arrays[name] = np.frombuffer(data[:size], dtype).reshape(shape)
        data = data[size:]
    return unflatten_dict(arrays, sep="."), message["facts"]


def check_same(named: Callable[[], dict[str, str]]) -> None:
    """Raises RequestError unless each named text is the same in all processes; one does not call `named`."""
    if jax.process_count() == 1:
        return
    from jax.experimental import multihost_utils

    texts = named()
    digests = [np.frombuffer(hashlib.sha256(text.encode()).digest(), np.uint8) for text in texts.values()]
    everywhere = multihost_utils.process_allgather(np.stack(digests))
    for place, name in enumerate(texts):
        if (everywhere[:, place] != everywhere[0, place]).any():
            raise RequestError(f"the processes do not have the same {name}; give all the same command and data")


def _bytes_from_leader(data: bytes) -> bytes:
    if jax.process_count() == 1:
        return data
    from jax.experimental import multihost_utils

    size = int(multihost_utils.broadcast_one_to_all(np.array(len(data), np.int32)))
    mine = data if is_leader() else bytes(size)
    return multihost_utils.broadcast_one_to_all(np.frombuffer(mine, np.uint8)).tobytes()
