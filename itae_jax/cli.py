"""The `itae` command: reads arguments, calls the package, prints.

Exit codes: 0 done, 2 the request was wrong (one line on stderr), 1 a fault of the program or a failed
training, 130 interrupted. JAX ends a process with its own code if another one of the training is lost.
"""

import argparse
import contextlib
import dataclasses
import errno
import functools
import gc
import io
import json
import os
import shlex
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from PIL import Image

from itae_jax import environment, files
from itae_jax.arguments import MINUTES
from itae_jax.arguments import build as build_parser
from itae_jax.config import FALSE_POSITIVE_RATE
from itae_jax.errors import DISK_ERRORS, DivergedError, RequestError
from itae_jax.files import STDOUT
from itae_jax.training import signals

_PLACE_ERRORS = {errno.EACCES, errno.EPERM, errno.EROFS, errno.EISDIR, errno.ENOTDIR, errno.EEXIST}
_PLACE_ERRORS |= {errno.ENAMETOOLONG, errno.ELOOP}


def entry() -> NoReturn:
    """Runs the command of this process, and ends the process.

    After a failure or an interrupt, exits with os._exit: normal shutdown can crash while XLA threads run, and
    would wait for other processes that train together with this one.
    """
    # Otherwise files that are opened would take the places of closed streams.
    while (descriptor := os.open(os.devnull, os.O_RDWR)) < 3:
        pass
    os.close(descriptor)
    gc.set_threshold(50_000, 20, 100)  # imports and JAX make many objects, few of them garbage
    try:
        code = main()
    except Exception:
        traceback.print_exc()
        code = 1
    if code == 0:
        gc.freeze()  # or shutdown would look at each object
        sys.exit()
    for stream in filter(None, (sys.stdout, sys.stderr)):  # None: closed from the start
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


def main(arguments: list[str] | None = None) -> int:
    """Runs one command and returns its exit code."""
    parsed = argparse.Namespace(command="")
    if sys.stderr is None:  # closed from the start; `print` would take standard output instead
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    Image.MAX_IMAGE_PIXELS = None  # data.max_side is the limit
    os.environ["MPLBACKEND"] = "agg"  # no command opens a window, and the backend of a notebook may be missing
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # characters that the terminal does not have
    try:
        with signals.as_exception():
            parsed = build_parser().parse_args(arguments)
            return _call(parsed)
    except RequestError as error:
        _complain(" ".join(str(error).split()))
        return 2
    except DivergedError as error:
        _complain(str(error))
        return 1
    except KeyboardInterrupt:
        saved = "; everything is saved, the same command resumes" if parsed.command in ("run", "fit") else ""
        _complain(f"interrupted{saved}")
        return signals.INTERRUPTED
    except BrokenPipeError:
        sys.stderr.close()
        return 1
    except OSError as error:
        if error.errno not in (*DISK_ERRORS, *_PLACE_ERRORS):
            raise
        where = f"{error.filename}: " if error.filename else ""
        is_full = error.errno in DISK_ERRORS
        remedy = "make room, then give the same command again" if is_full else "name another place"
        _complain(f"{where}{error.strerror}; {remedy}")
        return 2
    except (RuntimeError, AssertionError):  # JAX raises both where it has no device
        if not (why := environment.why_no_backend()):
            raise
        _complain(why)
        return 2


def _complain(text: str) -> None:
    with contextlib.suppress(OSError):  # a full disk keeps its exit code, too
        print(f"itae: {text}", file=sys.stderr)


def _call(arguments) -> int:
    """Calls the command; prints the summary that it returns, if any, as one JSON object, if asked to."""
    from itae_jax.progress import printing

    options = vars(arguments)
    wants_json = options.get("json") is True
    on_stderr = wants_json or (arguments.call == "score" and arguments.out == STDOUT)
    with printing(options.get("quiet", False), options.get("verbose", False), on_stderr):
        result = _COMMANDS[arguments.call](arguments)
    if isinstance(result, int):
        return result
    if wants_json:
        print(json.dumps(result(), default=str))
    return 0


def _run(arguments) -> int:
    from itae_jax import experiment, parallel
    from itae_jax.training import processes

    path = experiment.find(arguments.experiment)
    experiments = experiment.load(path, arguments.set, arguments.variants, arguments.recipe)
    out = arguments.out or Path("runs") / next(iter(experiments.values())).name
    parallel.prepare_backends()
    if any(one.compute.deterministic == "yes" for one in experiments.values()):
        parallel.use_deterministic_operations()
    given = arguments.coordinator, arguments.num_processes, arguments.process_id, arguments.distributed
    with processes.taking_part(*given, out) as out:
        parallel.keep_programs()
        return _run_variants(experiments, path, out, arguments)


