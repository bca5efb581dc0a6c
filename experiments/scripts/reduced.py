"""The paper's tables and figures in a form that a CPU can do: narrow network, few epochs, part of the data.

  python experiments/reduced.py --data DIR                        all of them, into runs/reduced/<name>/
  python experiments/reduced.py table4 figure --data DIR          one, and all whose names begin so
  python experiments/reduced.py table1_cifar10 --data DIR --classes 0,1     a part, for one of several machines
  python experiments/reduced.py --list

Run again, it goes on where it stopped. Whatever shows these results calls them reduced.
"""

import argparse
import dataclasses
import itertools
import os.path
import shlex
import sys
from pathlib import Path

import children

from itae_jax.arguments import Parser, check_run, path
from itae_jax.errors import RequestError

HERE = Path(__file__).resolve().parent
_NETWORK = ("model.width=16",)
_SMALL = (*_NETWORK, "data.limit_test=2000")
# The rate is halved after 50 of them: the steps at the high rate decide on colour images.
_RGB = (*_SMALL, "train.epochs=60")
_GREY = (*_SMALL, "train.epochs=5")
# Pictures and curves: enough to see whether and how networks restore.
_FEW = "data.limit_train=2000"
_FIRST_TWO = "0,1"
_IMAGENET = (*_NETWORK, "data.image_size=32", "train.epochs=200")
_MVTEC = (*_NETWORK, "data.image_size=64", "train.epochs=15")


@dataclasses.dataclass(frozen=True)
class Reduced:
    """What is cut of an experiment.

    Attributes:
      file: of experiments/, without its ending.
      data: whose directory is `data.root`; an option of the command line.
      settings: for --set.
      options: more of `itae run`.
      reused: the names of others; what they have trained alike is taken from them.
    """

    file: str
    data: str
    settings: tuple[str, ...]
    options: tuple[str, ...] = ()
    reused: tuple[str, ...] = ()


REDUCED = {
    "table1_mnist": Reduced("table1_mnist", "data", _GREY),
    "table1_mnist_ae": Reduced("table1_mnist", "data", (*_GREY, "transform.name=identity")),
    "table1_fashion_mnist": Reduced("table1_fashion_mnist", "data", _GREY),
    "table1_fashion_mnist_ae": Reduced("table1_fashion_mnist", "data", (*_GREY, "transform.name=identity")),
    "table1_cifar10": Reduced("table1_cifar10", "cifar10", _RGB, ("--classes", "0,1,2,3,7")),
    "table1_cifar10_ae": Reduced(
        "table1_cifar10", "cifar10", (*_RGB, "transform.name=identity"), ("--classes", "0,1,2,3,7")
    ),
    "table1_cifar100": Reduced("table1_cifar100", "data", _RGB, ("--classes", _FIRST_TWO)),
    "table1_imagenet": Reduced("table1_imagenet", "imagenet", _IMAGENET, ("--classes", "dog,beetle")),
    "table1_imagenet_ae": Reduced(
        "table1_imagenet", "imagenet", (*_IMAGENET, "transform.name=identity"), ("--classes", "dog,beetle")
    ),
    "table2_mvtec_ad": Reduced("table2_mvtec_ad", "mvtec", _MVTEC),
    "table2_mvtec_ad_ae": Reduced("table2_mvtec_ad", "mvtec", (*_MVTEC, "transform.name=identity")),
    "table3_shanghaitech": Reduced(
        "table3_shanghaitech",
        "shanghaitech",
        (*_SMALL, "data.image_size=64", "data.limit_train=5000", "train.epochs=2"),
    ),
    "table4": Reduced(
        "table4_transforms",
        "cifar10",
        _RGB,
        ("--classes", _FIRST_TWO),
        reused=("table1_cifar10", "table1_cifar10_ae"),
    ),
    "table5": Reduced("table5_losses", "cifar10", _RGB, ("--classes", _FIRST_TWO), reused=("table1_cifar10",)),
    "table6": Reduced("table6_stability", "data", (*_SMALL, "train.epochs=2")),
    "figure3": Reduced("figure3_efficiency", "cifar10", (*_SMALL, "train.epochs=5"), ("--classes", "7")),
    "figure4": Reduced(
        "figure4_curves",
        "data",
        (*_SMALL, _FEW, "train.epochs=20", "evaluate.every_epochs=2"),
        ("--classes", "7"),
    ),
    "figure5_mnist": Reduced(
        "figure5_restorations", "data", _GREY, ("--variants", "mnist"), reused=("table1_mnist",)
    ),
    "figure7_cifar10": Reduced(
        "figure5_restorations", "cifar10", _RGB, ("--variants", "cifar10"), reused=("table1_cifar10",)
    ),
    "figure6": Reduced("figure6_error_maps", "mvtec", _MVTEC, reused=("table2_mvtec_ad", "table2_mvtec_ad_ae")),
}
_ROOTS = {
    "data": "of TFDS, and of every set below that is not given one of its own",
    "cifar10": "of CIFAR-10: of TFDS, or a folder tree",
    "imagenet": "with train/ and val/",
    "mvtec": "with MVTec AD's categories, or others laid out alike",
    "shanghaitech": "of TFDS",
}


