"""Originals, inputs and restorations: the paper's Figures 5 and 7.

  itae run figure5_restorations --set data.root=DIR
  itae run figure5_restorations --variants cifar10 --set data.root=DIR

Variants mnist and ganomaly are trained on sixes (Figure 5), cifar10 on horses (Figure 7). The pictures lie in
figures/. In the paper normal images come back upright, others do not.
"""

from itae_jax.config import DataConfig, TrainConfig
from itae_jax.experiment import Experiment
from itae_jax.methods.ganomaly import GANomalyConfig
from itae_jax.methods.itae import ITAEConfig


def get_configs() -> dict[str, Experiment]:
    common = {"name": "figure5_restorations", "paper_table": "table1"}
    mnist, cifar10 = DataConfig(name="mnist"), DataConfig(name="cifar10")
    return {
        "mnist": Experiment(**common, classes="6", data=mnist, method=ITAEConfig(transform="rotate")),
        "ganomaly": Experiment(**common, classes="6", data=mnist, method=GANomalyConfig()),
        "cifar10": Experiment(**common, classes="horse", data=cifar10, train=TrainConfig(augment="flip+shift")),
    }
