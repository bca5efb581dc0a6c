"""Data sets of the TensorFlow Datasets catalogue, prepared once and read without TensorFlow."""

import dataclasses
import os
import tempfile
from pathlib import Path

import numpy as np

from itae_jax.config import DataConfig
from itae_jax.data import folders, images
from itae_jax.data import reader as decode
from itae_jax.data.dataset import Dataset
from itae_jax.errors import RequestError

OWN_BUILDER = "shanghaitech"


def directory_of(root: str) -> Path:
    """Where prepared data sets are: `data.root`, or TFDS's own default."""
    return folders.expanded(root or os.environ.get("TFDS_DATA_DIR", "~/tensorflow_datasets"))


def _builder(name: str, root: str):
    try:
        import tensorflow_datasets
    except ModuleNotFoundError:
        raise RequestError(
            f"data.name={name!r} is read by tensorflow-datasets; pip install tensorflow-datasets array_record, "
            "or give a folder tree by data.root"
        ) from None
    directory = directory_of(root)
    if name != OWN_BUILDER:
        return tensorflow_datasets.builder(name, data_dir=str(directory), file_format="array_record")
    if is_prepared(name, root):  # builders of one's own need TensorFlow, what they made does not
        return tensorflow_datasets.builder_from_directory(str(_versions(name, root)[-1]))
    from itae_jax.data.shanghaitech_builder import Shanghaitech

    return Shanghaitech(data_dir=str(directory), file_format="array_record")


def make_builder(name: str, root: str):
    """The builder of a data set that is prepared.

    Raises:
      RequestError: it is not, or tensorflow-datasets is missing.
    """
    if not is_prepared(name, root):
        raise RequestError(
            f"{name} is not in {directory_of(root)}; itae data prepare {name} --root DIR puts it there, "
            "data.root=DIR reads it from there (data.name=folder, cifar10 and cifar100 read folder trees, too)"
        )
    return _builder(name, root)


def encoded(builder, split: str):
    """The records of a split, images as the bytes of their files."""
    import tensorflow_datasets as tfds

    return builder.as_data_source(split, decoders={"image": tfds.decode.SkipDecoding()})


def features_of(builder, split: str, names: list[str]) -> dict[str, list]:
    """All values of some features; reads once through the records, without decoding the images."""
    values: dict[str, list] = {name: [] for name in names}
    for record in encoded(builder, split):
        for name in names:
            values[name].append(record[name])
    return values


def is_prepared(name: str, root: str) -> bool:
    """Whether `prepare` has put the data set there."""
    return bool(_versions(name, root))


def _versions(name: str, root: str) -> list[Path]:
    found = (directory_of(root) / name).glob("*/dataset_info.json")
    return [path.parent for path in found if not path.parent.name.startswith("incomplete")]


def prepare(name: str, root: str, manual_dir: str) -> Path:
    """Downloads and prepares a data set by TFDS, or prepares what is in `manual_dir`; where it is.

    Raises:
      RequestError: TensorFlow is not installed, or TFDS could not do it.
    """
    if is_prepared(name, root):
        return directory_of(root) / name
    if manual_dir and not Path(manual_dir).is_dir():
        raise RequestError(f"--manual-dir {manual_dir}: no such directory")
    try:
        import tensorflow as _  # noqa: F401
    except ModuleNotFoundError:
        raise RequestError(
            "preparing takes TensorFlow (reading does not); in a clone, pip install -e '.[prepare]'"
        ) from None
    import tensorflow_datasets as tfds

    builder = _builder(name, root)
    directory_of(root).mkdir(parents=True, exist_ok=True)
    # TFDS knows what it has unpacked by the file's name alone, and MNIST's files are named like
    # Fashion-MNIST's: each preparation unpacks into a directory of its own.
    with tempfile.TemporaryDirectory(prefix="unpacked-", dir=directory_of(root)) as unpacked:
        downloads = tfds.download.DownloadConfig(
            manual_dir=str(Path(manual_dir).absolute()) if manual_dir else None, extract_dir=unpacked
        )
        try:
            builder.download_and_prepare(download_config=downloads, file_format="array_record")
        except (OSError, AssertionError, ValueError, tfds.download.DownloadError) as error:
            first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise RequestError(
                f"{name} could not be prepared: {first}; without a network, put the original files into a "
                "folder and name it by --manual-dir"
            ) from None
    return Path(builder.data_dir)


@dataclasses.dataclass(frozen=True)
class Records:
    """The images of a split of a prepared data set, by position."""

    source: object
    name: str
    reader: decode.Reader

    def read(self, position: int) -> np.ndarray:
        """As `decode.Reader.read`."""
        return self.reader.read((f"{self.name}/{position}", self.source[int(position)]["image"]))


def load(
    config: DataConfig,
    name: str,
    *,
    label: str = "label",
    test_split: str = "test",
    reader: decode.Reader,
    superclasses: dict[str, str] | None = None,
) -> Dataset:
    """A prepared data set for the one-class protocol.

    Args:
      name: in TFDS's catalogue.
      label: the feature that holds the class.
      reader: how images come to their size.
      superclasses: TFDS's class name -> ours; classes that it does not name are left out.

    Raises:
      RequestError: not prepared, or tensorflow-datasets is missing.
    """
    builder = make_builder(name, config.root)
    own_names = builder.info.features[label].names
    ours = superclasses or {text: text for text in own_names}
    classes = tuple(dict.fromkeys(ours.values()))
    index = np.asarray([classes.index(ours[text]) if text in ours else -1 for text in own_names])
    unreadable: dict[str, str] = {}

    def part(split: str) -> tuple[images.LazyImages, np.ndarray, np.ndarray]:
        labels = index[np.asarray(features_of(builder, split, [label])[label], np.int64)]
        kept = np.flatnonzero(labels >= 0)
        records = Records(encoded(builder, split), f"{name}/{split}", reader)
        shape = (reader.size, reader.size, reader.channels)
        options = folders.lazy_options(config, unreadable)
        return images.LazyImages(records.read, tuple(kept.tolist()), shape, **options), labels[kept], kept

    train, train_labels, _ = part("train")
    test, test_labels, test_kept = part(test_split)
    return Dataset(
        name=name,
        source=f"tfds {builder.info.full_name}",
        class_names=classes,
        train_images=train,
        train_labels=train_labels,
        test_images=test,
        test_labels=test_labels,
        test_ids=tuple(f"{name}/{test_split}/{position}" for position in test_kept),
        unreadable=unreadable,
    )
