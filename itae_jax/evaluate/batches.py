"""Applies a compiled function to any number of images, a batch at a time."""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from itae_jax.data.images import Images
from itae_jax.parallel import rows_of


def over_batches(
    compute: Callable[[np.ndarray], Any], images: Images, batch_size: int
) -> Iterator[tuple[np.ndarray, Any]]:
    """Yields (positions B, rows of the result for them) in the order of the images, without unreadable ones.

    `compute`, a `split_batch` with a row for each image, takes batch_size x H x W x C uint8. Reads the next
    batch while the devices compute. The last batch is padded, so that one program serves all.
    """
    pending: list[tuple[np.ndarray, Any]] = []

    def collect():
        positions, result = pending.pop(0)
        return positions, jax.tree.map(lambda rows: rows[: len(positions)], rows_of(result))

    for positions, batch in images.batches(batch_size):
        padding = np.zeros((batch_size - len(batch), *images.image_shape), np.uint8)
        pending.append((positions, compute(np.concatenate([batch, padding]))))
        if len(pending) > 1:
            yield collect()
    while pending:
        yield collect()


def shared_evenly(batch_size: int, num_devices: int) -> int:
    """The batch size rounded up to a multiple of the number of devices."""
    return -(-batch_size // num_devices) * num_devices
