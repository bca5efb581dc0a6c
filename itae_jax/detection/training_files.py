"""Which files a model was trained on: drawn when fitting, and found again when reporting."""

import contextlib
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from itae_jax.data import folders
from itae_jax.detection.model import TrainedModel
from itae_jax.errors import RequestError

_LEAST_HELD_OUT, _MOST_HELD_OUT, _LEAST_TRAINING = 2, 2000, 4


def divided(count: int, holdout: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draws the calibration set; returns its positions and those of the training images, sorted."""
    num_held_out = min(max(round(holdout * count), _LEAST_HELD_OUT), _MOST_HELD_OUT, count - _LEAST_TRAINING)
    order = np.random.default_rng(seed).permutation(count)
    return np.sort(order[:num_held_out]), np.sort(order[num_held_out:])


def digest(source: Path, paths: Sequence[Path]) -> str:
    """Returns a hash of the files' paths below the folder and of their sizes, where these can be asked for."""
    files = hashlib.sha256()
    for path in paths:
        size: int | str = ""
        with contextlib.suppress(OSError):
            size = path.stat().st_size
        name = f"{path.relative_to(source)}\0{size}\0"
        files.update(name.encode(errors="surrogateescape"))
    return files.hexdigest()


def trained_on(model: TrainedModel, paths: Sequence[str]) -> tuple[np.ndarray, str]:
    """Finds out which of these files the model was trained on.

    That is known while the folder that it was fitted on holds the same files; copies elsewhere are not
    recognised. Also returns a sentence for the reader, empty if none is needed.
    """
    seen, root = np.zeros(len(paths), bool), Path(model.experiment.data.root)
    if not model.experiment.data.root:
        return seen, ""
    real = [os.path.realpath(path) for path in paths]
    trained = _training_files(model, root)
    if trained is None:
        inside = any(Path(path).is_relative_to(os.path.realpath(root)) for path in real)
        about = "It is unknown whether the model was trained on some of these: "
        about += f"{root} is gone, has changed, or cannot be read."
        return seen, about if inside or not os.path.isdir(root) else ""
    seen = np.array([path in trained for path in real], bool)
    about = (
        f"The model was trained on {seen.sum()} of these; they score lower than new ones and are not counted."
    )
    return seen, about if seen.any() else ""


def _training_files(model: TrainedModel, root: Path) -> set[str] | None:
    """Returns the real paths of the training files; None if the files below the root have changed."""
    holdout = model.details.get("holdout")
    try:
        files = folders.find_images(root)
        if not isinstance(holdout, float) or digest(root, files) != model.details.get("files"):
            return None
    except (OSError, RequestError):  # a folder that may not be read, a broken link
        return None
    _, training = divided(len(files), holdout, model.experiment.seed)
    return {os.path.realpath(files[position]) for position in training}
