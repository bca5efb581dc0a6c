"""Settings for a folder of images, chosen by looking at them."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from itae_jax.config import MethodConfig
from itae_jax.data.reader import Look, look

_LOOKED_AT = 200
_SIDES = (128, 64, 32)
_NEARLY = 1.1  # up to this ratio of two aspect ratios a crop loses less than a tenth of an image
_MOST_ASPECT = 4.0  # of images that are not stretched
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


def choose(
    looks: Sequence[Look], asked: dict[str, Any], num_train: int, method: MethodConfig, accelerator: bool
) -> list[Choice]:
    """Chooses settings for images like these, except those `asked` for by the user, which others depend on."""
    aspects_N = np.array([seen.width / seen.height for seen in looks])
    aspect = Choice("data.aspect", *_aspect(aspects_N, method.square_only(asked)))
    grey = all(seen.is_grey for seen in looks)
    channels = Choice("data.channels", 1 if grey else 3, "they are grey" if grey else "they have colours")
    chosen = [
        channels,
        aspect,
        Choice("data.fit", *_fit(aspects_N, asked.get("data.aspect", aspect.value))),
        Choice("data.image_size", *_size(shorter_side(looks), accelerator)),
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


def _aspect(aspects_N: np.ndarray, square_only: bool) -> tuple[float, str]:
    middle = round(float(np.median(aspects_N)), 2)
    if square_only:
        return 1.0, "the method needs square images"
    if _most_ratio(aspects_N, middle) > _NEARLY or not 1 / _MOST_ASPECT <= middle <= _MOST_ASPECT:
        return 1.0, "they have no aspect ratio in common, or an extreme one"
    if _most_ratio(aspects_N, 1.0) <= _NEARLY:
        return 1.0, "they are square, or nearly"
    return middle, "width over height of all of them, or nearly"


def _fit(aspects_N: np.ndarray, aspect: float) -> tuple[str, str]:
    if (most := _most_ratio(aspects_N, aspect)) <= _NEARLY:
        return "crop", "they have this aspect ratio, or nearly"
    return "stretch", f"some have {most:.1f} times another aspect ratio; stretching cuts nothing off"


def _most_ratio(aspects_N: np.ndarray, aspect: float) -> float:
    return float(np.maximum(aspects_N / aspect, aspect / aspects_N).max())


def _size(shorter: int, accelerator: bool) -> tuple[int, str]:
    most = max(_SIDES) if accelerator else _CPU_SIDE
    size = next((side for side in _SIDES if side <= min(most, shorter)), min(_SIDES))
    if size < most or shorter == most:
        return size, f"half of them have a shorter side of {shorter} or more"
    return size, f"{'' if accelerator else 'what a CPU can do; '}larger shows finer defects"
