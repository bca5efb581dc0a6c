"""Folder trees of image files: what is where, in an order that is always the same."""

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from itae_jax.config import DataConfig
from itae_jax.data import images
from itae_jax.data import reader as decode
from itae_jax.data.dataset import Dataset
from itae_jax.errors import RequestError

SUFFIXES = frozenset((".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"))
_TEST_NAMES = ("test", "val", "validation")
_HEADERS_LOOKED_AT = 64


def find_images(directory: Path) -> list[Path]:
    """What `each_image` finds."""
    return list(each_image(directory))


def each_image(directory: Path) -> Iterator[Path]:
    """All image files below a directory by their names' endings, sorted; hidden ones left out.

    Links to directories are followed, each directory once, so that a loop of links ends.
    """
    seen = set()
    for folder, subfolders, names in os.walk(directory, followlinks=True):
        status = os.stat(folder)
        if (status.st_dev, status.st_ino) in seen:
            subfolders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        for name in sorted(names):
            if not name.startswith(".") and os.path.splitext(name)[1].lower() in SUFFIXES:
                yield Path(folder, name)


def subfolders(directory: Path) -> list[str]:
    """Names of the folders in a directory, sorted; hidden ones left out."""
    return sorted(path.name for path in directory.iterdir() if path.is_dir() and not path.name.startswith("."))


def expanded(root: str) -> Path:
    """A path that may begin with ~.

    Raises:
      RequestError: there is no such user.
    """
    try:
        return Path(root).expanduser()
    except RuntimeError:
        raise RequestError(f"{root}: there is no such user; name the directory in full") from None


def root_of(config: DataConfig) -> Path:
    """`data.root` as a directory that is there.

    Raises:
      RequestError: it is not given or not a directory.
    """
    if not config.root:
        raise RequestError(f"data.name={config.name!r} reads a folder: give it by --set data.root=DIR")
    root = expanded(config.root)
    if not root.is_dir():
        raise RequestError(f"data.root={config.root}: no such directory")
    return root


def test_folder(root: Path) -> Path:
    """The folder with the test images: test, val or validation.

    Raises:
      RequestError: there is none.
    """
    for name in _TEST_NAMES:
        if (root / name).is_dir():
            return root / name
    there = ", ".join(subfolders(root)) or "nothing"
    raise RequestError(f"data.root={root}: expected folders train and test (or val) there, found {there}")


