"""GANomaly against an independent network in PyTorch."""

import dataclasses
import itertools

import jax
import numpy as np
import pytest
from conftest import make_learner, tiny, to_torch, update_on_two_devices

torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install torch==2.13.0")

from torch import nn
from torch.nn import functional

from itae_jax import methods
from itae_jax.errors import RequestError
from itae_jax.methods.ganomaly import GANomalyConfig

CHANNELS, LATENT, BATCH = 3, 5, 6
CONFIG = GANomalyConfig(channels=CHANNELS, latent=LATENT, adversarial=2.0, contextual=20.0, encoder=3.0)
SHAPES = [((32, 32, 3), 3), ((16, 24, 1), 2)]


class TorchEncoder(nn.Module):
    def __init__(self, shape, levels, outputs):
        super().__init__()
        widths = [shape[2], *(CHANNELS * 2**level for level in range(levels))]
        pairs = itertools.pairwise(widths)
        self.convs = nn.ModuleList(nn.Conv2d(*pair, 4, 2, 1, bias=False) for pair in pairs)
        self.norms = nn.ModuleList(nn.BatchNorm2d(width) for width in widths[2:])
        self.last = nn.Conv2d(widths[-1], outputs, [side >> levels for side in shape[:2]], bias=False)

    def forward(self, x):
        x = functional.leaky_relu(self.convs[0](x), 0.2)
        for conv, norm in zip(self.convs[1:], self.norms, strict=True):
            x = functional.leaky_relu(norm(conv(x)), 0.2)
        return x, self.last(x)[:, :, 0, 0]


class TorchDecoder(nn.Module):
    def __init__(self, shape, levels):
        super().__init__()
        widths = [*(CHANNELS * 2**level for level in reversed(range(levels))), shape[2]]
        first = nn.ConvTranspose2d(LATENT, widths[0], [side >> levels for side in shape[:2]], bias=False)
        pairs = itertools.pairwise(widths)
        self.convs = nn.ModuleList([first, *(nn.ConvTranspose2d(*p, 4, 2, 1, bias=False) for p in pairs)])
        self.norms = nn.ModuleList(nn.BatchNorm2d(width) for width in widths[:-1])

    def forward(self, code):
        x = self.convs[0](code[:, :, None, None])
        for conv, norm in zip(self.convs[1:], self.norms, strict=True):
            x = conv(norm(x).relu())
        return x.tanh()


class TorchGANomaly(nn.Module):
    def __init__(self, shape, levels):
        super().__init__()
        self.encoder, self.second_encoder = (TorchEncoder(shape, levels, LATENT) for _ in range(2))
        self.decoder, self.discriminator = TorchDecoder(shape, levels), TorchEncoder(shape, levels, 1)

    def generate(self, images):
        code = self.encoder(images)[1]
        restored = self.decoder(code)
        return restored, code, self.second_encoder(restored)[1]

    def load(self, variables):
        """Copies Flax's variables, which are numbered in the order of their calls."""
        for name, network in self.named_children():
            path = ("discriminator",) if name == "discriminator" else ("generator", name)
            params, stats = variables["params"], variables["batch_stats"]
            for part in path:
                params, stats = params[part], stats[part]
            convs = [*network.convs, *([network.last] if name != "decoder" else [])]
            for number, layer in enumerate(convs):
                if name == "decoder":
                    kernel = params[f"ConvTranspose_{number}"]["kernel"][::-1, ::-1].transpose(2, 3, 0, 1)
                else:
                    kernel = params[f"Conv_{number}"]["kernel"].transpose(3, 2, 0, 1)
                layer.weight.data = torch.tensor(np.array(kernel))
            for number, layer in enumerate(network.norms):
                layer.weight.data, layer.bias.data, layer.running_mean.data, layer.running_var.data = (
                    torch.tensor(np.array(tree[f"BatchNorm_{number}"][key]))
                    for tree, key in ((params, "scale"), (params, "bias"), (stats, "mean"), (stats, "var"))
                )
        return self


