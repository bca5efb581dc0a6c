"""The `itae` command: reads arguments, calls the package, prints.

Exit codes: 0 done, 2 the request was wrong (one line on stderr), 1 a fault of the program,
130 interrupted.
"""

import argparse
import errno
import shlex
import sys
from pathlib import Path

from itae_jax import interrupt
from itae_jax.errors import RequestError

_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)


class _Parser(argparse.ArgumentParser):
    def error(self, message):
        raise RequestError(f"{message}; see {self.prog} --help")


def _integers(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of whole numbers like 0,1,2") from None


def _path(text: str) -> Path:
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


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
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
    run.add_argument("--out", type=_path, help="directory of the results; default runs/<experiment>")
    run.add_argument(
        "--classes", type=_texts, help="normal classes, indices or names: 0,7; default the experiment's"
    )
    run.add_argument("--variants", type=_texts, help="of an experiment that has several; default all")
    run.add_argument("--seeds", type=_integers, help="seeds: 0,1,2; default the experiment's")
    run.add_argument(
        "--set", nargs="+", action="extend", default=[], metavar="FIELD=VALUE", help="override config fields"
    )
    run.set_defaults(call=_run)

    report = commands.add_parser(
        "report",
        help="write tables and a page of finished runs, or a page of a trained model or of scores",
        description="Of run directories, those of one experiment joined: report.html, .md and .csv into the "
        "first of them. Of a trained model: a page into it. Of a file of scores: a page beside it.",
        epilog="examples: itae report runs/machine1 runs/machine2; itae report model; "
        "itae report scores.csv --model model",
        allow_abbrev=False,
    )
    report.add_argument(
        "paths", nargs="+", type=_path, metavar="PATH", help="directories of runs, or one model or scores.csv"
    )
    report.add_argument("--model", type=_path, help="of scores: the model, for heat maps and restorations")
    report.add_argument(
        "--false-alarms",
        type=float,
        metavar="RATE",
        help="share of normal images called anomalies; default as scored",
    )
    _add_transform(report)
    report.set_defaults(call=_report)

    fit = commands.add_parser(
        "fit",
        help="train on a folder of normal images",
        description="Trains on a folder of normal images. What is not given is chosen by looking at them.",
        epilog="example: itae fit photos/good --out model",
        allow_abbrev=False,
    )
    fit.add_argument("images", type=_path, metavar="IMAGES", help="folder of normal images, and folders in it")
    fit.add_argument("--out", type=_path, required=True, metavar="MODEL", help="directory of the model")
    fit.add_argument("--epochs", help="passes over the images")
    fit.add_argument("--size", help="side in pixels that images are brought to")
    fit.add_argument("--seed", help="decides what is held out and all random draws; default 0")
    fit.add_argument("--holdout", type=float, default=0.2, help="share kept for the threshold; default 0.2")
    fit.add_argument(
        "--set", nargs="+", action="extend", default=[], metavar="FIELD=VALUE", help="set config fields"
    )
    fit.set_defaults(call=_fit)

    score = commands.add_parser(
        "score",
        help="score images by a trained model",
        description="Scores images by a trained model: higher = more anomalous, 1 = the mean of normal ones.",
        epilog="examples: itae score model photos/new --out scores.csv --heatmaps heatmaps; "
        "find photos -name '*.png' | itae score model - --out scores.csv",
        allow_abbrev=False,
    )
    score.add_argument("model", type=_path, metavar="MODEL", help="directory that itae fit wrote")
    score.add_argument("images", metavar="IMAGES", help="folder, file, or - for paths on standard input")
    score.add_argument("--out", type=_path, required=True, metavar="scores.csv", help="CSV file to write")
    score.add_argument("--heatmaps", type=_path, metavar="DIR", help="directory for a heat map of each image")
    score.add_argument(
        "--false-alarms",
        type=float,
        default=0.05,
        metavar="RATE",
        help="share of normal images called anomalies; default 0.05",
    )
    _add_transform(score)
    score.set_defaults(call=_score)

    export = commands.add_parser(
        "export",
        help="write a trained model as one file for use elsewhere",
        description="Writes the scoring function (jax, onnx) with FILE.json beside it, or the network's "
        "weights (safetensors).",
        epilog="examples: itae export model --out model.jaxexport; itae export model --out weights.safetensors",
        allow_abbrev=False,
    )
    export.add_argument("model", type=_path, metavar="MODEL", help="directory that itae fit wrote")
    export.add_argument("--out", type=_path, required=True, metavar="FILE", help="file to write")
    export.add_argument(
        "--format",
        choices=("jax", "onnx", "safetensors"),
        default="",
        help="default: by the ending .onnx or .safetensors, else jax",
    )
    _add_transform(export)
    export.set_defaults(call=_export)

    bench = commands.add_parser(
        "bench",
        help="measure the speed of training and scoring beside PyTorch's, or of reading images",
        epilog="examples: itae bench --widths 16,64 --json bench.json; itae bench data --count 20000",
        allow_abbrev=False,
    )
    bench.add_argument(
        "what", nargs="?", choices=("network", "data"), default="network", help="default network"
    )
    bench.add_argument("--count", type=int, default=2000, help="of data: JPEG files to generate; default 2000")
    bench.add_argument("--widths", type=_integers, default=[16, 32, 64], help="default 16,32,64")
    bench.add_argument(
        "--rounds",
        type=int,
        default=5,
        help="alternations of all contenders, or passes over the files; default 5",
    )
    bench.add_argument("--json", type=Path, help="file to write the figures to")
    bench.set_defaults(call=_bench)

    data = commands.add_parser(
        "data", help="list the data sets, or prepare one", epilog="example: itae data list --root ~/data"
    )
    actions = data.add_subparsers(dest="action", required=True, metavar="ACTION")
    listed = actions.add_parser("list", help="what there is, how to get it, and what can be run right now")
    listed.add_argument("--root", default="", help="directory to look in; default TFDS's own")
    listed.set_defaults(call=_data_list)
    prepare = actions.add_parser(
        "prepare",
        help="download and prepare a data set of TensorFlow Datasets",
        epilog="example: itae data prepare mnist --root ~/data",
        allow_abbrev=False,
    )
    prepare.add_argument("name", metavar="NAME")
    prepare.add_argument("--root", default="", help="directory to put it into; default TFDS's own")
    prepare.add_argument(
        "--manual-dir", default="", help="directory with the original files, if downloaded already"
    )
    prepare.set_defaults(call=_data_prepare)

    transforms = commands.add_parser(
        "transforms",
        help="list the erasing transforms, or check one",
        epilog="examples: itae transforms; itae transforms check my_module:MyTransform",
        allow_abbrev=False,
    )
    transforms.set_defaults(call=_transforms)
    check = transforms.add_subparsers(metavar="ACTION").add_parser(
        "check",
        help="ask a transform, such as one of your own, the laws that training and scoring rely on",
        epilog="example: itae transforms check my_module:MyTransform",
        allow_abbrev=False,
    )
    check.add_argument("name", metavar="NAME", help="as in transform.name: gray+rotate, or module:attribute")
    check.set_defaults(call=_transforms_check)
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Runs one command and returns its exit code."""
    parsed = argparse.Namespace(command="")
    try:
        with interrupt.as_exception():
            parsed = _parser().parse_args(arguments)
            return parsed.call(parsed)
    except RequestError as error:
        print(f"itae: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        resumable = parsed.command in ("run", "fit")
        saved = "; all that was done is saved, the same command goes on" if resumable else ""
        print(f"itae: interrupted{saved}", file=sys.stderr)
        return 130
    except BrokenPipeError:
        sys.stderr.close()
        return 1
    except OSError as error:
        if error.errno not in _DISK_ERRORS:
            raise
        where = f"{error.filename}: " if error.filename else ""
        print(f"itae: {where}{error.strerror}; make room, then the same command goes on", file=sys.stderr)
        return 2


def _run(arguments) -> int:
    from itae_jax import parallel, variants

    experiments = variants.load(arguments.experiment, arguments.set, arguments.variants)
    if not all(0 <= seed < 2**32 for seed in arguments.seeds or ()):
        raise RequestError("--seeds: expected whole numbers from 0 to 4294967295")
    out = arguments.out or Path("runs") / next(iter(experiments.values())).name
    directories = variants.directories(out, experiments)
    parallel.use_cpu_cores()
    if any(experiment.compute.deterministic == "yes" for experiment in experiments.values()):
        parallel.use_deterministic_operations()
    from itae_jax import report

    failed = 0
    for variant, experiment in experiments.items():
        if variant:
            print(f"variant {variant}", flush=True)
        try:
            failed += _run_variant(experiment, directories[variant], arguments)
        finally:
            variants.remember(out, experiments)
    print(report.text_tables(report.read([out])), flush=True)
    print(f"report: {report.write([out])}")
    if failed:
        print(f"itae: {failed} trainings failed; see above", file=sys.stderr)
    return 1 if failed else 0


def _run_variant(experiment, out: Path, arguments) -> int:
    """Runs one experiment; returns how many of its trainings failed."""
    from itae_jax import progress
    from itae_jax import run as sweep
    from itae_jax.results import FAILED

    with progress.SweepProgress() as bar:
        rows, new = sweep.run(
            experiment,
            out,
            arguments.classes or (experiment.classes.split(",") if experiment.classes else None),
            arguments.seeds or range(experiment.seed, experiment.seed + experiment.runs),
            bar,
            paper_file=_paper_file(arguments.experiment, experiment.paper_table),
        )
    if not new:
        print(f"nothing to do: all {len(rows)} results are in {out / 'results.csv'} already")
    return sum(row["note"].startswith(FAILED) for row in rows)


def _paper_file(experiment: Path, table: str) -> Path | None:
    """Where the paper's numbers are: beside the experiment files, or in the run that is repeated."""
    if experiment.suffix == ".json":
        beside = experiment.parent / "paper.csv"
        return beside if beside.exists() else None
    return experiment.parent / "paper" / f"{table}.csv"


def _fit(arguments) -> int:
    from itae_jax import parallel

    assignments = list(arguments.set)
    for field, value in (
        ("train.epochs", arguments.epochs),
        ("data.image_size", arguments.size),
        ("seed", arguments.seed),
    ):
        if value is not None:
            assignments.append(f"{field}={value}")
    parallel.use_cpu_cores()
    from itae_jax import fit, progress

    with progress.FitProgress() as bar:
        new = fit.fit(arguments.images, arguments.out, assignments, bar, arguments.holdout)
    if not new:
        print(f"nothing to do: {arguments.out} is this model already")
    model = shlex.quote(str(arguments.out))
    print(f"model: {arguments.out}")
    print(f"next: itae score {model} IMAGES --out scores.csv --heatmaps heatmaps")
    return 0


def _score(arguments) -> int:
    from itae_jax import parallel

    parallel.use_cpu_cores()
    from itae_jax import progress, score

    with progress.ScoreProgress() as bar:
        summary = score.score(
            arguments.model,
            arguments.images,
            arguments.out,
            arguments.heatmaps,
            arguments.false_alarms,
            bar,
            arguments.transform,
        )
    print(summary)
    model, scores = shlex.quote(str(arguments.model)), shlex.quote(str(arguments.out))
    print(f"next: itae report {scores} --model {model}")
    return 0


def _report(arguments) -> int:
    first = arguments.paths[0]
    if first.is_file() or (first / "normal_scores.csv").is_file():
        return _score_report(arguments, first)
    if arguments.model or arguments.transform or arguments.false_alarms is not None:
        raise RequestError("--model, --transform and --false-alarms are for one file of scores or one model")
    from itae_jax import report

    print(report.text_tables(report.read(arguments.paths)), flush=True)
    print(f"report: {report.write(arguments.paths)}")
    return 0


def _score_report(arguments, path: Path) -> int:
    if len(arguments.paths) > 1:
        raise RequestError(f"{path}: give one file of scores or one model at a time")
    from itae_jax import parallel

    parallel.use_cpu_cores()
    from itae_jax import score_report

    options = arguments.false_alarms, arguments.transform
    if path.is_file():
        page = score_report.write_for_scores(path, arguments.model, *options)
    else:
        page = score_report.write_for_model(path, *options)
    print(f"report: {page}")
    return 0


def _export(arguments) -> int:
    from itae_jax import export

    export.export_model(arguments.model, arguments.out, arguments.format, arguments.transform)
    print(f"exported: {arguments.out}")
    return 0


def _bench(arguments) -> int:
    from itae_jax import parallel

    if min(*arguments.widths, arguments.rounds, arguments.count) < 1:
        raise RequestError("--widths, --rounds and --count: expected whole numbers from 1 up")
    parallel.use_cpu_cores()
    from itae_jax import bench, bench_data

    def say(line):
        print(line, flush=True)

    if arguments.json:
        bench.check_writable(arguments.json)
    if arguments.what == "data":
        result = bench_data.measure(arguments.count, arguments.rounds, say)
        print(bench_data.table(result))
    else:
        result = bench.measure(arguments.widths, arguments.rounds, say)
        print(bench.table(result))
    if arguments.json:
        bench.write(result, arguments.json)
    return 0


def _data_list(arguments) -> int:
    from itae_jax import data

    for name, entry in data.CATALOGUE.items():
        there = "yes" if entry.is_there(arguments.root) else "no"
        print(f"{name}\n  what     {entry.about}\n  size     {entry.size}\n  licence  {entry.licence}")
        print(f"  get it   {entry.get}\n  there    {there}\n")
    return 0


def _data_prepare(arguments) -> int:
    from itae_jax import data

    directory = data.prepare(arguments.name, arguments.root, arguments.manual_dir)
    print(f"prepared: {directory}")
    return 0


def _transforms(arguments) -> int:
    from itae_jax import transforms

    print(f"{'name':<14}{'T':>2}  erases")
    for name in transforms.names():
        transform = transforms.get(name)
        print(f"{name:<14}{transform.count:>2}  {transform.erases}")
    print("join several with +, first to last: gray+rotate (T = 4) is the paper's set")
    print("module:attribute names one of your own; docs/transforms.md shows how to write it")
    return 0


def _transforms_check(arguments) -> int:
    from itae_jax import transforms
    from itae_jax.transforms import laws

    transform = transforms.get(arguments.name)
    findings = [*laws.check(transform), laws.check_elsewhere(arguments.name, transform)]
    for finding in findings:
        print(f"{finding.law:<15}{'ok    ' if finding.holds else 'FAILED'}  {finding.found}")
    return 0 if all(finding.holds for finding in findings) else 1
