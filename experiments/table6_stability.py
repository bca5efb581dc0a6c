"""Ten trainings that differ by their seed alone: the paper's Table 6, digit 1 of MNIST.

  itae run experiments/table6_stability.py --set data.root=DIR

On several machines: --seeds 0,1,2,3,4 on one, the others on another, then itae report DIR1 DIR2. Seed 0 is
Table 1's: --reuse DIR takes it from a run of table1_mnist.py.
The paper's ten runs average 99.94 with an SD of 0.01 (GeoTrans: 84.33 and 5.22, of which Table 1
takes the best run).

Reduced, for a CPU: python experiments/reduced.py table6

Measured:
  mnist, width 16, 2 epochs, reduced: ITAE 99.90 ± 0.05 (1 class); 3 min a training on 1 x AMD EPYC
"""

from itae_jax.config import DataConfig, Experiment, TransformConfig


def get_config() -> Experiment:
    return Experiment(
        name="table6_stability",
        paper_table="table6",
        classes="1",
        runs=10,
        data=DataConfig(name="mnist"),
        transform=TransformConfig(name="rotate"),
    )
