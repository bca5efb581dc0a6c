"""The networks: size, shapes, types."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from itae_jax.models import ResNetUNet, UNet, build


def parameters(model, shape):
    return jax.eval_shape(model.init, jax.random.key(0), jnp.zeros(shape))["params"]


def apply(model, variables, inputs):
    """Compiles `model.apply` as a whole, which takes a third of the time of its single operations."""
    return jax.jit(model.apply)(variables, inputs)


def some_variables(model, inputs):
    """Draws variables for which the output depends on the input; `init` takes long to compile."""
    rng = np.random.default_rng(1)
    shapes = jax.eval_shape(model.init, jax.random.key(0), inputs)
    draw = {"params": lambda x: rng.uniform(-0.5, 0.5, x.shape), "batch_stats": lambda x: np.ones(x.shape)}
    return {
        kind: jax.tree.map(lambda x, draw=draw[kind]: draw(x).astype(x.dtype), tree)
        for kind, tree in shapes.items()
    }


def test_unet_has_the_widths_of_table_10():
    params = parameters(UNet(width=64, out_channels=3), (1, 32, 32, 1))
    blocks = [params[f"DoubleConv_{i}"]["Conv_1"]["kernel"].shape[-1] for i in range(9)]
    assert blocks == [64, 128, 256, 512, 512, 256, 128, 64, 64]
    assert params["Conv_0"]["kernel"].shape == (3, 3, 64, 3)
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == 13_395_843


def test_unet_restores_any_size_from_16_up(rng):
    model = UNet(width=2, out_channels=3)
    inputs = jnp.asarray(rng.uniform(-1, 1, (2, 16, 45, 1)), jnp.float32)
    outputs = apply(model, some_variables(model, inputs), inputs)
    assert outputs.shape == (2, 16, 45, 3)
    turned = inputs.swapaxes(1, 2)
    assert jax.eval_shape(model.apply, some_variables(model, turned), turned).shape == (2, 45, 16, 3)
    assert jnp.abs(outputs).max() < 1
    with pytest.raises(ValueError, match=r"15x20.*16 pixels"):
        parameters(model, (1, 15, 20, 1))


@pytest.mark.parametrize(("network", "middle"), [("unet", 2 + 4), ("resnet34_unet", 1 + 2)])
def test_networks_sow_the_means_of_their_second_and_third_maps_and_of_the_deepest(network, middle, rng):
    width, inputs = 2, jnp.asarray(rng.uniform(-1, 1, (3, 32, 32, 1)), jnp.bfloat16)
    model = build(network, width=width, out_channels=1, dtype="bfloat16")
    variables = some_variables(model, inputs)
    assert variables.keys() == {"params", "batch_stats"}
    _, sown = jax.eval_shape(lambda: model.apply(variables, inputs, mutable=["features"]))
    found = {name: (value.shape, value.dtype) for name, (value,) in sown["features"].items()}
    float32 = jnp.dtype("float32")
    assert found == {"middle": ((3, middle * width), float32), "deepest": ((3, 8 * width), float32)}


def test_unet_with_linear_output_leaves_out_the_tanh(rng):
    inputs = jnp.asarray(rng.uniform(-1, 1, (2, 16, 16, 1)), jnp.float32)
    tanh, linear = UNet(width=2), UNet(width=2, output="linear")
    variables = some_variables(tanh, inputs)
    np.testing.assert_allclose(
        jnp.tanh(apply(linear, variables, inputs)), apply(tanh, variables, inputs), atol=1e-6
    )


def test_unet_in_bfloat16_keeps_float32_parameters_and_output_and_stays_close(rng):
    inputs = jnp.asarray(rng.uniform(-1, 1, (4, 16, 16, 1)), jnp.float32)
    full, half = (build("unet", width=8, out_channels=1, dtype=dtype) for dtype in ("float32", "bfloat16"))
    variables = some_variables(half, inputs)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    exact, rounded = apply(full, variables, inputs), apply(half, variables, inputs)
    assert rounded.dtype == jnp.float32
    difference = np.abs(exact - rounded).max()
    assert 0 < difference < 0.05


def test_resnet_unet_has_the_encoder_of_resnet_34():
    params = parameters(ResNetUNet(width=64), (1, 64, 64, 3))
    kernels = [
        layer["kernel"].shape
        for name, block in params.items()
        if name.startswith(("Conv_0", "BasicBlock"))
        for layer in ([block] if name == "Conv_0" else block.values())
        if "kernel" in layer
    ]
    assert len(kernels) == 1 + 2 * (3 + 4 + 6 + 3) + 3  # stem, blocks, and shortcuts that change size
    torchvision_resnet34_convolutions = 21_267_648
    assert sum(np.prod(shape) for shape in kernels) == torchvision_resnet34_convolutions


def test_resnet_unet_restores_any_size_from_32_up(rng):
    model = ResNetUNet(width=2)
    inputs = jnp.asarray(rng.uniform(-1, 1, (2, 33, 50, 1)), jnp.float32)
    assert apply(model, some_variables(model, inputs), inputs).shape == (2, 33, 50, 3)
    with pytest.raises(ValueError, match=r"31x40.*ResNetUNet.*32 pixels"):
        parameters(model, (1, 31, 40, 1))
