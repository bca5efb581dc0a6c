"""Speed and memory of scoring, and AUROC: the paper's Figure 3, on CIFAR-10.

  itae run figure3_efficiency --set data.root=DIR

Speed is that of scoring the test set from memory, without compiling; memory is what the scoring program takes
on a device by XLA's account. The paper prints 270 images/s and 713 MB for ITAE, 35 and 1389 MB for GeoTrans, on
a GTX 1080 Ti.
"""

from itae_jax.config import ComputeConfig, DataConfig, TrainConfig
from itae_jax.experiment import Experiment
from itae_jax.methods.ganomaly import GANomalyConfig
from itae_jax.methods.geotrans import GeoTransConfig
from itae_jax.methods.itae import ITAEConfig

VARIANTS = {
    "AE": (ITAEConfig(transform="identity"), "float32"),
    "ITAE": (ITAEConfig(), "float32"),
    "ITAE-bfloat16": (ITAEConfig(), "bfloat16"),
    "GeoTrans": (GeoTransConfig(), "float32"),
    "GANomaly": (GANomalyConfig(), "float32"),
}


def get_configs() -> dict[str, Experiment]:
    return {
        variant: Experiment(
            name="figure3_efficiency",
            paper_table="figure3",
            data=DataConfig(name="cifar10"),
            method=method,
            train=TrainConfig(augment="flip+shift" if isinstance(method, ITAEConfig) else "none"),
            compute=ComputeConfig(dtype=dtype),
        )
        for variant, (method, dtype) in VARIANTS.items()
    }
