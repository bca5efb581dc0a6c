"""The network and its training against the same layers in PyTorch, weights copied over."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install torch==2.13.0")

from itae_jax.bench.torch_unet import TorchUNet, state_dict

from itae_jax.config import ComputeConfig, TrainConfig
from itae_jax.models import build
from itae_jax.parallel import AXIS
from itae_jax.training import step as train
from itae_jax.training.trainer import Trainer
from itae_jax.transforms import Transform

WIDTH, SIDE, BATCH = 4, 32, 8


def to_torch(images):
    return torch.tensor(np.asarray(images)).permute(0, 3, 1, 2)


def copied(variables):
    network = TorchUNet(WIDTH, 1, 3)
    network.load_state_dict(state_dict(variables["params"], variables["batch_stats"]))
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
    ours = state_dict(variables["params"], updated["batch_stats"])
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


def test_twenty_sgd_steps_agree(rng):
    """Ours over two devices. In float64, because training at this rate doubles a rounding error at
    almost every step; in float32 the two part ways within ten, as PyTorch does from itself.
    """
    config = TrainConfig(batch_size=BATCH, learning_rate=0.1, halve_every_epochs=10)
    rates = train.learning_rate_schedule(config, steps_per_epoch=1)
    network = TorchUNet(WIDTH, 1, 3).double().train()
    optimiser = torch.optim.SGD(network.parameters(), lr=0.1)
    halving = torch.optim.lr_scheduler.StepLR(optimiser, step_size=10, gamma=0.5)

    with jax.enable_x64(True):
        model = build("unet", width=WIDTH, out_channels=3, dtype="float64", axis_name=AXIS)
        compute = ComputeConfig(devices=2, dtype="float64")
        turned_gray = Transform("turned_gray", 1, gray_and_turn, out_channels=lambda channels: 1)
        trainer = Trainer(model, turned_gray, (SIDE, SIDE, 3), config, compute)
        state = trainer.initial_state((0,))
        network.load_state_dict(state_dict(state.params, state.batch_stats))
        for step in range(20):
            images = smooth_images(rng)
            state, loss = trainer.run_steps(state, np.asarray([rates(step)], np.float64), images[None])

            targets = to_torch(images / 127.5 - 1)
            optimiser.zero_grad()
            erased = torch.rot90(targets.mean(1, keepdim=True), 1, (2, 3))
            expected = torch.nn.functional.mse_loss(network(erased), targets)
            expected.backward()
            optimiser.step()
            halving.step()
            assert float(loss[0]) == pytest.approx(expected.item(), rel=1e-6), f"step {step}"

    assert halving.get_last_lr()[0] == pytest.approx(0.1 / 4)
    assert float(rates(20)) == pytest.approx(0.1 / 4)
    ours, theirs = state_dict(state.params, state.batch_stats), network.state_dict()
    for name in ours:
        if "num_batches" not in name:
            np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-5, atol=1e-7, err_msg=name)


def gray_and_turn(image, index):
    return jnp.rot90(image.mean(-1, keepdims=True), 1)


def smooth_images(rng):
    """B x H x W x 3 uint8 with as much contrast as photographs have."""
    noise = gaussian_filter(rng.normal(size=(BATCH, SIDE, SIDE, 3)), (0, 2, 2, 0), mode="wrap")
    return np.uint8(np.clip(128 + 60 * noise / noise.std(), 0, 255))
