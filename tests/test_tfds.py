"""Preparing takes TensorFlow, reading does not."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from itae_jax import cli, data
from itae_jax.config import DataConfig
from itae_jax.data import folders, tfds
from itae_jax.data import registry as catalogue
from itae_jax.data.registry import SUPERCLASSES
from itae_jax.errors import RequestError

WITHOUT_TENSORFLOW = """
from importlib.machinery import PathFinder
find = PathFinder.find_spec
PathFinder.find_spec = lambda name, *rest: None if name.split(".")[0] == "tensorflow" else find(name, *rest)
"""


def test_what_is_not_prepared_is_refused_with_the_command(tmp_path):
    with pytest.raises(RequestError, match=r"mnist is not in .*; itae data prepare mnist --root DIR"):
        data.load(DataConfig(name="mnist", root=str(tmp_path)))


def test_preparing_without_tensorflow_names_the_extra(tmp_path):
    script = WITHOUT_TENSORFLOW + f"from itae_jax import data; data.prepare('mnist', {str(tmp_path)!r}, '')"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert "pip install -e '.[prepare]'" in result.stderr


def test_the_catalogue_has_the_coarse_classes_of_cifar100_and_the_wnids_of_imagenet(tmp_path):
    import tensorflow_datasets

    def names(dataset, label):
        return tensorflow_datasets.builder(dataset, data_dir=str(tmp_path)).info.features[label].names

    assert len(names("cifar100", "coarse_label")) == len(catalogue.CIFAR100)
    assert len(names("cifar10", "label")) == len(catalogue.CIFAR10)
    wnids = folders.read_superclasses(SUPERCLASSES)
    assert len(wnids) == 56
    assert set(wnids) <= set(names("imagenet2012", "label"))


@pytest.mark.parametrize("name", ["digits", "mvtec_ad", "nonsense"])
def test_what_tfds_does_not_prepare_is_refused_with_the_choices(name, capsys):
    assert cli.main(["data", "prepare", name]) == 2
    assert "choose from mnist, fashion_mnist, cifar10, cifar100, imagenet2012" in capsys.readouterr().err


def test_the_list_says_what_is_there(tmp_path, capsys):
    def there(root):
        assert cli.main(["data", "list", "--root", str(root)]) == 0
        blocks = [block.splitlines() for block in capsys.readouterr().out.strip().split("\n\n")]
        return {block[0]: block[-1].removeprefix("  there    ") for block in blocks}

    nothing = dict.fromkeys(data.CATALOGUE, "no") | {"digits": "with scikit-learn"}
    assert there(tmp_path) == there(tmp_path / "nowhere") == nothing
    for number, name in enumerate(catalogue.CIFAR10):
        (tmp_path / "digits" / "train" / str(number)).mkdir(parents=True)
        (tmp_path / "photographs" / "train" / name.upper()).mkdir(parents=True)
    ten = "a tree of 10 classes"
    assert there(tmp_path / "digits") == nothing | {"folder": ten}
    assert there(tmp_path / "photographs") == nothing | {"cifar10": ten, "folder": ten}
    for wnid in ("n02106662", "n02123045", "n99999999"):
        (tmp_path / "some" / "train" / wnid).mkdir(parents=True)
    imagenet = {"imagenet2012": "a tree of 2 of the 56 classes", "folder": "a tree of 3 classes"}
    assert there(tmp_path / "some") == nothing | imagenet
    for name in ("leather", "bottle", "ours"):
        (tmp_path / "parts" / name / "train" / "good").mkdir(parents=True)
    assert there(tmp_path / "parts") == nothing | {"mvtec_ad": "bottle, leather, ours"}
    assert "cannot be read (File name too long)" in there("x" * 5000).values()
    assert cli.main(["data", "list", "--root", "~nobody_of_this_name/x"]) == 2
    assert "there is no such user" in capsys.readouterr().err
    one = {"mvtec_ad": "ours", "folder": "a tree of 1 class"}
    assert there(tmp_path / "parts" / "ours") == nothing | one


def test_each_preparation_unpacks_into_a_directory_of_its_own(tmp_path, monkeypatch):
    """Or Fashion-MNIST gets the digits of MNIST, whose files have the same names."""
    pytest.importorskip("tensorflow", reason="TensorFlow is not installed: pip install tensorflow-cpu av")
    unpacked = []

    class Builder:
        data_dir = str(tmp_path)

        def download_and_prepare(self, download_config, file_format):
            unpacked.append(Path(download_config.extract_dir))
            assert list(unpacked[-1].iterdir()) == []
            (unpacked[-1] / "GZIP.train-images-idx3-ubyte.gz").write_text("pixels")

    monkeypatch.setattr(tfds, "_builder", lambda name, root: Builder())
    for name in ("mnist", "fashion_mnist"):
        tfds.prepare(name, str(tmp_path), "")
    assert unpacked[0] != unpacked[1]
    assert not any(path.exists() for path in unpacked)


@pytest.fixture(scope="module")
def shanghaitech(tmp_path_factory):
    """A video of four frames to train on, two of three frames to test on, in the published layout."""
    pytest.importorskip("tensorflow", reason="TensorFlow is not installed: pip install tensorflow-cpu av")
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
    command = [sys.executable, "-m", "itae_jax", "data", "prepare", "shanghaitech"]
    command += ["--root", str(root), "--manual-dir", str(archive)]
    subprocess.run(command, check=True, capture_output=True)
    return root


def test_videos_and_frames_are_prepared_and_read_without_tensorflow(shanghaitech):
    script = WITHOUT_TENSORFLOW + (
        "from itae_jax import data; from itae_jax.config import DataConfig; "
        f"d = data.load(DataConfig(name='shanghaitech', root={str(shanghaitech)!r}, image_size=48)); "
        "s = d.split(0); x = s.train_images.in_memory().array; "
        "print(x.shape, sorted(x.mean((1, 2, 3)).round(-1).tolist())); "
        "print(sorted(zip(s.test_ids, s.video_ids, s.test_labels)))"
    )
    result = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    train, test = result.stdout.splitlines()
    assert train == "(4, 48, 48, 3) [50.0, 60.0, 70.0, 80.0]"
    rows = [
        (f"{video}/{number:06d}", video, label)
        for video, labels in (
            ("01_0014", ("normal", "anomalous", "anomalous")),
            ("02_0128", ("normal", "normal", "anomalous")),
        )
        for number, label in enumerate(labels)
    ]
    assert test == str(rows)
