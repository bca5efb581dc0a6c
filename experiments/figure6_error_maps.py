"""Where a network sees an anomaly: error maps as in the paper's Figure 6, beside the defect's mask.

  itae run figure6_error_maps --classes bottle --set data.root=DIR

DIR holds MVTec AD's folders, or others of the same layout. The paper shows a frame of ShanghaiTech: --set
data.name=shanghaitech data.image_size=480 method.network=resnet34_unet. In the paper the plain autoencoder
restores the anomaly too, ITAE does not.
"""

from itae_jax.config import DataConfig, TrainConfig
from itae_jax.experiment import Experiment
from itae_jax.methods.itae import ITAEConfig

VARIANTS = {"AE": "identity", "AE+G": "gray", "AE+R": "rotate", "ITAE": "gray+rotate"}


def get_configs() -> dict[str, Experiment]:
    return {
        variant: Experiment(
            name="figure6_error_maps",
            paper_table="table2",
            data=DataConfig(name="mvtec_ad", image_size=256),
            method=ITAEConfig(transform=transform),
            train=TrainConfig(augment="flip+shift"),
        )
        for variant, transform in VARIANTS.items()
    }
