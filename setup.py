from pathlib import Path

from setuptools import find_packages, setup

setup(
    name="itae_jax",
    version="0.1.0",
    description="Inverse-Transform AutoEncoder for image anomaly detection, in JAX and Flax",
    long_description=Path("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    keywords="anomaly detection, one-class classification, images, autoencoder, ITAE, ARNet, JAX, Flax",
    packages=[*find_packages(include=["itae_jax", "itae_jax.*"]), "itae_jax.experiments"],
    package_dir={"itae_jax.experiments": "experiments"},  # so that `itae run digits` works from a wheel
    package_data={
        "itae_jax": ["py.typed", "report/templates/*", "data/*.csv"],
        "itae_jax.experiments": ["paper/*.csv"],
    },
    # On Linux all tests run with Python 3.11, and .ci/smoke with the newest of these that is there; macOS and
    # Windows are untested.
    python_requires=">=3.11,<3.15",
    classifiers=[
        "Development Status :: 4 - Beta",
        "Environment :: Console",
        "Environment :: GPU :: NVIDIA CUDA",
        "Intended Audience :: Developers",
        "Intended Audience :: Manufacturing",
        "Intended Audience :: Science/Research",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3 :: Only",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Programming Language :: Python :: 3.14",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Topic :: Scientific/Engineering :: Image Recognition",
        "Typing :: Typed",
    ],
    install_requires=[
        # Tested up to 0.12. A new minor version needs a test: pmap, which parallel.py uses, is in maintenance
        # mode, and XLA's convolutions for CPUs differ between minor versions.
        "jax>=0.10.2,<0.13",
        "flax>=0.12",
        "optax>=0.2.8",  # older ones ask for a pmap that JAX no longer has
        "orbax-checkpoint>=0.11,<0.13",  # its V1 API is experimental and changes between minor versions
        "numpy>=2",
        "pandas>=3",
        "scikit-learn>=1.5",  # brings SciPy and threadpoolctl
        "pillow>=12",
        "matplotlib>=3.9",
        "jinja2>=3.1",
        "rich>=13",
        "filelock>=3.12",
        "tensorflow-datasets>=4.9.8",
        "array-record>=0.7",
        "importlib_resources>=6",  # tensorflow-datasets uses it and does not ask for it
        "grain>=0.2.10",
        "safetensors>=0.5",
        "flatbuffers>=24",  # jax.export asks for it when it writes or reads a file
    ],
    extras_require={
        "cuda": ["jax[cuda13]"],
        "tpu": ["jax[tpu]"],
        "prepare": ["tensorflow-cpu>=2.20", "av>=14"],
        "completion": ["shtab>=1.7"],
        "tensorboard": ["tensorboardX>=2.6"],
        "onnx": ["jax2onnx>=0.17,<0.18", "onnxruntime>=1.24.1"],  # brings orbax-checkpoint below 0.11.37
        "dev": [
            "pytest>=8",
            "pytest-xdist>=3.6",
            "hypothesis>=6",
            "ruff>=0.9",
            "mypy>=1.18",
            "import-linter>=2.6",
        ],
    },
    entry_points={"console_scripts": ["itae = itae_jax.cli:entry"]},
)
