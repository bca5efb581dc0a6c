"""Surrogate anomalies: normal images changed in a way that no candidate of `itae fit` trains on.

How well a model tells them from the normal images says which model to prefer, without a single anomaly. It is
no promise about real defects.
"""

from collections.abc import Callable

import numpy as np

_LEAST_CHANGE = 12  # grey levels, by which at least one pixel should change
_TRIES = 8


def make(image_HxWxC: np.ndarray, family: str, rng: np.random.Generator) -> np.ndarray:
    """Changes a uint8 image in one way of `FAMILIES`; the result has the same shape.

    The part that changes is drawn anew, a few times, if it looks as before, as parts of a flat background do.
    """
    changed = image_HxWxC
    for _ in range(_TRIES):
        changed = np.clip(np.rint(FAMILIES[family](image_HxWxC.astype(np.float32), rng)), 0, 255)
        if np.abs(changed - image_HxWxC).max(initial=0) >= _LEAST_CHANGE:
            break
    return changed.astype(np.uint8)


def _part(image: np.ndarray, rng: np.random.Generator) -> tuple[slice, slice]:
    """A square, from 4 pixels to half of the shorter side; small ones are as likely as large ones."""
    shorter = min(image.shape[:2])
    least = min(4, shorter)
    side = round(least * (max(shorter / 2, least) / least) ** rng.random())
    top, left = (int(rng.integers(length - side + 1)) for length in image.shape[:2])
    return slice(top, top + side), slice(left, left + side)


def _in_part(change: Callable[[np.ndarray, np.random.Generator], np.ndarray]) -> Callable:
    def changed(image, rng):
        part = _part(image, rng)
        result = image.copy()
        result[part] = change(image[part], rng)
        return result

    return changed


def _blurred(part, rng):
    from scipy.ndimage import gaussian_filter

    return gaussian_filter(part, (len(part) / 4, len(part) / 4, 0), mode="nearest")


def _turned(part, rng):
    return np.rot90(part, rng.integers(1, 4))


def _shuffled(part, rng):
    cells = max(min(2, len(part)), min(4, len(part) // 4))
    cell = len(part) // cells
    whole = part.copy()
    grid = part[: cell * cells, : cell * cells].reshape(cells, cell, cells, cell, -1).swapaxes(1, 2)
    mixed = rng.permutation(grid.reshape(cells * cells, cell, cell, -1)).reshape(grid.shape)
    whole[: cell * cells, : cell * cells] = mixed.swapaxes(1, 2).reshape(cell * cells, cell * cells, -1)
    return whole


def _missing(part, rng):
    """Fills the part from its edge (Coons, 1967): no structure is left, and no seam."""
    rows, columns = (np.linspace(0, 1, n, dtype=np.float32) for n in part.shape[:2])
    down, right = rows[:, None, None], columns[None, :, None]
    vertical = (1 - down) * part[:1] + down * part[-1:]
    horizontal = (1 - right) * part[:, :1] + right * part[:, -1:]
    top, bottom = ((1 - right) * part[row, :1] + right * part[row, -1:] for row in (0, -1))
    return vertical + horizontal - (1 - down) * top - down * bottom


def _warped(part, rng):
    """Swirls the part around its centre."""
    from scipy.ndimage import map_coordinates

    half = (len(part) - 1) / 2
    down, right = np.mgrid[: len(part), : len(part)] - half
    inside = np.clip(1 - np.hypot(down, right) / max(half, 1), 0, 1)
    turn = rng.choice([-1, 1]) * (1 + rng.random()) * np.pi / 2 * inside
    rows = down * np.cos(turn) - right * np.sin(turn) + half
    columns = down * np.sin(turn) + right * np.cos(turn) + half
    channels = np.moveaxis(part, 2, 0)
    return np.stack([map_coordinates(one, (rows, columns), order=1, mode="nearest") for one in channels], 2)


FAMILIES: dict[str, Callable[[np.ndarray, np.random.Generator], np.ndarray]] = {
    "blurred": _in_part(_blurred),
    "turned": _in_part(_turned),
    "shuffled": _in_part(_shuffled),
    "missing": _in_part(_missing),
    "warped": _in_part(_warped),
}
