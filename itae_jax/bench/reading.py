"""`itae bench data`: the speed of reading image files, beside bare decoding, and of scoring while reading."""

import contextlib
import dataclasses
import functools
import io
import math
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
from itae_jax.bench import cases
from itae_jax.data import Images, LazyImages
from itae_jax.data.reader import Reader

SIDE, BATCH = 256, 32
_SCORED = 20_000  # files at most
_PICTURES = 16  # different ones among the files; a decoder needs no more


def measure(count: int, passes: int, say: Callable[[str], None] = lambda line: None) -> dict[str, Any]:
    """Reads `count` generated JPEG files `passes` times, in turns with bare decoding.

    Bare decoding is Pillow's `open` and `convert`, with as many threads. Then an untrained ITAE of width 16
    scores the files, each reduced to 32x32 pixels. Returns JSON values: "environment", "settings", "passes" and
    "scoring". Each pass has the images per second of both and the resident memory after it (None where the
    system does not say); each of "scoring" has those of reading alone, of scoring alone, and of both at once.
    """
    with tempfile.TemporaryDirectory() as directory:
        say(f"writing {count} JPEG files of {SIDE}x{SIDE}")
        paths = write_files(Path(directory), count)
        images = LazyImages(Reader(SIDE, 3).read, tuple(paths), (SIDE, SIDE, 3), memory_bytes=0)
        rows = []
        for number in range(passes):
            say(f"pass {number + 1} of {passes}")
            order = np.random.default_rng(number).permutation(count)
            pipeline = _per_second(count, functools.partial(_read, images, order))
            bare = _per_second(count, lambda: _decode_bare(paths))
            rows.append({"pipeline": pipeline, "bare": bare, "resident_mib": resident_mib()})
        scoring = _scoring(paths, passes, say)
    threads = environment.cpu_cores()
    settings = {"count": count, "image": [SIDE, SIDE, 3], "batch_size": BATCH, "threads": threads}
    return {"environment": environment.describe(), "settings": settings, "passes": rows, "scoring": scoring}


def _scoring(paths: list[Path], passes: int, say: Callable[[str], None]) -> list[dict[str, float]]:
    case = next(iter(cases.experiments([]).values()))
    learner, shape = cases.learner(case, BATCH), cases.image_shape(case)
    variables = learner.trainer.initial_state((0,)).method.variables
    files = LazyImages(Reader(shape[0], shape[2]).read, tuple(paths), shape, memory_bytes=0)
    files = files.select(np.arange(min(len(paths), _SCORED)))
    pixels = dataclasses.replace(files, memory_bytes=math.inf).in_memory()

    def score(images: Images) -> int:
        return sum(len(measured.positions) for measured in learner.measure(variables, images))

    read_alone, score_alone = functools.partial(_read, files), functools.partial(score, pixels)
    work = {"read": read_alone, "score": score_alone, "both": functools.partial(score, files)}
    score(pixels)  # compiles
    rows = []
    for number in range(passes):
        say(f"scoring, pass {number + 1} of {passes}")
        rows.append({name: _per_second(len(files), one) for name, one in work.items()})
    return rows


def ratio(result: dict[str, Any]) -> float:
    """Returns the pipeline's images per second over bare decoding's, the median over passes."""
    return statistics.median(row["pipeline"] / row["bare"] for row in result["passes"])


def overlap(result: dict[str, Any]) -> float:
    """Returns the speed of reading and scoring at once over the slower one's alone, the median over passes."""
    return statistics.median(row["both"] / min(row["read"], row["score"]) for row in result["scoring"])


def table(result: dict[str, Any]) -> str:
    """Returns a line for each pass, and the ratios."""
    side = result["settings"]["image"][0]
    lines = [f"reading JPEG files of {side}x{side} in batches, beside bare decoding by Pillow:"]
    lines.append("pass  reading images/s  decoding images/s  resident MiB")
    for number, row in enumerate(result["passes"], 1):
        memory = "" if row["resident_mib"] is None else f"{row['resident_mib']:.0f}"
        lines.append(f"{number:>4}  {row['pipeline']:>16.0f}  {row['bare']:>17.0f}  {memory:>12}")
    lines.append(f"reading is {ratio(result):.2f} times as fast as bare decoding\n")
    lines.append(f"reading them at {cases.SIDE}x{cases.SIDE}, and scoring them by an untrained network:")
    lines.append("pass  reading images/s  scoring images/s  both at once images/s")
    for number, row in enumerate(result["scoring"], 1):
        lines.append(f"{number:>4}  {row['read']:>16.0f}  {row['score']:>16.0f}  {row['both']:>21.0f}")
    lines.append(f"both at once are {overlap(result):.2f} times as fast as the slower one alone")
    return "\n".join(lines)


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


def _read(images: Images, order: np.ndarray | None = None) -> int:
    return sum(len(batch) for _, batch in images.batches(BATCH, order))


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
        raise RuntimeError(f"only {done} of {count} images can be read")
    return count / (time.perf_counter() - start)


def resident_mib() -> float | None:
    """Returns the resident memory of this process; None where the system does not say, as outside Linux."""
    with contextlib.suppress(OSError):
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20
    return None
