"""GeoTrans against PyTorch, NumPy and SciPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import make_learner, tiny, to_torch, update_on_two_devices
from scipy import stats
from scipy.special import digamma

torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install torch==2.13.0")

from torch import nn
from torch.nn import functional

from itae_jax import methods
from itae_jax.errors import RequestError
from itae_jax.methods.geotrans import COUNT, GeoTransConfig, transformed
from itae_jax.models.wide_resnet import WideResNet

WIDEN, BATCH, SHAPE = 1, 6, (12, 12, 3)


class TorchBlock(nn.Module):
    def __init__(self, before, features, stride):
        super().__init__()
        self.norms = nn.ModuleList([nn.BatchNorm2d(before), nn.BatchNorm2d(features)])
        self.convs = nn.ModuleList(
            [
                nn.Conv2d(before, features, 3, stride, 1, bias=False),
                nn.Conv2d(features, features, 3, 1, 1, bias=False),
            ]
        )
        self.passing = nn.Conv2d(before, features, 1, stride, bias=False) if before != features else None

    def forward(self, x):
        inner = self.norms[0](x).relu()
        passed = x if self.passing is None else self.passing(inner)
        return passed + self.convs[1](self.norms[1](self.convs[0](inner)).relu())


class TorchWideResNet(nn.Module):
    """A wide residual network with `blocks` blocks in each of three groups."""

    def __init__(self, blocks, channels):
        super().__init__()
        self.first, self.blocks, before = nn.Conv2d(channels, 16, 3, 1, 1, bias=False), nn.ModuleList(), 16
        for group in range(3):
            for block in range(blocks):
                features = 16 * WIDEN * 2**group
                self.blocks.append(TorchBlock(before, features, 2 if group and not block else 1))
                before = features
        self.norm, self.dense = nn.BatchNorm2d(before), nn.Linear(before, COUNT)

    def forward(self, x):
        x = self.first(x)
        for block in self.blocks:
            x = block(x)
        return self.dense(self.norm(x).relu().mean((2, 3)))

    def load(self, variables):
        """Copies Flax's variables, which are numbered in the order of their calls."""
        convs, norms = [self.first], []
        for block in self.blocks:
            convs += [layer for layer in (block.passing, *block.convs) if layer is not None]
            norms += block.norms
        params, stats_ = variables["params"], variables["batch_stats"]

        def fill(tensor, array):
            tensor.data = torch.tensor(np.array(array))

        for number, layer in enumerate(convs):
            fill(layer.weight, params[f"Conv_{number}"]["kernel"].transpose(3, 2, 0, 1))
        for number, layer in enumerate([*norms, self.norm]):
            fill(layer.weight, params[f"BatchNorm_{number}"]["scale"])
            fill(layer.bias, params[f"BatchNorm_{number}"]["bias"])
            fill(layer.running_mean, stats_[f"BatchNorm_{number}"]["mean"])
            fill(layer.running_var, stats_[f"BatchNorm_{number}"]["var"])
        fill(self.dense.weight, params["Dense_0"]["kernel"].T)
        fill(self.dense.bias, params["Dense_0"]["bias"])
        return self


def numpy_transform(image, index):
    """The same transform by indices of a mirrored image."""
    flip, row, column, turns = np.unravel_index(index, (2, 3, 3, 4))
    step = len(image) // 4
    down, right = (step * (0, -1, 1)[shift] for shift in (row, column))
    image = np.fliplr(image) if flip else image
    wide = np.pad(image, ((step, step), (step, step), (0, 0)), mode="symmetric")
    moved = np.roll(wide, (-down, -right), (0, 1))[step : step + len(image), step : step + len(image)]
    return np.rot90(moved, turns)


@pytest.mark.parametrize("side", [8, 13, 32])
def test_72_transforms_are_those_of_numpy_and_all_differ(rng, side):
    image = rng.uniform(-1, 1, (side, side, 2)).astype(np.float32)
    found = np.asarray(jax.vmap(transformed, (None, 0))(image, jnp.arange(COUNT)))
    for index in range(COUNT):
        np.testing.assert_array_equal(found[index], numpy_transform(image, index), err_msg=str(index))
    assert len({one.tobytes() for one in found}) == COUNT
    np.testing.assert_array_equal(found[0], image)


