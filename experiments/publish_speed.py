"""The benchmarks of experiments/results/ as text: speed beside PyTorch's, and of reading files."""

import json
from pathlib import Path

from itae_jax.bench import reading as bench_data
from itae_jax.bench import report as bench_report

# Of XLA's CPU backend; what single layers gain is measured by layers.py.
_CPU_LIMITS = """\
What keeps the CPU from PyTorch's time, as far as profiles tell: two virtual devices at once are slowed down
more than PyTorch's two threads, as XLA passes more memory between its operations, and by the exchanges of
batch statistics, two for each of 18 layers. Kept: small maps, images' few channels and weight gradients as
matrix products, gradients of maxima by comparing, one exchange for all gradients, one device a core.
Tried by hand without gain, and not kept: convolutions as patches, rows or shifted products on all other
maps, the four transforms one after the other, XLA's convolutions with one thread each, larger pages and
thresholds of the C allocator, Winograd's convolution, channels first, XLA's oneDNN, fast-math and YNN
options. Several networks in one mapped program: above."""


_IN_A_LOOP = ", in a loop or one by one"  # in the names of cases of layers.py


def speed_line(directory: Path) -> list[str]:
    """How our time compares with PyTorch's, in a sentence for each device and dtype, over all its files."""
    measured: dict[str, dict[tuple[str, int], list[float]]] = {}
    for path in sorted(directory.glob("bench_network*.json")):
        result = json.loads(path.read_text())
        settings = result["settings"]
        on = f"{result['environment']['device']}, {settings['dtype']}, {bench_report.batches(settings)}"
        for key, ratio in bench_report.ratios(result).items():
            measured.setdefault(on, {}).setdefault(key, []).append(ratio)
    lines = []
    for on, ratios in measured.items():
        told = []
        for task in dict.fromkeys(task for task, _ in ratios):
            of_widths = [f"{_range(r)} at width {width}" for (t, width), r in ratios.items() if t == task]
            told.append(f"{task} {', '.join(of_widths)}")
        files = max(map(len, ratios.values()))
        over = f" ({files} measurements)" if files > 1 else ""
        told_on = f"Time on {on}, as a multiple of PyTorch's best{over}, so that above 1 is slower"
        lines += ["", f"{told_on}: {'; '.join(told)}."]
    return lines


def _range(ratios: list[float]) -> str:
    least, most = f"{min(ratios):.2f}", f"{max(ratios):.2f}"
    return least if least == most else f"{least} to {most}"


def bench_lines(path: Path) -> list[str]:
    """A benchmark file as a table."""
    result = json.loads(path.read_text())
    environment, settings = result["environment"], result["settings"]
    versions = environment["versions"]
    torch = f", PyTorch {versions['torch']}" if "torch" in versions else ""
    lines = [
        f"On {environment['device']}, jax {versions['jax']}{torch}, commit {environment['commit']}: "
        f"{bench_report.batches(settings)}, {settings['transform']}, {settings['dtype']}. Median of the "
        f"rounds; from `experiments/results/{path.name}`.",
        "",
        "| task | width | contender | images a batch | seconds a batch | images/s | MiB on each device |",
        "| --- | --: | --- | --: | --: | --: | --: |",
    ]
    for timing in result["timings"]:
        memory = timing.get("memory_mib")
        lines.append(
            f"| {timing['task']} | {timing['width']} | {timing['contender']} | "
            f"{timing.get('batch', settings['batch_size'])} | {timing['seconds']:.4f} | "
            f"{timing['images_per_second']:.0f} | {'' if memory is None else round(memory)} |"
        )
    ratios, shares = bench_report.ratios(result), bench_report.shares(result)
    if ratios or shares:
        lines += [
            "",
            "| ours | width | time over PyTorch's best | share of the speed of a large matrix product, % |",
            "| --- | --: | --: | --: |",
        ]
    for task, width in dict.fromkeys([*ratios, *shares]):
        ratio = format(ratios[task, width], ".2f") if (task, width) in ratios else ""
        share = format(100 * shares[task, width], ".0f") if (task, width) in shares else ""
        lines.append(f"| {task} | {width} | {ratio} | {share} |")
    itae, geotrans = bench_report.PAPER["ITAE"], bench_report.PAPER["GeoTrans"]
    paper = f"The paper scores {itae} images/s at width 64 and GeoTrans {geotrans}"
    return [*lines, "", f"{paper}, on another card, a GTX 1080 Ti, in 2019."]


def layer_lines(path: Path) -> list[str]:
    """Measurements of single layers as a table."""
    result = json.loads(path.read_text())
    environment, settings = result["environment"], result["settings"]
    of_loops = [row for row in result["layers"] if _IN_A_LOOP in row["layer"]]
    of_layers = [row for row in result["layers"] if row not in of_loops]
    loops = [
        "",
        "Steps by XLA's own convolutions in a loop (`lax.scan`), and one by one in the same program:",
        "",
        "| steps | in a loop, ms | one by one, ms |",
        "| --- | --: | --: |",
        *(_layer_line(row, row["layer"].replace(_IN_A_LOOP, "")) for row in of_loops),
    ]
    return [
        "Single layers as XLA has them for CPUs, and as they are computed here (`itae_jax/models/conv.py`). "
        f"On {settings['cores']} core of {environment['device'].partition(' x ')[2]}, jax "
        f"{environment['versions']['jax']}, commit {environment['commit']}: {settings['images']} images, "
        f"{settings['dtype']}. Median of the rounds; from `experiments/results/{path.name}`.",
        "",
        "| layer | XLA's, ms | ours, ms |",
        "| --- | --: | --: |",
        *(_layer_line(row, row["layer"]) for row in of_layers),
        *(loops if of_loops else []),
    ]


def _layer_line(row: dict, name: str) -> str:
    return f"| {name} | {row['xla_ms']:.2f} | {row['ours_ms']:.2f} |"


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
    paths = sorted(directory.glob("bench_network*.json"))
    on_cpu = [path for path in paths if "cpu" in path.stem]
    lines = ["## Speed", ""]
    for path in [*on_cpu, *(path for path in paths if path not in on_cpu)]:
        lines += [*bench_lines(path), ""]
        if path in on_cpu[-1:]:
            lines += [_CPU_LIMITS, ""]
    for path in sorted(directory.glob("layers_cpu*.json")):
        lines += [*layer_lines(path), ""]
    if paths == on_cpu:
        lines += ["No speed has been measured beside PyTorch on a GPU or TPU yet.", ""]
    lines += ["## Reading image files", ""]
    for path in sorted(directory.glob("bench_data*.json")):
        lines += [*data_lines(path), ""]
    return lines
