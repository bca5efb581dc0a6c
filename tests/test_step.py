"""The training step: PyTorch's steps of SGD, the learning rate, and pixels."""

import jax
import numpy as np
import pytest
from conftest import tiny, to_torch
from scipy.ndimage import gaussian_filter

from itae_jax import methods
from itae_jax.config import TrainConfig
from itae_jax.training.step import learning_rate_schedule
from itae_jax.training.trainer import Trainer

SIDE = 16


def smooth_images(rng, count):
    """B x H x W x 3 uint8 with as much contrast as photographs have."""
    noise = gaussian_filter(rng.normal(size=(count, SIDE, SIDE, 3)), (0, 2, 2, 0), mode="wrap")
    return np.uint8(np.clip(128 + 60 * noise / noise.std(), 0, 255))


def copy_of_tiny_net(torch, config):
    """The TinyNet in PyTorch, and its arrays under PyTorch's names."""
    layers = torch.nn
    network = layers.Sequential(
        *(layers.Conv2d(1, 4, 3, padding=1), layers.BatchNorm2d(4), layers.ReLU()),
        *(layers.Conv2d(4, 3, 3, padding=1), layers.Tanh()),
    )
    return network, lambda variables: {
        **{f"{3 * n}.weight": variables["params"][f"Conv_{n}"]["kernel"].transpose(3, 2, 0, 1) for n in (0, 1)},
        **{f"{3 * n}.bias": variables["params"][f"Conv_{n}"]["bias"] for n in (0, 1)},
        "1.weight": variables["params"]["BatchNorm_0"]["scale"],
        "1.bias": variables["params"]["BatchNorm_0"]["bias"],
        "1.running_mean": variables["batch_stats"]["BatchNorm_0"]["mean"],
        "1.running_var": variables["batch_stats"]["BatchNorm_0"]["var"],
    }


def check_steps(rng, build_reference, settings, turns, loss="l2", momentum=0.0, decay=0.0):
    """Trains ITAE and a reference in PyTorch on the same images and compares losses and weights.

    Ours over two devices. In float64, because at this rate almost every step doubles a rounding error.
    """
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install torch==2.13.0")
    settings = [*settings, f"method.loss={loss}", f"method.momentum={momentum}", f"method.weight_decay={decay}"]
    one = tiny("itae", *settings, "train.halve_every_epochs=2", "compute.dtype=float64", "compute.devices=2")
    rates = learning_rate_schedule(one.train, steps_per_epoch=1)
    network, named = build_reference(torch, one.method)
    network.double().train()
    optimiser = torch.optim.SGD(network.parameters(), lr=0.1, momentum=momentum, weight_decay=decay)
    halving = torch.optim.lr_scheduler.StepLR(optimiser, step_size=2, gamma=0.5)
    error = {"l2": torch.nn.functional.mse_loss, "l1": torch.nn.functional.l1_loss}[loss]

    def weights_of(state):
        arrays = named(jax.tree.map(np.asarray, state.method.variables))
        return {name: torch.tensor(np.ascontiguousarray(value)) for name, value in arrays.items()}

    with jax.enable_x64(True):
        trainer = Trainer(methods.build(one.method, (SIDE, SIDE, 3), "float64"), one.train, one.compute)
        state = trainer.initial_state((0,))
        network.load_state_dict(weights_of(state), strict=False)
        for step in range(3):
            images = smooth_images(rng, 8)
            state, metrics = trainer.run_steps(state, np.array([rates(step)]), images[None])

            targets = to_torch(images / 127.5 - 1)
            gray = targets.mean(1, keepdim=True)
            erased = torch.cat([torch.rot90(gray, turn, (2, 3)) for turn in turns])
            expected = error(network(erased), targets.repeat(len(turns), 1, 1, 1))
            optimiser.zero_grad()
            expected.backward()
            optimiser.step()
            halving.step()
            assert float(metrics["loss"][0]) == pytest.approx(expected.item(), rel=1e-6), f"step {step}"
        ours = weights_of(state)
    compared = [name for name in network.state_dict() if "num_batches" not in name]
    assert ours.keys() >= set(compared)
    for name in compared:
        np.testing.assert_allclose(ours[name], network.state_dict()[name], rtol=1e-5, atol=1e-7, err_msg=name)


def test_steps_of_the_papers_training_agree_with_pytorch(rng):
    def build_reference(torch, config):
        spec = methods.spec("itae")
        network, channels = spec.torch_reference(config, 3)
        assert channels == 1
        return network, lambda variables: spec.torch_weights(config, variables)

    check_steps(rng, build_reference, ["method.transform=gray", "method.width=2"], [0])


def test_steps_on_all_transforms_with_momentum_agree_with_pytorch(rng, tiny_network):
    settings = ["method.transform=gray+rotate", "method.transforms_per_image=all"]
    check_steps(rng, copy_of_tiny_net, settings, [0, 1, 2, 3], "l1", 0.9, 1e-3)


def test_rate_is_halved_after_every_so_many_epochs():
    config = TrainConfig(learning_rate=0.1, halve_every_epochs=50)
    rate = learning_rate_schedule(config, steps_per_epoch=7)
    halvings = {0: 0, 50 * 7 - 1: 0, 50 * 7: 1, 100 * 7: 2, 500 * 7 - 1: 9}
    assert {step: rate(step) for step in halvings} == {
        s: pytest.approx(0.1 / 2**n) for s, n in halvings.items()
    }


def test_rate_falls_to_zero_along_a_cosine():
    config = TrainConfig(learning_rate=0.1, epochs=4, schedule="cosine")
    rate = learning_rate_schedule(config, steps_per_epoch=5)
    expected = 0.05 * (1 + np.cos(np.pi * np.arange(20) / 20))
    np.testing.assert_allclose([rate(step) for step in range(20)], expected, rtol=1e-12)
