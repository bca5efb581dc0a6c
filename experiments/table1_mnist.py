"""MNIST, each digit in turn the normal class: the paper's Table 1.

  itae data prepare mnist --root DIR
  itae run experiments/table1_mnist.py --set data.root=DIR

The paper's average over the ten digits is 98.3. The plain autoencoder beside it in the paper:
--set transform.name=identity. Images are 28x28, padded with black to 32x32, without augmentation.

Reduced, for a CPU: python experiments/reduced.py table1_mnist table1_mnist_ae

Measured:
  width 16, 5 epochs, reduced: ITAE 93.3 (10 classes), AE 59.7 (10 classes); 4 min a training on 1 x AMD EPYC
"""

from itae_jax.config import DataConfig, Experiment, TransformConfig


def get_config() -> Experiment:
    return Experiment(
        name="table1_mnist",
        paper_table="table1",
        data=DataConfig(name="mnist"),
        transform=TransformConfig(name="rotate"),
    )
