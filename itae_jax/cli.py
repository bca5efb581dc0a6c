"""The `itae` command: reads arguments, calls the package, prints.

Exit codes: 0 done, 2 the request was wrong (one line on stderr), 1 a fault of the program,
130 interrupted.
"""

import argparse
import errno
import sys
from pathlib import Path

from itae_jax.errors import RequestError
from itae_jax.interrupt import terminate_as_interrupt

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
        help="join finished runs and write report.html, .md and .csv into the first directory",
        epilog="example: itae report runs/machine1 runs/machine2 runs/autoencoder",
        allow_abbrev=False,
    )
    report.add_argument("directories", nargs="+", type=Path, metavar="DIR")
    report.set_defaults(call=_report)

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
        "transforms", help="list the erasing transforms", epilog="example: itae transforms"
    )
    transforms.set_defaults(call=_transforms)
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Runs one command and returns its exit code."""
    parsed = argparse.Namespace(command="")
    try:
        with terminate_as_interrupt():
            parsed = _parser().parse_args(arguments)
            return parsed.call(parsed)
    except RequestError as error:
        print(f"itae: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        saved = "; all that was done is saved, the same command goes on" if parsed.command == "run" else ""
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


class _SweepProgress:
    """A bar on a terminal; elsewhere a line for every tenth of a training."""

    def __init__(self):
        from rich import progress
        from rich.console import Console

        self._console = Console(highlight=False)
        self._bar = progress.Progress(
            progress.TextColumn("{task.description}"),
            progress.BarColumn(),
            progress.TextColumn("loss {task.fields[loss]:.4f}  rate {task.fields[rate]:.4g}"),
            progress.TimeElapsedColumn(),
            progress.TextColumn("left"),
            progress.TimeRemainingColumn(),
            console=self._console,
            disable=not self._console.is_terminal,
        )

    def __enter__(self):
        self._bar.start()
        return self

    def __exit__(self, *exception):
        self._bar.stop()

    def start(self, jobs, epochs):
        self._jobs, self._epochs, self._done, self._tenth = jobs, epochs, 0, 0
        self._task = self._bar.add_task("compiling", total=jobs * epochs, loss=float("nan"), rate=0.0)
        if not self._console.is_terminal:
            trainings = "one training" if jobs == 1 else f"{jobs} trainings"
            print(f"{trainings} of {epochs} epochs; compiling first, half a minute or more", flush=True)

    def epoch(self, name, seed, epoch, loss, rate):
        self._bar.update(
            self._task,
            completed=self._done * self._epochs + epoch,
            description=f"class {name}, seed {seed}",
            loss=loss,
            rate=rate,
        )
        tenth = 10 * epoch // self._epochs
        if not self._console.is_terminal and tenth != self._tenth:
            self._tenth = tenth
            print(
                f"{self._done + 1}/{self._jobs}  class {name}  seed {seed}  epoch {epoch}/{self._epochs}  "
                f"loss {loss:.4f}  rate {rate:.4g}",
                flush=True,
            )

    def finished(self, row):
        self._done += 1
        self._tenth = 0
        outcome = f"AUROC {float(row['auroc']):.4f}" if row["auroc"] else row["note"]
        if row["train_seconds"]:
            outcome += f"  trained in {row['train_seconds']} s, scored in {row['score_seconds']} s"
        self.notice(f"class {row['normal_class_name']}  seed {row['seed']}  {outcome}")

    def notice(self, text):
        self._console.print(text, markup=False, soft_wrap=True)

    def unreadable(self, rows, path):
        self._console.print(
            f"{len(rows)} images left out because they cannot be read, listed in {path}:", markup=False
        )
        for row in rows[:5]:
            self._console.print(f"  {row['image']}: {row['reason']}", markup=False)


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
    from itae_jax import run as sweep
    from itae_jax.results import FAILED

    with _SweepProgress() as progress:
        rows, new = sweep.run(
            experiment,
            out,
            arguments.classes or (experiment.classes.split(",") if experiment.classes else None),
            arguments.seeds or range(experiment.seed, experiment.seed + experiment.runs),
            progress,
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


def _report(arguments) -> int:
    from itae_jax import report

    print(report.text_tables(report.read(arguments.directories)), flush=True)
    print(f"report: {report.write(arguments.directories)}")
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

    print(f"{'name':<12}{'T':>2}  erases")
    for name in transforms.names():
        transform = transforms.get(name)
        print(f"{name:<12}{transform.count:>2}  {transform.erases}")
    print("join several with +, first to last: gray+rotate (T = 4) is the paper's set")
    return 0