def _run_variants(experiments: dict, path: Path, out: Path, arguments) -> int:
    from itae_jax.report import run_page
    from itae_jax.runs import directory
    from itae_jax.runs.read import read_all
    from itae_jax.training import processes, profiling

    def make_profile() -> profiling.Profile | None:
        return profiling.Profile(arguments.profile) if arguments.profile and processes.is_leader() else None

    directories, failed = processes.together(lambda: directory.of_variants(out, experiments)), 0
    profile = processes.together(make_profile)
    for variant, one in experiments.items():
        if variant and processes.is_leader():
            print(f"variant {variant}", flush=True)
        try:
            failed += _run_variant(one, path, directories[variant], arguments, profile)
        finally:
            if profile:
                profile.stop()
            if directories[variant].is_dir():
                directory.add_variants(out, experiments)
    if processes.is_leader():
        print("writing the report", flush=True)
        runs = read_all([out])
        print(run_page.text_tables(runs), flush=True)
        print(f"report: {run_page.write(runs, out)}")
        if profile:
            print(f"profile: {arguments.profile if profile.is_written else 'too few steps, none written'}")
        if failed:
            print(
                f"itae: {failed} training{'s' * (failed != 1)} failed; see above or the report", file=sys.stderr
            )
    return 1 if failed else 0


def _run_variant(one, path: Path, out: Path, arguments, profile) -> int:
    """Runs one experiment; returns how many of its trainings failed."""
    from itae_jax.progress import ConsoleProgress
    from itae_jax.report import paper
    from itae_jax.runs import sweep
    from itae_jax.training import processes

    with ConsoleProgress(quiet=not processes.is_leader()) as progress:
        classes = arguments.classes or (
            [name.strip() for name in one.classes.split(",")] if one.classes else None
        )
        seeds = arguments.seeds or range(one.seed, one.seed + one.runs)
        printed = functools.partial(paper.rows_for, one, file=_paper_file(path, one.paper_table))
        after_call = profile and profile.after_call
        scalars = arguments.tensorboard and arguments.tensorboard / one.variant
        more = printed, after_call, arguments.reuse, scalars
        results, new = sweep.run(one, out, classes, seeds, progress, *more)
    if not new and processes.is_leader():
        print(f"nothing to do: {out / 'results.csv'} has all {len(results)} results")
    return processes.from_leader(sum(result.status == "failed" for result in results))


def _paper_file(path: Path, table: str) -> Path | None:
    """Where the paper's numbers are: beside the experiment file, or in the run that is repeated."""
    if path.suffix == ".json":
        beside = path.parent / "paper.csv"
        return beside if beside.exists() else None
    return path.parent / "paper" / f"{table}.csv"


def _prepare_devices() -> None:
    from itae_jax import parallel

    parallel.prepare_backends()
    parallel.keep_programs()


def _summary_of_model(directory: Path, trust: str, **more: Any) -> dict[str, Any]:
    from itae_jax.detection import model as models
    from itae_jax.training.log import read_unreadable

    summary = models.load(directory, trust).summary(FALSE_POSITIVE_RATE)
    unreadable = read_unreadable(directory / "unreadable.csv")
    return {"model": directory, **more, **summary, "num_unreadable": len(unreadable)}


def _fit(arguments) -> Callable[[], dict]:
    short = {"train.epochs": arguments.epochs, "data.image_size": arguments.size, "seed": arguments.seed}
    given = [f"{field}={value}" for field, value in short.items() if value is not None]
    assignments = [*arguments.set, *given]
    if arguments.minutes is not None and any(text.startswith("train.epochs=") for text in assignments):
        raise RequestError("--minutes and --epochs, or train.epochs: give one of the two")
    from itae_jax import experiment, parallel
    from itae_jax.detection import fit
    from itae_jax.progress import ConsoleProgress

    _prepare_devices()
    asked = experiment.override(experiment.Experiment(), assignments)
    if asked.compute.deterministic == "yes":
        parallel.use_deterministic_operations()
    with ConsoleProgress() as progress:
        minutes = MINUTES if arguments.minutes is None else arguments.minutes
        options = arguments.holdout, minutes, arguments.tensorboard
        new = fit.fit(arguments.images, arguments.out, assignments, progress, *options)
    if not new:
        print(f"nothing to do: {arguments.out} is this model already")
    print(f"model: {arguments.out}")
    print(f"next: itae score {shlex.quote(str(arguments.out))} IMAGES --out scores.csv --heatmaps heatmaps")
    return functools.partial(_summary_of_model, arguments.out, asked.method.foreign_code, new=new)


