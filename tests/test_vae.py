"""The VAE against an independent network in PyTorch."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import to_torch, update_on_two_devices

torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install torch==2.13.0")

from torch import nn
from torch.distributions import Normal, kl_divergence
from torch.nn import functional

from itae_jax import methods
from itae_jax.methods.vae import VAEConfig

CHANNELS, LATENT, BATCH = 4, 6, 8
CONFIG = VAEConfig(channels=CHANNELS, latent=LATENT, kl_weight=0.5)


def convolve(layer, x):
    """A convolution of stride 2 on zeros around the image, the odd one behind it."""
    pads = [max(2 * (-(-side // 2) - 1) + 3 - side, 0) for side in x.shape[:1:-1]]
    return layer(functional.pad(x, [part for pad in pads for part in (pad // 2, pad - pad // 2)]))


class TorchVAE(nn.Module):
    """Three convolutions, a Gaussian latent, three transposed convolutions."""

    def __init__(self, height, width, colours):
        super().__init__()
        widths = [colours, CHANNELS, 2 * CHANNELS, 4 * CHANNELS]
        self.encoder = nn.ModuleList(nn.Conv2d(*pair, 3, 2, bias=False) for pair in itertools.pairwise(widths))
        back = widths[::-1]
        self.decoder = nn.ModuleList(
            nn.ConvTranspose2d(*pair, 3, 2, bias=number == 2)
            for number, pair in enumerate(itertools.pairwise(back))
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(features) for features in (*widths[1:], *back[1:3]))
        self.sizes = [(height, width)]
        for _ in range(3):
            self.sizes.append(tuple(-(-side // 2) for side in self.sizes[-1]))
        inner = 4 * CHANNELS * self.sizes[3][0] * self.sizes[3][1]
        self.dense = nn.ModuleList(
            [nn.Linear(inner, LATENT), nn.Linear(inner, LATENT), nn.Linear(LATENT, inner)]
        )

    def forward(self, images, noise):
        x = images
        for layer, norm in zip(self.encoder, self.norms[:3], strict=True):
            x = norm(convolve(layer, x)).relu()
        x = x.permute(0, 2, 3, 1).flatten(1)  # Flax's order
        mean, log_variance = self.dense[0](x), self.dense[1](x)
        latent = Normal(mean, (log_variance / 2).exp())
        x = self.dense[2](latent.loc + latent.scale * noise).relu()
        x = x.reshape(-1, *self.sizes[3], 4 * CHANNELS).permute(0, 3, 1, 2)
        for number, layer in enumerate(self.decoder):
            x = layer(x)[..., : 2 * x.shape[2], : 2 * x.shape[3]]
            if number < 2:
                x = self.norms[3 + number](x).relu()
            height, width = self.sizes[2 - number]
            x = x[..., :height, :width]
        restored = x.tanh()
        reconstruction = -Normal(restored, 1.0).log_prob(images).sum((1, 2, 3))
        constant = images[0].numel() * np.log(2 * np.pi) / 2
        return restored, reconstruction - constant, kl_divergence(latent, Normal(0.0, 1.0)).sum(1)

    def load(self, variables):
        """Copies Flax's variables."""
        params, stats = variables["params"], variables["batch_stats"]

        def fill(tensor, array):
            tensor.data = torch.tensor(np.array(array))

        for number, layer in enumerate(self.encoder):
            fill(layer.weight, params[f"Conv_{number}"]["kernel"].transpose(3, 2, 0, 1))
        for number, layer in enumerate(self.decoder):
            of_layer = params[f"ConvTranspose_{number}"]
            fill(layer.weight, of_layer["kernel"][::-1, ::-1].transpose(2, 3, 0, 1))
            if layer.bias is not None:
                fill(layer.bias, of_layer["bias"])
        for number, layer in enumerate(self.dense):
            fill(layer.weight, params[f"Dense_{number}"]["kernel"].T)
            fill(layer.bias, params[f"Dense_{number}"]["bias"])
        for number, layer in enumerate(self.norms):
            fill(layer.weight, params[f"BatchNorm_{number}"]["scale"])
            fill(layer.bias, params[f"BatchNorm_{number}"]["bias"])
            fill(layer.running_mean, stats[f"BatchNorm_{number}"]["mean"])
            fill(layer.running_var, stats[f"BatchNorm_{number}"]["var"])
        return self


def assert_same_weights(variables, network, shape, **tolerance):
    ours = TorchVAE(*shape).double().load(variables).state_dict()
    for name, value in network.state_dict().items():
        if "num_batches" not in name:
            np.testing.assert_allclose(ours[name], value, err_msg=name, **tolerance)


@pytest.mark.parametrize("shape", [(16, 16, 3), (13, 9, 1)])
def test_vae_restores_and_measures_as_pytorch_does(rng, shape):
    method = methods.build(CONFIG, shape, "float32")
    variables = jax.jit(method.init)(jax.random.key(0)).variables
    variables["batch_stats"] = jax.tree.map(
        lambda x: np.float32(rng.uniform(0.5, 1.5, x.shape)), variables["batch_stats"]
    )
    images = rng.uniform(-1, 1, (BATCH, *shape)).astype(np.float32)
    network = TorchVAE(*shape).load(variables).eval()
    with torch.inference_mode():
        restored, reconstruction, kl = network(to_torch(images), 0)
    inputs, outputs = jax.jit(method.examples)(variables, {}, images)
    np.testing.assert_array_equal(inputs[0], images)
    np.testing.assert_allclose(outputs[0], restored.permute(0, 2, 3, 1), atol=1e-4)
    measured = jax.jit(method.measure)(variables, images)
    np.testing.assert_allclose(measured["reconstruction"], reconstruction, rtol=1e-4)
    np.testing.assert_allclose(measured["kl"], kl, rtol=1e-4)
    scores = method.score(measured, method.calibrate(jax.tree.map(np.asarray, measured)))
    np.testing.assert_allclose(scores, reconstruction + CONFIG.kl_weight * kl, rtol=1e-4)


def test_vae_takes_the_steps_of_pytorchs_adam(rng):
    shape = 13, 9, 1
    with jax.enable_x64(True):
        method = methods.build(CONFIG, shape, "float64")
        state = jax.jit(method.init)(jax.random.key(0))
        network = TorchVAE(*shape).double().load(state.variables).train()
        optimiser = torch.optim.Adam(network.parameters(), lr=1e-3)

        step = update_on_two_devices(method)
        for number in range(3):
            images = rng.uniform(-1, 1, (BATCH, *shape))
            keys = jax.random.split(jax.random.key(number), BATCH)
            state, metrics = step(state, keys, np.float64(1e-3), images)

            noise = jax.vmap(lambda key: jax.random.normal(key, (LATENT,), jnp.float64))(keys)
            _, reconstruction, kl = network(to_torch(images), torch.tensor(np.asarray(noise)))
            loss = (reconstruction + CONFIG.kl_weight * kl).mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            assert float(metrics["loss"]) == pytest.approx(loss.item(), rel=1e-9)
            assert float(metrics["kl"]) == pytest.approx(kl.mean().item(), rel=1e-9)
            assert_same_weights(jax.tree.map(np.asarray, state.variables), network, shape, atol=1e-7)
