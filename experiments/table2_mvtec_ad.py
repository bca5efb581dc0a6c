"""MVTec AD, trained on the normal images of one category at a time: the paper's Table 2.

  itae run table2_mvtec_ad --set data.root=DIR

DIR holds the published folders <category>/{train,test,ground_truth}, or others of the same layout. The paper
prints an average of 83.9; it does not print the size of the images, 256 is our choice.
"""

from itae_jax.config import DataConfig, TrainConfig
from itae_jax.experiment import Experiment


def get_config() -> Experiment:
    return Experiment(
        name="table2_mvtec_ad",
        paper_table="table2",
        data=DataConfig(name="mvtec_ad", image_size=256),
        train=TrainConfig(augment="flip+shift"),
    )
