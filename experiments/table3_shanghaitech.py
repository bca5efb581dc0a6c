"""ShanghaiTech Campus, single frames of video: the paper's Table 3.

  itae data prepare shanghaitech --root DIR --manual-dir UNPACKED
  itae run experiments/table3_shanghaitech.py --set data.root=DIR

UNPACKED holds the archive's training/videos/, testing/frames/ and testing/test_frame_mask/. AUROC over all
frames, after Eq. 4 within each video. The paper prints 72.5 for ITAE. It says "ResNet34 as our encoder" and
leaves decoder, skips, pretraining and schedule open; here the encoder is trained from scratch.

Reduced, for a CPU: python experiments/reduced.py table3_shanghaitech

Measured: nothing yet.
"""

from itae_jax.config import DataConfig, Experiment, ModelConfig


def get_config() -> Experiment:
    return Experiment(
        name="table3_shanghaitech",
        paper_table="table3",
        data=DataConfig(name="shanghaitech", image_size=480),
        model=ModelConfig(name="resnet34_unet"),
    )
