"""Exports: scores as the model's, in another process too, and what is refused."""

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
from PIL import Image

from itae_jax import ITAEDetector, cli, data, models
from itae_jax.config import ComputeConfig, DataConfig, Experiment, ModelConfig, TransformConfig
from itae_jax.data import ArrayImages
from itae_jax.data import reader as decode
from itae_jax.detection import export
from itae_jax.errors import RequestError
from itae_jax.evaluate import restoration as evaluate
from itae_jax.methods import itae as method
from itae_jax.models.cpu_conv import conv3x3, traced_for

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def digits():
    """Real images: scikit-learn's, 16 x 16."""
    split = data.load(DataConfig(name="digits", image_size=16)).split(6)
    (_, test_images), *_ = split.test_images.batches(600)
    return test_images


@pytest.fixture(scope="module")
def detector(digits):
    detector = ITAEDetector(transform="rotate", width=2, epochs=1, batch_size=8)
    return detector.fit(digits[:40])


@pytest.fixture(scope="module")
def directory(detector, tmp_path_factory):
    directory = tmp_path_factory.mktemp("models") / "model"
    detector.save(directory)
    return directory


@pytest.fixture(scope="module")
def exported(directory):
    path = directory.parent / "model.jaxexport"
    assert cli.main(["export", str(directory), "--out", str(path)]) == 0
    return path


def one_line(capsys):
    error = capsys.readouterr().err
    assert error.startswith("itae: ")
    assert error.count("\n") == 1
    return error


def test_scores_and_errors_are_the_models(detector, exported, digits):
    scorer = export.load(exported)
    scores, errors = scorer.score(digits, batch_size=256)
    expected = detector.model_.fitted.score(ArrayImages(digits))
    np.testing.assert_allclose(scores, expected.scores_N, rtol=0, atol=1e-5)
    assert errors.shape == (len(digits), 4)
    for index in range(4):
        np.testing.assert_allclose(errors[:, index], expected.details[f"error_{index}"], rtol=0, atol=1e-5)


def test_any_number_of_images_can_be_scored(exported, digits):
    scorer = export.load(exported)
    scores, _ = scorer.score(digits[:5], batch_size=5)
    np.testing.assert_allclose(scorer.call(digits[:2])["score"], scores[:2], atol=1e-6)
    scores, errors = scorer.score(digits[:0])
    assert (scores.shape, errors.shape) == ((0,), (0, 4))


def test_the_threshold_is_the_models_at_any_rate(detector, exported):
    scorer = export.load(exported)
    for rate in (0.05, 0.3):
        assert scorer.threshold(rate) == detector.model_.normal.threshold(rate)


