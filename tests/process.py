"""`itae` with the least network, on virtual CPU devices: DEVICES and then the arguments of `itae`.

Run by test_processes.py, several at a time, and by test_faults.py.
"""

import os
import sys

os.environ["XLA_FLAGS"] = (
    f"--xla_force_host_platform_device_count={sys.argv[1]} --xla_backend_optimization_level=0"
)
os.environ["JAX_PLATFORMS"], os.environ["JAX_ENABLE_X64"] = "cpu", "1"

import tiny_net

from itae_jax import cli, models, parallel

models.build = tiny_net.build
parallel._SECONDS_OF_SILENCE = 5  # no need to be patient
sys.exit(cli.main(sys.argv[2:]))
