"""Data sets of TFDS's catalogue: preparing takes TensorFlow, reading does not."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from itae_jax import cli, data
from itae_jax.config import DataConfig
from itae_jax.data import cifar, folders, imagenet, tfds
from itae_jax.errors import RequestError

WITHOUT_TENSORFLOW = """
from importlib.machinery import PathFinder
find = PathFinder.find_spec
PathFinder.find_spec = lambda name, *rest: None if name.split(".")[0] == "tensorflow" else find(name, *rest)
from itae_jax import data
from itae_jax.config import DataConfig
"""


def without_tensorflow(script, **options):
    command = [sys.executable, "-c", WITHOUT_TENSORFLOW + script]
    return subprocess.run(command, capture_output=True, text=True, **options)


@pytest.fixture(scope="session")
def tensorflow():
    if importlib.util.find_spec("tensorflow") is None:
        pytest.skip("TensorFlow is not installed: pip install tensorflow-cpu av")


def test_prepare_without_tensorflow_names_the_extra(tmp_path):
    result = without_tensorflow(f"data.prepare('mnist', {str(tmp_path)!r}, '')")
    assert "pip install -e '.[prepare]'" in result.stderr


def test_classes_are_those_of_tfds(tmp_path):
    import tensorflow_datasets

    def names(dataset, label):
        return tensorflow_datasets.builder(dataset, data_dir=str(tmp_path)).info.features[label].names

    # Of what is not prepared TFDS knows the names only for ImageNet.
    assert len(names("cifar100", "coarse_label")) == len(cifar.CIFAR100_CLASSES)
    assert len(names("cifar10", "label")) == len(cifar.CIFAR10_CLASSES)
    assert set(folders.read_superclasses(imagenet.SUPERCLASSES)) <= set(names("imagenet2012", "label"))


def test_data_list_says_what_is_there(tmp_path, capsys):
    def there(root):
        assert cli.main(["data", "list", "--root", str(root)]) == 0
        blocks = [block.splitlines() for block in capsys.readouterr().out.strip().split("\n\n")]
        return {block[0]: block[-1].removeprefix("  there    ") for block in blocks}

    def make(*names):
        for name in names:
            (tmp_path / name).mkdir(parents=True)

    nothing = dict.fromkeys(data.CATALOGUE, "no") | {"digits": "with scikit-learn"}
    assert there(tmp_path) == there(tmp_path / "nowhere") == nothing
    make(*(f"digits/train/{number}" for number in range(10)))
    make(*(f"photographs/train/{name.upper()}" for name in cifar.CIFAR10_CLASSES))
    ten = "a tree of 10 classes"
    assert there(tmp_path / "digits") == nothing | {"folder": ten}
    assert there(tmp_path / "photographs") == nothing | {"cifar10": ten, "folder": ten}
    make("some/train/n02106662", "some/train/n02123045", "some/train/n99999999")
    imagenet_there = {"imagenet2012": "a tree of 2 of the 56 classes", "folder": "a tree of 3 classes"}
    assert there(tmp_path / "some") == nothing | imagenet_there
    make(*(f"parts/{name}/train/good" for name in ("leather", "bottle", "ours")))
    assert there(tmp_path / "parts") == nothing | {"mvtec_ad": "bottle, leather, ours"}
    one = {"mvtec_ad": "ours", "folder": "a tree of 1 class"}
    assert there(tmp_path / "parts" / "ours") == nothing | one
    assert "cannot be read (File name too long)" in there("x" * 5000).values()
    assert cli.main(["data", "list", "--root", "~nobody_of_this_name/x"]) == 2
    assert "there is no such user" in capsys.readouterr().err


def test_prepare_unpacks_each_data_set_into_a_directory_of_its_own(tmp_path, monkeypatch, tensorflow):
    """Otherwise Fashion-MNIST gets the digits of MNIST, whose files have the same names."""
    import tensorflow_datasets

    unpacked = []

    class Builder:
        data_dir = str(tmp_path)

        def download_and_prepare(self, download_config, file_format):
            unpacked.append(Path(download_config.extract_dir))
            assert list(unpacked[-1].iterdir()) == []
            (unpacked[-1] / "GZIP.train-images-idx3-ubyte.gz").write_text("pixels")

    monkeypatch.setattr(tensorflow_datasets, "builder", lambda *name, **options: Builder())
    for name in ("mnist", "fashion_mnist"):
        tfds.prepare(name, str(tmp_path), "")
    assert unpacked[0] != unpacked[1]
    assert not any(path.exists() for path in unpacked)


def make_mnist(root, file_format):
    """Ten digits of 28 x 28, once to test on and twice to train on."""
    import tensorflow_datasets as tfds

    class Mnist(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version("3.0.1")

        def _info(self):
            label = tfds.features.ClassLabel(num_classes=10)
            features = {"image": tfds.features.Image(shape=(28, 28, 1)), "label": label}
            return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

        def _split_generators(self, dl_manager):
            return {"train": self._generate_examples(20), "test": self._generate_examples(10)}

        def _generate_examples(self, count):
            for i in range(count):
                yield i, {"image": np.full((28, 28, 1), 10 * (i % 10), np.uint8), "label": i % 10}

    Mnist(data_dir=str(root / file_format), file_format=file_format).download_and_prepare()


def test_load_reads_array_records_without_tensorflow_and_refuses_other_formats(tmp_path, tensorflow):
    for file_format in ("array_record", "tfrecord"):
        make_mnist(tmp_path, file_format)
    script = (
        f"d = data.load(DataConfig(name='mnist', root='{tmp_path}/array_record')); s = d.split(3); "
        "print(d.source, d.image_shape, len(d.class_names), s.train_images.in_memory().array.max((1, 2, 3))); "
        "print(s.test_ids[0], sorted(zip(s.test_labels, s.test_images.array.max((1, 2, 3)).tolist())))"
    )
    about, test = without_tensorflow(script, check=True).stdout.splitlines()
    assert about == "tfds mnist/3.0.1 (32, 32, 1) 10 [30 30]"
    assert test == f"mnist/test/0 {[(str(digit), 10 * digit) for digit in range(10)]}"
    with pytest.raises(RequestError, match=r"mnist.*array_record; itae data prepare mnist --root DIR"):
        data.load(DataConfig(name="mnist", root=f"{tmp_path}/tfrecord"))


@pytest.fixture(scope="module")
def shanghaitech(tmp_path_factory, tensorflow):
    """A video of four frames to train on, two of three frames to test on, in the published layout."""
    av = pytest.importorskip("av", reason="PyAV is not installed: pip install tensorflow-cpu av")
    archive, root = tmp_path_factory.mktemp("archive"), tmp_path_factory.mktemp("tfds")
    (archive / "training/videos").mkdir(parents=True)
    with av.open(str(archive / "training/videos/01_001.avi"), "w") as container:
        stream = container.add_stream("mjpeg", rate=24)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuvj420p"
        for value in (50, 60, 70, 80):
            frame = av.VideoFrame.from_ndarray(np.full((64, 96, 3), value, np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    for video, labels in (("01_0014", [0, 1, 1]), ("02_0128", [0, 0, 1])):
        frames = archive / "testing/frames" / video
        frames.mkdir(parents=True)
        for number in range(3):
            Image.new("RGB", (96, 64), (100 + number,) * 3).save(frames / f"{number:03d}.jpg")
        masks = archive / "testing/test_frame_mask"
        masks.mkdir(exist_ok=True)
        np.save(masks / f"{video}.npy", np.int8(labels))
    assert cli.main(["data", "prepare", "shanghaitech", "--root", str(root), "--manual-dir", str(archive)]) == 0
    return root


def test_shanghaitech_is_prepared_and_read_without_tensorflow(shanghaitech):
    script = (
        f"d = data.load(DataConfig(name='shanghaitech', root={str(shanghaitech)!r}, image_size=48)); "
        "s = d.split(0); x = s.train_images.in_memory().array; "
        "print(x.shape, sorted(x.mean((1, 2, 3)).round(-1).tolist())); "
        "print(sorted(zip(s.test_ids, s.video_ids, s.test_labels)))"
    )
    train, test = without_tensorflow(script, check=True).stdout.splitlines()
    assert train == "(4, 48, 48, 3) [50.0, 60.0, 70.0, 80.0]"
    labels = {"01_0014": ("normal", "anomalous", "anomalous"), "02_0128": ("normal", "normal", "anomalous")}
    rows = [(f"{video}/{i:06d}", video, label) for video in labels for i, label in enumerate(labels[video])]
    assert test == str(rows)
