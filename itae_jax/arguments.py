"""The arguments of the `itae` command."""

import argparse
from pathlib import Path

from itae_jax.errors import RequestError


class Parser(argparse.ArgumentParser):
    """Raises RequestError, one line, instead of printing its usage."""

    def error(self, message):
        raise RequestError(f"{message}; see {self.prog} --help")


def integers(text: str) -> list[int]:
    """The whole numbers that an option was given, joined by commas."""
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of whole numbers like 0,1,2") from None


def path(text: str) -> Path:
    """The path that an option was given."""
    if not text:
        raise argparse.ArgumentTypeError("is empty; name a directory")
    return Path(text)


def _texts(text: str) -> list[str]:
    return [part.strip() for part in text.split(",")]


def _add_transform(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--transform",
        default="",
        metavar="MODULE:ATTRIBUTE",
        help="the model's transform if it is code of yours, which will run; asked for where it is needed",
    )


def build() -> argparse.ArgumentParser:
    """The parser of all commands; `call` names the one that was asked for."""
    parser = Parser(
        prog="itae", description="Image anomaly detection by restoring what was erased.", allow_abbrev=False
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    run = commands.add_parser(
        "run",
        help="train and score an experiment, once for each normal class",
        epilog="example: itae run experiments/digits.py --classes 6 --set train.epochs=20 --out runs/six",
        allow_abbrev=False,
    )
    run.add_argument(
        "experiment", type=Path, metavar="EXPERIMENT.py", help="or the config.json of a run, to repeat it"
    )
    run.add_argument("--out", type=path, help="directory of the results; default runs/<experiment>")
    run.add_argument(
        "--classes", type=_texts, help="normal classes, indices or names: 0,7; default the experiment's"
    )
    run.add_argument("--variants", type=_texts, help="of an experiment that has several; default all")
    run.add_argument("--seeds", type=integers, help="seeds: 0,1,2; default the experiment's")
    run.add_argument(
        "--set",
        nargs="+",
        action="extend",
        default=[],
        metavar="FIELD=VALUE",
        help="override fields of itae_jax/config.py, such as train.epochs=20",
    )
    run.add_argument(
        "--reuse",
        nargs="+",
        action="extend",
        default=[],
        type=path,
        metavar="DIR",
        help="take trainings from other runs, where they would be the same",
    )
    run.add_argument(
        "--profile", type=path, metavar="DIR", help="record some steps for TensorBoard and Perfetto"
    )
    together = run.add_argument_group(
        "several processes", "train as one; each is given the same command, and the first writes"
    )
    together.add_argument("--coordinator", metavar="HOST:PORT", help="where process 0 can be reached")
    together.add_argument("--num-processes", type=int, metavar="N", help="how many there are")
    together.add_argument("--process-id", type=int, metavar="I", help="which this is, from 0")
    together.add_argument(
        "--distributed", action="store_true", help="instead of the three: ask Slurm, the TPU pod or the cluster"
    )
    run.set_defaults(call="run")

    report = commands.add_parser(
        "report",
        help="write tables and a page of finished runs, or a page of a trained model or of scores",
        description="Of run directories, those of one experiment joined: report.html, .md and .csv into the "
        "first of them, or --out. Of a trained model: a page into it. Of a file of scores: a page beside it.",
        epilog="examples: itae report runs/machine1 runs/machine2; itae report model; "
        "itae report scores.csv --model model",
        allow_abbrev=False,
    )
    report.add_argument(
        "paths", nargs="+", type=path, metavar="PATH", help="directories of runs, or one model or scores.csv"
    )
    report.add_argument(
        "--out", type=path, metavar="DIR", help="of runs: where the page goes; default the first"
    )
    report.add_argument("--model", type=path, help="of scores: the model, for heat maps and restorations")
    report.add_argument(
        "--false-alarms",
        type=float,
        metavar="RATE",
        help="share of normal images called anomalies; default as scored",
    )
    _add_transform(report)
    report.set_defaults(call="report")

    fit = commands.add_parser(
        "fit",
        help="train on a folder of normal images",
        description="Trains on a folder of normal images. What is not given is chosen by looking at them.",
        epilog="example: itae fit photos/good --out model",
        allow_abbrev=False,
    )
    fit.add_argument("images", type=path, metavar="IMAGES", help="folder of normal images, and folders in it")
    fit.add_argument("--out", type=path, required=True, metavar="MODEL", help="directory of the model")
    fit.add_argument("--epochs", help="passes over the images")
    fit.add_argument("--size", help="side in pixels that images are brought to")
    fit.add_argument("--seed", help="decides what is held out and all random draws; default 0")
    fit.add_argument("--holdout", type=float, default=0.2, help="share kept for the threshold; default 0.2")
    fit.add_argument(
        "--set",
        nargs="+",
        action="extend",
        default=[],
        metavar="FIELD=VALUE",
        help="set fields of itae_jax/config.py, such as train.epochs=20",
    )
    fit.set_defaults(call="fit")

    score = commands.add_parser(
        "score",
        help="score images by a trained model",
        description="Scores images by a trained model: higher = more anomalous, 1 = the mean of normal ones.",
        epilog="examples: itae score model photos/new --out scores.csv --heatmaps heatmaps; "
        "find photos -name '*.png' | itae score model - --out scores.csv",
        allow_abbrev=False,
    )
    score.add_argument("model", type=path, metavar="MODEL", help="directory that itae fit wrote")
    score.add_argument("images", metavar="IMAGES", help="folder, file, or - for paths on standard input")
    score.add_argument("--out", type=path, required=True, metavar="scores.csv", help="CSV file to write")
    score.add_argument("--heatmaps", type=path, metavar="DIR", help="directory for a heat map of each image")
    score.add_argument(
        "--false-alarms",
        type=float,
        default=0.05,
        metavar="RATE",
        help="share of normal images called anomalies; default 0.05",
    )
    _add_transform(score)
    score.set_defaults(call="score")

    export = commands.add_parser(
        "export",
        help="write a trained model as one file for use elsewhere",
        description="Writes the scoring function (jax, onnx) with FILE.json beside it, or the network's "
        "weights (safetensors).",
        epilog="examples: itae export model --out model.jaxexport; itae export model --out weights.safetensors",
        allow_abbrev=False,
    )
    export.add_argument("model", type=path, metavar="MODEL", help="directory that itae fit wrote")
    export.add_argument("--out", type=path, required=True, metavar="FILE", help="file to write")
    export.add_argument(
        "--format",
        choices=("jax", "onnx", "safetensors"),
        default="",
        help="default: by the ending .onnx or .safetensors, else jax",
    )
    _add_transform(export)
    export.set_defaults(call="export")

    bench = commands.add_parser(
        "bench",
        help="measure the speed of training and scoring beside PyTorch's, or of reading images",
        epilog="examples: itae bench --widths 16,64 --json bench.json; itae bench data --count 20000",
        allow_abbrev=False,
    )
    bench.add_argument(
        "what", nargs="?", choices=("network", "data"), default="network", help="default network"
    )
    bench.add_argument("--count", type=int, help="of data: JPEG files to generate; default 2000")
    bench.add_argument("--widths", type=integers, help="of the network; default 16,32,64")
    bench.add_argument(
        "--rounds",
        type=int,
        default=5,
        help="alternations of all contenders, or passes over the files; default 5",
    )
    bench.add_argument(
        "--models",
        type=integers,
        metavar="N,...",
        help="of the network: time the training of N at once on each device, too",
    )
    bench.add_argument(
        "--scored-at-once",
        type=int,
        metavar="N",
        help="of the network: images in a batch of scoring; default 32",
    )
    bench.add_argument(
        "--dtype", choices=("float32", "bfloat16"), help="of the network's activations; default float32"
    )
    bench.add_argument("--json", type=Path, help="file to write the figures to")
    bench.add_argument("--plot", type=Path, metavar="FILE.png", help="of the network: picture to draw")
    bench.set_defaults(call="bench")

    data = commands.add_parser(
        "data", help="list the data sets, or prepare one", epilog="example: itae data list --root ~/data"
    )
    actions = data.add_subparsers(dest="action", required=True, metavar="ACTION")
    listed = actions.add_parser("list", help="what there is, how to get it, and what can be run right now")
    listed.add_argument("--root", default="", help="directory to look in; default TFDS's own")
    listed.set_defaults(call="data_list")
    prepare = actions.add_parser(
        "prepare",
        help="download and prepare a data set of TensorFlow Datasets",
        epilog="example: itae data prepare mnist --root ~/data",
        allow_abbrev=False,
    )
    prepare.add_argument(
        "name", metavar="NAME", help="one that itae data list tells how to prepare, such as mnist"
    )
    prepare.add_argument("--root", default="", help="directory to put it into; default TFDS's own")
    prepare.add_argument(
        "--manual-dir", default="", help="directory with the original files, if downloaded already"
    )
    prepare.set_defaults(call="data_prepare")

    transforms = commands.add_parser(
        "transforms",
        help="list the erasing transforms, or check one",
        epilog="examples: itae transforms; itae transforms check my_module:MyTransform",
        allow_abbrev=False,
    )
    transforms.set_defaults(call="transforms")
    check = transforms.add_subparsers(metavar="ACTION").add_parser(
        "check",
        help="check what training and scoring need of a transform, such as one of your own",
        epilog="example: itae transforms check my_module:MyTransform",
        allow_abbrev=False,
    )
    check.add_argument("name", metavar="NAME", help="as in transform.name: gray+rotate, or module:attribute")
    check.set_defaults(call="transforms_check")
    return parser


def check_run(options: list[str]) -> None:
    """Raises RequestError for options that `itae run` does not have or cannot read."""
    build().parse_args(["run", "EXPERIMENT.py", *options])


# Of each thing that `itae bench` times: its options and their defaults; and the largest sensible numbers.
_BENCH_OPTIONS = {
    "network": {
        "widths": [16, 32, 64],
        "models": [],
        "scored_at_once": 32,
        "dtype": "float32",
        "plot": None,
    },
    "data": {"count": 2000},
}
_BENCH_LIMITS = {"widths": 4096, "models": 1024, "scored_at_once": 2**20, "rounds": 10_000, "count": 10_000_000}


def check_bench(arguments: argparse.Namespace) -> None:
    """Puts defaults in the place of what `itae bench` was not given.

    Raises:
      RequestError: an option of the other thing that can be timed, a number out of range or given twice.
    """
    for what, options in _BENCH_OPTIONS.items():
        for name, default in options.items():
            if getattr(arguments, name) is None:
                setattr(arguments, name, default)
            elif what != arguments.what:
                raise RequestError(f"{_option(name)} is for itae bench {what} alone; leave it out")
    for name, most in _BENCH_LIMITS.items():
        value = getattr(arguments, name)
        numbers = value if isinstance(value, list) else [value]
        if not all(1 <= number <= most for number in numbers) or len(set(numbers)) < len(numbers):
            raise RequestError(f"{_option(name)}: expected whole numbers from 1 up to {most}, each once")


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"