@pytest.mark.parametrize(("shape", "levels"), SHAPES)
def test_networks_restore_and_measure_as_pytorch_does(rng, shape, levels):
    method = methods.build(CONFIG, shape, "float32")
    variables = jax.jit(method.init)(jax.random.key(0)).variables
    # The first kernels are so small that all outputs would be near 0.
    variables["params"] = jax.tree.map(lambda x: 8 * x if x.ndim == 4 else x, variables["params"])
    variables["batch_stats"] = jax.tree.map(
        lambda x: np.float32(rng.uniform(0.5, 1.5, x.shape)), variables["batch_stats"]
    )
    images = rng.uniform(-1, 1, (BATCH, *shape)).astype(np.float32)
    reference = TorchGANomaly(shape, levels).load(variables).eval()
    with torch.inference_mode():
        restored, code, again = reference.generate(to_torch(images))
    inputs, outputs = jax.jit(method.examples)(variables, {}, images)
    np.testing.assert_array_equal(inputs[0], images)
    np.testing.assert_allclose(outputs[0], restored.permute(0, 2, 3, 1), atol=1e-4)
    measured = jax.tree.map(np.asarray, jax.jit(method.measure)(variables, images))
    distances = (again - code).square().mean(1).numpy()
    np.testing.assert_allclose(measured["code"], distances, rtol=1e-3)
    errors = (restored - to_torch(images)).abs().mean((1, 2, 3))
    np.testing.assert_allclose(measured["restoration"], errors, rtol=1e-4)
    calibration = method.calibrate(measured)
    np.testing.assert_allclose(method.score(measured, calibration), distances / distances.mean(), rtol=1e-3)


def test_steps_are_those_of_pytorchs_adam(rng):
    shape, levels = SHAPES[1]
    with jax.enable_x64(True):
        method = methods.build(CONFIG, shape, "float64")
        state = jax.jit(method.init)(jax.random.key(0))
        reference = TorchGANomaly(shape, levels).double().load(state.variables).train()
        others = [reference.encoder, reference.decoder, reference.second_encoder]
        of_generator = torch.optim.Adam((p for net in others for p in net.parameters()), 2e-4, (0.5, 0.999))
        of_discriminator = torch.optim.Adam(reference.discriminator.parameters(), 2e-4, (0.5, 0.999))
        step = update_on_two_devices(method)
        for number in range(3):
            images = rng.uniform(-1, 1, (BATCH, *shape))
            keys = jax.random.split(jax.random.key(number), BATCH)
            state, metrics = step(state, keys, np.float64(2e-4), images)

            pixels = to_torch(images)
            restored, code, again = reference.generate(pixels)
            of_images, is_real = reference.discriminator(pixels)
            of_restored, is_made = reference.discriminator(restored)
            adversarial = functional.mse_loss(of_restored, of_images)
            contextual, encoder = functional.l1_loss(restored, pixels), functional.mse_loss(again, code)
            loss = 2 * adversarial + 20 * contextual + 3 * encoder
            entropy = functional.binary_cross_entropy_with_logits
            real, made = entropy(is_real, torch.ones_like(is_real)), entropy(is_made, torch.zeros_like(is_made))
            for one, optimiser in ((loss, of_generator), ((real + made) / 2, of_discriminator)):
                own = optimiser.param_groups[0]["params"]
                gradients = torch.autograd.grad(one, own, retain_graph=True)
                for parameter, gradient in zip(own, gradients, strict=True):
                    parameter.grad = gradient
            of_generator.step()
            of_discriminator.step()
            assert float(metrics["loss"]) == pytest.approx(loss.item(), rel=1e-9)
            assert float(metrics["discriminator_loss"]) == pytest.approx(((real + made) / 2).item(), rel=1e-9)
        trained = jax.tree.map(np.asarray, state.variables)
    ours = TorchGANomaly(shape, levels).double().load(trained).state_dict()
    for name, value in reference.state_dict().items():
        if "num_batches" not in name:
            np.testing.assert_allclose(ours[name], value, err_msg=name, atol=1e-7)


def test_discriminator_that_always_wins_starts_anew(rng):
    shape = SHAPES[1][0]
    still = dataclasses.replace(CONFIG, adversarial=0.0, contextual=0.0, encoder=0.0)
    method = methods.build(still, shape, "float32")
    state = jax.jit(method.init)(jax.random.key(0))
    images = np.sign(rng.uniform(-1, 1, (BATCH, *shape))).astype(np.float32)
    step = update_on_two_devices(method)
    keys = jax.random.split(jax.random.key(0), BATCH)
    for _ in range(20):
        state, metrics = step(state, keys, np.float32(0.3), images)
    assert 1e-5 < metrics["discriminator_loss"] < 0.1
    last = state.variables["params"]["discriminator"]["Conv_2"]
    last["kernel"] = 1000 * last["kernel"]  # now it is sure
    state, metrics = step(state, keys, np.float32(0.3), images)
    assert metrics["discriminator_loss"] < 1e-5
    after = state.variables["params"]["discriminator"]
    kernels = np.concatenate([np.ravel(after[f"Conv_{number}"]["kernel"]) for number in range(3)])
    assert kernels.std() == pytest.approx(0.02, rel=0.2) and np.abs(kernels).max() < 0.12


@pytest.mark.parametrize("shape", [(20, 32, 1), (6, 6, 1)])
def test_images_that_cannot_be_halved_are_refused(shape):
    with pytest.raises(RequestError, match=r"images of \d+x\d+: .*data.image_size"):
        make_learner(tiny("ganomaly"), shape)