def command(name: str, root: str, out: Path, more: list[str]) -> list[str]:
    """The arguments of `itae` for a reduced experiment; options in `more` prevail."""
    reduced = REDUCED[name]
    prevailing = {word.partition("=")[0] for word in more}
    settings = [*reduced.settings, *([f"data.root={root}"] if root else [])]
    settings = [setting for setting in settings if setting.partition("=")[0] not in prevailing]
    pairs = zip(reduced.options[::2], reduced.options[1::2], strict=True)
    options = [word for pair in pairs for word in pair if pair[0] not in prevailing]
    file = str(HERE / f"{reduced.file}.py")
    finished = [str(out / other) for other in reduced.reused if (out / other / "results.csv").exists()]
    reuse = ["--reuse", *finished] if finished else []
    return ["run", file, "--out", str(out / name), *options, *reuse, "--set", *settings, *more]


def choose(words: list[str]) -> list[str]:
    """The names given, and of words that are none the names that begin so; all without any.

    Raises:
      RequestError: a word that no name begins with.
    """
    chosen = []
    for word in words:
        found = [word] if word in REDUCED else [name for name in REDUCED if word and name.startswith(word)]
        if not found:
            raise RequestError(f"nothing begins with {word!r}; there are {', '.join(REDUCED)}")
        chosen += found
    return list(dict.fromkeys(chosen)) if words else list(REDUCED)


def main(argv: list[str] | None = None) -> int:
    parser = Parser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage="%(prog)s [NAME ...] [options] [options of itae run]",
        allow_abbrev=False,
    )
    parser.add_argument("--out", type=path, default=Path("runs/reduced"), help="default runs/reduced")
    parser.add_argument("--list", action="store_true", help="print the commands instead of running them")
    for name, about in _ROOTS.items():
        parser.add_argument(f"--{name}", default="", metavar="DIR", help=f"directory {about}")
    failed = []
    try:
        arguments, more = parser.parse_known_args(argv)
        words = list(itertools.takewhile(lambda word: not word.startswith("-"), more))
        chosen, more = choose(words), more[len(words) :]
        late = [word for word in more if word in REDUCED]
        if late:
            parser.error(f"names come before options: {' '.join(late)}")
        check_run(more)
    except RequestError as error:
        print(f"reduced: {error}", file=sys.stderr)
        return 2
    with children.children() as processes:
        for name in chosen:
            root = os.path.expanduser(getattr(arguments, REDUCED[name].data) or arguments.data)
            itae = command(name, root, arguments.out, more)
            print(f"{name}: itae {shlex.join(itae)}", flush=True)
            code = 0 if arguments.list else processes.run(itae)
            if code == children.INTERRUPTED:
                return code
            if code:
                failed.append(name)
    if failed:
        print(f"reduced: not finished: {', '.join(failed)}; the lines above say why", file=sys.stderr)
    return 2 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
