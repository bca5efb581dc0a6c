"""A trained model as one file for use elsewhere: its scoring function, or its network's weights.

jax          the scoring function by `jax.export`: StableHLO for CPU, CUDA and TPU, any batch size
onnx         the same for ONNX runtimes, by jax2onnx (the extra `onnx`)
safetensors  the network's weights under PyTorch's names, where the method defines them

The scoring function contains all that was trained and calibrated. FILE.json beside it says what it does not
contain: the shape of the images, how files are brought to it, and the scores of the calibration images, from
which a threshold follows at any false-positive rate.
"""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from itae_jax import environment, experiment, files, methods
from itae_jax.detection import model as models
from itae_jax.detection.model import TrainedModel
from itae_jax.detection.threshold import threshold
from itae_jax.errors import RequestError
from itae_jax.files import atomic_path, check_output_file
from itae_jax.models.cpu_conv import traced_for
from itae_jax.training.learner import Scores, Trained
from itae_jax.transforms import to_float

FORMATS = ("jax", "onnx", "safetensors")
PLATFORMS = ("cpu", "cuda", "tpu")
_FORMAT = 2

Scorer = Callable[[jax.Array], dict[str, jax.Array]]  # N x H x W x C uint8 -> "score" and components, N each


def scoring_function(trained: Trained) -> Scorer:
    """Returns the whole way from uint8 images to scores and components as one pure function."""
    method, dtype = trained.learner.method, trained.learner.trainer.dtype
    variables, calibration = jax.tree.map(np.asarray, (trained.variables, trained.calibration))

    def score(images_uint8: jax.Array) -> dict[str, jax.Array]:
        measured = method.measure(variables, to_float(images_uint8, dtype))
        columns = {"score": method.score(measured, calibration)} | method.columns(measured, calibration)
        return {name: columns[name] for name in ("score", *method.components)}

    return score


def export_model(directory: Path, path: Path, kind: str = "", trust: str = "") -> None:
    """Exports a directory that `itae fit` wrote; raises what `model.load` and `export` raise."""
    model = models.load(directory, trust)
    model.check_takes_files(directory)
    export(model, path, kind)


def export(model: TrainedModel, path: Path, kind: str = "") -> None:
    """Writes a file atomically, and FILE.json beside a scoring function.

    Args:
      kind: one of `FORMATS`; empty: by the suffix .onnx or .safetensors, else jax.
    """
    kind = kind or {".onnx": "onnx", ".safetensors": "safetensors"}.get(path.suffix, "jax")
    if kind not in FORMATS:
        raise RequestError(f"format {kind!r}: choose from {', '.join(FORMATS)}")
    about = _about(model, kind)
    write = {"jax": _write_jax, "onnx": _write_onnx, "safetensors": _write_weights}[kind]
    check_output_file(path, _is_export)
    if kind != "safetensors":
        check_output_file(_beside(path), _is_about)
    with files.writing(path, "--out"), atomic_path(path) as partial:
        write(model, partial, about)
        if kind != "safetensors":
            about["sha256"] = files.sha256(partial)
            files.write_text(_beside(path), json.dumps(about, indent=2) + "\n")


def _about(model: TrainedModel, kind: str) -> dict:
    height, width, channels = model.image_shape
    image = {"height": height, "width": width, "channels": channels, "dtype": "uint8", "fit": model.reader.fit}
    return {
        "format": _FORMAT,
        "kind": kind,
        "image": image,
        "method": experiment.as_tree(model.experiment)["method"],
        "components": list(model.trained.learner.method.components),
        "normal_scores": np.sort(model.normal.scores_N).tolist(),
        "versions": environment.describe()["versions"],
    }


def _is_about(path: Path) -> bool:
    """Returns whether a file is the FILE.json of an export."""
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
        return about["kind"] in FORMATS and {"image", "method", "normal_scores"} <= about.keys()
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _is_export(path: Path) -> bool:
    if _is_about(_beside(path)):
        return True
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "numpy") as file:
            return "itae_jax" in (file.metadata() or {})
    except (OSError, SafetensorError):
        return False


def _beside(path: Path) -> Path:
    return path.with_name(path.name + ".json")


def _write_jax(model: TrainedModel, path: Path, about: dict) -> None:
    from jax import export as jax_export

    images = jax.ShapeDtypeStruct((*jax_export.symbolic_shape("N"), *model.image_shape), np.uint8)
    with traced_for(*PLATFORMS):
        exported = jax_export.export(jax.jit(scoring_function(model.trained)), platforms=PLATFORMS)(images)
    about["platforms"] = list(PLATFORMS)
    path.write_bytes(exported.serialize())


