"""`python -m itae_jax` is the `itae` command."""

import sys

from itae_jax.cli import main

if __name__ == "__main__":
    sys.exit(main())
