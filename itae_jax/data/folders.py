"""Folder trees of image files: which files are where, always in the same order."""

import itertools
import logging
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from itae_jax.config import DataConfig
from itae_jax.data import images
from itae_jax.data.dataset import Coverage, Dataset, Spec
from itae_jax.data.reader import Reader, is_grey
from itae_jax.errors import RequestError
from itae_jax.files import read_csv

_LOG = logging.getLogger(__name__)
ENDINGS = (
    ".apng, .avif, .bmp, .dib, .gif, .j2c, .j2k, .jfif, .jp2, .jpc, .jpe, .jpeg, .jpf, .jpg, .jpx, .mpo, .pbm, "
    ".pcx, .pgm, .png, .pnm, .ppm, .psd, .qoi, .sgi, .tga, .tif, .tiff, .webp"
)
SUFFIXES = frozenset(ENDINGS.split(", "))
_TEST_NAMES = ("test", "val", "validation")
_NUM_HEADERS = 64  # of so many files `make_reader` asks whether they are grey


def find_images(directory: Path, others: Counter[str] | None = None) -> list[Path]:
    """Returns what `each_image` yields."""
    found = list(each_image(directory, others))
    _LOG.info("%d images in %s", len(found), directory)
    return found


def find_and_list(directory: Path, unreadable: dict[str, str]) -> list[Path]:
    """Returns what `each_image` yields, and lists among the unreadable files how many others are there."""
    others: Counter[str] = Counter()
    found = find_images(directory, others)
    if others:
        unreadable[str(directory)] = about_others(others)
    return found


def each_image(directory: Path, others: Counter[str] | None = None) -> Iterator[Path]:
    """Yields all image files below a directory by their suffixes, sorted, without hidden ones.

    Follows links to directories, each directory once, so that a loop of links ends. `others` counts the other
    files by their suffixes. RequestError for a directory that cannot be read.
    """
    others = Counter() if others is None else others

    def refuse(error: OSError):
        if not isinstance(error, FileNotFoundError):
            raise RequestError(
                f"{error.filename}: cannot be read ({error.strerror}); allow it, or move it away"
            )

    seen = set()
    for folder, subfolders, names in os.walk(directory, followlinks=True, onerror=refuse):
        status = os.stat(folder)
        if (status.st_dev, status.st_ino) in seen:
            subfolders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        for name in sorted(name for name in names if not name.startswith(".")):
            suffix = os.path.splitext(name)[1].lower()
            if suffix in SUFFIXES:
                yield Path(folder, name)
            else:
                others[suffix or "no ending"] += 1


def about_others(others: Mapping[str, int]) -> str:
    """Says how many files are not read, by their suffixes; empty without any."""
    listed = ", ".join(f"{count} with {suffix}" for suffix, count in Counter(others).most_common(5))
    return f"files that are no images by their ending: {sum(others.values())} ({listed})" if others else ""


def images_beside_folders(directory: Path) -> list[Path]:
    """Returns the images in a directory itself, sorted, without hidden ones."""
    files = (path for path in directory.iterdir() if path.is_file() and not path.name.startswith("."))
    return sorted(path for path in files if path.suffix.lower() in SUFFIXES)


def data_set_in(root: Path, *names: str) -> Path | None:
    """Returns the first of a folder and the folders in it that has folders of these names."""
    _, inside, _ = next(os.walk(root, followlinks=True), ("", [], []))
    places = (root, *(root / name for name in sorted(inside) if not name.startswith(".")))
    return next((place for place in places if all(os.path.isdir(place / name) for name in names)), None)


def data_set_of_masks(path: Path) -> Path | None:
    """Returns the data set whose masks a file or folder is, or lies among: in `ground_truth` beside `test`."""
    whole = Path(os.path.abspath(path))
    places = (place for place in (whole, *whole.parents) if place.name == "ground_truth")
    return next((place.parent for place in places if (place.parent / "test").is_dir()), None)