@pytest.mark.parametrize(("depth", "train"), [(10, False), (16, True)])
def test_network_computes_what_pytorch_does(rng, depth, train):
    network = WideResNet(depth, WIDEN, COUNT)
    images = rng.uniform(-1, 1, (BATCH, *SHAPE)).astype(np.float32)
    variables = jax.jit(lambda key: network.init(key, images, train=False))(jax.random.key(0))
    spread = jax.tree.map(lambda x: np.float32(rng.uniform(0.5, 1.5, x.shape)), variables["batch_stats"])
    variables = {"params": variables["params"], "batch_stats": spread}
    reference = TorchWideResNet((depth - 4) // 6, SHAPE[2]).load(variables).train(train)
    with torch.no_grad():
        expected = reference(to_torch(images))
    found, updated = jax.jit(lambda v: network.apply(v, images, train=train, mutable=["batch_stats"]))(
        variables
    )
    np.testing.assert_allclose(found, expected, atol=1e-4)
    last = updated["batch_stats"][f"BatchNorm_{(depth - 4)}"]
    np.testing.assert_allclose(last["var"], reference.norm.running_var, rtol=1e-4)


def test_steps_are_those_of_pytorchs_adam(rng):
    with jax.enable_x64(True):
        method = methods.build(GeoTransConfig(widen=WIDEN), SHAPE, "float64")
        state = jax.jit(method.init)(jax.random.key(0))
        reference = TorchWideResNet(1, SHAPE[2]).double().load(state.variables).train()
        optimiser = torch.optim.Adam(reference.parameters(), lr=1e-3)
        step = update_on_two_devices(method)
        for number in range(2):
            images = rng.uniform(-1, 1, (BATCH, *SHAPE))
            keys = jax.random.split(jax.random.key(number), BATCH)
            state, metrics = step(state, keys, np.float64(1e-3), images)

            indices = [int(jax.random.randint(key, (), 0, COUNT, "int32")) for key in keys]
            pairs = zip(images, indices, strict=True)
            inputs = np.stack([numpy_transform(image, index) for image, index in pairs])
            loss = functional.cross_entropy(reference(to_torch(inputs)), torch.tensor(indices))
            loss = loss + 2.5e-4 * sum(weights.square().sum() for weights in reference.parameters())
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            assert float(metrics["loss"]) == pytest.approx(loss.item(), rel=1e-9)
        ours = (
            TorchWideResNet(1, SHAPE[2]).double().load(jax.tree.map(np.asarray, state.variables)).state_dict()
        )
    for name, value in reference.state_dict().items():
        if "num_batches" not in name:
            np.testing.assert_allclose(ours[name], value, err_msg=name, atol=1e-7)


@pytest.fixture(scope="module")
def method():
    return methods.build(GeoTransConfig(widen=WIDEN), SHAPE, "float32")


def test_measured_are_the_answers_to_every_transform(method, rng):
    images = rng.uniform(-1, 1, (3, *SHAPE)).astype(np.float32)
    variables = jax.jit(method.init)(jax.random.key(0)).variables
    reference = TorchWideResNet(1, SHAPE[2]).load(variables).eval()
    views = np.stack([numpy_transform(image, index) for image in images for index in range(COUNT)])
    with torch.no_grad():
        expected = reference(to_torch(views)).log_softmax(1).reshape(3, COUNT, COUNT)
    np.testing.assert_allclose(jax.jit(method.measure)(variables, images)["log_p"], expected, atol=1e-4)


@pytest.mark.parametrize("spread", [1, 3])
def test_dirichlet_is_the_most_likely_of_answers_however_sure(method, rng, spread):
    drawn = np.stack([rng.dirichlet(row, 40) for row in np.exp(rng.normal(-1, spread, (COUNT, COUNT)))], 1)
    log_p = np.log(drawn.clip(1e-30))
    alpha = method.calibrate({"log_p": log_p})["alpha"]
    slopes = digamma(alpha.sum(1, keepdims=True)) - digamma(alpha) + log_p.mean(0)
    np.testing.assert_allclose(slopes, 0, atol=1e-6)


def test_dirichlet_of_images_with_the_same_answers_is_finite(method):
    log_p = np.log(np.full((5, COUNT, COUNT), 1 / COUNT))
    assert np.isfinite(method.calibrate({"log_p": log_p})["alpha"]).all()


def test_score_is_the_likelihood_of_fitted_dirichlet_distributions(method, rng):
    concentration = rng.uniform(0.05, 8, (COUNT, COUNT))
    drawn = np.stack([rng.dirichlet(row, 400) for row in concentration], 1).clip(1e-300)
    log_p = np.log(drawn / drawn.sum(2, keepdims=True))
    alpha = method.calibrate({"log_p": log_p})["alpha"]
    assert np.median(np.abs(alpha / concentration - 1)) < 0.1

    some = np.exp(log_p[:5].clip(-200))
    some /= some.sum(2, keepdims=True)
    found = method.score({"log_p": np.log(some)}, {"alpha": alpha})
    densities = [[stats.dirichlet(a).logpdf(p) for p, a in zip(one, alpha, strict=True)] for one in some]
    expected = -np.sum(densities, 1)
    np.testing.assert_allclose(
        found - found[0], expected - expected[0], rtol=1e-6, atol=1e-6 * np.abs(found).max()
    )


@pytest.mark.parametrize(
    ("shape", "settings", "message"),
    [
        ((16, 12, 1), [], "images of 16x12: .*squares"),
        ((4, 4, 1), [], "images of 4x4: .*data.image_size"),
        ((16, 16, 1), ["method.depth=12"], "method.depth=12: expected 6 n"),
    ],
)
def test_what_it_cannot_take_is_refused(shape, settings, message):
    with pytest.raises(RequestError, match=message):
        make_learner(tiny("geotrans", *settings), shape)
