"""Runs the paper's tables and figures: reduced, as a CPU can do them, or at full size.

  python experiments/scripts/reproduce.py --root DIR                  all, reduced, into runs/reduced/<name>/
  python experiments/scripts/reproduce.py table4 figure --root DIR    these, or all that begin with them
  python experiments/scripts/reproduce.py table1_cifar10 --full --at-once 8 --root cifar10=DIR

Each is `itae run`, so the same command resumes. With --at-once every class is a process of its own and has its
directory, <name>_<class>; `itae report` joins them. Arguments after -- go to each `itae run`.
"""

import argparse
import dataclasses
import shlex
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

_TEN = "0,1,2,3,4,5,6,7,8,9"
_SMALL = "method.width=16 data.limit_test=2000"
_GREY, _COLOUR = f"{_SMALL} train.epochs=5", f"{_SMALL} train.epochs=60"
_MVTEC = "method.width=16 data.image_size=64 train.epochs=15"
_IMAGENET = "method.width=16 data.image_size=32 train.epochs=200"
_VIDEO = f"{_SMALL} data.image_size=64 data.limit_train=5000 train.epochs=2"
_CIFAR10 = "table1_cifar10 table1_cifar10_ae"
_OTHERS = {  # settings of the other systems, reduced: a quarter of their width, as ITAE's
    "geotrans": "method.widen=1 data.limit_train=2000 data.limit_test=1000 train.epochs=72",
    "ganomaly": "method.channels=16 data.limit_test=2000",
    "vae": "method.channels=16 data.limit_test=2000 train.epochs=20",
    "pca": "data.limit_test=2000",
    "knn": "data.limit_test=2000",
    "iforest": "data.limit_test=2000",
}
_ALL = "method.width=16 method.channels=16"  # of methods that have it
_CURVES = f"{_ALL} data.limit_test=2000 data.limit_train=2000 train.epochs=20 evaluate.every_epochs=2"
_SPEED = f"{_ALL} method.widen=1 data.limit_test=1000 data.limit_train=1000 train.epochs=72"


@dataclasses.dataclass(frozen=True)
class Run:
    """A call of `itae run`.

    Attributes:
      data: the data set, for --root.
      reduced: settings of the reduced run.
      classes, few: normal classes at full size and reduced; empty: the experiment's.
      reuse: runs whose trainings serve this one too.
    """

    experiment: str
    data: str
    reduced: str
    classes: str = ""
    few: str = ""
    settings: str = ""
    variant: str = ""
    reuse: str = ""


RUNS: dict[str, Run] = {}
for _run in (
    Run("table1_mnist", "mnist", _GREY, _TEN),
    Run("table1_fashion_mnist", "fashion_mnist", _GREY, _TEN),
    Run("table1_cifar10", "cifar10", _COLOUR, _TEN, "0,1,2,3,7"),
    Run("table1_cifar100", "cifar100", _COLOUR, few="0,1"),
    Run("table1_imagenet", "imagenet2012", _IMAGENET, few="dog,beetle"),
    Run("table2_mvtec_ad", "mvtec_ad", _MVTEC),
):
    plain = dataclasses.replace(_run, settings="method.transform=identity")
    RUNS |= {_run.experiment: _run, f"{_run.experiment}_ae": plain}
for _name in ("table1_mnist", "table1_fashion_mnist", "table1_cifar10"):
    for _method, _reduced in _OTHERS.items():
        _run = dataclasses.replace(RUNS[_name], reduced=_reduced, settings=f"method.name={_method}")
        if _method == "geotrans":
            _run = dataclasses.replace(_run, few="0,1,2,3" if _name == "table1_mnist" else "0,1")
        RUNS[f"{_name}_{_method}"] = _run
RUNS |= {
    "table3": Run("table3_shanghaitech", "shanghaitech", _VIDEO),
    "table4": Run("table4_transforms", "cifar10", _COLOUR, _TEN, "0,1", reuse=_CIFAR10),
    "table5": Run("table5_losses", "cifar10", _COLOUR, few="0,1", reuse="table1_cifar10"),
    "table6": Run("table6_stability", "mnist", f"{_SMALL} train.epochs=2", reuse="table1_mnist"),
    "table6_geotrans": Run(
        "table6_stability",
        "mnist",
        f"{_OTHERS['geotrans']} runs=3",
        settings="method.name=geotrans",
        reuse="table1_mnist_geotrans",
    ),
    "figure3": Run("figure3_efficiency", "cifar10", _SPEED, _TEN, "7"),
    "figure4": Run("figure4_curves", "mnist", _CURVES, _TEN, "7"),
    "figure5": Run("figure5_restorations", "mnist", _GREY, variant="mnist", reuse="table1_mnist"),
    "figure5_ganomaly": Run(
        "figure5_restorations",
        "mnist",
        _OTHERS["ganomaly"],
        variant="ganomaly",
        reuse="table1_mnist_ganomaly",
    ),
    "figure7": Run("figure5_restorations", "cifar10", _COLOUR, variant="cifar10", reuse="table1_cifar10"),
    "figure6": Run("figure6_error_maps", "mvtec_ad", _MVTEC, reuse="table2_mvtec_ad table2_mvtec_ad_ae"),
}


