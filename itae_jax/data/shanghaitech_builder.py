"""A TFDS builder of the ShanghaiTech Campus data set, from its published archive.

Only `tfds.prepare` imports it, because defining a builder takes TensorFlow.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds

from itae_jax.data.reader import Reader

SIDE = 480


class Shanghaitech(tfds.core.GeneratorBasedBuilder):
    """Frames of 480x480, each with its video, its number and, for testing, whether it is anomalous."""

    VERSION = tfds.core.Version("1.0.0")
    MANUAL_DOWNLOAD_INSTRUCTIONS = """
    Unpack the published archive so that the directory holds training/videos/*.avi,
    testing/frames/<video>/*.jpg and testing/test_frame_mask/<video>.npy.
    """

    def _info(self) -> tfds.core.DatasetInfo:
        image = tfds.features.Image(shape=(SIDE, SIDE, 3), encoding_format="jpeg")
        numbers = {"frame": np.int64, "is_anomaly": np.int64}
        return self.dataset_info_from_configs(
            description="ShanghaiTech Campus: videos of a campus, anomalies in the test part only.",
            homepage="https://svip-lab.github.io/dataset/campus_dataset.html",
            features=tfds.features.FeaturesDict({"image": image, "video": tfds.features.Text(), **numbers}),
        )

    def _split_generators(self, dl_manager):
        root = Path(dl_manager.manual_dir)
        for needed in ("training/videos", "testing/frames", "testing/test_frame_mask"):
            if not (root / needed).is_dir():
                raise ValueError(f"{root} has no folder {needed}")
        return {"train": self._train(root / "training/videos"), "test": self._test(root / "testing")}

    def _generate_examples(self, **_):
        raise AssertionError("each split has a generator")

    def _train(self, videos: Path) -> Iterator[tuple[str, dict]]:
        import av

        paths = sorted(videos.glob("*.avi"))
        if not paths:
            raise ValueError(f"{videos} has no .avi files")
        for path in paths:
            with av.open(str(path)) as container:
                for number, frame in enumerate(container.decode(video=0)):
                    image = frame.to_ndarray(format="rgb24", width=SIDE, height=SIDE, interpolation="BILINEAR")
                    yield _example(image, path.stem, number, 0)

    def _test(self, root: Path) -> Iterator[tuple[str, dict]]:
        reader = Reader(SIDE, 3, "stretch")
        for folder in sorted(path for path in (root / "frames").iterdir() if path.is_dir()):
            frames = sorted(folder.glob("*.jpg"))
            labels = np.load(root / "test_frame_mask" / f"{folder.name}.npy", allow_pickle=False)
            if labels.shape != (len(frames),):
                raise ValueError(f"{folder.name}: {len(frames)} frames and labels of shape {labels.shape}")
            for number, (frame, label) in enumerate(zip(frames, labels, strict=True)):
                yield _example(reader.read(frame), folder.name, number, int(label != 0))


def _example(image: np.ndarray, video: str, number: int, is_anomaly: int) -> tuple[str, dict]:
    record = {"image": image, "video": video, "frame": number, "is_anomaly": is_anomaly}
    return f"{video}/{number:06d}", record
