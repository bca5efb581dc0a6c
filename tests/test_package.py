"""What the whole package promises of its own source."""

import re
import subprocess
import sys
from pathlib import Path

import itae_jax

SOURCES = sorted(Path(itae_jax.__file__).parent.rglob("*.py"))


def naming(pattern):
    return {path.name for path in SOURCES if re.search(pattern, path.read_text())}


def test_public_names_exist_and_have_docstrings():
    for name in itae_jax.__all__:
        assert getattr(itae_jax, name).__doc__, name


def test_one_file_knows_the_devices_one_the_checkpoints_and_few_pytorch():
    assert naming(r"\bjax\.pmap\b|jax\.distributed") == {"parallel.py"}
    assert naming("orbax.checkpoint as") == {"checkpoint.py"}
    assert naming("import torch") == {"contenders.py", "torch_unet.py"}


def test_the_package_imports_nothing_from_experiments_and_unpickles_nothing():
    assert naming(r"(import|from) experiments|import pickle|allow_pickle=True") == set()


def test_the_tables_in_the_documentation_are_those_of_the_measured_results():
    publish = Path(__file__).parent.parent / "experiments" / "publish.py"
    subprocess.run([sys.executable, publish, "--check"], check=True)
