"""Exports: they score as the model does, in another process too, and refuse what they cannot do."""

import json
import os
import re
import subprocess
import sys
import types
from pathlib import Path

import jax
import numpy as np
import pytest
import safetensors.numpy
from conftest import to_torch, training_tiny_networks
from PIL import Image

from itae_jax import cli, data
from itae_jax.config import DataConfig
from itae_jax.data import as_images
from itae_jax.data.reader import Reader
from itae_jax.detection import export
from itae_jax.detection import model as models
from itae_jax.detection.threshold import NormalScores
from itae_jax.errors import RequestError
from itae_jax.evaluate import restoration
from itae_jax.experiment import Experiment, override
from itae_jax.models import torch_weights
from itae_jax.models.cpu_conv import conv3x3, traced_for
from itae_jax.training.learner import Trained, gather

PAGE = (Path(__file__).parent.parent / "docs" / "export.md").read_text()


def normal_scores(learner):
    components = dict.fromkeys(learner.method.components, np.ones(2))
    return NormalScores(("a", "b"), np.array([0.9, 1.1]), np.ones(2), components)


def untrained(shape, *assignments):
    """A model with random weights, calibrated on noise."""
    settings = override(Experiment(), ["train.batch_size=8", "evaluate.batch_size=8", *assignments])
    settings, learner = models.prepare(override(settings, ["compute.devices=1"]), shape, 8)
    variables = jax.jit(lambda key: learner.method.init(key).variables)(jax.random.key(0))
    noise = as_images(np.random.default_rng(0).integers(0, 256, (8, *shape), np.uint8))
    calibration = learner.method.calibrate(gather(learner.measure(variables, noise)))
    arrays = {"variables": variables, "calibration": calibration}
    trained = learner.trained(arrays, {"num_train": 8, "train_seconds": 0.0})
    return models.TrainedModel(settings, shape, trained, normal_scores(learner))


@pytest.fixture(scope="module")
def digits():
    """Real images: scikit-learn's, 16 x 16."""
    split = data.load(DataConfig(name="digits", image_size=16)).split(6)
    (_, test_images), *_ = split.test_images.batches(50)
    return test_images


@pytest.fixture(scope="module")
def model():
    """With the U-Net."""
    return untrained((16, 16, 1), "method.transform=rotate", "method.width=2")


@pytest.fixture(scope="module")
def directory(model, tmp_path_factory):
    directory = tmp_path_factory.mktemp("models") / "model"
    model.save(directory)
    return directory


@pytest.fixture(scope="module")
def exported(directory):
    path = directory.parent / "model.jaxexport"
    assert cli.main(["export", str(directory), "--out", str(path)]) == 0
    return path


def assert_scores_agree(found, expected, **tolerances):
    np.testing.assert_allclose(found.scores_N, expected.scores_N, **tolerances)
    assert list(found.columns) == list(expected.columns)
    for name, values in expected.columns.items():
        np.testing.assert_allclose(found.columns[name], values, **tolerances)


def test_export_scores_as_the_model_does(model, exported, digits):
    scorer, expected = export.load(exported), model.trained.score(digits)
    assert_scores_agree(scorer.score(digits, 32), expected, rtol=0, atol=1e-5)
    np.testing.assert_allclose(scorer.call(digits[:2])["score"], expected.scores_N[:2], atol=1e-5)
    assert scorer.score(digits[:0]).scores_N.shape == (0,)
    for rate in (0.05, 0.3):
        assert scorer.threshold(rate) == model.normal.threshold(rate)
    for images in (digits[:, :15], digits.astype(np.float32)):
        with pytest.raises(RequestError, match=r"\(16, 16, 1\) uint8"):
            scorer.score(images)


