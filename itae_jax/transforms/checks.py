"""The checks of an erasing transform, as `itae transforms check` and the tests run them.

Training and scoring rely on each: that a compiled batch with a drawn member for every image is what
`erase` does to one image, that a network gets the shape, type and range that it was built for, that a
rerun erases the same, that T counts, and that something is erased (the first condition of the paper's
section 3.2). No check can know the second condition: that what is erased tells normal from anomalous.
"""

import dataclasses
import itertools
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from itae_jax.transforms.transform import Transform

# 16 is the least side that a network takes; 17, 19 and 26 have no factor in common with it or each other.
_SIZES, _SQUARES = ((16, 16), (17, 26)), ((16, 16), (19, 19))
_CLOSE = 1e-5
_COMPILES, _ELSEWHERE = "compiles", "same elsewhere"
# A change from black to white that shrinks below half a grey level of 8 bits is lost.
_LOST = 1 / 255


@dataclasses.dataclass(frozen=True)
class Finding:
    """Whether a transform passes a check, and what the check found; `warns` asks to read it all the same."""

    check: str
    passed: bool
    found: str
    warns: bool = False


class _Failed(Exception):
    """A check failed; the message says what it found."""


def check_all(transform: Transform) -> list[Finding]:
    """Runs every check that one process can make; if it cannot be compiled, that one alone."""
    compiles = check(_COMPILES, transform)
    others = [name for name in _CHECKS if name not in (_COMPILES, _ELSEWHERE)]
    return [compiles, *(check(name, transform) for name in others)] if compiles.passed else [compiles]


def check_elsewhere(transform: Transform) -> Finding:
    """Checks whether another process erases the same, as resuming and scoring with a saved network need."""
    return check(_ELSEWHERE, transform)


def check(name: str, transform: Transform) -> Finding:
    """Runs one check."""
    try:
        return Finding(name, True, _CHECKS[name](transform))
    except _Failed as failed:
        return Finding(name, False, str(failed))
    except Exception as error:  # the user's own code may raise anything
        return Finding(name, False, _first_line(error))


def _compiles(transform: Transform) -> str:
    """The index is known only when the compiled program runs: Python's `if` and `[]` cannot use it."""
    image = _images((16, 16, _channels(transform)[-1]))[0]
    try:
        jax.eval_shape(transform.erase, image, jnp.int32(0))
        if transform.draw is not None:
            jax.eval_shape(transform.draw, jax.random.key(0), image, image)
    except (jax.errors.ConcretizationTypeError, jax.errors.TracerArrayConversionError) as error:
        raise _Failed(
            "uses a value that is known only when it runs; use jnp.where or jax.lax.switch"
        ) from error
    except jax.errors.TracerIntegerConversionError as error:
        raise _Failed("uses a value that is known only when it runs; use jnp.take or jax.lax.switch") from error
    return "for an index known only when it runs"


