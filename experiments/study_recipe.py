"""What the improved recipe changes, one thing at a time, at an equal number of images seen.

  itae run study_recipe --classes 7,8 --set data.root=DIR
  itae run study_recipe --classes shirt --set data.name=fashion_mnist data.root=DIR --out runs/study_fashion
  itae run study_recipe --classes 1,7 --set data.name=cifar10 data.root=DIR --out runs/study_cifar10

12 passes over 1,500 images at width 16, about three minutes each on two cores. All are scored by the mean and
by the maximum over the members, of absolute, squared and relative errors.
"""

from itae_jax import experiment
from itae_jax.config import DataConfig, TrainConfig
from itae_jax.experiment import Experiment
from itae_jax.methods.itae import ITAEConfig

EPOCHS = 12
IMPROVED = {
    "improved": [],
    "l1_loss": ["method.loss=l1"],
    "linear_output": ["method.output=linear"],
    "all_members": ["method.transforms_per_image=all", f"train.epochs={EPOCHS // 4}"],
    "batch_16": ["train.batch_size=16"],
    "flip": ["train.augment=flip"],
    "flip_shift": ["train.augment=flip+shift"],
}


def get_configs() -> dict[str, Experiment]:
    base = Experiment(
        name="study_recipe",
        data=DataConfig(name="mnist", limit_train=1500, limit_test=1000),
        method=ITAEConfig(width=16),
        train=TrainConfig(epochs=EPOCHS),
    )
    momentum = ["method.momentum=0.9", "train.learning_rate=0.02", "train.schedule=cosine"]
    by_sgd = {"paper": [], "cosine": ["train.schedule=cosine"], "momentum": momentum}
    found = {name: experiment.override(base, changed) for name, changed in by_sgd.items()}
    by_adamw = {name: ["method.error=l1", *changed] for name, changed in IMPROVED.items()}
    improved = {name: experiment.override(base, changed, "improved") for name, changed in by_adamw.items()}
    return found | improved
