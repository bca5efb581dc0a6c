"""ShanghaiTech Campus: single frames of 480x480, scored frame by frame within each video (Eq. 4)."""

import numpy as np

from itae_jax.config import DataConfig
from itae_jax.data import folders, images, tfds
from itae_jax.data.dataset import InspectionDataset, OneClassSplit

SIDE = 480


def load(config: DataConfig) -> InspectionDataset:
    """The prepared frames, as one category `all`.

    Raises:
      RequestError: not prepared, or tensorflow-datasets is missing.
    """
    builder = tfds.make_builder("shanghaitech", config.root)
    reader = folders.reader_of(config, fit="stretch", size=SIDE, channels=3)
    shape = (reader.size, reader.size, reader.channels)
    unreadable: dict[str, str] = {}

    def part(split: str) -> images.LazyImages:
        records = tfds.Records(tfds.encoded(builder, split), f"shanghaitech/{split}", reader)
        keys = tuple(range(len(records.source)))
        return images.LazyImages(records.read, keys, shape, **folders.lazy_options(config, unreadable))

    def split() -> OneClassSplit:
        about = tfds.features_of(builder, "test", ["video", "frame", "is_anomaly"])
        videos = tuple(np.asarray(video).item().decode() for video in about["video"])
        return OneClassSplit(
            train_images=part("train"),
            test_images=part("test"),
            test_labels=tuple("anomalous" if int(flag) else "normal" for flag in about["is_anomaly"]),
            test_ids=tuple(f"{video}/{int(i):06d}" for video, i in zip(videos, about["frame"], strict=True)),
            normal_label="normal",
            video_ids=videos,
        )

    return InspectionDataset(
        name="shanghaitech",
        source=f"tfds {builder.info.full_name}",
        splits={"all": split},
        image_shape=shape,
        unreadable=unreadable,
    )
