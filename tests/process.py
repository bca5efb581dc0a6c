"""`itae` with a tiny network on virtual CPU devices: DEVICES, then the arguments of `itae`.

test_processes.py and test_faults.py run it.
"""

import os
import sys

os.environ["XLA_FLAGS"] = (
    f"--xla_force_host_platform_device_count={sys.argv.pop(1)} --xla_backend_optimization_level=0"
)
os.environ["JAX_PLATFORMS"], os.environ["JAX_ENABLE_X64"] = "cpu", "1"

import tiny_net

from itae_jax import cli, models, parallel

models.build = tiny_net.build
parallel.SECONDS_OF_SILENCE = 5
parallel.SECONDS_TO_JOIN = 20
cli.entry()
