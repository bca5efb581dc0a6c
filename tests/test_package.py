"""What the whole package promises of its own source and of its import."""

import os
import re
import subprocess
import sys
from pathlib import Path

import itae_jax

SOURCES = sorted(Path(itae_jax.__file__).parent.rglob("*.py"))


def naming(pattern):
    return {path.name for path in SOURCES if re.search(pattern, path.read_text())}


def test_package_has_its_public_names_with_docstrings():
    public = {"ITAEDetector", "UNet", "anomaly_scores", "auroc", "frame_normality", "restoration_errors"}
    assert public <= set(itae_jax.__all__) <= set(dir(itae_jax))
    for name in itae_jax.__all__:
        assert getattr(itae_jax, name).__doc__, name
    assert itae_jax.models.UNet is itae_jax.UNet
    assert itae_jax.transforms.get("gray+rotate").count == 4
    assert itae_jax.evaluate.auroc is itae_jax.auroc
    assert not hasattr(itae_jax, "nothing_of_this_name")


def test_package_names_the_cause_of_an_attribute_error_in_a_lazy_import():
    """Python itself says no more than "cannot import name"."""
    script = """
import sys
from importlib.machinery import ModuleSpec

class Broken:
    def find_spec(self, name, path=None, target=None):
        return ModuleSpec(name, self) if name == "itae_jax.detection.detector" else None
    def create_module(self, spec):
        return None
    def exec_module(self, module):
        raise AttributeError("module 'jax' has no attribute 'gone'")

sys.meta_path.insert(0, Broken())
from itae_jax import ITAEDetector
"""
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    last = result.stderr.strip().splitlines()[-1]
    assert re.match("ImportError: .*itae_jax.detection.detector.*module 'jax' has no attribute 'gone'", last)


def test_package_names_pmap_orbax_and_pytorch_in_one_file_each():
    assert naming(r"\bjax\.pmap\b|jax\.distributed") == {"parallel.py"}
    assert naming("orbax.checkpoint as") == {"checkpoint.py"}
    assert naming(r"import torch\b") == {"cases.py", "torch_unet.py"}


def test_package_imports_nothing_from_experiments_and_unpickles_nothing():
    assert naming(r"(import|from) experiments|import pickle|allow_pickle=True") == set()


def test_compiled_programs_are_kept_for_the_next_process_up_to_a_gibibyte(tmp_path):
    script = "import jax; from itae_jax import parallel; parallel.keep_programs(); jax.jit(abs)(1.0)"
    environment = {key: value for key, value in os.environ.items() if not key.startswith("JAX_COMPILATION")}

    def kept():
        command, home = [sys.executable, "-W", "default", "-c", script], {"XDG_CACHE_HOME": str(tmp_path)}
        output = subprocess.run(command, check=True, env=environment | home, capture_output=True, text=True)
        assert not output.stderr
        (directory,) = (tmp_path / "itae_jax").iterdir()
        return directory, {path.name for path in directory.iterdir()}

    directory, programs = kept()
    assert programs
    for name, seconds in (("older", 1000), ("newer", 2000)):
        with (directory / name).open("wb") as file:
            file.truncate(600 * 2**20)  # takes no room
        os.utime(directory / name, (seconds, seconds))
    assert kept()[1] == programs | {"newer"}
    for name in programs:
        (directory / name).write_bytes(b"damaged")
    kept()  # removes it
    assert kept()[1] == programs | {"newer"}
    assert not any((directory / name).read_bytes() == b"damaged" for name in programs)


def test_a_cache_that_cannot_be_written_is_passed_over_in_silence(tmp_path):
    (tmp_path / "file").touch()
    script = "import jax; from itae_jax import parallel; parallel.keep_programs(); jax.jit(abs)(1.0)"
    environment = {key: value for key, value in os.environ.items() if not key.startswith("JAX_COMPILATION")}
    environment["XDG_CACHE_HOME"] = str(tmp_path / "file")
    command = [sys.executable, "-W", "default", "-c", script]
    output = subprocess.run(command, check=True, env=environment, capture_output=True, text=True)
    assert not output.stderr


def test_make_installs_without_running_anything_and_says_that_it_takes_a_while():
    root = Path(__file__).parent.parent
    planned = subprocess.check_output(["make", "--always-make", "--dry-run", "install"], cwd=root, text=True)
    assert "pip install" in planned and "itae run" not in planned
    assert planned.index("echo") < planned.index("pip install")
