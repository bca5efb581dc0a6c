"""ShanghaiTech Campus: single frames of 480x480, scored frame by frame within each video (Eq. 4)."""

import numpy as np

from itae_jax.config import DataConfig
from itae_jax.data import folders, tfds
from itae_jax.data.dataset import Dataset, OneClassSplit, Spec

_NAME = "shanghaitech"


def load(config: DataConfig) -> Dataset:
    """Loads the prepared frames as one class, `all`."""
    builder = tfds.make_builder(_NAME, config.root)
    reader = folders.make_reader(config, fit="stretch", size=480, channels=3)
    unreadable: dict[str, str] = {}

    def make_split(index: int, limit_train: int, limit_test: int) -> OneClassSplit:
        about = tfds.features_of(builder, "test", ["video", "frame", "is_anomaly"])
        videos = tuple(np.asarray(video).item().decode() for video in about["video"])
        return OneClassSplit(
            train_images=tfds.lazy_images(config, builder, "train", reader, unreadable),
            test_images=tfds.lazy_images(config, builder, "test", reader, unreadable),
            test_labels=tuple("anomalous" if int(flag) else "normal" for flag in about["is_anomaly"]),
            test_ids=tuple(f"{video}/{int(i):06d}" for video, i in zip(videos, about["frame"], strict=True)),
            normal_label="normal",
            video_ids=videos,
        ).limited(limit_train, limit_test)

    return Dataset(
        name=_NAME,
        source=f"tfds {builder.info.full_name}",
        class_names=("all",),
        trainable=(0,),
        image_shape=reader.shape,
        make_split=make_split,
        unreadable=unreadable,
    )


SPEC = Spec(
    name=_NAME,
    about="surveillance video, single frames of 480x480",
    size="274,515 + 42,883 frames",
    licence="for research, on request from its authors",
    get=tfds.HOW_TO_UNPACK.format(_NAME, "UNPACKED"),
    load=load,
    there=lambda root: tfds.there(_NAME, root),
    preparable=True,
)
