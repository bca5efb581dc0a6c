"""MNIST, each digit in turn the normal class: the paper's Table 1.

  itae data prepare mnist --root DIR
  itae run table1_mnist --set data.root=DIR
  itae run table1_mnist --set data.root=DIR method.transform=identity --out runs/table1_mnist_ae

The paper prints an average of 98.3, and 91.9 for the plain autoencoder (the last command). Images are 28x28,
padded with black to 32x32.
"""

from itae_jax.config import DataConfig
from itae_jax.experiment import Experiment
from itae_jax.methods.itae import ITAEConfig


def get_config() -> Experiment:
    return Experiment(
        name="table1_mnist",
        paper_table="table1",
        data=DataConfig(name="mnist"),
        method=ITAEConfig(transform="rotate"),
    )
