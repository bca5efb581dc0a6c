"""The benchmarks of experiments/results/ as text: speed beside PyTorch's, and of reading files."""

import json
from pathlib import Path

from itae_jax import bench, bench_data


def speed_line(directory: Path) -> list[str]:
    """How the newest benchmark compares with PyTorch, in a sentence a file."""
    lines = []
    for path in sorted(directory.glob("bench_network*.json")):
        result = json.loads(path.read_text())
        ratios = bench.ratios(result)
        told = "; ".join(
            f"{task} " + ", ".join(f"{r:.2f} at width {width}" for (t, width), r in ratios.items() if t == task)
            for task in dict.fromkeys(task for task, _ in ratios)
        )
        lines += ["", f"Speed on {result['environment']['device']}, our time over PyTorch's best: {told}."]
    return lines


def bench_lines(path: Path) -> list[str]:
    """A benchmark file as a table."""
    result = json.loads(path.read_text())
    environment, settings = result["environment"], result["settings"]
    versions = environment["versions"]
    torch = f", PyTorch {versions['torch']}" if "torch" in versions else ""
    height, width, channels = settings["image"]
    lines = [
        f"On {environment['device']}, jax {versions['jax']}{torch}, commit {environment['commit']}: batches of "
        f"{settings['batch_size']} images of {height}x{width}x{channels}, {settings['transform']}, "
        f"{settings['dtype']}. Median of the rounds; from `experiments/results/{path.name}`.",
        "",
        "| task | width | contender | seconds a batch | images/s |",
        "| --- | --- | --- | --- | --- |",
    ]
    for timing in result["timings"]:
        lines.append(
            f"| {timing['task']} | {timing['width']} | {timing['contender']} | {timing['seconds']:.4f} | "
            f"{timing['images_per_second']:.0f} |"
        )
    ratios = bench.ratios(result)
    if ratios:
        lines += ["", "| our time over PyTorch's best | width | ratio |", "| --- | --- | --- |"]
        lines += [f"| {task} | {width} | {ratio:.2f} |" for (task, width), ratio in ratios.items()]
    return lines


def data_lines(path: Path) -> list[str]:
    """A benchmark of reading as a table."""
    result = json.loads(path.read_text())
    environment, settings = result["environment"], result["settings"]
    height, width, _ = settings["image"]
    lines = [
        f"On {environment['device']}, commit {environment['commit']}: {settings['count']} JPEG files of "
        f"{height}x{width}, {settings['threads']} threads. From `experiments/results/{path.name}`.",
        "",
        "| pass | pipeline, images/s | bare decoding, images/s | resident memory, MiB |",
        "| --- | --- | --- | --- |",
    ]
    for number, row in enumerate(result["passes"], 1):
        lines.append(f"| {number} | {row['pipeline']:.0f} | {row['bare']:.0f} | {row['resident_mib']:.0f} |")
    return [*lines, "", f"Ratio, median of the passes: {bench_data.ratio(result):.2f}."]


def sections(directory: Path) -> list[str]:
    """The part of docs/results.md on speed."""
    lines = ["## Speed", ""]
    for path in sorted(directory.glob("bench_network*.json")):
        lines += [*bench_lines(path), ""]
    lines += ["## Reading image files", ""]
    for path in sorted(directory.glob("bench_data*.json")):
        lines += [*data_lines(path), ""]
    return lines
