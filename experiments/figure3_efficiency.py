"""Speed of scoring, memory and AUROC: the paper's Figure 3, on CIFAR-10.

  itae run experiments/figure3_efficiency.py --set data.root=DIR

Speed is that of scoring the whole test set from memory, compiling not included; memory is what the scoring
program takes on a device by XLA's account: parameters, a batch and what lies between.
The paper prints 270 images a second and 713 MB for ITAE, 35 and 1389 MB for GeoTrans, on a GTX 1080 Ti.
Its "5x faster" is 7.7x by its own times.

Reduced, for a CPU: python experiments/reduced.py figure3

Measured:
  cifar10, width 16, 5 epochs, train.augment=flip+shift, reduced: AE 51.1 (1 class), ITAE 54.6 (1 class),
    ITAE-bfloat16 54.5 (1 class); 5 min a training on 1 x AMD EPYC
"""

from itae_jax.config import ComputeConfig, DataConfig, Experiment, TrainConfig, TransformConfig

VARIANTS = {
    "AE": ("identity", "float32"),
    "ITAE": ("gray+rotate", "float32"),
    "ITAE-bfloat16": ("gray+rotate", "bfloat16"),
}


def get_configs() -> dict[str, Experiment]:
    return {
        variant: Experiment(
            name="figure3_efficiency",
            paper_table="figure3",
            data=DataConfig(name="cifar10"),
            transform=TransformConfig(name=transform),
            train=TrainConfig(augment="flip+shift"),
            compute=ComputeConfig(dtype=dtype),
        )
        for variant, (transform, dtype) in VARIANTS.items()
    }
