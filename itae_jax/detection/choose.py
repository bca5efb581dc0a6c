"""Settings for a folder of images, chosen by looking at them."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from itae_jax import experiment
from itae_jax.config import MethodConfig
from itae_jax.data.reader import Look, look
from itae_jax.experiment import Experiment

_LOOKED_AT = 200
_SIDES = (128, 64, 32)
_NEARLY = 1.1  # up to this ratio two aspect ratios are nearly the same
_EXTREME = 4.0  # an aspect ratio from which images become square
_STEP = 16  # pixels: networks halve sides of so many without a remainder
_CPU_SIDE = 64  # what a CPU can do in minutes
_MIRRORED = "mirror images count as normal; if they must not: --set train.augment=none"


@dataclasses.dataclass(frozen=True)
class Choice:
    """A setting, the value chosen for it, and why."""

    field: str
    value: Any
    reason: str


def look_at(paths: Sequence[Path], max_side: int) -> list[Look]:
    """Looks at up to 200 of the files, evenly spread; leaves out those that cannot be read."""
    spread = np.linspace(0, len(paths) - 1, min(len(paths), _LOOKED_AT)).astype(int)
    return [seen for seen in (look(paths[i], max_side) for i in spread) if seen is not None]


def asked_for(base: Experiment, assignments: Sequence[str]) -> dict[str, Any]:
    """The settings that were given; a 0 or an empty text of `data` leaves the choice open."""
    values = experiment.flatten(base)
    asked = {field: values[field] for field in (text.partition("=")[0] for text in assignments)}
    return {field: value for field, value in asked.items() if value or not field.startswith("data.")}


def choose(
    looks: Sequence[Look], asked: dict[str, Any], num_train: int, method: MethodConfig, accelerator: bool
) -> list[Choice]:
    """Chooses settings for images like these, except those `asked` for by the user, which others depend on."""
    aspects_N = np.array([seen.width / seen.height for seen in looks])
    size = Choice("data.image_size", *_size(shorter_side(looks), accelerator))
    most = asked.get("data.image_size", size.value)
    aspect = Choice("data.aspect", *_aspect(aspects_N, most, method.square_only(asked)))
    grey = all(seen.is_grey for seen in looks)
    channels = Choice("data.channels", 1 if grey else 3, "they are grey" if grey else "they have colours")
    chosen = [
        channels,
        aspect,
        Choice("data.fit", "stretch", "nothing is cut off"),
        size,
    ]
    if not method.ONE_PASS:
        chosen.append(Choice("train.augment", "flip", _MIRRORED))
        chosen.append(Choice("train.schedule", "cosine", "the rate ends at 0 when the time does"))
    chosen += [Choice(*each) for each in method.suggest(asked, accelerator)]
    by_field = {choice.field: choice for choice in chosen if choice.field not in asked}
    batch = by_field["train.batch_size"].value if "train.batch_size" in by_field else method.TRAIN["batch_size"]
    if num_train < 2 * batch and "train.batch_size" not in asked:
        few = f"a quarter of the {num_train} training images"
        by_field["train.batch_size"] = Choice("train.batch_size", max(min(2, num_train), num_train // 4), few)
    return list(by_field.values())


def shorter_side(looks: Sequence[Look]) -> int:
    """The median of the images' shorter sides."""
    return int(np.median([min(seen.width, seen.height) for seen in looks]))


def _aspect(aspects_N: np.ndarray, size: int, square_only: bool) -> tuple[float, str]:
    middle = float(np.median(aspects_N))
    if square_only:
        return 1.0, "the method is made for square images"
    if not 1 / _EXTREME <= middle <= _EXTREME:
        return 1.0, f"one side is more than {_EXTREME:g} times the other"
    if np.maximum(aspects_N / middle, middle / aspects_N).max() > _NEARLY:
        return 1.0, "their aspect ratios differ"
    step = min(_STEP, size)
    ratio = max(middle, 1 / middle)
    longer = max(size, step * round(size * ratio / step))
    if longer == size or size * (ratio - 1) < step / 2:
        return 1.0, "they are square, or nearly"
    return (longer / size if middle > 1 else size / longer), "nearly theirs; networks halve the sides"


def _size(shorter: int, accelerator: bool) -> tuple[int, str]:
    most = max(_SIDES) if accelerator else _CPU_SIDE
    size = next((side for side in _SIDES if side <= min(most, shorter)), min(_SIDES))
    if size < most or shorter == most:
        return size, f"half of them have a shorter side of {shorter} or more"
    return size, f"{'' if accelerator else 'what a CPU can do; '}larger shows finer defects"