def find_normal_images(directory: Path) -> tuple[list[Path], str]:
    """Returns the images of a folder, and a sentence about other files there, empty without any.

    RequestError for no folder, and for a data set with test images.
    """
    if not directory.is_dir():
        what = "is a file" if directory.exists() else "no such folder"
        raise RequestError(f"{directory}: {what}; name the folder of the normal images")
    place = data_set_in(directory, "train", "test") or data_set_in(directory, "test", "ground_truth")
    if place or (place := data_set_of_masks(directory)):
        raise RequestError(f"{place}: holds test images; name a folder of normal ones alone, as in train")
    others: Counter[str] = Counter()
    return find_images(directory, others), about_others(others)


def subfolders(directory: Path) -> list[str]:
    """Returns the names of the folders in a directory, sorted, without hidden ones."""
    return sorted(path.name for path in directory.iterdir() if path.is_dir() and not path.name.startswith("."))


def expanded(root: str) -> Path:
    """Returns a path whose ~ is expanded; raises RequestError if there is no such user."""
    try:
        return Path(root).expanduser()
    except RuntimeError:
        raise RequestError(f"{root}: there is no such user; name the directory in full") from None


def root_of(config: DataConfig) -> Path:
    """Returns `data.root`; raises RequestError if it is not given or not a directory."""
    if not config.root:
        raise RequestError(f"data.name={config.name!r} reads a folder: give it by --set data.root=DIR")
    root = expanded(config.root)
    if not root.is_dir():
        raise RequestError(f"data.root={config.root}: no such directory")
    return root


def is_tree(root: str) -> bool:
    """Returns whether there is a folder `train` in the root."""
    return bool(root) and (expanded(root) / "train").is_dir()


def training_folders(root: str) -> list[str]:
    """Returns the folders of classes to train on; of a root that is no tree, none."""
    return subfolders(expanded(root) / "train") if is_tree(root) else []


def are_named(folders: Iterable[str], classes: Iterable[str]) -> bool:
    """Returns whether folders have the names of classes, in any case and with any separators."""

    def letters(names: Iterable[str]) -> list[str]:
        return sorted("".join(filter(str.isalnum, name)).lower() for name in names)

    return letters(folders) == letters(classes)


