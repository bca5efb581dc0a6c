"""Weights of the U-Net under PyTorch's names: to and from a state dict, and safetensors files.

The names are those of `torch_unet.TorchUNet`: nine blocks of (convolution, batch normalisation, ReLU)
twice, and a last convolution. Nothing here needs PyTorch.
"""

from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from itae_jax.errors import RequestError
from itae_jax.models.unet import UNet

_BLOCKS = 9
# Arrays of half a block: position and name in PyTorch; collection, layer and name here.
_ARRAYS = (
    *((0, "weight", "params", "Conv", "kernel"), (0, "bias", "params", "Conv", "bias")),
    *((1, "weight", "params", "BatchNorm", "scale"), (1, "bias", "params", "BatchNorm", "bias")),
    (1, "running_mean", "batch_stats", "BatchNorm", "mean"),
    (1, "running_var", "batch_stats", "BatchNorm", "var"),
)


def _places() -> dict[str, tuple[str, ...]]:
    """Returns PyTorch's name of every array -> its path in the variables of a `UNet`."""
    places: dict[str, tuple[str, ...]] = {}
    for block in range(_BLOCKS):
        for half in range(2):
            for place, name, collection, layer, ours in _ARRAYS:
                path = collection, f"DoubleConv_{block}", f"{layer}_{half}", ours
                places[f"blocks.{block}.{3 * half + place}.{name}"] = path
    last = {"last.weight": ("params", "Conv_0", "kernel"), "last.bias": ("params", "Conv_0", "bias")}
    return places | last


def _counters() -> list[str]:
    """Returns the names of PyTorch's batch counters, which evaluation does not read."""
    return [f"blocks.{block}.{place}.num_batches_tracked" for block in range(_BLOCKS) for place in (1, 4)]


def to_state_dict(variables: dict) -> dict[str, np.ndarray]:
    """Returns `params` and `batch_stats` of a `UNet` as the arrays that `TorchUNet.load_state_dict` takes."""
    arrays = flatten_dict(variables)
    named = {name: np.asarray(arrays[place]) for name, place in _places().items()}
    for name, value in named.items():
        if value.ndim == 4:  # 3 x 3 x in x out -> out x in x 3 x 3
            named[name] = np.ascontiguousarray(value.transpose(3, 2, 0, 1))
    return named | {name: np.zeros((), np.int64) for name in _counters()}


def from_state_dict(named: dict[str, np.ndarray]) -> dict:
    """Inverts `to_state_dict`: returns {"params": ..., "batch_stats": ...} for `UNet.apply`."""
    places = _places()
    missing = sorted(places.keys() - named.keys())
    unknown = sorted(named.keys() - places.keys() - set(_counters()))
    if missing or unknown:
        what = f"{missing[0]} is missing" if missing else f"{unknown[0]} is unknown"
        raise RequestError(f"not the weights of a U-Net: {what}; expected the names of models/torch_unet.py")
    shapes = flatten_dict(_shapes(np.shape(named["blocks.0.0.weight"]), np.shape(named["last.weight"])))
    variables = {}
    for name, place in places.items():
        value = np.asarray(named[name])
        value = value.transpose(2, 3, 1, 0) if value.ndim == 4 else value
        if value.shape != (expected := shapes[place].shape):
            raise RequestError(f"{name}: shape {value.shape}, expected {expected} in JAX's order")
        if not np.isfinite(value).all():
            raise RequestError(f"{name}: a number is not finite")
        variables[place] = value
    return unflatten_dict(variables)


def _shapes(first: tuple[int, ...], last: tuple[int, ...]) -> Any:
    """Returns the shapes of a `UNet` whose first and last convolutions have these shapes in PyTorch."""
    if len(first) != 4 or len(last) != 4 or not all((*first, *last)):
        raise RequestError(f"convolutions of shape {first} and {last}: expected out x in x 3 x 3")
    images = jax.ShapeDtypeStruct((1, UNet.MIN_SIDE, UNet.MIN_SIDE, first[1]), "float32")
    return jax.eval_shape(UNet(width=first[0], out_channels=last[0]).init, jax.random.key(0), images)


def read(path: Path) -> tuple[dict, dict[str, str]]:
    """Reads the variables of a `UNet` and the metadata of a safetensors file; executes nothing in it."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            named = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            metadata = file.metadata() or {}
    except (OSError, SafetensorError, TypeError) as error:
        raise RequestError(f"{path}: cannot be read as safetensors ({error})") from None
    try:
        return from_state_dict(named), metadata
    except RequestError as error:
        raise RequestError(f"{path}: {error}") from None
