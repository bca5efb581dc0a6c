"""What `itae bench` has measured, told: ratios, a table, a picture, a file."""

import json
import os
from pathlib import Path

import numpy as np

from itae_jax.errors import RequestError
from itae_jax.files import writing

# Images scored a second at width 64 on a GTX 1080 Ti, in 2019: the paper's Figure 3.
PAPER = {"ITAE": 270, "GeoTrans": 35}
_PICTURES = (".png", ".pdf", ".svg")


def ratios(result: dict) -> dict[tuple[str, int], float]:
    """Our seconds over PyTorch's best for each (task, width); empty without PyTorch."""
    by_task: dict[tuple[str, int], dict[str, float]] = {}
    for timing in result["timings"]:
        by_task.setdefault((timing["task"], timing["width"]), {})[timing["contender"]] = timing["seconds"]
    return {
        key: seconds["itae_jax"] / min(theirs)
        for key, seconds in by_task.items()
        if (theirs := [value for name, value in seconds.items() if name.startswith("torch")])
    }


def shares(result: dict) -> dict[tuple[str, int], float]:
    """Floor over our seconds for each (task, width): 1 is as fast as a large matrix product."""
    floor = {(floor["task"], floor["width"]): floor["seconds"] for floor in result.get("floors", ())}
    ours = [timing for timing in result["timings"] if timing["contender"] == "itae_jax"]
    keys = [((timing["task"], timing["width"]), timing["seconds"]) for timing in ours]
    return {key: floor[key] / seconds for key, seconds in keys if key in floor}


def batches(settings: dict) -> str:
    """Of how many images a batch is, in words; one that is scored may be of others than one trained on."""
    trained, scored = settings["batch_size"], settings.get("scored_at_once", settings["batch_size"])
    height, width, channels = settings["image"]
    own = f" ({scored} in scoring)" if scored != trained else ""
    return f"batches of {trained}{own} images of {height}x{width}x{channels}"


def table(result: dict) -> str:
    """One line a timing, our share of PyTorch's best time, and of the floor."""
    first = f"{'task':<9} {'width':>5}  {'contender':<27} {'images':>6}"
    lines = [f"{first}  {'s/batch':>8}  {'images/s':>8}  {'MiB':>6}"]
    for timing in result["timings"]:
        memory = timing["memory_mib"]
        lines.append(
            f"{timing['task']:<9} {timing['width']:>5}  {timing['contender']:<27} "
            f"{timing['batch']:>6}  {timing['seconds']:>8.4f}  "
            f"{timing['images_per_second']:>8.0f}  {'' if memory is None else format(memory, '.0f'):>6}"
        )
    for (task, width), ratio in ratios(result).items():
        lines.append(f"{task}, width {width}: itae_jax takes {ratio:.2f} of PyTorch's best time")
    for (task, width), share in shares(result).items():
        lines.append(f"{task}, width {width}: {100 * share:.0f} % of the speed of a large matrix product")
    lines.append(
        f"the paper, width 64 on a GTX 1080 Ti: scores {PAPER['ITAE']} images/s, GeoTrans {PAPER['GeoTrans']}"
    )
    return "\n".join(lines)


def plot(result: dict, path: Path) -> None:
    """Draws images/s of all contenders, a panel a task; the paper's speed as a line beside scoring."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator

    timings = result["timings"]
    tasks, widths, names = (
        list(dict.fromkeys(timing[key] for timing in timings)) for key in ("task", "width", "contender")
    )
    figure = Figure((4.5 * len(tasks), 3.6), layout="constrained")
    for axes, task in zip(figure.subplots(1, len(tasks), squeeze=False)[0], tasks, strict=True):
        for place, name in enumerate(names):
            points = [
                (timing["width"], timing["images_per_second"])
                for timing in timings
                if (timing["task"], timing["contender"]) == (task, name)
            ]
            if points:
                axes.plot(*zip(*points, strict=True), marker="o", markersize=4, color=f"C{place}", label=name)
        if task == "scoring":
            axes.axhline(PAPER["ITAE"], color="0.4", linestyle=":", linewidth=1)
            axes.annotate(
                f"paper, width 64, GTX 1080 Ti: {PAPER['ITAE']}",
                (1, PAPER["ITAE"]),
                xycoords=("axes fraction", "data"),
                textcoords="offset points",
                xytext=(-4, 3),
                ha="right",
                fontsize=7,
                color="0.3",
            )
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        least, most = (function(*axes.get_ylim(), PAPER["ITAE"]) for function in (min, max))
        axes.set_ylim(10 ** np.floor(np.log10(least)), 2 * most)
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_minor_formatter("")
        axes.yaxis.set_major_formatter("{x:g}")
        axes.set_xticks(widths, widths)
        axes.set_xticks([], minor=True)
        axes.set_xlabel("width")
        axes.set_title(task, fontsize=10)
        axes.set_ylabel("images/s")
        axes.spines[["top", "right"]].set_visible(False)
    figure.axes[0].legend(fontsize=7, frameon=False, loc="lower left")
    settings, device = result["settings"], result["environment"]["device"]
    figure.suptitle(f"{device}, {settings['dtype']}, {batches(settings)}", fontsize=9)
    figure.savefig(path, dpi=150)


def check_files(json: Path | None, plot: Path | None) -> None:
    """Raises RequestError if one of the files cannot be written; asked before the long work."""
    if plot and plot.suffix.lower() not in _PICTURES:
        raise RequestError(f"--plot {plot}: name a file that ends in {' or '.join(_PICTURES)}")
    if json and plot and json.resolve() == plot.resolve():
        raise RequestError(f"--json and --plot: {json}: name two files")
    for option, path in (("--json", json), ("--plot", plot)):
        if path is None:
            continue
        was_there = os.path.exists(path)
        with writing(path, option):
            path.open("ab").close()
        if not was_there:
            path.unlink()


def write(result: dict, path: Path) -> None:
    """Writes the result as JSON."""
    path.write_text(json.dumps(result, indent=2) + "\n")