def _score(arguments) -> Callable[[], dict]:
    streams = arguments.out == STDOUT
    if streams and arguments.json:
        raise RequestError("--json and --out -: both print to standard output; give one of the two")
    _prepare_devices()
    from itae_jax.detection import score
    from itae_jax.progress import ConsoleProgress

    places = arguments.model, arguments.images, arguments.out, arguments.heatmaps
    with ConsoleProgress(quiet=streams and os.isatty(1)) as progress:
        summary = score.score(*places, arguments.false_positive_rate, progress, arguments.trust, arguments.maps)
    print(summary)
    model, scores = shlex.quote(str(arguments.model)), shlex.quote(str(arguments.out))
    if not streams:
        print(f"next: itae report {scores} --model {model}")
    drawn = {"heatmaps": arguments.heatmaps, "maps": arguments.maps}
    return lambda: {"model": arguments.model, **dataclasses.asdict(summary), **drawn}


def _calibrate(arguments) -> Callable[[], dict]:
    _prepare_devices()
    from itae_jax.detection import calibrate

    places = arguments.model, arguments.images, arguments.out
    calibrate.calibrate(*places, print, arguments.trust)
    print(f"model: {arguments.out}")
    return functools.partial(_summary_of_model, arguments.out, arguments.trust)


def _report(arguments) -> int:
    first = arguments.paths[0]
    for path in arguments.paths:
        if not path.exists():
            raise RequestError(f"{path}: does not exist; name the directory of a run, a model, or a scores.csv")
    if first.is_file() or (first / "normal_scores.csv").is_file():
        if arguments.out:
            raise RequestError("--out is for the page of runs; that of a model or of scores goes beside it")
        return _score_report(arguments, first)
    of_scores = arguments.model, arguments.trust, arguments.normal
    if any(of_scores) or arguments.false_positive_rate is not None:
        options = "--model, --trust, --normal and --false-positive-rate"
        raise RequestError(f"{options} are for one file of scores or one model")
    from itae_jax.report import run_page
    from itae_jax.runs import directory
    from itae_jax.runs.read import read_all

    runs, out = read_all(arguments.paths), arguments.out or first
    run_page.make_out(out, arguments.paths)
    print(run_page.text_tables(runs), flush=True)
    for path in arguments.paths:
        if missing := directory.unfinished(path):
            print(f"{path}: no training has finished yet of {', '.join(missing)}", flush=True)
    print(f"report: {run_page.write(runs, out)}")
    return 0


def _score_report(arguments, path: Path) -> int:
    if len(arguments.paths) > 1:
        raise RequestError(f"{path}: give one file of scores or one model at a time")
    from itae_jax import parallel

    parallel.prepare_backends()
    from itae_jax.report import score_page

    options, say = (arguments.false_positive_rate, arguments.trust), functools.partial(print, flush=True)
    if path.is_file():
        page = score_page.write_for_scores(path, arguments.model, *options, arguments.normal, say)
    else:
        if arguments.normal:
            raise RequestError("--normal is for a file of scores")
        page = score_page.write_for_model(path, *options, say)
    print(f"report: {page}")
    return 0


def _export(arguments) -> int:
    from itae_jax.detection import export

    export.export_model(arguments.model, arguments.out, arguments.format, arguments.trust)
    print(f"exported: {arguments.out}")
    return 0


_BENCH_OPTIONS = {  # of which kinds of measurement
    "rounds": ("method", "data"),
    "count": ("data",),
    "scored_at_once": ("method",),
    "set": ("method", "quality"),
    "plot": ("method", "quality"),
}


def _bench(arguments) -> int:
    for name, kinds in _BENCH_OPTIONS.items():
        if getattr(arguments, name) and arguments.what not in kinds:
            raise RequestError(f"--{name.replace('_', '-')}: is not an option of itae bench {arguments.what}")
    from itae_jax import parallel

    parallel.prepare_backends()
    if arguments.what != "quality":  # whose seconds include compiling
        parallel.keep_programs()
    from itae_jax.bench import quality, reading, report, timing
    from itae_jax.report import html

    say, rounds = functools.partial(print, flush=True), arguments.rounds or 5
    report.check_files(arguments.json, arguments.plot, html.is_drawn)
    if arguments.what == "data":
        result = reading.measure(arguments.count or 2000, rounds, say)
        print(reading.table(result))
    elif arguments.what == "quality":
        result = quality.measure(arguments.set, say)
        print(quality.table(result))
    else:
        at_once = arguments.scored_at_once or 32
        result = timing.measure(arguments.set, rounds=rounds, scored_at_once=at_once, say=say)
        print(report.table(result))
    if arguments.json:
        report.write(result, arguments.json)
    if arguments.plot:
        figure = quality.draw(result) if arguments.what == "quality" else report.draw(result)
        files.write_bytes(arguments.plot, html.draw(figure, dpi=150))
    return 1 if result.get("diverged") else 0