@pytest.mark.parametrize(
    "assignments",
    [
        ["method.transform=gray+mask"],
        ["method.transform=gray+mask", "method.error=features"],
        ["method.transform=shuffle+blur", "method.loss=l1", "method.error=l2"],
        ["method.transform=drop_channel"],
        ["method.transform=paste", "method.head=2", "method.error=head", "method.reduce=top", "method.ssim=1"],
        ["method.name=vae", "method.channels=2", "method.latent=4"],
        ["method.name=ensemble", "method.transform=paste", "method.head=2", "method.error=head"],
    ],
)
def test_export_agrees_for_every_method_and_transform(assignments, rng, tmp_path):
    images = rng.integers(0, 256, (8, 18, 21, 3), np.uint8)
    with training_tiny_networks():
        model = untrained((18, 21, 3), *assignments)
        export.export(model, tmp_path / "model.jaxexport")
        expected = model.trained.score(images)
    scorer = export.load(tmp_path / "model.jaxexport")
    assert_scores_agree(scorer.score(images, 8), expected, rtol=1e-5, atol=1e-5)


def test_export_in_bfloat16_agrees_to_its_precision(rng, tmp_path):
    images = np.uint8(rng.random((20, 16, 16, 3)) * np.linspace(5, 255, 20)[:, None, None, None])
    with training_tiny_networks():
        model = untrained((16, 16, 3), "method.width=4", "compute.dtype=bfloat16")
        export.export(model, tmp_path / "half.jaxexport")
        expected = model.trained.score(images)
    assert np.ptp(expected.scores_N) > 0.1  # so that the images can be told apart
    assert_scores_agree(export.load(tmp_path / "half.jaxexport").score(images), expected, rtol=2**-8)
    with pytest.raises(RequestError, match=r"compute\.dtype=bfloat16"):
        export.export(model, tmp_path / "half.onnx")
    assert not list(tmp_path.glob("*onnx*"))


