"""ShanghaiTech Campus, single frames of video: the paper's Table 3.

  itae data prepare shanghaitech --root DIR --manual-dir UNPACKED
  itae run table3_shanghaitech --set data.root=DIR

UNPACKED holds the archive's training/videos/, testing/frames/ and testing/test_frame_mask/. The paper prints an
AUROC of 72.5 over all frames, scored by Eq. 4 within each video. It says "ResNet34 as our encoder" and leaves
the decoder and the schedule open; here the encoder is trained from scratch.
"""

from itae_jax.config import DataConfig
from itae_jax.experiment import Experiment
from itae_jax.methods.itae import ITAEConfig


def get_config() -> Experiment:
    return Experiment(
        name="table3_shanghaitech",
        paper_table="table3",
        data=DataConfig(name="shanghaitech", image_size=480),
        method=ITAEConfig(network="resnet34_unet"),
    )
