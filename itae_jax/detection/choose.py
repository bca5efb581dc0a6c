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
_NEARLY_SQUARE = 1.1  # up to this ratio of the sides a crop loses less than a tenth of an image
# What a CPU can do in minutes; an accelerator takes the method's own epochs.
_CPU_SIDE, _CPU_STEPS = 64, 2000
_MIRRORED = "mirror images count as normal; if they must not: --set train.augment=shift"


@dataclasses.dataclass(frozen=True)
class Choice:
    """A setting, the value chosen for it, and why."""

    field: str
    value: Any
    reason: str


def look_at(paths: Sequence[Path]) -> list[Look]:
    """Looks at up to 200 of the files, evenly spread; leaves out those that cannot be read."""
    spread = np.linspace(0, len(paths) - 1, min(len(paths), _LOOKED_AT)).astype(int)
    return [seen for seen in (look(paths[i]) for i in spread) if seen is not None]


def choose(
    looks: Sequence[Look], asked: dict[str, Any], num_train: int, method: MethodConfig, accelerator: bool
) -> list[Choice]:
    """Chooses settings for images like these, except those `asked` for by the user, which others depend on."""
    sides_Nx2 = np.array([(seen.width, seen.height) for seen in looks])
    grey = all(seen.is_grey for seen in looks)
    channels = Choice("data.channels", 1 if grey else 3, "they are grey" if grey else "they have colours")
    chosen = [
        channels,
        Choice("data.fit", *_fit(float((sides_Nx2.max(1) / sides_Nx2.min(1)).max()))),
        Choice("data.image_size", *_size(sides_Nx2, accelerator)),
        *(Choice(*each) for each in method.suggest(asked.get("data.channels", channels.value), accelerator)),
        Choice("train.augment", "flip+shift", _MIRRORED),
        *_training(asked, num_train, method.TRAIN, accelerator),
    ]
    return [choice for choice in chosen if choice.field not in asked]


def _fit(ratio: float) -> tuple[str, str]:
    if ratio <= _NEARLY_SQUARE:
        return "crop", "they are square, or nearly"
    return "letterbox", f"one side is up to {ratio:.1f} times the other; black bars cut nothing off"


def _size(sides_Nx2: np.ndarray, accelerator: bool) -> tuple[int, str]:
    most = max(_SIDES) if accelerator else _CPU_SIDE
    shorter = int(np.median(sides_Nx2.min(1)))
    size = next((side for side in _SIDES if side <= min(most, shorter)), min(_SIDES))
    if size < most or shorter == most:
        return size, f"half of them have a shorter side of {shorter} or more"
    return size, f"{'' if accelerator else 'what a CPU can do; '}larger shows finer defects"


def _training(
    asked: dict[str, Any], num_train: int, defaults: dict[str, Any], accelerator: bool
) -> list[Choice]:
    """Chooses batch size, epochs, and when the rate is halved, where the method's defaults do not fit."""
    chosen = []
    batch = defaults["batch_size"]
    if num_train < 2 * batch:
        batch = max(1, num_train // 4)
        chosen.append(Choice("train.batch_size", batch, f"a quarter of the {num_train} training images"))
    steps = num_train // min(asked.get("train.batch_size", batch), num_train)
    epochs, why = defaults["epochs"], "the method's default"
    if not accelerator:
        epochs = min(epochs, -(-_CPU_STEPS // steps))
        why = f"{epochs * steps} steps, what a CPU can do; the method's default is {defaults['epochs']} epochs"
    chosen.append(Choice("train.epochs", epochs, why))
    epochs = asked.get("train.epochs", epochs)
    if epochs <= defaults["halve_every_epochs"]:
        chosen.append(Choice("train.halve_every_epochs", max(1, epochs * 5 // 6), "one halving near the end"))
    return chosen
