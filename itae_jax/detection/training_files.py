"""Which files a model was trained on, and which were held out: drawn when fitting, drawn again later."""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from itae_jax.data import folders
from itae_jax.detection.model import TrainedModel

_LEAST_HELD_OUT, _MOST_HELD_OUT = 2, 2000


def divided(count: int, holdout: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(held out, trained on): positions among `count` images, sorted."""
    num_held_out = min(max(round(holdout * count), _LEAST_HELD_OUT), _MOST_HELD_OUT)
    order = np.random.default_rng(seed).permutation(count)
    return np.sort(order[:num_held_out]), np.sort(order[num_held_out:])


def digest(source: Path, paths: Sequence[Path]) -> str:
    """Which files they are: of their paths below the folder, and their sizes."""
    files = hashlib.sha256()
    for path in paths:
        name = f"{path.relative_to(source)}\0{path.stat().st_size}\0"
        files.update(name.encode(errors="surrogateescape"))
    return files.hexdigest()


def trained_on(model: TrainedModel, paths: Sequence[str]) -> tuple[np.ndarray, str]:
    """(whether the model was trained on each of these files, a sentence about it).

    Known where the folder that it was fitted on is there and holds the same files; copies of them
    elsewhere are not recognised.
    """
    nothing, root = np.zeros(len(paths), bool), Path(model.experiment.data.root)
    if not model.experiment.data.root:
        return nothing, ""
    if not root.is_dir():
        return nothing, f"Whether the model was trained on some of these is not known: {root} is not there."
    real = [os.path.realpath(path) for path in paths]
    trained = _files(model, root)
    if trained is None:
        inside = sum(Path(path).is_relative_to(os.path.realpath(root)) for path in real)
        told = (
            f"{inside} of these lie in {root}, where the model was trained; its files have changed since, and "
        )
        return nothing, f"{told}which of them it was trained on is not known." if inside else ""
    seen = np.array([path in trained for path in real], bool)
    told = (
        f"The model was trained on {seen.sum()} of these; they score lower than new ones and are not counted."
    )
    return seen, told if seen.any() else ""


def _files(model: TrainedModel, root: Path) -> set[str] | None:
    """The real paths of the files that were trained on; None if those below the root are others now."""
    files, holdout = folders.find_images(root), model.details.get("holdout")
    try:
        if not isinstance(holdout, float) or digest(root, files) != model.details.get("files"):
            return None
    except OSError:  # a link that leads nowhere
        return None
    _, training = divided(len(files), holdout, model.experiment.seed)
    return {os.path.realpath(files[position]) for position in training}
