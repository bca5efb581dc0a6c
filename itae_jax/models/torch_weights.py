"""Weights of the U-Net under PyTorch's names: to and from a state dict, and safetensors files.

The names and shapes are those of `models.torch_unet.TorchUNet`: nine blocks of (convolution, batch
normalisation, ReLU) twice, and a last convolution. Nothing here needs PyTorch.
"""

from pathlib import Path

import numpy as np

from itae_jax.errors import RequestError

_BLOCKS = 9


def _places() -> dict[str, tuple[str, ...]]:
    """PyTorch's name of every array -> where it is among the variables of a `UNet`."""
    places = {}
    for block in range(_BLOCKS):
        for half in range(2):
            module = f"DoubleConv_{block}"
            conv, norm = f"blocks.{block}.{3 * half}", f"blocks.{block}.{3 * half + 1}"
            places[f"{conv}.weight"] = ("params", module, f"Conv_{half}", "kernel")
            places[f"{conv}.bias"] = ("params", module, f"Conv_{half}", "bias")
            places[f"{norm}.weight"] = ("params", module, f"BatchNorm_{half}", "scale")
            places[f"{norm}.bias"] = ("params", module, f"BatchNorm_{half}", "bias")
            places[f"{norm}.running_mean"] = ("batch_stats", module, f"BatchNorm_{half}", "mean")
            places[f"{norm}.running_var"] = ("batch_stats", module, f"BatchNorm_{half}", "var")
    places["last.weight"] = ("params", "Conv_0", "kernel")
    places["last.bias"] = ("params", "Conv_0", "bias")
    return places


def _counters() -> list[str]:
    """PyTorch's counts of training batches, which evaluation does not read."""
    return [f"blocks.{block}.{place}.num_batches_tracked" for block in range(_BLOCKS) for place in (1, 4)]


def to_state_dict(variables: dict) -> dict[str, np.ndarray]:
    """`params` and `batch_stats` of a `UNet` as the arrays that `TorchUNet.load_state_dict` takes."""
    named = {}
    for name, place in _places().items():
        value = variables
        for key in place:
            value = value[key]
        value = np.asarray(value)
        # 3 x 3 x in x out -> out x in x 3 x 3
        named[name] = np.ascontiguousarray(value.transpose(3, 2, 0, 1) if value.ndim == 4 else value)
    return named | {name: np.zeros((), np.int64) for name in _counters()}


def from_state_dict(named: dict[str, np.ndarray]) -> dict:
    """The inverse of `to_state_dict`: {"params": ..., "batch_stats": ...} for `UNet.apply`.

    Raises:
      RequestError: an array is missing or unknown, or its shape does not fit the others.
    """
    places = _places()
    missing = sorted(places.keys() - named.keys())
    unknown = sorted(named.keys() - places.keys() - set(_counters()))
    if missing or unknown:
        what = f"{missing[0]} is missing" if missing else f"{unknown[0]} is unknown"
        raise RequestError(f"not the weights of a U-Net: {what}; expected the names of models/torch_unet.py")
    shapes = _shapes(named)
    variables: dict = {}
    for name, (*path, last) in places.items():
        value = np.asarray(named[name])
        if value.shape != shapes[name]:
            raise RequestError(f"{name}: shape {value.shape}, expected {shapes[name]}")
        if not np.isfinite(value).all():
            raise RequestError(f"{name}: a number is not finite")
        inner = variables
        for key in path:
            inner = inner.setdefault(key, {})
        inner[last] = value.transpose(2, 3, 1, 0) if value.ndim == 4 else value
    return variables


def _shapes(named: dict[str, np.ndarray]) -> dict[str, tuple[int, ...]]:
    """The shape of each array of Table 10's network, by its first and last convolutions."""
    first, last = np.shape(named["blocks.0.0.weight"]), np.shape(named["last.weight"])
    if len(first) != 4 or len(last) != 4:
        raise RequestError(f"convolutions of shape {first} and {last}: expected out x in x 3 x 3")
    width, channels, out_channels = first[0], first[1], last[0]
    shapes = {"last.weight": (out_channels, width, 3, 3), "last.bias": (out_channels,)}
    skips = (None,) * 5 + (8, 4, 2, 1)
    for block, factor in enumerate((1, 2, 4, 8, 8, 4, 2, 1, 1)):
        features = factor * width
        for half in range(2):
            into = features if half else channels + (skips[block] or 0) * width
            shapes[f"blocks.{block}.{3 * half}.weight"] = (features, into, 3, 3)
            shapes[f"blocks.{block}.{3 * half}.bias"] = (features,)
            for name in ("weight", "bias", "running_mean", "running_var"):
                shapes[f"blocks.{block}.{3 * half + 1}.{name}"] = (features,)
        channels = features
    return shapes


def write(path: Path, variables: dict, metadata: dict[str, str]) -> None:
    """Writes a safetensors file; `metadata` are texts that its header keeps."""
    from safetensors.numpy import save

    path.write_bytes(save(to_state_dict(variables), metadata))


def read(path: Path) -> tuple[dict, dict[str, str]]:
    """The variables of a `UNet` and the metadata of a safetensors file; nothing in it is executed.

    Raises:
      RequestError: it cannot be read, or holds something else.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            names = file.keys()
            named = {name: file.get_tensor(name) for name in names}
            metadata = file.metadata() or {}
    except (OSError, SafetensorError, TypeError) as error:
        raise RequestError(f"{path}: cannot be read as safetensors ({error})") from None
    try:
        return from_state_dict(named), metadata
    except RequestError as error:
        raise RequestError(f"{path}: {error}") from None
