"""`python -m itae_jax` is the `itae` command."""

from itae_jax.cli import entry

if __name__ == "__main__":
    entry()