def make_reader(
    config: DataConfig, paths: list[Path], *, fit: str, size: int = 0, channels: int = 0
) -> decode.Reader:
    """The reader for these files: as the config says, else the data set, else as the files are."""
    channels = config.channels or channels
    if not channels:
        step = max(1, len(paths) // _HEADERS_LOOKED_AT)
        grey = [decode.is_grey(path) for path in paths[::step]]
        channels = 1 if any(grey) and all(answer is not False for answer in grey) else 3
    return reader_of(config, fit=fit, size=size, channels=channels)


def reader_of(config: DataConfig, *, fit: str, size: int, channels: int) -> decode.Reader:
    """The reader for images of a known kind: as the config says, else as given."""
    return decode.Reader(
        config.image_size or size, config.channels or channels, config.fit or fit, config.max_side
    )


def shape_of(reader: decode.Reader, paths: list[Path], where: Path) -> tuple[int, int, int]:
    """The shape that `reader` gives: of the first file that it can read, if it keeps their sizes.

    Raises:
      RequestError: there is no file that can be read.
    """
    if reader.size:
        return reader.size, reader.size, reader.channels
    reason = "there is none"
    for path in paths[:1000]:
        try:
            return reader.read(path).shape
        except images.UnreadableImageError as error:
            reason = str(error)
    raise RequestError(f"{where}: no image there can be read ({reason})")


def lazy_options(config: DataConfig, unreadable: dict[str, str]) -> dict:
    """The options of `LazyImages` that a config decides."""
    return {
        "unreadable": unreadable,
        "on_corrupt": config.on_corrupt,
        "workers": config.workers,
        "memory_bytes": config.memory_gib * 2**30,
    }


def are_named(folders: Iterable[str], classes: Iterable[str]) -> bool:
    """Whether folders have the names of classes, whatever their case and separators."""

    def letters(names: Iterable[str]) -> list[str]:
        return sorted("".join(filter(str.isalnum, name)).lower() for name in names)

    return letters(folders) == letters(classes)


def load_tree(
    config: DataConfig,
    *,
    name: str,
    superclasses: dict[str, str] | None = None,
    classes: Sequence[str] = (),
    fit: str = "crop",
    size: int = 0,
    channels: int = 0,
) -> Dataset:
    """`<root>/{train,test}/<class>/...` as a data set for the one-class protocol.

    Args:
      superclasses: folder name -> class name; folders that it does not name are left out. Each
        folder is its own class if None. The order of first mention is the order of the classes.
      classes: what the data set's classes are called, if that is known.
      fit, size, channels: where the config leaves them open.

    Raises:
      RequestError: folders or images are missing.
    """
    root = root_of(config)
    train, test = root / "train", test_folder(root)
    if not train.is_dir():
        raise RequestError(f"data.root={root}: there is no folder train in it")
    other = ""
    if superclasses is None:
        there = {*subfolders(train), *subfolders(test)}
        order = str.casefold if classes else None  # known classes are in the alphabet's, whatever their case
        superclasses = {folder: folder for folder in sorted(there, key=order)}
    else:
        there = superclasses.keys() & {*subfolders(train), *subfolders(test)}
        if len(there) < len(superclasses):
            other = f", {len(there)} of {len(superclasses)} folders"
    known, classes = classes, tuple(dict.fromkeys(superclasses.values()))
    if known and len(classes) != len(known):
        other = f", {len(classes)} classes instead of {len(known)}"
    elif known and not are_named(classes, known):
        other = ", classes of other names"
    if len(classes) < 2:
        raise RequestError(
            f"data.root={root}: expected a folder for each of at least two classes in train and "
            f"{test.name}, found {_few(classes) or 'none'}"
        )

    def collect(split: Path) -> tuple[list[Path], np.ndarray]:
        paths, labels = [], []
        for folder, label in superclasses.items():
            inside = find_images(split / folder)
            paths += inside
            labels += [classes.index(label)] * len(inside)
        return paths, np.asarray(labels, np.int64)

    (train_paths, train_labels), (test_paths, test_labels) = collect(train), collect(test)
    for split, paths in ((train, train_paths), (test, test_paths)):
        if not paths:
            raise RequestError(
                f"{split}: no images in the folders {_few(superclasses)}; "
                f"the endings read are {', '.join(sorted(SUFFIXES))}"
            )
    reader = make_reader(config, train_paths, fit=fit, size=size, channels=channels)
    shape = shape_of(reader, train_paths, train)
    unreadable: dict[str, str] = {}
    options = lazy_options(config, unreadable)
    return Dataset(
        name=name,
        source=f"folder {root.name}: {len(train_paths)} + {len(test_paths)} {_kinds(train_paths)}{other}",
        class_names=classes,
        train_images=images.files(train_paths, reader, shape, **options),
        train_labels=train_labels,
        test_images=images.files(test_paths, reader, shape, **options),
        test_labels=test_labels,
        test_ids=tuple(path.relative_to(root).as_posix() for path in test_paths),
        unreadable=unreadable,
    )


def _kinds(paths: list[Path]) -> str:
    return "/".join(sorted({path.suffix.lower().lstrip(".") for path in paths}))


def _few(names) -> str:
    names = list(names)
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")


def load(config: DataConfig) -> Dataset:
    """The user's own tree; `data.superclasses` names a CSV file of folder,class lines.

    Raises:
      RequestError: see `load_tree`, or a mapping that cannot be read.
    """
    superclasses = read_superclasses(Path(config.superclasses)) if config.superclasses else None
    return load_tree(config, name=root_of(config).name, superclasses=superclasses)


def read_superclasses(path: Path) -> dict[str, str]:
    """A CSV file with the header `folder,class`: folder -> class.

    Raises:
      RequestError: it is not one, or names a folder outside the tree.
    """
    from itae_jax.files import read_csv

    try:
        rows = read_csv(path)
    except (OSError, UnicodeDecodeError) as error:
        raise RequestError(f"data.superclasses={path}: {error}") from None
    if not rows or list(rows[0]) != ["folder", "class"] or any(not all(row.values()) for row in rows):
        raise RequestError(f"data.superclasses={path}: expected a CSV file with the header folder,class")
    for row in rows:
        if Path(row["folder"]).is_absolute() or ".." in Path(row["folder"]).parts:
            raise RequestError(f"data.superclasses={path}: {row['folder']!r} leaves the directory of the data")
    return {row["folder"]: row["class"] for row in rows}