def command(name: str, classes: str, place: Path, root: str, full: bool) -> list[str]:
    """Returns the arguments of `itae` for a run; --reuse names what is finished now."""
    run = RUNS[name]
    settings = f"{run.settings} {'' if full else run.reduced}".split() + ([f"data.root={root}"] if root else [])
    whole = [place.parent / other for other in run.reuse.split()]
    others = [path for one in whole for path in (one, *sorted(place.parent.glob(f"{one.name}_[0-9]*")))]
    reused = [str(other) for other in others if (other / "results.csv").exists()]
    given = {"--variants": [run.variant], "--classes": [classes], "--reuse": reused, "--set": settings}
    options = [word for option, values in given.items() if any(values) for word in (option, *values)]
    return ["run", run.experiment, "--out", str(place), *options]


def carry_out(jobs: list[tuple[str, str, Path, str, bool]], more: list[str], at_once: int) -> int:
    """Runs `itae` for each job; returns 1 if one failed, 130 after a signal, which it passes on to all."""
    running: list[subprocess.Popen] = []
    received: list[int] = []

    def stop(number: int, frame: object) -> None:
        received.append(number)
        for process in running:
            process.send_signal(number)

    def call(job: tuple[str, str, Path, str, bool]) -> int:
        if received:
            return 130
        arguments = [*command(*job), *more]
        print(f"itae {shlex.join(arguments)}", flush=True)
        # In a session of its own: or Ctrl-C would reach it twice, and a second signal ends it without saving.
        process = subprocess.Popen([sys.executable, "-m", "itae_jax", *arguments], start_new_session=True)
        running.append(process)
        if received:
            process.send_signal(received[0])
        if (code := process.wait()) and not received:
            print(f"reproduce: exit code {code}: itae {shlex.join(arguments)}", file=sys.stderr)
        return code

    handlers = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    with ThreadPoolExecutor(at_once) as pool:
        codes = list(pool.map(call, jobs))
    for number, handler in handlers.items():
        signal.signal(number, handler)
    return 130 if received else int(any(codes))


def main(argv: list[str] | None = None) -> int:
    given = sys.argv[1:] if argv is None else argv
    end = given.index("--") if "--" in given else len(given)
    own, more = given[:end], given[end + 1 :]
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    about = f"a run, or how the names of some begin: {', '.join(RUNS)}"
    parser.add_argument("names", nargs="*", metavar="NAME", help=about)
    parser.add_argument("--full", action="store_true", help="the paper's size")
    parser.add_argument("--at-once", type=int, default=1, metavar="N", help="processes side by side; default 1")
    parser.add_argument("--root", nargs="+", default=[], metavar="[DATASET=]DIR", help="where data sets lie")
    parser.add_argument("--out", type=Path, help="default runs/reduced or runs/full")
    parser.add_argument("--list", action="store_true", help="print the commands instead of running them")
    parsed = parser.parse_args(own)
    for word in parsed.names:
        if not any(name.startswith(word) for name in RUNS):
            parser.error(f"no name begins with {word!r}; choose from {', '.join(RUNS)}")
    roots = {}
    for text in parsed.root:
        dataset, equals, path = text.partition("=")
        if equals and dataset not in (known := {run.data for run in RUNS.values()}):
            parser.error(
                f"--root {text}: no data set is called {dataset!r}; choose from {', '.join(sorted(known))}"
            )
        roots[dataset if equals else ""] = str(Path(path if equals else text).expanduser())
    out, jobs = parsed.out or Path("runs", "full" if parsed.full else "reduced"), []
    prefixes = tuple(word for word in parsed.names if word not in RUNS)
    for name in [
        name for name in RUNS if not parsed.names or name in parsed.names or name.startswith(prefixes)
    ]:
        run = RUNS[name]
        classes = run.classes if parsed.full else run.few or run.classes
        parts = {f"{name}_{one}": one for one in classes.split(",")} if parsed.at_once > 1 and classes else {}
        for place, part in (parts or {name: classes}).items():
            jobs.append((name, part, out / place, roots.get(run.data, roots.get("", "")), parsed.full))
    if parsed.list:
        print(*(f"itae {shlex.join([*command(*job), *more])}" for job in jobs), sep="\n")
        return 0
    return carry_out(jobs, more, max(1, parsed.at_once))


if __name__ == "__main__":
    sys.exit(main())