def make_reader(
    config: DataConfig, *, fit: str, size: int = 0, channels: int = 0, paths: Sequence[Path] = ()
) -> Reader:
    """Makes a reader from the config, else from the arguments, and else (channels) from the files."""
    channels = config.channels or channels
    if not channels:
        grey = [is_grey(path) for path in paths[:: max(1, len(paths) // _NUM_HEADERS)]]
        channels = 1 if any(grey) and False not in grey else 3
    size = config.image_size or size
    if not size and config.aspect != 1:
        raise RequestError(f"data.aspect={config.aspect:g}: needs data.image_size too")
    return Reader(size, channels, config.fit or fit, config.max_side, config.aspect)


def shape_of(reader: Reader, paths: list[Path], where: Path) -> images.Shape:
    """Returns the shape that the reader gives; if it keeps sizes, that of the first readable file."""
    if reader.size:
        return reader.shape
    reason = "there is none"
    for path in paths[:1000]:
        try:
            height, width, channels = reader.read(path).shape
            return height, width, channels
        except images.UnreadableImageError as error:
            reason = str(error)
    raise RequestError(f"{where}: no image there can be read ({reason})")


def load_tree(
    config: DataConfig,
    *,
    name: str = "",
    classes: Sequence[str] = (),
    superclasses: dict[str, str] | None = None,
    fit: str = "crop",
    size: int = 0,
    channels: int = 0,
) -> Dataset:
    """Loads `<root>/{train,test}/<class>/...`; `val` or `validation` may stand for `test`.

    Args:
      name: of the published data set; empty for a folder of the user's own.
      classes: the published classes, if each folder is a class of its own.
      superclasses: folder -> class, in the order of the classes; other folders are left out.
      fit, size, channels: as of `Reader`, where the config leaves them open.
    """
    root = root_of(config)
    root_name, train = root.absolute().name, root / "train"
    test = next((root / name for name in _TEST_NAMES if (root / name).is_dir()), None)
    if test is None:
        found = ", ".join(subfolders(root)) or "nothing"
        raise RequestError(f"data.root={root}: expected folders train and test (or val) there, found {found}")
    if not train.is_dir():
        raise RequestError(f"data.root={root}: there is no folder train in it")
    there = {*subfolders(train), *subfolders(test)}
    coverage: Coverage = "complete"
    if superclasses and not name and (nowhere := [folder for folder in superclasses if folder not in there]):
        raise RequestError(f"data.superclasses: there is no folder {_few(nowhere)} in train or {test.name}")
    if superclasses is None:
        # Published classes are in alphabetical order whatever the case of the folders.
        superclasses = {folder: folder for folder in sorted(there, key=str.casefold if classes else None)}
        coverage = "other" if classes and not are_named(superclasses, classes) else coverage
    elif not superclasses.keys() <= there:
        coverage = "partial"
    class_names = tuple(dict.fromkeys(superclasses.values()))
    if len(class_names) < 2:
        raise RequestError(
            f"data.root={root}: expected a folder for each of at least two classes in train and "
            f"{test.name}, found {_few(class_names) or 'none'}"
        )

    def collect(split: Path) -> tuple[list[Path], np.ndarray]:
        inside = {folder: find_and_list(split / folder, unreadable) for folder in superclasses}
        paths = list(itertools.chain.from_iterable(inside.values()))
        labels = [class_names.index(superclasses[folder]) for folder, found in inside.items() for _ in found]
        if not paths:
            raise RequestError(
                f"{split}: no images in the folders {_few(superclasses)}; the endings read are {ENDINGS}"
            )
        return paths, np.asarray(labels, np.int64)

    unreadable: dict[str, str] = {}
    (train_paths, train_labels), (test_paths, test_labels) = collect(train), collect(test)
    reader = make_reader(config, fit=fit, size=size, channels=channels, paths=train_paths)
    shape = shape_of(reader, train_paths, train)
    suffixes = "/".join(sorted({path.suffix.lower().lstrip(".") for path in train_paths}))
    stray = itertools.chain(images_beside_folders(train), images_beside_folders(test))
    unreadable |= dict.fromkeys(map(str, stray), "is in no folder that names its class")
    return Dataset.labelled(
        name=name or root_name,
        source=f"folder {root_name}: {len(train_paths)} + {len(test_paths)} {suffixes}",
        class_names=class_names,
        train_images=images.lazy(config, reader.read, train_paths, shape, unreadable),
        train_labels=train_labels,
        test_images=images.lazy(config, reader.read, test_paths, shape, unreadable),
        test_labels=test_labels,
        test_ids=tuple(path.relative_to(root).as_posix() for path in test_paths),
        coverage=coverage if name else "own",
        unreadable=unreadable,
    )


def _few(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")


def read_superclasses(path: Path) -> dict[str, str]:
    """Reads a CSV file with the header `folder,class` as folder -> class; no folder lies outside the tree."""
    try:
        rows = read_csv(path)
    except OSError as error:
        raise RequestError(f"data.superclasses={path}: {error}") from None
    if not rows or list(rows[0]) != ["folder", "class"] or not all(all(row.values()) for row in rows):
        raise RequestError(f"data.superclasses={path}: expected a CSV file with the header folder,class")
    for row in rows:
        if Path(row["folder"]).is_absolute() or ".." in Path(row["folder"]).parts:
            raise RequestError(f"data.superclasses={path}: {row['folder']!r} leaves the directory of the data")
    found = {row["folder"]: row["class"] for row in rows}
    if len(found) < len(rows):
        raise RequestError(f"data.superclasses={path}: lists a folder twice")
    return found


def load(config: DataConfig) -> Dataset:
    """Loads the user's own tree; `data.superclasses` names a CSV file that `read_superclasses` reads."""
    mapping = read_superclasses(Path(config.superclasses)) if config.superclasses else None
    return load_tree(config, superclasses=mapping)


def _there(root: str) -> str:
    count = len(training_folders(root))
    return f"a tree of {count} class{'es' * (count != 1)}" if count else ""


SPEC = Spec(
    name="folder",
    about="your own images: DIR/{train,test}/<class>/...",
    size="any",
    licence="yours",
    get="data.root=DIR; data.superclasses=FILE joins folders to classes",
    load=load,
    there=_there,
)