def _elsewhere(transform: Transform) -> str:
    script = (
        "import sys, numpy; from itae_jax import transforms; from itae_jax.transforms import checks; "
        "numpy.save(sys.argv[2], checks._sample(transforms.get(sys.argv[1])))"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    environment["JAX_PLATFORMS"] = "cpu"  # this process may hold the accelerator's memory
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "erased.npy"
        command = [sys.executable, "-c", script, transform.name, str(path)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        if done.returncode:
            reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
            raise _Failed(f"it fails there: {reason}")
        there = np.load(path)
    _require_close(_sample(transform), there, "another process")
    return "looked up again in a new process, it erases the same"


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: " + str(error).strip().partition("\n")[0]


def _channels(transform: Transform) -> tuple[int, ...]:
    return (3,) if transform.colour_only else (1, 3)


def _shapes(transform: Transform) -> list[tuple[int, int, int]]:
    sizes = _SQUARES if transform.square_only else _SIZES
    return [(*size, channels) for size in sizes for channels in _channels(transform)]


def _colour_shapes(transform: Transform) -> list[tuple[int, int, int]]:
    """Those of three channels, for checks to which one channel reveals no more."""
    return [shape for shape in _shapes(transform) if shape[2] == 3]


def _images(shape: tuple[int, int, int], count: int = 3, dtype: str = "float32") -> jax.Array:
    """Returns `count` x H x W x C noise, of which no two pixels agree."""
    return jnp.asarray(np.random.default_rng(0).uniform(-1, 1, (count, *shape)), dtype)


def _sample(transform: Transform) -> np.ndarray:
    return np.asarray(transform.apply_all(_images((16, 16, 3))))


def _require_close(got, expected, where: str) -> None:
    got, expected = np.asarray(got, np.float64), np.asarray(expected, np.float64)
    if got.shape != expected.shape:
        raise _Failed(f"shape {got.shape} {where}, {expected.shape} here")
    difference = np.abs(got - expected).max()
    if not difference <= _CLOSE:  # NaN fails, too
        raise _Failed(f"differs by up to {difference:.2g} {where}")


def _size(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


def _shape(transform: Transform) -> str:
    """Every size gives an image of that size and of `out_channels`."""
    for shape in _shapes(transform):
        expected = (*shape[:2], transform.out_channels(shape[2]))
        for index in range(transform.count):
            try:
                got = transform.apply(_images(shape)[0], index).shape
            except Exception as error:
                hint = "; set square_only=True if it needs square images" if shape[0] != shape[1] else ""
                raise _Failed(f"member {index} fails on {_size(shape)}: {_first_line(error)}{hint}") from error
            if got != expected:
                raise _Failed(
                    f"member {index} makes {_size(got)} of {_size(shape)}, expected {_size(expected)}"
                )
    sizes = sorted({f"{height}x{width}" for height, width, _ in _shapes(transform)})
    channels = ", ".join(f"{c} to {transform.out_channels(c)}" for c in _channels(transform))
    return f"right on images of {', '.join(sizes)}; channels {channels}"


def _dtype(transform: Transform) -> str:
    """float32 stays float32, and bfloat16 bfloat16."""
    for dtype in ("float32", "bfloat16"):
        for index in range(transform.count):
            got = transform.apply(_images((16, 16, 3), dtype=dtype)[0], index).dtype
            if got != dtype:
                raise _Failed(f"member {index} makes {got} of {dtype}; end with .astype(image.dtype)")
    return "float32 and bfloat16 are kept"


def _range(transform: Transform) -> str:
    """Noise, white, black and a checkerboard give finite pixels in [-1, 1]."""
    low, high = np.inf, -np.inf
    for channels in _channels(transform):
        noise = _images((16, 16, channels))[0]
        squares = (np.indices((16, 16)).sum(0) % 2 * 2 - 1).astype(np.float32)
        board = jnp.asarray(np.broadcast_to(squares[..., None], noise.shape))
        for dtype, slack in (("float32", 1e-6), ("bfloat16", 0.0)):
            for image in (noise, jnp.ones_like(noise), -jnp.ones_like(noise), board):
                for index in range(transform.count):
                    got = np.asarray(transform.apply(image.astype(dtype), index), np.float32)
                    if not np.abs(got).max() <= 1 + slack:  # NaN fails, too
                        made = f"makes [{got.min():.4g}, {got.max():.4g}] of {dtype} in [-1, 1]"
                        raise _Failed(f"member {index} {made}; clip, or scale")
                    low, high = min(low, got.min()), max(high, got.max())
    return f"of pixels in [-1, 1] it makes [{low:.3g}, {high:.3g}]"


def _jit(transform: Transform) -> str:
    """Compiled for a traced index, it does what it does uncompiled."""
    for shape in _colour_shapes(transform):
        image = _images(shape)[0]
        for index in range(transform.count):
            with jax.disable_jit():
                eager = transform.erase(image, index)
            compiled = transform.apply(image, index)
            _require_close(compiled, eager, f"when compiled, member {index} on {_size(shape)}")
    return "compiled, for an index known only when it runs, it does what it does step by step"


def _vmap(transform: Transform) -> str:
    """A batch, each image with a member of its own or with all, is what its images are one by one."""
    for shape in _colour_shapes(transform):
        images = _images(shape, count=transform.count + 1)
        looped = np.asarray([[transform.apply(image, i) for image in images] for i in range(transform.count)])
        _require_close(transform.apply_all(images), looped, f"in a batch of {_size(shape)}")
        index = np.arange(len(images), dtype=np.int32)[::-1] % transform.count
        own = transform.apply_each(images, jnp.asarray(index))
        expected = looped[index, np.arange(len(images))]
        _require_close(own, expected, f"in a batch of {_size(shape)} with a member for each image")
    return "a batch is what its images are one by one"


def _repeat(transform: Transform) -> str:
    """It makes the same bits every time, and the same but for rounding when compiled again."""
    image = _images((16, 16, 3))[0]
    for index in range(transform.count):
        first, second = (np.asarray(transform.apply(image, index), np.float32) for _ in range(2))
        if first.tobytes() != second.tobytes():
            raise _Failed(f"member {index} makes two different images of one; draw from a fixed seed")
    for _ in range(2):
        again = jax.jit(lambda x: jax.vmap(transform.erase, (None, 0))(x, jnp.arange(transform.count)))(image)
        expected = transform.apply_all(image[None])[:, 0]
        _require_close(again, expected, "when compiled again; draw from a fixed seed")
    return "the same image every time"


def _members(transform: Transform) -> str:
    """No two of the T members do the same."""
    for channels in _channels(transform):
        erased = np.asarray(transform.apply_all(_images((16, 16, channels))), np.float32)
        for j, i in itertools.combinations(range(transform.count), 2):
            if np.abs(erased[i] - erased[j]).max() <= _CLOSE:
                plural = "s" * (channels != 1)
                raise _Failed(f"members {j} and {i} are the same on images of {channels} channel{plural}")
    return f"{transform.count} different ones" if transform.count > 1 else "one"


def _draws(transform: Transform) -> str:
    """What training draws has the declared shape, type and range, and follows from the key."""
    if transform.draw is None:
        return "a member"
    shapes = [(_shapes(transform)[-1], "float32"), ((16, 16, _channels(transform)[-1]), "bfloat16")]
    for shape, dtype in shapes:
        images = _images(shape, count=8, dtype=dtype)
        keys, others = jax.random.split(jax.random.key(0), 8), images[::-1]
        drawn = transform.draw_each(keys, images, others)
        expected = (*shape[:2], transform.out_channels(shape[2]))
        if drawn.shape[1:] != expected or drawn.dtype != dtype:
            raise _Failed(f"draws {drawn.dtype} {_size(drawn.shape[1:])} of {dtype} {_size(shape)}")
        wide = np.asarray(drawn, np.float32)
        if not np.abs(wide).max() <= 1 + 1e-6:  # NaN fails, too
            raise _Failed(f"draws [{wide.min():.4g}, {wide.max():.4g}] in place of [-1, 1]; clip, or scale")
        if transform.draw_each(keys, images, others).tobytes() != drawn.tobytes():
            raise _Failed("draws two different images by one key")
        same = jnp.stack([images[0]] * len(keys))
        if not np.ptp(np.asarray(transform.draw_each(keys, same, others), np.float32), axis=0).max() > _LOST:
            raise _Failed("draws the same by every key")
        if shape == expected and not np.abs(wide - np.asarray(images, np.float32)).max() > _LOST:
            raise _Failed("draws nothing: the images stay as they are")
        if dtype == "float32":
            single = jax.jit(transform.draw)(keys[1], images[1], others[1])
            _require_close(single, drawn[1], f"in a batch of {_size(shape)}")
    return "another image by every key, the same by the same"


def _erases(transform: Transform) -> str:
    """The original cannot be computed from the result: a member loses some of it, or its index does.

    A member loses what its Jacobian at an image of noise shrinks below `_LOST`. If no member loses
    anything, two of them must be able to make the same of two different images, as the turns of `rotate`
    do.
    """
    found = next(filter(None, (_what_is_lost(transform, c) for c in _channels(transform))), "")
    if transform.invertible and found:
        raise _Failed(f"declared invertible, but {found}")
    if not transform.invertible and not found:
        why = "the original can be computed from the result (section 3.2 of the paper)"
        raise _Failed(f"nothing: {why}; say invertible=True if that is meant")
    return found or "nothing, as declared"


def _what_is_lost(transform: Transform, channels: int) -> str:
    image = 0.9 * _images((16, 16, channels))[0]
    jacobian_of = jax.jit(jax.jacfwd(transform.erase))
    results, jacobians = [], []
    for index in range(transform.count):
        jacobian = jacobian_of(image, jnp.int32(index))
        results.append(np.asarray(transform.apply(image, index), np.float64).ravel())
        jacobians.append(np.asarray(jacobian, np.float64).reshape(-1, image.size))
        kept = int((np.linalg.svd(jacobians[-1], compute_uv=False) > _LOST).sum())
        if kept < image.size:
            return f"member {index} keeps {kept} of {image.size} numbers of a {_size(image.shape)} image"
    original = np.asarray(image, np.float64).ravel()
    for i, j in itertools.permutations(range(transform.count), 2):
        # The other image of which member j makes what member i makes of this one, if j is affine.
        step = np.linalg.lstsq(jacobians[j], results[i] - results[j])[0]
        if np.abs(step).max() < 0.01 or np.abs(original + step).max() > 1:
            continue
        other = jnp.asarray((original + step).reshape(image.shape), image.dtype)
        again = np.asarray(transform.apply(other, j), np.float64).ravel()
        if np.abs(again - results[i]).max() < 1e-3:
            return f"which member it was: {i} and {j} make the same of two different images"
    return ""


_CHECKS: dict[str, Callable[[Transform], str]] = {
    **{_COMPILES: _compiles, "shape": _shape, "dtype": _dtype, "range": _range, "jit": _jit, "vmap": _vmap},
    **{"repeat": _repeat, "members": _members, "draws": _draws, "erases": _erases, _ELSEWHERE: _elsewhere},
}
