"""Data sets of the TensorFlow Datasets catalogue, prepared once and then read without TensorFlow."""

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from itae_jax.config import DataConfig
from itae_jax.data import folders, images
from itae_jax.data.dataset import Dataset
from itae_jax.data.reader import Reader
from itae_jax.errors import RequestError

HOW_TO_GET = "itae data prepare {0} --root DIR, then data.root=DIR"
HOW_TO_UNPACK = "itae data prepare {0} --root DIR --manual-dir {1}, then data.root=DIR"


def directory_of(root: str) -> Path:
    """Returns where prepared data sets are: `data.root`, or TFDS's own default."""
    return folders.expanded(root or os.environ.get("TFDS_DATA_DIR", "~/tensorflow_datasets"))


def _versions(name: str, root: str) -> list[Path]:
    found = (directory_of(root) / name).glob("*/dataset_info.json")
    return sorted(path.parent for path in found if not path.parent.name.startswith("incomplete"))


def there(name: str, root: str) -> str:
    """Returns "prepared" if `prepare` has put the data set there, else "", as `Spec.there` does."""
    return "prepared" if _versions(name, root) else ""


def make_builder(name: str, root: str) -> Any:
    """Returns the builder; RequestError if none is prepared, or tensorflow-datasets is not installed."""
    versions = _versions(name, root)
    if not versions:
        raise RequestError(
            f"{name} is not in {directory_of(root)}; itae data prepare {name} --root DIR puts it there, "
            "data.root=DIR reads it from there (data.name=folder, cifar10 and cifar100 read folder trees, too)"
        )
    try:
        import tensorflow_datasets
    except ModuleNotFoundError:
        raise RequestError(
            f"data.name={name!r} is read by tensorflow-datasets; pip install tensorflow-datasets array_record, "
            "or give a folder tree by data.root"
        ) from None
    return tensorflow_datasets.builder_from_directory(str(versions[-1]))


def encoded(builder: Any, split: str) -> Any:
    """Returns the records of a split, images as the bytes of files; RequestError without random access."""
    import tensorflow_datasets as tfds

    try:
        return builder.as_data_source(split, decoders={"image": tfds.decode.SkipDecoding()})
    except NotImplementedError:
        remedy = f"itae data prepare {builder.name} --root DIR prepares it in another directory"
        raise RequestError(f"{builder.data_dir}: is not in the format array_record; {remedy}") from None


def features_of(builder: Any, split: str, names: list[str]) -> dict[str, list]:
    """Returns all values of some features; reads every record once, without decoding the images."""
    rows = [[record[name] for name in names] for record in encoded(builder, split)]
    return {name: [row[column] for row in rows] for column, name in enumerate(names)}


def prepare(name: str, root: str, manual_dir: str) -> Path:
    """Downloads and prepares a data set by TFDS, or prepares what is in `manual_dir`; returns where it is.

    RequestError if TensorFlow is not installed, or TFDS fails.
    """
    directory = directory_of(root)
    if _versions(name, root):
        return directory / name
    if manual_dir and not Path(manual_dir).is_dir():
        raise RequestError(f"--manual-dir {manual_dir}: no such directory")
    try:
        import tensorflow as _  # noqa: F401
        import tensorflow_datasets as tfds
    except ModuleNotFoundError:
        what = "preparing takes TensorFlow (reading does not)"
        raise RequestError(f"{what}; in a clone, pip install -e '.[prepare]'") from None

    options = {"data_dir": str(directory), "file_format": "array_record"}
    if name == "shanghaitech":
        from itae_jax.data.shanghaitech_builder import Shanghaitech

        builder = Shanghaitech(**options)
    else:
        builder = tfds.builder(name, **options)
    directory.mkdir(parents=True, exist_ok=True)
    # TFDS recognises an unpacked file by its name alone, and MNIST's files have the names of
    # Fashion-MNIST's: each preparation unpacks into a directory of its own.
    with tempfile.TemporaryDirectory(prefix="unpacked-", dir=directory) as unpacked:
        manual = str(Path(manual_dir).absolute()) if manual_dir else None
        downloads = tfds.download.DownloadConfig(manual_dir=manual, extract_dir=unpacked)
        try:
            builder.download_and_prepare(download_config=downloads, file_format="array_record")
        except (OSError, AssertionError, ValueError, tfds.download.DownloadError) as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            remedy = "without a network, put the original files into a folder and name it by --manual-dir"
            raise RequestError(f"{name} could not be prepared: {reason}; {remedy}") from None
    return Path(builder.data_dir)


def lazy_images(
    config: DataConfig,
    builder: Any,
    split: str,
    reader: Reader,
    unreadable: dict[str, str],
    positions: Sequence[int] | None = None,
) -> images.LazyImages:
    """Returns the images at these positions of a split; all if None."""
    records = encoded(builder, split)

    def read(position: int) -> np.ndarray:
        return reader.read((f"{builder.name}/{split}/{position}", records[position]["image"]))

    positions = range(len(records)) if positions is None else positions
    return images.lazy(config, read, positions, reader.shape, unreadable)


def load(
    config: DataConfig,
    name: str,
    *,
    fit: str,
    size: int,
    channels: int,
    label: str = "label",
    test_split: str = "test",
    superclasses: dict[str, str] | None = None,
) -> Dataset:
    """Loads a prepared data set.

    Args:
      name: in TFDS's catalogue.
      fit, size, channels: as of `Reader`, where the config leaves them open.
      label: the feature that holds the class.
      superclasses: TFDS's class name -> ours; other classes are left out.

    Raises what `make_builder` and `encoded` raise.
    """
    builder = make_builder(name, config.root)
    reader = folders.make_reader(config, fit=fit, size=size, channels=channels)
    tfds_names = builder.info.features[label].names
    ours = superclasses or {text: text for text in tfds_names}
    classes = tuple(dict.fromkeys(ours.values()))
    index = np.asarray([classes.index(ours[text]) if text in ours else -1 for text in tfds_names])
    unreadable: dict[str, str] = {}

    def part(split: str) -> tuple[images.LazyImages, np.ndarray, np.ndarray]:
        labels = index[np.asarray(features_of(builder, split, [label])[label], np.int64)]
        kept = np.flatnonzero(labels >= 0)
        return lazy_images(config, builder, split, reader, unreadable, kept.tolist()), labels[kept], kept

    train, train_labels, _ = part("train")
    test, test_labels, kept = part(test_split)
    return Dataset.labelled(
        name=name,
        source=f"tfds {builder.info.full_name}",
        class_names=classes,
        train_images=train,
        train_labels=train_labels,
        test_images=test,
        test_labels=test_labels,
        test_ids=tuple(f"{name}/{test_split}/{position}" for position in kept),
        unreadable=unreadable,
    )
