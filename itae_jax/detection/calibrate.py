"""`itae calibrate`: a copy of a model with other normal images as its calibration set."""

import dataclasses
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np

from itae_jax import files
from itae_jax.data import LazyImages, folders
from itae_jax.detection import model as models
from itae_jax.detection import training_files
from itae_jax.detection.threshold import NormalScores
from itae_jax.errors import RequestError
from itae_jax.training.log import about_unreadable, add_unreadable


def calibrate(directory: Path, source: Path, out: Path, say: Callable[[str], None], trust: str = "") -> None:
    """Writes a copy of a model atomically, calibrated by the normal images below a folder; trains nothing.

    Raises:
      RequestError: there is no model or no readable image, the model was trained on some of the images, or the
        copy cannot be written.
    """
    out = Path(os.path.realpath(out))
    models.check_free(out)
    paths, others = folders.find_normal_images(source)
    if not paths:
        raise RequestError(
            f"{source}: no images in it; the endings read are {folders.ENDINGS}{others and '; '}{others}"
        )
    model = models.load(directory, trust)
    model.check_takes_files(directory)
    names, unreadable = [str(path.absolute()) for path in paths], dict[str, str]()
    seen, about = training_files.trained_on(model, names)
    if seen.any():
        raise RequestError(f"{source}: the model was trained on {seen.sum()} of its images; name new ones")
    for line in filter(None, (about, others)):
        say(line)
    images = LazyImages(model.reader.read, paths, model.image_shape, unreadable)
    normal = NormalScores.measure(model.trained, images, names)
    details = model.details | {"num_held_out": len(normal.ids), "calibrated": True}
    model = dataclasses.replace(model, normal=normal, details=details)
    with files.writing(out, "--out"), files.atomic_path(out.absolute()) as partial:
        partial.mkdir(parents=True)
        model.write(partial)
        for name in ("metrics.jsonl", "unreadable.csv"):
            if (directory / name).exists():
                shutil.copy(directory / name, partial)
        add_unreadable(partial / "unreadable.csv", unreadable)
    say(
        f"{len(normal.ids)} calibration images score {np.median(normal.scores_N):.2f} in the median and "
        f"{normal.scores_N.max():.2f} at most"
    )
    if unreadable:
        say(about_unreadable(out / "unreadable.csv"))
