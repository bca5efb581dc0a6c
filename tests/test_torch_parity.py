"""The network against the same layers in PyTorch, weights copied over; test_step.py has the training."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import to_torch

torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install torch==2.13.0")

from itae_jax.models import build
from itae_jax.models.torch_unet import TorchUNet
from itae_jax.models.torch_weights import to_state_dict

WIDTH, SIDE, BATCH = 4, 32, 8


def copied(variables):
    network = TorchUNet(WIDTH, 1, 3)
    network.load_state_dict({name: torch.tensor(value) for name, value in to_state_dict(variables).items()})
    return network


@pytest.fixture(scope="module")
def model():
    return build("unet", width=WIDTH, out_channels=3)


@pytest.fixture(scope="module")
def fresh(model):
    return jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, SIDE, SIDE, 1)))


@pytest.fixture(scope="module")
def variables(fresh):
    """Weights as PyTorch draws them, statistics as after some training."""
    rng = np.random.default_rng(1)
    stats = jax.tree.map(lambda x: np.float32(rng.uniform(0.5, 1.5, x.shape)), fresh["batch_stats"])
    return {"params": fresh["params"], "batch_stats": stats}


@pytest.fixture
def inputs(rng):
    return rng.uniform(-1, 1, (BATCH, SIDE, SIDE, 1)).astype(np.float32)


def test_unet_agrees_in_evaluation(model, variables, inputs):
    network = copied(variables).eval()
    with torch.inference_mode():
        expected = network(to_torch(inputs)).permute(0, 2, 3, 1)
    np.testing.assert_allclose(jax.jit(model.apply)(variables, inputs), expected, atol=1e-4)


def test_unet_and_its_running_statistics_agree_in_training(model, variables, inputs):
    network = copied(variables).train()
    with torch.no_grad():
        expected = network(to_torch(inputs)).permute(0, 2, 3, 1)
    apply = jax.jit(functools.partial(model.apply, train=True, mutable=["batch_stats"]))
    outputs, updated = apply(variables, inputs)
    np.testing.assert_allclose(outputs, expected, atol=1e-4)
    ours = to_state_dict({"params": variables["params"], **updated})
    theirs = network.state_dict()
    compared = [name for name in ours if "running" in name]
    assert len(compared) == 36
    for name in compared:
        np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-4, atol=1e-5, err_msg=name)


def test_unet_is_initialised_by_pytorchs_distribution(fresh):
    for name, layer in fresh["params"]["DoubleConv_4"].items():
        if name.startswith("Conv"):
            bound = 1 / np.sqrt(9 * layer["kernel"].shape[2])
            for values in layer.values():
                assert np.abs(values).max() <= bound
            assert np.std(layer["kernel"]) == pytest.approx(bound / np.sqrt(3), rel=0.02)
