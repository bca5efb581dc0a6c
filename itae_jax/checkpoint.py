"""States on disk: the only file that names Orbax."""

from pathlib import Path

import jax
import numpy as np


def save(directory: Path, tree: dict) -> None:
    """Writes a nested dictionary of arrays; the directory appears whole or not at all."""
    import orbax.checkpoint as ocp

    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(directory.absolute(), jax.tree.map(np.asarray, tree), force=True)


def restore(directory: Path, like: dict) -> dict:
    """Reads what `save` wrote, as NumPy arrays of the structure, shapes and types of `like`."""
    import orbax.checkpoint as ocp

    with ocp.StandardCheckpointer() as checkpointer:
        return checkpointer.restore(directory.absolute(), jax.tree.map(np.asarray, like))