def _data_list(arguments) -> int:
    from itae_jax import data

    for name, entry in data.CATALOGUE.items():
        try:
            there = entry.there(arguments.root) or "no"
        except OSError as error:
            there = f"cannot be read ({error.strerror})"
        print(f"{name}\n  what     {entry.about}\n  size     {entry.size}\n  licence  {entry.licence}")
        print(f"  get it   {entry.get}\n  there    {there}\n")
    return 0


def _data_prepare(arguments) -> int:
    from itae_jax import data

    print(f"prepared: {data.prepare(arguments.name, arguments.root, arguments.manual_dir)}")
    return 0


def _transforms(arguments) -> int:
    from itae_jax import transforms

    print(f"{'name':<14}{'T':>2}  erases")
    for name in transforms.names():
        transform = transforms.get(name)
        print(f"{name:<14}{transform.count:>2}  {transform.erases}")
    print("+ joins several, first to last: gray+rotate (T = 4) is the paper's set")
    print("module:attribute names one of your own; docs/extending.md shows how to write it")
    return 0


def _transforms_show(arguments) -> int:
    from itae_jax.data.images import UnreadableImageError
    from itae_jax.report import figures, html

    if arguments.out.suffix != ".png":
        raise RequestError(f"--out {arguments.out}: name a file that ends in .png")
    files.check_output_file(arguments.out, html.is_drawn)
    try:
        picture = html.draw(figures.erased(arguments.image), dpi=160)
    except UnreadableImageError as error:
        raise RequestError(f"{error}; name an image file") from None
    with files.writing(arguments.out, "--out"):
        files.write_bytes(arguments.out, picture)
    print(f"picture: {arguments.out}")
    return 0


def _transforms_check(arguments) -> int:
    from itae_jax import transforms
    from itae_jax.transforms import checks

    if not arguments.images and (arguments.size or arguments.set):
        raise RequestError("--size and --set say how to read images; give a folder of them by --images")
    _prepare_devices()  # else each check would fail by itself where there is none
    transform, images = transforms.get(arguments.name), None
    if arguments.images:
        from itae_jax.detection import compression

        sizes = [f"data.image_size={arguments.size}"] if arguments.size else []
        images = compression.images_of(arguments.images, transform, [*arguments.set, *sizes])
    findings = checks.check_all(transform)
    if findings[0].passed:
        findings.append(checks.check_elsewhere(transform))
    if images and all(finding.passed for finding in findings):
        findings.append(compression.check(transform, images, arguments.images))
    for finding in findings:
        outcome = "warns" if finding.warns else "ok" if finding.passed else "FAILED"
        print(f"{finding.check:<15}{outcome:<6}  {finding.found}")
    return 0 if all(finding.passed for finding in findings) else 1


def _devices(arguments) -> int:
    from itae_jax import parallel

    parallel.prepare_backends()
    for line in environment.what_jax_finds():
        print(line)
    return 0


def _settings(arguments) -> int:
    from itae_jax import config, experiment, methods

    chosen = experiment.override(experiment.Experiment(), arguments.set)
    fields, values = experiment.fields_of(type(chosen.method)), experiment.flatten(chosen)
    for name, value in values.items():
        if name == "method.name":
            about, limits = "the method", f"one of {', '.join(methods.names())}"
        else:
            about, limits = fields[name].metadata["about"], config.limits(fields[name])
        print(f"{name}={value}\n    {about}{f' ({limits})' if limits else ''}")
    return 0


# The name of a command in the parser -> its function, which returns an exit code or a summary.
_COMMANDS: dict[str, Callable[[Any], int | Callable[[], dict]]] = {
    "run": _run,
    "report": _report,
    "fit": _fit,
    "score": _score,
    "calibrate": _calibrate,
    "export": _export,
    "bench": _bench,
    "data_list": _data_list,
    "data_prepare": _data_prepare,
    "transforms": _transforms,
    "transforms_show": _transforms_show,
    "transforms_check": _transforms_check,
    "settings": _settings,
    "devices": _devices,
}
