"""The arguments of the `itae` command."""

import argparse
import contextlib
from pathlib import Path

from itae_jax import __version__
from itae_jax.config import FALSE_POSITIVE_RATE
from itae_jax.errors import RequestError

MINUTES = 10.0  # of training, for a folder of images
_LAST_SEED = 2**32 - 1


class Parser(argparse.ArgumentParser):
    """Raises RequestError, one line, instead of printing its usage; accepts no abbreviations."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **({"allow_abbrev": False} | kwargs))

    def error(self, message):
        raise RequestError(f"{message}; see {self.prog} --help")


def _whole_numbers(least: int, most: int):
    """Parses numbers joined by commas, each once and within the limits."""

    def parse(text: str) -> list[int]:
        try:
            numbers = [int(part) for part in text.split(",")]
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not a list of whole numbers like 0,1,2") from None
        if not all(least <= number <= most for number in numbers) or len(set(numbers)) < len(numbers):
            raise argparse.ArgumentTypeError(
                f"{text!r}: expected whole numbers from {least} to {most}, each once"
            )
        return numbers

    return parse


def _whole_number(least: int, most: int):
    """Parses one whole number within the limits."""

    def parse(text: str) -> int:
        with contextlib.suppress(ValueError):
            if least <= (number := int(text)) <= most:
                return number
        raise argparse.ArgumentTypeError(f"{text!r}: expected a whole number from {least} to {most}")

    return parse


_SIDE = _whole_number(1, 16_384)


def _path(text: str) -> Path:
    if not text:
        raise argparse.ArgumentTypeError("is empty; name a path")
    return Path(text)


def _texts(text: str) -> list[str]:
    return [part.strip() for part in text.split(",")]


def _add_set(parser: argparse.ArgumentParser) -> None:
    about = "change settings, such as train.epochs=20 or method.name=vae; of variants with several methods, a "
    about += "setting of a method changes those that have it"
    parser.add_argument("--set", nargs="+", action="extend", default=[], metavar="FIELD=VALUE", help=about)


def _add_trust(parser: argparse.ArgumentParser) -> None:
    about = "code of yours that the model names, which will run; only needed if it names any"
    parser.add_argument("--trust", default="", metavar="MODULE:ATTRIBUTE", help=about)


def _add_json(parser: argparse.ArgumentParser) -> None:
    about = "print a summary as one JSON object, and all else to standard error"
    parser.add_argument("--json", action="store_true", help=about)


def _add_tensorboard(parser: argparse.ArgumentParser) -> None:
    about = "write the metrics of each epoch as TensorBoard scalars; needs tensorboardX"
    parser.add_argument("--tensorboard", type=_path, metavar="DIR", help=about)


def _add_quiet(parser: argparse.ArgumentParser) -> None:
    either = parser.add_mutually_exclusive_group()
    either.add_argument("--quiet", action="store_true", help="print nothing but errors, and the JSON of --json")
    about = "print versions, devices, files and compile times, too, on standard error"
    either.add_argument("--verbose", action="store_true", help=about)


def _add_rate(parser: argparse.ArgumentParser, default: float | None, what: str) -> None:
    about = f"share of normal images called anomalies; default {what}"
    parser.add_argument("--false-positive-rate", type=float, default=default, metavar="RATE", help=about)


def build() -> argparse.ArgumentParser:
    """Builds the parser of all commands; `call` names the one that was asked for."""
    parser = Parser(prog="itae", description="Image anomaly detection by restoring what was erased.")
    parser.add_argument("--version", action="version", version=f"itae_jax {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    kinds = (_add_run, _add_report, _add_fit, _add_score, _add_calibrate)
    for add in (*kinds, _add_export, _add_bench, _add_data, _add_transforms, _add_settings, _add_devices):
        add(commands)
    _add_completion(parser)
    return parser


def _add_completion(parser: argparse.ArgumentParser) -> None:
    """Adds --print-completion if shtab is installed; paths complete to files."""
    try:
        import shtab
    except ImportError:
        return
    about = "print a script that completes commands and options in this shell"
    shtab.add_argument_to(parser, help=about)
    parsers = [parser]
    for one in parsers:
        for action in one._actions:
            if isinstance(action, argparse._SubParsersAction):
                parsers += action.choices.values()
            elif action.type is _path or action.dest == "images":
                action.complete = shtab.FILE  # type: ignore[attr-defined]


def _add_run(commands) -> None:
    run = commands.add_parser(
        "run",
        help="train and score an experiment, once for each normal class",
        epilog="example: itae run digits --classes 6 --set train.epochs=20 --out runs/six",
    )
    about = "a name such as digits, a Python file, or the config.json of a run"
    run.add_argument("experiment", metavar="EXPERIMENT", help=about)
    run.add_argument("--out", type=_path, help="directory of the results; default runs/<experiment>")
    run.add_argument("--classes", type=_texts, help="normal classes, indices or names: 0,7")
    run.add_argument("--variants", type=_texts, help="variants of an experiment that has several")
    run.add_argument("--seeds", type=_whole_numbers(0, _LAST_SEED), help="seeds: 0,1,2")
    about = "settings of the method, beneath those of --set: improved, improved_colour; default the paper's"
    run.add_argument("--recipe", default="", metavar="NAME", help=about)
    _add_set(run)
    about = "take trainings from other runs where config and data are the same"
    run.add_argument("--reuse", nargs="+", action="extend", default=[], type=_path, metavar="DIR", help=about)
    about = "record some steps for TensorBoard and Perfetto"
    run.add_argument("--profile", type=_path, metavar="DIR", help=about)
    _add_tensorboard(run)
    together = run.add_argument_group(
        "several processes", "train as one; give each the same command, process 0 writes"
    )
    together.add_argument("--coordinator", metavar="HOST:PORT", help="the address of process 0")
    together.add_argument("--num-processes", type=int, metavar="N", help="how many there are")
    together.add_argument("--process-id", type=int, metavar="I", help="which this is, from 0")
    about = "instead of the three: ask Slurm, the TPU pod or the cluster"
    together.add_argument("--distributed", action="store_true", help=about)
    _add_quiet(run)
    run.set_defaults(call="run")


def _add_report(commands) -> None:
    report = commands.add_parser(
        "report",
        help="write tables and a page of finished runs, or a page of a model or of scores",
        description="Run directories: report.html, .md and .csv in the first of them, or in --out; those of "
        "one experiment are joined. A model: a page inside it. A file of scores: a page beside it.",
        epilog="examples: itae report runs/a runs/b; itae report model; itae report scores.csv --model model",
    )
    about = "run directories, or one model or scores.csv"
    report.add_argument("paths", nargs="+", type=_path, metavar="PATH", help=about)
    report.add_argument("--out", type=_path, metavar="DIR", help="where the page of runs goes")
    report.add_argument("--model", type=_path, help="with scores: the model, for heat maps and restorations")
    about = "with scores: the folder of normal images; default good or normal"
    report.add_argument("--normal", default="", metavar="NAME", help=about)
    _add_rate(report, None, "as scored")
    _add_trust(report)
    _add_quiet(report)
    report.set_defaults(call="report")


def _add_fit(commands) -> None:
    fit = commands.add_parser(
        "fit",
        help="train on a folder of normal images",
        description="Trains on a folder of normal images. What is not given is chosen by looking at them.",
        epilog="example: itae fit photos/good --out model",
    )
    fit.add_argument("images", type=_path, metavar="IMAGES", help="folder of normal images, and folders in it")
    fit.add_argument("--out", type=_path, required=True, metavar="MODEL", help="directory of the model")
    about = f"time to train, from which the number of epochs follows; default {MINUTES:g}"
    fit.add_argument("--minutes", type=float, help=about)
    about = "passes over the images, instead of --minutes"
    fit.add_argument("--epochs", type=_whole_number(1, 10**9), help=about)
    fit.add_argument("--size", type=_SIDE, help="shorter side in pixels that images are brought to")
    about = "decides the calibration set and all random draws; default 0"
    fit.add_argument("--seed", type=_whole_number(0, _LAST_SEED), help=about)
    fit.add_argument("--holdout", type=float, default=0.2, help="share of calibration images; default 0.2")
    _add_set(fit)
    _add_tensorboard(fit)
    _add_json(fit)
    _add_quiet(fit)
    fit.set_defaults(call="fit")


def _add_score(commands) -> None:
    score = commands.add_parser(
        "score",
        help="score images by a trained model",
        description="Scores images by a trained model; higher = more anomalous.",
        epilog="examples: itae score model photos/new --out scores.csv --heatmaps heatmaps; "
        "find photos -name '*.png' | itae score model - --out scores.csv; "
        "inotifywait -m -e close_write --format %w%f photos | itae score model - --out -",
    )
    score.add_argument("model", type=_path, metavar="MODEL", help="directory that itae fit wrote")
    about = "folders and files, all together, or - for paths on standard input; with --out - one at a time"
    score.add_argument("images", nargs="+", metavar="IMAGES", help=about)
    about = "CSV file to write, or - for standard output, row by row, without --json; the rest goes to stderr"
    score.add_argument("--out", type=_path, required=True, metavar="scores.csv", help=about)
    score.add_argument("--heatmaps", type=_path, metavar="DIR", help="directory for a heat map of each image")
    about = "directory for each anomaly map, NAME.npy, and NAME.mask.png, white where few normal images reach"
    score.add_argument("--maps", type=_path, metavar="DIR", help=about)
    _add_rate(score, FALSE_POSITIVE_RATE, str(FALSE_POSITIVE_RATE))
    _add_json(score)
    _add_trust(score)
    _add_quiet(score)
    score.set_defaults(call="score")


def _add_calibrate(commands) -> None:
    calibrate = commands.add_parser(
        "calibrate",
        help="copy a model with new normal images as its calibration set",
        description="Copies a model and gives it new normal images as calibration set; trains nothing.",
        epilog="example: itae calibrate model photos/good_today --out model_today",
    )
    calibrate.add_argument("model", type=_path, metavar="MODEL", help="directory that itae fit wrote")
    about = "folder of normal images that the model was not trained on"
    calibrate.add_argument("images", type=_path, metavar="IMAGES", help=about)
    about = "directory of the copy"
    calibrate.add_argument("--out", type=_path, required=True, metavar="NEWMODEL", help=about)
    _add_json(calibrate)
    _add_trust(calibrate)
    _add_quiet(calibrate)
    calibrate.set_defaults(call="calibrate")


def _add_export(commands) -> None:
    export = commands.add_parser(
        "export",
        help="write a trained model as one file for use elsewhere",
        description="Writes the scoring function (jax, onnx) with FILE.json beside it, or the network's "
        "weights (safetensors).",
        epilog="examples: itae export model --out model.jaxexport; itae export model --out weights.safetensors",
    )
    export.add_argument("model", type=_path, metavar="MODEL", help="directory that itae fit wrote")
    export.add_argument("--out", type=_path, required=True, metavar="FILE", help="file to write")
    about = "default: by the ending .onnx or .safetensors, else jax"
    export.add_argument("--format", choices=("jax", "onnx", "safetensors"), default="", help=about)
    _add_trust(export)
    _add_quiet(export)
    export.set_defaults(call="export")


def _add_bench(commands) -> None:
    bench = commands.add_parser(
        "bench",
        help="measure the speed of training and scoring beside PyTorch's, of reading, or to an AUROC or loss",
        epilog="examples: itae bench --json bench.json; itae bench --set train.batch_size=64; itae bench data; "
        "itae bench quality --set classes=6; itae bench quality --set data.name=folder data.root=photos",
    )
    bench.add_argument(
        "what", nargs="?", choices=("method", "data", "quality"), default="method", help="default method"
    )
    bench.add_argument("--rounds", type=_whole_number(1, 10_000), help="turns of each contender; default 5")
    bench.add_argument(
        "--count", type=_whole_number(1, 10**7), help="data: JPEG files to generate; default 2000"
    )
    about = "images in a scored batch; default 32"
    bench.add_argument("--scored-at-once", type=_whole_number(1, 2**20), metavar="N", help=about)
    _add_set(bench)
    bench.add_argument("--json", type=_path, help="file to write the figures to")
    bench.add_argument("--plot", type=_path, metavar="FILE.png", help="picture to draw")
    _add_quiet(bench)
    bench.set_defaults(call="bench")


def _add_data(commands) -> None:
    data = commands.add_parser(
        "data", help="list the data sets, or prepare one", epilog="example: itae data list --root ~/data"
    )
    actions = data.add_subparsers(dest="action", required=True, metavar="ACTION")
    listed = actions.add_parser("list", help="what there is, how to get it, and what is in a directory")
    listed.add_argument("--root", default="", help="directory to look in; default TFDS's own")
    listed.set_defaults(call="data_list")
    prepare = actions.add_parser(
        "prepare",
        help="download and prepare a data set of TensorFlow Datasets",
        epilog="example: itae data prepare mnist --root ~/data",
    )
    prepare.add_argument("name", metavar="NAME", help="a data set that itae data list says how to prepare")
    prepare.add_argument("--root", default="", help="directory to put it into; default TFDS's own")
    prepare.add_argument("--manual-dir", default="", help="directory with the original files, if downloaded")
    _add_quiet(prepare)
    prepare.set_defaults(call="data_prepare")


def _add_transforms(commands) -> None:
    transforms = commands.add_parser(
        "transforms",
        help="list the erasing transforms, show what they erase, or check one",
        epilog="examples: itae transforms; itae transforms show photo.png --out erased.png; "
        "itae transforms check my_module:MyTransform",
    )
    transforms.set_defaults(call="transforms")
    actions = transforms.add_subparsers(metavar="ACTION")
    show = actions.add_parser(
        "show",
        help="draw what each transform erases from an image",
        epilog="example: itae transforms show photo.png --out erased.png",
    )
    show.add_argument("image", type=_path, metavar="IMAGE", help="an image file; its centre is shown")
    show.add_argument("--out", type=_path, required=True, metavar="FILE.png", help="picture to write")
    show.set_defaults(call="transforms_show")
    check = actions.add_parser(
        "check",
        help="check what training and scoring rely on in a transform",
        epilog="examples: itae transforms check my_module:MyTransform; "
        "itae transforms check rotate --images photos/good",
    )
    check.add_argument("name", metavar="NAME", help="gray, gray+rotate, or your module:attribute")
    about = "also ask whether traces of JPEG compression in these images tell the members apart"
    check.add_argument("--images", type=_path, metavar="FOLDER", help=about)
    check.add_argument(
        "--size", type=_SIDE, help="with --images: shorter side in pixels that images are brought to"
    )
    _add_set(check)
    check.set_defaults(call="transforms_check")


def _add_settings(commands) -> None:
    settings = commands.add_parser(
        "settings",
        help="list every setting with its value, meaning and limits",
        epilog="example: itae settings --set method.name=vae",
    )
    _add_set(settings)
    settings.set_defaults(call="settings")


def _add_devices(commands) -> None:
    about = "say which devices JAX finds, and why no others"
    devices = commands.add_parser("devices", help=about, epilog="example: itae devices")
    devices.set_defaults(call="devices")
