"""Ten trainings that differ by their seed alone: the paper's Table 6, digit 1 of MNIST.

  itae run table6_stability --set data.root=DIR --reuse runs/table1_mnist

The paper's ten runs average 99.94 with an SD of 0.01 (GeoTrans: 84.33 and 5.22).
"""

from itae_jax.config import DataConfig
from itae_jax.experiment import Experiment
from itae_jax.methods.itae import ITAEConfig


def get_config() -> Experiment:
    return Experiment(
        name="table6_stability",
        paper_table="table6",
        classes="1",
        runs=10,
        data=DataConfig(name="mnist"),
        method=ITAEConfig(transform="rotate"),
    )