def test_export_is_scored_without_this_package_by_the_documented_lines(model, exported):
    (lines,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert "itae" not in lines
    lines += "\nimport sys\nassert not {'itae_jax', 'flax'} & set(sys.modules)"
    run = subprocess.run(
        [sys.executable, "-c", lines],
        cwd=exported.parent,
        env={key: value for key, value in os.environ.items() if key != "PYTHONPATH"},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    printed = [float(number) for number in re.findall(r"\d+\.\d+(?:e-\d+)?", run.stdout)]
    expected = model.trained.score(np.zeros((2, 16, 16, 1), np.uint8))
    np.testing.assert_allclose(printed[:2], expected.scores_N, atol=1e-4)


def test_documented_lines_on_resizing_give_the_images_that_the_model_sees(tmp_path):
    (lines,) = re.findall(r"```py\n(.*?)```", PAGE, re.DOTALL)
    *common, stretch, crop, letterbox = lines.strip().split("\n")
    rows, columns = np.mgrid[0:300, 0:400]
    pixels = np.stack([rows % 256, columns % 256, (rows + columns) // 3], -1).astype(np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6  # a camera held upright
    Image.fromarray(pixels).save(tmp_path / "a.jpg", exif=exif)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    for path in (tmp_path / "a.jpg", tmp_path / "a.png"):
        for fit, line in (("stretch", stretch), ("crop", crop), ("letterbox", letterbox)):
            for width in (32, 48):
                names = {"path": path, "width": width, "height": 32}
                exec("\n".join([*common, line]), names)
                expected = Reader(32, 3, fit, aspect=width / 32).read(path)
                np.testing.assert_array_equal(names["image"], expected)


def test_export_says_beside_the_file_what_it_takes_and_gives(exported):
    about = json.loads((exported.parent / "model.jaxexport.json").read_text())
    assert about["image"] == {"height": 16, "width": 16, "channels": 1, "dtype": "uint8", "fit": "letterbox"}
    assert (about["method"]["name"], about["method"]["transform"]) == ("itae", "rotate")
    rules = ["", *(f"_combine_{rule}" for rule in restoration.COMBINATIONS[1:])]
    scores = [f"score_{error}{rule}" for rule in rules for error in restoration.ERRORS]
    assert about["components"] == [*(f"error_{index}" for index in range(4)), *scores]
    assert about["normal_scores"] == sorted(about["normal_scores"])


def test_export_is_for_all_platforms_and_calls_nothing_of_this_one(exported):
    program = jax.export.deserialize(bytearray(exported.read_bytes()))
    assert program.platforms == ("cpu", "cuda", "tpu")
    assert "stablehlo.case" in program.mlir_module()
    targets = set(re.findall(r"custom_call @(\w+)", program.mlir_module()))
    assert targets <= {"shape_assertion"}


def test_conv3x3_traced_for_others_is_the_plain_one_and_gives_the_same(rng):
    small = np.float32(rng.normal(size=(2, 2, 2, 4)))
    kernel = np.float32(rng.normal(size=(3, 3, 4, 8)))

    def traced(*platforms):
        with traced_for(*platforms):
            return jax.make_jaxpr(conv3x3)(small, kernel)

    assert "conv_general_dilated" not in str(traced("cpu"))
    assert "dot_general" not in str(traced("tpu"))
    both = str(traced("cpu", "tpu"))
    assert "conv_general_dilated" in both and "dot_general" in both and "platform_index" in both
    here = conv3x3(small, kernel)
    for platforms in (("tpu",), ("cpu", "tpu"), ("cuda", "tpu")):
        (there,) = jax.core.eval_jaxpr(traced(*platforms).jaxpr, traced(*platforms).consts, small, kernel)
        np.testing.assert_allclose(there, here, atol=1e-5)


def test_export_replaces_weights_of_its_own_alone(directory, tmp_path, refused):
    path = tmp_path / "weights.safetensors"
    for content in (b"mine", safetensors.numpy.save({"mine": np.zeros(2)})):
        path.write_bytes(content)
        assert "weights.safetensors" in refused("export", directory, "--out", path)
        assert path.read_bytes() == content
    command = ["export", str(directory), "--out", str(tmp_path / "weights.bin"), "--format", "safetensors"]
    assert cli.main(command) == cli.main(command) == 0


def test_weights_come_back_from_safetensors_to_the_same_bits(model, directory, tmp_path):
    path = tmp_path / "weights.safetensors"
    assert cli.main(["export", str(directory), "--out", str(path)]) == 0
    assert [file.name for file in tmp_path.iterdir()] == ["weights.safetensors"]
    variables, metadata = torch_weights.read(path)
    jax.tree.map(np.testing.assert_array_equal, variables, dict(model.trained.variables))
    assert json.loads(metadata["itae_jax"])["method"]["width"] == 2


def test_weights_of_a_model_with_a_head_are_those_of_two_networks(tmp_path):
    one, learner = models.prepare(override(Experiment(), ["method.width=3", "method.head=2"]), (16, 16, 1), 8)
    shapes = jax.eval_shape(lambda key: learner.method.init(key).variables, jax.random.key(0))
    zeros = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes)
    trained = Trained(learner, zeros, {}, 0, 0.0)
    model = models.TrainedModel(one, (16, 16, 1), trained, normal_scores(learner))
    export.export(model, tmp_path / "w.safetensors")
    weights = safetensors.numpy.load_file(tmp_path / "w.safetensors")
    parts = {
        part: {n.partition(".")[2] for n in weights if n.startswith(part)} for part in ("restorer", "head")
    }
    assert parts["restorer"] == parts["head"] and len(weights) == 2 * len(parts["head"])
    assert weights["head.last.weight"].shape == (1, 2, 3, 3)


def test_pytorch_restores_what_the_model_does_from_the_weights(model, directory, digits, tmp_path):
    torch = pytest.importorskip("torch", reason="PyTorch is the reference")
    from safetensors.torch import load_file

    from itae_jax import methods

    path = tmp_path / "weights.safetensors"
    assert cli.main(["export", str(directory), "--out", str(path), "--format", "safetensors"]) == 0
    network, _ = methods.spec("itae").torch_reference(model.experiment.method, 1)
    network.load_state_dict(load_file(path))
    network.eval()
    # The upright digits are member 0 of the transform.
    inputs = to_torch(digits[:8]) / 127.5 - 1
    with torch.inference_mode():
        errors = (network(inputs) - inputs).abs().mean((1, 2, 3))
    expected = model.trained.score(digits[:8]).columns["error_0"]
    np.testing.assert_allclose(errors, expected, atol=1e-5)


def test_weights_that_fit_no_unet_are_refused_by_name(model, tmp_path):
    from safetensors.numpy import save_file

    named = torch_weights.to_state_dict(model.trained.variables)
    path = tmp_path / "bad.safetensors"
    for change, message in (
        ({"last.bias": None}, "last.bias is missing"),
        ({"blocks.9.0.weight": np.zeros(3)}, r"blocks\.9\.0\.weight is unknown"),
        ({"blocks.3.0.bias": np.zeros(5)}, r"blocks\.3\.0\.bias: shape \(5,\), expected \(16,\)"),
        ({"last.weight": np.zeros(3)}, r"out x in x 3 x 3"),
        ({"blocks.3.0.bias": np.full(16, np.nan)}, "not finite"),
    ):
        changed = {name: value for name, value in (named | change).items() if value is not None}
        save_file(changed, path)
        with pytest.raises(RequestError, match=rf"bad\.safetensors: .*{message}"):
            torch_weights.read(path)
    path.write_bytes(path.read_bytes()[:50])
    for file in (path, tmp_path / "missing.safetensors"):
        with pytest.raises(RequestError, match=file.name):
            torch_weights.read(file)


@pytest.mark.parametrize("assignment", ["method.name=vae", "method.network=resnet34_unet"])
def test_weights_of_another_method_or_network_are_refused(assignment, tmp_path):
    settings, learner = models.prepare(override(Experiment(), [assignment]), (32, 32, 3), 8)
    trained = Trained(learner, None, {}, 0, 0.0)
    model = models.TrainedModel(settings, (32, 32, 3), trained, normal_scores(learner))
    with pytest.raises(RequestError, match=re.escape(assignment)):
        export.export(model, tmp_path / "model.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_onnx_runtime_scores_as_the_model_does(model, directory, digits, tmp_path):
    pytest.importorskip("jax2onnx", reason="the extra onnx is not installed")
    onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    path = tmp_path / "model.onnx"
    assert cli.main(["export", str(directory), "--out", str(path)]) == 0
    session = onnxruntime.InferenceSession(path)
    expected = model.trained.score(digits[:50])
    for count in (1, 50):
        scores, error = session.run(["score", "error_3"], {"images": digits[:count]})
        np.testing.assert_allclose(scores, expected.scores_N[:count], atol=1e-5)
        np.testing.assert_allclose(error, expected.columns["error_3"][:count], atol=1e-5)


def test_onnx_is_not_written_if_the_converter_gets_it_wrong_or_is_missing(model, tmp_path, monkeypatch):
    def to_onnx(function, inputs, *, output_path, **_):
        Path(output_path).write_text("a program that ignores the images")

    class Session:
        def __init__(self, path, options):
            assert Path(path).exists()

        def run(self, names, feed):
            return [np.full(len(feed["images"]), 0.5)]

    runtime = types.SimpleNamespace(InferenceSession=Session, SessionOptions=types.SimpleNamespace)
    monkeypatch.setitem(sys.modules, "jax2onnx", types.SimpleNamespace(to_onnx=to_onnx))
    monkeypatch.setitem(sys.modules, "onnxruntime", runtime)
    with pytest.raises(RequestError, match=r"it scores \[0\.5, 0\.5\], expected"):
        export.export(model, tmp_path / "model.onnx")
    monkeypatch.setitem(sys.modules, "jax2onnx", None)
    with pytest.raises(RequestError, match=r"pip install '\.\[onnx\]'"):
        export.export(model, tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []


def test_load_refuses_a_damaged_export(exported, tmp_path):
    path, about = tmp_path / "copy.jaxexport", tmp_path / "copy.jaxexport.json"
    program, facts = exported.read_bytes(), exported.with_name(f"{exported.name}.json").read_bytes()
    for damaged, content, message in (
        (path, program[:100], "another file"),
        (path, b"", "another file"),
        (path, None, "No such file"),
        (about, None, "No such file"),
        (about, b"{}", "lacks 'format'"),
        (about, facts.replace(b'"height": 16', b'"height": 32'), "says otherwise"),
    ):
        path.write_bytes(program)
        about.write_bytes(facts)
        damaged.unlink() if content is None else damaged.write_bytes(content)
        with pytest.raises(RequestError, match=rf"copy\.jaxexport: .*{message}"):
            export.load(path)
