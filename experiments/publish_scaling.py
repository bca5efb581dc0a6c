"""How training grows, experiments/results/scaling*.json, as tables; and a plan for ImageNet made of them."""

import json
from pathlib import Path

# The ten superclasses of the paper's Table 7, 56 classes of ImageNet of about 1,300 training images each.
_CLASSES, _IMAGES, _EPOCHS = 56, 1300, 500
# Accelerators: the share of all the work that the busiest has, with dog, which is nine of the classes. Of eight
# two have a pair of superclasses, of no more than nine classes. A batch of 32 is divided by 4, not by 6.
_SHARES = {1: 1, 8: 9 / 56, 64: 9 / 56 / 4}
_SUSTAINED = (20, 50, 100, 200)  # TFLOP/s


def lines(directory: Path) -> list[str]:
    """The tables of each file; a line where there is none."""
    paths = sorted(directory.glob("scaling*.json"))
    if not paths:
        return ["Not measured yet."]
    found = []
    for path in paths:
        result = json.loads(path.read_text())
        environment, settings = result["environment"], result["settings"]
        found += [
            f"On {environment['cores']} x {environment['device'].partition(' x ')[2]}, jax "
            f"{environment['versions']['jax']}, commit {environment['commit']}: a training step of "
            f"{settings['batch_size']} images, {settings['transform']}, {settings['dtype']}; "
            f"from `experiments/results/{path.name}`.",
            "",
            *_steps(result["steps"], settings["devices"]),
            "",
            "| files read once | resident memory, MiB |",
            "| --: | --: |",
            *(f"| {row['files']} | {row['resident_mib']:.0f} |" for row in result["files"]),
            "",
            *_differences(result["differences"]),
        ]
    return found


def _differences(differences: dict) -> list[str]:
    settings = differences["settings"]
    return [
        f"A training of {settings['steps']} steps on several devices beside one on one device: "
        f"{settings['data']}, images of {settings['side']}x{settings['side']}, {settings['transform']}, width "
        f"{settings['width']}, batches of {settings['batch_size']}, rate {settings['learning_rate']:g}, seed "
        f"{settings['seed']}. How far the losses are apart, relative to them:",
        "",
        "| devices | dtype | of the first step | at most |",
        "| --: | --- | --: | --: |",
        *(
            f"| {row['devices']} | {row['dtype']} | {row['first']:.1g} | {row['largest']:.1g} |"
            for row in differences["rows"]
        ),
    ]


def _steps(steps: list[dict], devices: int) -> list[str]:
    least = min(step["width"] for step in steps), min(step["side"] for step in steps)
    tables = {
        "image side": ("side", lambda s: s["width"] == least[0] and s["devices"] == devices),
        "width": ("width", lambda s: s["side"] == least[1] and s["devices"] == devices),
        "devices": ("devices", lambda s: (s["width"], s["side"]) == least),
    }
    columns = {
        "seconds a step": lambda step: f"{step['seconds']:.3f}",
        "MiB on each device": lambda step: f"{step['mib_a_device']:.0f}",
        "GFLOP an image": lambda step: f"{step['operations_an_image'] / 1e9:.3g}",
    }
    if any(step["mib_a_device"] is None for step in steps):  # the backend does not tell
        del columns["MiB on each device"]
    found = []
    for title, (key, belongs) in tables.items():
        found += ["", f"| {title} | {' | '.join(columns)} |", "| --: |" + " --: |" * len(columns)]
        for step in sorted(filter(belongs, steps), key=lambda step: step[key]):
            found.append(f"| {step[key]} | {' | '.join(cell(step) for cell in columns.values())} |")
    return found[1:]


def plan_lines(directory: Path) -> list[str]:
    """Hours for the ten ImageNet superclasses by the paper's schedule, by what an accelerator sustains."""
    paths = sorted(directory.glob("scaling*.json"))
    if not paths:
        return ["Not measured yet."]
    imagenet = json.loads(paths[0].read_text())["imagenet"]
    operations, side, width = (imagenet[key] for key in ("operations_an_image", "side", "width"))
    images = _CLASSES * _IMAGES
    total = operations * images * _EPOCHS
    found = [
        f"{_CLASSES} classes of about {_IMAGES:,} images are {images:,} images; {_EPOCHS} epochs at "
        f"width {width} and {side}x{side} take {operations / 1e9:.1f} GFLOP an image and step, as XLA counts "
        f"(`experiments/results/{paths[0].name}`): {total / 1e18:,.1f} EFLOP for all ten trainings.",
        "",
        "| TFLOP/s that one sustains | "
        + " | ".join(f"hours on {n}" for n in _SHARES)
        + " | images/s of one |",
        "| --: |" + " --: |" * (len(_SHARES) + 1),
    ]
    for sustained in _SUSTAINED:
        hours = [total * share / (sustained * 1e12) / 3600 for share in _SHARES.values()]
        cells = [f"{sustained}", *(f"{value:,.1f}" for value in hours), f"{sustained * 1e12 / operations:,.0f}"]
        found.append(f"| {' | '.join(cells)} |")
    return found