def test_the_lines_of_the_documentation_score_without_this_package(detector, exported):
    text = (ROOT / "docs" / "export.md").read_text()
    (lines,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
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
    printed = np.array([float(number) for number in re.findall(r"\d+\.\d+(?:e-\d+)?", run.stdout)])
    black = ArrayImages(np.zeros((2, 16, 16, 1), np.uint8))
    expected = detector.model_.fitted.score(black)
    np.testing.assert_allclose(printed[:2], expected.scores_N, atol=1e-4)


def test_the_lines_on_resizing_give_the_images_that_the_model_sees(tmp_path):
    text = (ROOT / "docs" / "export.md").read_text()
    (lines,) = re.findall(r"```py\n(.*?)```", text, re.DOTALL)
    *common, crop, letterbox = lines.strip().split("\n")
    rows, columns = np.mgrid[0:300, 0:400]
    pixels = np.stack([rows % 256, columns % 256, (rows + columns) // 3], -1).astype(np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6  # a camera held upright
    Image.fromarray(pixels).save(tmp_path / "a.jpg", exif=exif)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    for path in (tmp_path / "a.jpg", tmp_path / "a.png"):
        for fit, line in (("crop", crop), ("letterbox", letterbox)):
            names = {"path": path, "side": 32}
            exec("\n".join([*common, line]), names)
            np.testing.assert_array_equal(names["image"], decode.Reader(32, 3, fit).read(path))


def test_what_stands_beside_the_file_says_what_it_takes(exported):
    about = json.loads((exported.parent / "model.jaxexport.json").read_text())
    assert about["image"] == {"height": 16, "width": 16, "channels": 1, "dtype": "uint8", "fit": "letterbox"}
    assert (about["transform"], about["error"], about["platforms"]) == ("rotate", "l1", ["cpu", "cuda", "tpu"])
    assert about["normal_scores"] == sorted(about["normal_scores"])


def test_the_program_is_for_all_platforms_and_calls_nothing_of_this_one(exported):
    program = jax.export.deserialize(bytearray(exported.read_bytes()))
    assert program.platforms == ("cpu", "cuda", "tpu")
    assert "stablehlo.case" in program.mlir_module()
    targets = set(re.findall(r"custom_call @(\w+)", program.mlir_module()))
    assert targets <= {"shape_assertion"}


def test_a_convolution_traced_for_others_is_the_plain_one_and_gives_the_same(rng):
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


@pytest.mark.parametrize("name", ["gray+mask", "shuffle+blur", "drop_channel"])
def test_other_transforms_and_colour_agree_too(name, rng):
    experiment = Experiment(transform=TransformConfig(name), model=ModelConfig(width=2))
    itae = method.ITAE(experiment, (18, 21, 3))
    network = models.build("unet", width=2, out_channels=3)
    inputs = np.zeros((1, 18, 21, itae.transform.out_channels(3)), np.float32)
    variables = jax.jit(network.init)(jax.random.key(0), inputs)
    normal_errors = {kind: rng.uniform(0.5, 1, itae.transform.count) for kind in evaluate.ERRORS}
    fitted = method.FittedITAE(itae, dict(variables), normal_errors, 0)
    images = rng.integers(0, 256, (8, 18, 21, 3), np.uint8)
    with traced_for(*export.PLATFORMS):
        result = jax.jit(export.scoring_function(fitted))(images)
    np.testing.assert_allclose(result["score"], fitted.score(ArrayImages(images)).scores_N, atol=1e-5)


@pytest.fixture(scope="module")
def half():
    """A model with activations in bfloat16 and random weights."""
    experiment = Experiment(
        transform=TransformConfig("gray+rotate"),
        model=ModelConfig(width=4),
        compute=ComputeConfig(dtype="bfloat16"),
    )
    itae = method.ITAE(experiment, (16, 16, 3))
    network = models.build("unet", width=4, out_channels=3, dtype="bfloat16")
    variables = jax.jit(network.init)(jax.random.key(0), np.zeros((1, 16, 16, 1), np.float32))
    normal_errors = {kind: np.linspace(0.5, 1, 4) for kind in evaluate.ERRORS}
    return method.FittedITAE(itae, dict(variables), normal_errors, 0)


def test_a_model_of_bfloat16_scores_the_same_to_its_precision(half, rng, tmp_path):
    export.export(half, tmp_path / "half.jaxexport")
    images = np.uint8(rng.random((20, 16, 16, 3)) * np.linspace(5, 255, 20)[:, None, None, None])
    scores, errors = export.load(tmp_path / "half.jaxexport").score(images)
    expected = half.score(ArrayImages(images))
    np.testing.assert_allclose(scores, expected.scores_N, rtol=2**-8)
    assert np.ptp(expected.scores_N) > 0.1  # so that this tells images apart
    np.testing.assert_allclose(errors[:, 0], expected.details["error_0"], rtol=2**-8)


def test_bfloat16_is_refused_as_onnx_in_one_line(half, tmp_path):
    with pytest.raises(RequestError, match=r"compute\.dtype=bfloat16: .* export it as jax"):
        export.export(half, tmp_path / "half.onnx")
    assert list(tmp_path.iterdir()) == []


def test_weights_go_into_safetensors_and_back_to_the_same_bits(detector, directory, tmp_path):
    from itae_jax.models import torch_weights as weights

    path = tmp_path / "weights.safetensors"
    assert cli.main(["export", str(directory), "--out", str(path)]) == 0
    assert [file.name for file in tmp_path.iterdir()] == ["weights.safetensors"]
    variables, metadata = weights.read(path)
    jax.tree.map(np.testing.assert_array_equal, variables, dict(detector.model_.fitted.variables))
    assert json.loads(metadata["itae_jax"])["model"]["width"] == 2


def test_pytorch_restores_what_the_model_does_from_the_file(detector, directory, digits, tmp_path):
    torch = pytest.importorskip("torch", reason="PyTorch is the reference")
    from safetensors.torch import load_file

    from itae_jax.bench.torch_unet import TorchUNet

    path = tmp_path / "weights.safetensors"
    assert cli.main(["export", str(directory), "--out", str(path), "--format", "safetensors"]) == 0
    network = TorchUNet(2, 1, 1)
    network.load_state_dict(load_file(path))
    network.eval()
    # Of the network's 16 x 16 digits the upright ones are member 0.
    inputs = torch.tensor(digits[:8]).permute(0, 3, 1, 2) / 127.5 - 1
    with torch.inference_mode():
        errors = (network(inputs) - inputs).abs().mean((1, 2, 3))
    expected = detector.model_.fitted.score(ArrayImages(digits[:8])).details["error_0"]
    np.testing.assert_allclose(errors, expected, atol=1e-5)


def test_weights_that_fit_no_unet_are_refused_with_the_name(detector, tmp_path):
    from safetensors.numpy import save_file

    from itae_jax.models import torch_weights as weights

    named = weights.to_state_dict(detector.model_.fitted.variables)
    path = tmp_path / "bad.safetensors"
    for change, message in (
        ({"last.bias": None}, "last.bias is missing"),
        ({"blocks.9.0.weight": np.zeros(3)}, r"blocks\.9\.0\.weight is unknown"),
        ({"blocks.3.0.bias": np.zeros(5)}, r"blocks\.3\.0\.bias: shape \(5,\), expected \(16,\)"),
        ({"last.weight": np.zeros(3)}, r"expected out x in x 3 x 3"),
        ({"blocks.3.0.bias": np.full(16, np.nan)}, "not finite"),
    ):
        changed = {name: value for name, value in (named | change).items() if value is not None}
        save_file(changed, path)
        with pytest.raises(RequestError, match=rf"bad\.safetensors: .*{message}"):
            weights.read(path)
    path.write_bytes(path.read_bytes()[:50])
    for file in (path, tmp_path / "missing.safetensors"):
        with pytest.raises(RequestError, match="cannot be read as safetensors"):
            weights.read(file)


def test_onnx_runtime_scores_as_the_model_does(detector, directory, digits, tmp_path):
    pytest.importorskip("jax2onnx", reason="the extra onnx is not installed")
    onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    path = tmp_path / "model.onnx"
    assert cli.main(["export", str(directory), "--out", str(path)]) == 0
    session = onnxruntime.InferenceSession(path)
    expected = detector.model_.fitted.score(ArrayImages(digits[:50])).scores_N
    for count in (1, 50):
        scores, errors = session.run(["score", "errors"], {"images": digits[:count]})
        assert errors.shape == (count, 4)
        np.testing.assert_allclose(scores, expected[:count], atol=1e-5)


def test_what_a_converter_gets_wrong_is_not_written(detector, tmp_path, monkeypatch):
    """The converter is one that ignores the images."""

    def to_onnx(function, inputs, *, output_path, **_):
        Path(output_path).write_text("a program")

    class Session:
        def __init__(self, path, options):
            assert Path(path).read_text() == "a program"

        def run(self, names, feed):
            return [np.full(len(feed["images"]), 0.5)]

    runtime = types.SimpleNamespace(InferenceSession=Session, SessionOptions=types.SimpleNamespace)
    monkeypatch.setitem(sys.modules, "jax2onnx", types.SimpleNamespace(to_onnx=to_onnx))
    monkeypatch.setitem(sys.modules, "onnxruntime", runtime)
    with pytest.raises(RequestError, match=r"does not convert this model \(it scores \[0\.5, 0\.5\], expected"):
        export.export(detector.model_.fitted, tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []


def test_onnx_without_the_extra_says_what_to_install(detector, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "jax2onnx", None)
    with pytest.raises(RequestError, match=r"pip install 'itae_jax\[onnx\]'"):
        export.export(detector.model_.fitted, tmp_path / "model.onnx")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:100]), "not a whole export"),
        (lambda path: path.write_bytes(b""), "not a whole export"),
        (lambda path: path.unlink(), "not a whole export .*No such file"),
        (lambda path: path.with_name(f"{path.name}.json").unlink(), "not a whole export .*No such file"),
        (lambda path: path.with_name(f"{path.name}.json").write_text("{}"), "lacks 'format'"),
        (
            lambda path: path.with_name(f"{path.name}.json").write_text(
                path.with_name(f"{path.name}.json").read_text().replace('"height": 16', '"height": 32')
            ),
            "says otherwise",
        ),
    ],
)
def test_a_damaged_export_is_refused(exported, tmp_path, change, message):
    path = tmp_path / "copy.jaxexport"
    path.write_bytes(exported.read_bytes())
    path.with_name("copy.jaxexport.json").write_text(exported.with_name(f"{exported.name}.json").read_text())
    change(path)
    with pytest.raises(RequestError, match=message):
        export.load(path)


def test_images_of_another_shape_are_refused(exported, digits):
    scorer = export.load(exported)
    for images in (digits[:, :15], digits.astype(np.float32)):
        with pytest.raises(RequestError, match=r"expected N x \(16, 16, 1\) uint8 images"):
            scorer.score(images)


def test_what_cannot_be_exported_is_refused_in_one_line(directory, detector, tmp_path, capsys):
    assert cli.main(["export", str(tmp_path), "--out", str(tmp_path / "x")]) == 2
    assert "no trained model there" in one_line(capsys)
    for out in (tmp_path, tmp_path / "nowhere" / "x"):
        assert cli.main(["export", str(directory), "--out", str(out)]) == 2
        assert "name a file in a directory that is there" in one_line(capsys)
    assert list(tmp_path.iterdir()) == []
    rows = ITAEDetector(transform="rotate", width=2, epochs=1, image_shape=(16, 16))
    rows.model_, rows.n_features_in_, rows.pixel_range_, rows._factor = detector.model_, 256, (0.0, 1.0), 1
    rows.save(tmp_path / "rows")
    assert cli.main(["export", str(tmp_path / "rows"), "--out", str(tmp_path / "x")]) == 2
    assert "was fitted on rows" in one_line(capsys)
