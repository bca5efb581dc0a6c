"""`itae bench data`: the speed of reading image files, beside bare decoding, and the memory that it takes."""

import contextlib
import io
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from itae_jax import environment
from itae_jax.data import LazyImages
from itae_jax.data.reader import Reader

SIDE, BATCH = 256, 32
_PICTURES = 16  # different ones among the files; a decoder needs no more


def measure(count: int, passes: int, say: Callable[[str], None] = lambda line: None) -> dict[str, Any]:
    """Reads `count` generated JPEG files `passes` times, in turns with bare decoding.

    Bare decoding is Pillow's `open` and `convert`, with as many threads. Returns JSON values: "environment",
    "settings" and "passes", each with the images per second of both and the resident memory after it (None
    where the system does not say).
    """
    with tempfile.TemporaryDirectory() as directory:
        say(f"writing {count} JPEG files of {SIDE}x{SIDE}")
        paths = write_files(Path(directory), count)
        images = LazyImages(Reader(SIDE, 3).read, tuple(paths), (SIDE, SIDE, 3), memory_bytes=0)
        rows = []
        for number in range(passes):
            say(f"pass {number + 1} of {passes}")
            order = np.random.default_rng(number).permutation(count)

            def read(order: np.ndarray = order) -> int:
                return sum(len(batch) for _, batch in images.batches(BATCH, order))

            pipeline, bare = _per_second(count, read), _per_second(count, lambda: _decode_bare(paths))
            rows.append({"pipeline": pipeline, "bare": bare, "resident_mib": resident_mib()})
    threads = environment.cpu_cores()
    settings = {"count": count, "image": [SIDE, SIDE, 3], "batch_size": BATCH, "threads": threads}
    return {"environment": environment.describe(), "settings": settings, "passes": rows}


def ratio(result: dict[str, Any]) -> float:
    """Returns the pipeline's images per second over bare decoding's, the median over passes."""
    return statistics.median(row["pipeline"] / row["bare"] for row in result["passes"])


def table(result: dict[str, Any]) -> str:
    """Returns a line for each pass, and the ratio."""
    lines = ["pass  pipeline images/s  bare images/s  resident MiB"]
    for number, row in enumerate(result["passes"], 1):
        memory = "" if row["resident_mib"] is None else f"{row['resident_mib']:.0f}"
        lines.append(f"{number:>4}  {row['pipeline']:>17.0f}  {row['bare']:>13.0f}  {memory:>12}")
    return "\n".join([*lines, f"the pipeline reads {ratio(result):.2f} times as fast as bare decoding"])


def write_files(directory: Path, count: int, side: int = SIDE) -> list[Path]:
    """Writes JPEG files of random pictures."""
    rng = np.random.default_rng(0)
    encoded = []
    for _ in range(_PICTURES):
        small = Image.fromarray(rng.integers(0, 256, (16, 16, 3), np.uint8))
        buffer = io.BytesIO()
        small.resize((side, side), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=90)
        encoded.append(buffer.getvalue())
    paths = [directory / f"{number:06d}.jpg" for number in range(count)]
    for number, path in enumerate(paths):
        path.write_bytes(encoded[number % _PICTURES])
    return paths


def _decode_bare(paths: list[Path]) -> int:
    def decode(path: Path) -> tuple[int, ...]:
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB")).shape

    with ThreadPoolExecutor(environment.cpu_cores()) as pool:
        return sum(1 for _ in pool.map(decode, paths))


def _per_second(count: int, work: Callable[[], int]) -> float:
    start = time.perf_counter()
    done = work()
    if done != count:
        raise RuntimeError(f"read {done} of {count} images")
    return count / (time.perf_counter() - start)


def resident_mib() -> float | None:
    """Returns the resident memory of this process; None where the system does not say, as outside Linux."""
    with contextlib.suppress(OSError):
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20
    return None
