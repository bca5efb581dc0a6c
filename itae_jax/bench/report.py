"""The results of `itae bench` as ratios, a table and a picture."""

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from itae_jax.errors import RequestError
from itae_jax.files import check_output_file, write_text, writing

# Images that the paper's Figure 3 scores a second, on a GTX 1080 Ti in 2019.
PAPER = {"ITAE": 270, "GeoTrans": 35}


def ratios(result: dict[str, Any]) -> dict[tuple[str, str], float]:
    """Returns our seconds over PyTorch's best for each (kind, case); empty without PyTorch."""
    seconds: dict[tuple[str, str], dict[str, float]] = {}
    for timing in result["timings"]:
        seconds.setdefault((timing["kind"], timing["case"]), {})[timing["contender"]] = timing["seconds"]
    ours = {key: of_case.pop("itae_jax") for key, of_case in seconds.items()}
    return {key: ours[key] / min(of_torch.values()) for key, of_torch in seconds.items() if of_torch}


def shares(result: dict[str, Any]) -> dict[tuple[str, str], float]:
    """Returns the floor over our seconds for each (kind, case): 1 is as fast as a large matrix product."""
    floors = {(floor["kind"], floor["case"]): floor["seconds"] for floor in result["floors"]}
    ours = [timing for timing in result["timings"] if timing["contender"] == "itae_jax"]
    keys = [(timing["kind"], timing["case"]) for timing in ours]
    return {key: floors[key] / timing["seconds"] for key, timing in zip(keys, ours, strict=True)}


def batches(settings: dict[str, Any]) -> str:
    """Describes the number and size of the images in a batch."""
    trained, scored = settings["batch_size"], settings["scored_at_once"]
    height, width, channels = settings["image"]
    own = f" ({scored} in scoring)" if scored != trained else ""
    return f"batches of {trained}{own} images of {height}x{width}x{channels}"


def table(result: dict[str, Any]) -> str:
    """Returns a line for each timing, then our time over PyTorch's best and the share of the floor."""
    wide = max(len(timing["case"]) for timing in result["timings"])
    form = f"{{:<9}} {{:<{wide}}}  {{:<27}} {{:>6}}  {{:>8}}  {{:>8}}  {{:>6}}"
    lines = [form.format("kind", "case", "contender", "images", "s/batch", "images/s", "MiB")]
    for timing in result["timings"]:
        memory = "" if timing["memory_mib"] is None else f"{timing['memory_mib']:.0f}"
        of_case = [timing[key] for key in ("kind", "case", "contender", "batch")]
        speed = f"{timing['seconds']:.4f}", f"{timing['images_per_second']:.0f}"
        lines.append(form.format(*of_case, *speed, memory))
    for (kind, case), ratio in ratios(result).items():
        lines.append(f"{kind}, {case}: itae_jax takes {ratio:.2f} of PyTorch's best time")
    for (kind, case), share in shares(result).items():
        lines.append(f"{kind}, {case}: {100 * share:.0f} % of the speed of a large matrix product")
    if result["settings"]["paper_method"] in PAPER:
        numbers = ", ".join(f"{name} {speed}" for name, speed in PAPER.items())
        lines.append(f"images/s of scoring in the paper, at its full size on a GTX 1080 Ti: {numbers}")
    return "\n".join(lines)


def draw(result: dict[str, Any]) -> Any:
    """Returns a figure: the images per second of all contenders, a panel for each kind of case."""
    from matplotlib.figure import Figure

    timings, settings = result["timings"], result["settings"]
    keys = "kind", "case", "contender"
    kinds, cases, names = (list(dict.fromkeys(timing[key] for timing in timings)) for key in keys)
    figure = Figure((4.5 * len(kinds), 3.6), layout="constrained")
    for axes, kind in zip(figure.subplots(1, len(kinds), squeeze=False)[0], kinds, strict=True):
        for name in names:
            of_name = [one for one in timings if (one["kind"], one["contender"]) == (kind, name)]
            places = [cases.index(timing["case"]) for timing in of_name]
            axes.plot(places, [timing["images_per_second"] for timing in of_name], "o-", ms=4, label=name)
        paper = PAPER.get(settings["paper_method"])
        if kind == "scoring" and paper:
            axes.axhline(paper, color="0.4", linestyle=":", linewidth=1, label=f"paper, GTX 1080 Ti: {paper}")
        axes.set(yscale="log", ylabel="images/s")
        axes.set_xticks(range(len(cases)), cases)
        axes.set_title(kind, fontsize=10)
        axes.spines[["top", "right"]].set_visible(False)
    figure.axes[-1].legend(fontsize=7, frameon=False)
    device = result["environment"]["device"]
    figure.suptitle(f"{device}, {settings['dtype']}, {batches(settings)}", fontsize=9)
    return figure


def write(result: dict[str, Any], path: Path) -> None:
    """Writes the result as JSON."""
    write_text(path, json.dumps(result, indent=2) + "\n")


def check_files(json: Path | None, plot: Path | None, is_picture: Callable[[Path], bool]) -> None:
    """Raises RequestError if a file cannot be written, or exists and was not written by `itae bench`."""
    if plot and plot.suffix.lower() != ".png":
        raise RequestError(f"--plot {plot}: name a file that ends in .png")
    if json and plot and json.resolve() == plot.resolve():
        raise RequestError(f"--json and --plot: {json}: name two files")
    for option, path, is_ours in (("--json", json, _is_result), ("--plot", plot, is_picture)):
        if path is not None:
            check_output_file(path, is_ours, option)
            with writing(path.parent, option), tempfile.TemporaryFile(dir=path.parent):
                pass


def _is_result(path: Path) -> bool:
    try:
        return {"settings", "environment"} <= json.loads(path.read_bytes()).keys()
    except (ValueError, AttributeError):
        return False
