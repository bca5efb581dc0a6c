"""`itae bench data`: how fast images come from files, beside bare decoding, and in how much memory."""

import io
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from itae_jax.data import LazyImages
from itae_jax.data.reader import Reader
from itae_jax.environment import cpu_cores
from itae_jax.environment import describe as describe_environment

SIDE, BATCH = 256, 32


def measure(count: int, passes: int, say: Callable[[str], None] = lambda line: None) -> dict:
    """Reads a generated tree of JPEG files `passes` times, taking turns with bare decoding.

    Bare decoding is Pillow's `open` and `convert` by as many threads as the pipeline has.

    Returns:
      {"environment": ..., "settings": ..., "passes": [{pipeline and bare images a second, resident
      memory in MiB after the pass}, ...]}
    """
    with tempfile.TemporaryDirectory() as directory:
        say(f"writing {count} JPEG files of {SIDE}x{SIDE}")
        paths = _write_tree(Path(directory), count)
        images = LazyImages(Reader(SIDE, 3).read, tuple(paths), (SIDE, SIDE, 3), memory_bytes=0)
        rows = []
        for number in range(passes):
            say(f"pass {number + 1} of {passes}")
            order = np.random.default_rng(number).permutation(count)
            pipeline = _per_second(
                count, lambda order=order: sum(len(x) for _, x in images.batches(BATCH, order))
            )
            bare = _per_second(count, lambda: _decode_bare(paths))
            rows.append({"pipeline": pipeline, "bare": bare, "resident_mib": _resident_mib()})
    settings = {"count": count, "image": [SIDE, SIDE, 3], "batch_size": BATCH, "threads": cpu_cores()}
    return {"environment": describe_environment(), "settings": settings, "passes": rows}


def ratio(result: dict) -> float:
    """The pipeline's images a second over bare decoding's, the median over passes."""
    return statistics.median(row["pipeline"] / row["bare"] for row in result["passes"])


def table(result: dict) -> str:
    """A line a pass, and the ratio."""
    lines = ["pass  pipeline images/s  bare images/s  resident MiB"]
    for number, row in enumerate(result["passes"], 1):
        lines.append(
            f"{number:>4}  {row['pipeline']:>17.0f}  {row['bare']:>13.0f}  {row['resident_mib']:>12.0f}"
        )
    return "\n".join([*lines, f"the pipeline reads {ratio(result):.2f} times as fast as bare decoding"])


def _write_tree(directory: Path, count: int) -> list[Path]:
    from PIL import Image

    rng = np.random.default_rng(0)
    encoded = []
    for _ in range(16):  # different pictures; as many as matter to a decoder
        small = Image.fromarray(rng.integers(0, 256, (16, 16, 3), np.uint8))
        buffer = io.BytesIO()
        small.resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=90)
        encoded.append(buffer.getvalue())
    paths = [directory / f"{number:06d}.jpg" for number in range(count)]
    for number, path in enumerate(paths):
        path.write_bytes(encoded[number % len(encoded)])
    return paths


def _decode_bare(paths: list[Path]) -> int:
    from PIL import Image

    def decode(path):
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB")).shape

    with ThreadPoolExecutor(cpu_cores()) as pool:
        return sum(1 for _ in pool.map(decode, paths))


def _per_second(count: int, work: Callable[[], int]) -> float:
    start = time.perf_counter()
    done = work()
    if done != count:
        raise RuntimeError(f"{done} of {count} images came")
    return count / (time.perf_counter() - start)


def _resident_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20