def _write_onnx(model: TrainedModel, path: Path, about: dict) -> None:
    """Converts, runs the result, and compares: the converter gets some operations wrong."""
    dtype = model.experiment.compute.dtype
    if dtype == "bfloat16":
        raise RequestError(f"compute.dtype={dtype}: ONNX runtimes do not compute in it; export it as jax")
    try:
        import jax2onnx
        import onnxruntime
    except ModuleNotFoundError:
        raise RequestError("ONNX needs jax2onnx: in a clone, pip install '.[onnx]'") from None
    score, names = scoring_function(model.trained), ["score", *about["components"]]
    try:
        with traced_for("onnx"):
            jax2onnx.to_onnx(
                lambda images: tuple(score(images)[name] for name in names),
                [jax.ShapeDtypeStruct(("N", *model.image_shape), np.uint8)],
                input_names=["images"],
                output_names=names,
                return_mode="file",
                output_path=str(path),
            )
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4  # the error below says it all
        session = onnxruntime.InferenceSession(path, options)
        noise = np.random.default_rng(0).integers(0, 256, (2, *model.image_shape), np.uint8)
        (converted,) = session.run(["score"], {"images": noise})
        with jax.default_matmul_precision("highest"):
            expected = jax.jit(score)(noise)["score"]
        if not np.allclose(converted, expected, rtol=1e-3):
            raise ArithmeticError(f"it scores {converted.tolist()}, expected {np.asarray(expected).tolist()}")
    except Exception as error:  # the converter raises anything for what it does not know
        reason = str(error).partition("\n")[0] or type(error).__name__
        advice = "export it as jax"
        raise RequestError(f"jax2onnx does not convert this model ({reason[:200]}); {advice}") from error


def _write_weights(model: TrainedModel, path: Path, about: dict) -> None:
    from safetensors.numpy import save

    settings = model.experiment.method
    torch_weights = methods.spec(settings.NAME).torch_weights
    if torch_weights is None:
        raise RequestError(
            f"method.name={settings.NAME}: has no weights under PyTorch's names; export it as jax"
        )
    calibration = {key: np.asarray(value) for key, value in model.trained.calibration.items()}
    about["calibration"] = {key: value.tolist() for key, value in calibration.items() if value.ndim < 2}
    path.write_bytes(save(torch_weights(settings, model.trained.variables), {"itae_jax": json.dumps(about)}))


@dataclasses.dataclass(frozen=True)
class ExportedScorer:
    """A scoring function that was read back, and the content of its FILE.json."""

    about: dict
    call: Scorer

    def score(self, images_NxHxWxC: np.ndarray, batch_size: int = 64) -> Scores:
        """Scores uint8 images, `batch_size` at a time."""
        shape = tuple(self.about["image"][key] for key in ("height", "width", "channels"))
        images = np.asarray(images_NxHxWxC)
        if images.dtype != np.uint8 or images.shape[1:] != shape:
            raise RequestError(f"expected N x {shape} uint8 images, got {images.shape} {images.dtype}")
        parts: dict[str, list] = {name: [np.zeros(0)] for name in ("score", *self.about["components"])}
        for start in range(0, len(images), batch_size):
            batch = images[start : start + batch_size]
            # Padded, so that one batch size is compiled once.
            padding = np.zeros((batch_size - len(batch), *shape), np.uint8)
            result = self.call(jnp.asarray(np.concatenate([batch, padding])))
            for name, values in parts.items():
                values.append(np.asarray(result[name])[: len(batch)])
        columns = {name: np.concatenate(values) for name, values in parts.items()}
        return Scores(columns.pop("score"), columns)

    def threshold(self, false_positive_rate: float) -> float:
        """Returns the score above which an image is called an anomaly, at this rate among normal ones."""
        return threshold(np.asarray(self.about["normal_scores"]), false_positive_rate)


def load(path: Path) -> ExportedScorer:
    """Reads what `export` wrote as jax, with FILE.json beside it; executes no Python in it."""
    from jax import export as jax_export

    try:
        about = json.loads(_beside(path).read_text(encoding="utf-8"))
        if about["format"] != _FORMAT or about["kind"] != "jax":
            raise ValueError(f"format {about['format']} of kind {about['kind']}, expected {_FORMAT} of jax")
        if about["sha256"] != files.sha256(path):
            raise ValueError(f"{_beside(path).name} belongs to another file")
        for key in ("components", "normal_scores"):
            if not isinstance(about[key], list):
                raise ValueError(f"{_beside(path).name}: {key}: expected a list")
        exported = jax_export.deserialize(bytearray(path.read_bytes()))
        found, image = exported.in_avals[0].shape[1:], about["image"]
        if found != (image["height"], image["width"], image["channels"]):
            raise ValueError(f"{path.name} takes images of {found}, {_beside(path).name} says otherwise")
    except Exception as error:  # the parser raises anything on damaged input
        reason = f"lacks {error}" if isinstance(error, KeyError) else str(error).partition("\n")[0]
        raise RequestError(f"{path}: not a whole export ({reason or type(error).__name__})") from None
    return ExportedScorer(about, jax.jit(exported.call))
