"""Where a network sees an anomaly: error maps as in the paper's Figure 6, beside the defect's mask.

  itae run experiments/figure6_error_maps.py --classes bottle --set data.root=DIR

DIR holds MVTec AD's folders, or others of the same layout; on grey images graying takes nothing away, so
that AE+G repeats AE, and ITAE AE+R, but for rounding, which training at a high rate makes grow. The paper
shows a frame of ShanghaiTech:
--set data.name=shanghaitech data.image_size=480 model.name=resnet34_unet (its frames have no masks here).
What the paper shows: the plain autoencoder restores the anomaly too, ITAE does not. The pixel AUROC and
AUPRO of each variant stand in the report; the paper has none.

Reduced, for a CPU: python experiments/reduced.py figure6

Measured:
  magnetic_tile, width 16, 15 epochs, data.image_size=64, train.augment=flip+shift, reduced: AE 49.0 (1
    class), AE+G 49.0 (1 class), AE+R 53.8 (1 class), ITAE 54.0 (1 class); 8 min a training on 1 x AMD EPYC
"""

from itae_jax.config import DataConfig, Experiment, TrainConfig, TransformConfig

VARIANTS = {"AE": "identity", "AE+G": "gray", "AE+R": "rotate", "ITAE": "gray+rotate"}


def get_configs() -> dict[str, Experiment]:
    return {
        variant: Experiment(
            name="figure6_error_maps",
            paper_table="table2",
            data=DataConfig(name="mvtec_ad", image_size=256),
            transform=TransformConfig(name=transform),
            train=TrainConfig(augment="flip+shift"),
        )
        for variant, transform in VARIANTS.items()
    }
