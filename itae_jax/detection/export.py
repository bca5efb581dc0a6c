"""A trained model as one file for others: the scoring function, or the network's weights.

jax          the scoring function by `jax.export`: StableHLO for CPU, CUDA and TPU, any batch size
onnx         the same for ONNX runtimes, by jax2onnx (the extra `onnx`)
safetensors  the U-Net's weights under PyTorch's names

The scoring function takes images N x H x W x C uint8 to their scores (Eq. 3) and the errors that
these are made of; transforms, network and normaliser are inside. What it does not hold stands beside it
in FILE.json: the shape of the images, how they are brought to it, and the scores of held-out normal
images, of which a threshold is computed at any false-alarm rate.
"""

import dataclasses
import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from itae_jax import environment, files, models
from itae_jax.detection import model as trained
from itae_jax.detection.model import NormalScores
from itae_jax.errors import RequestError
from itae_jax.evaluate import restoration as evaluate
from itae_jax.files import check_output_file, writing
from itae_jax.methods.itae import FittedITAE
from itae_jax.models import torch_weights as weights
from itae_jax.models.cpu_conv import traced_for

FORMATS = ("jax", "onnx", "safetensors")
PLATFORMS = ("cpu", "cuda", "tpu")
_FORMAT = 1


def scoring_function(fitted: FittedITAE) -> Callable[[jax.Array], dict[str, jax.Array]]:
    """images N x H x W x C uint8 -> {"score": N, "errors": N x T}: Eq. 3 as one pure function."""
    method = fitted.method
    experiment = method.experiment
    network = experiment.model
    model = models.build(
        network.name,
        width=network.width,
        out_channels=method.image_shape[2],
        output=network.output,
        dtype=experiment.compute.dtype,
    )
    variables = jax.tree.map(np.asarray, dict(fitted.variables))
    normal_errors_1xT = np.asarray(fitted.normal_errors_T, method.pixel_dtype)[None]

    def score(images_uint8):
        of_pixels = evaluate.restored_errors(
            lambda inputs: model.apply(variables, inputs), images_uint8, method.transform, method.pixel_dtype
        )
        errors_NxT = of_pixels[experiment.evaluate.error].mean((2, 3, 4)).T
        return {"score": (errors_NxT / normal_errors_1xT).mean(1), "errors": errors_NxT}

    return score


def export(
    fitted: FittedITAE, path: Path, kind: str = "", normal: NormalScores | None = None, fit: str = ""
) -> None:
    """Writes a file, and FILE.json beside a scoring function, each whole or not at all.

    Args:
      kind: one of FORMATS; empty: by the ending .onnx or .safetensors, else jax.
      normal: scores of held-out normal images, for thresholds.
      fit: how images come to their shape, as `data.fit`.

    Raises:
      RequestError: a kind that this model cannot be written as, or a file that cannot be written.
    """
    kind = kind or {".onnx": "onnx", ".safetensors": "safetensors"}.get(path.suffix, "jax")
    if kind not in FORMATS:
        raise RequestError(f"format {kind!r}: choose from {', '.join(FORMATS)}")
    about = _about(fitted, kind, normal, fit)
    check_output_file(path, _is_export)
    if kind != "safetensors":
        check_output_file(_beside(path), _is_about)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with writing(path, "--out"):
            write = {"jax": _write_jax, "onnx": _write_onnx, "safetensors": _write_weights}[kind]
            write(fitted, partial, about)
            if kind != "safetensors":
                about["sha256"] = _sha256(partial)
                files.write_text(_beside(path), json.dumps(about, indent=2) + "\n")
            os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def export_model(directory: Path, path: Path, kind: str = "", transform: str = "") -> None:
    """Exports a directory that `itae fit` wrote.

    Raises:
      RequestError: as `trained.load` and `export`.
    """
    model = trained.load(directory, transform)
    model.check_takes_files(directory)
    export(model.fitted, path, kind, model.normal, model.reader.fit)


def _is_about(path: Path) -> bool:
    """Whether a file is what stands beside an export."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))["kind"] in FORMATS
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _is_export(path: Path) -> bool:
    return path.suffix == ".safetensors" or _is_about(_beside(path))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _beside(path: Path) -> Path:
    return path.with_name(path.name + ".json")


def _about(fitted: FittedITAE, kind: str, normal: NormalScores | None, fit: str) -> dict:
    experiment = fitted.method.experiment
    height, width, channels = fitted.method.image_shape
    return {
        "format": _FORMAT,
        "kind": kind,
        "image": {"height": height, "width": width, "channels": channels, "dtype": "uint8", "fit": fit},
        "transform": experiment.transform.name,
        "model": dataclasses.asdict(experiment.model),
        "error": experiment.evaluate.error,
        "normal_errors": np.asarray(fitted.normal_errors_T).tolist(),
        "normal_scores": [] if normal is None else np.sort(normal.scores_N).tolist(),
        "versions": environment.describe()["versions"],
    }


def _write_jax(fitted: FittedITAE, path: Path, about: dict) -> None:
    from jax import export as jax_export

    (batch,) = jax_export.symbolic_shape("N")
    images = jax.ShapeDtypeStruct((batch, *fitted.method.image_shape), np.uint8)
    with traced_for(*PLATFORMS):
        exported = jax_export.export(jax.jit(scoring_function(fitted)), platforms=PLATFORMS)(images)
    about["platforms"] = list(PLATFORMS)
    path.write_bytes(exported.serialize())


def _write_onnx(fitted: FittedITAE, path: Path, about: dict) -> None:
    """Converts, runs what came out, and compares: some operations are converted to something else."""
    dtype = fitted.method.experiment.compute.dtype
    if dtype == "bfloat16":
        raise RequestError(f"compute.dtype={dtype}: ONNX runtimes do not compute in it; export it as jax")
    try:
        import jax2onnx
        import onnxruntime
    except ModuleNotFoundError:
        raise RequestError("ONNX needs jax2onnx: pip install 'itae_jax[onnx]'") from None
    score = scoring_function(fitted)

    def outputs(images):
        result = score(images)
        return result["score"], result["errors"]

    images = jax.ShapeDtypeStruct(("N", *fitted.method.image_shape), np.uint8)
    try:
        with traced_for("onnx"):
            jax2onnx.to_onnx(
                outputs,
                [images],
                input_names=["images"],
                output_names=["score", "errors"],
                return_mode="file",
                output_path=str(path),
            )
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4  # its complaints go to stderr, beside the one line that we raise
        session = onnxruntime.InferenceSession(path, options)
        noise = np.random.default_rng(0).integers(0, 256, (2, *fitted.method.image_shape), np.uint8)
        (converted,) = session.run(["score"], {"images": noise})
        with jax.default_matmul_precision("highest"):
            expected = jax.jit(score)(noise)["score"]
        if not np.allclose(converted, expected, rtol=1e-3):
            raise ArithmeticError(f"it scores {converted.tolist()}, expected {np.asarray(expected).tolist()}")
    except Exception as error:  # the converter raises all kinds for what it does not know
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise RequestError(
            f"jax2onnx does not convert this model ({reason[:200]}); export it as jax"
        ) from error


def _write_weights(fitted: FittedITAE, path: Path, about: dict) -> None:
    name = fitted.method.experiment.model.name
    if name != "unet":
        raise RequestError(f"model.name={name}: only the unet has a counterpart in PyTorch; export it as jax")
    weights.write(path, fitted.variables, {"itae_jax": json.dumps(about)})


@dataclasses.dataclass(frozen=True)
class ExportedScorer:
    """A scoring function that was read back.

    Attributes:
      about: what stands in FILE.json.
      call: images N x H x W x C uint8 -> {"score": N, "errors": N x T}.
    """

    about: dict
    call: Callable[[jax.Array], dict[str, jax.Array]]

    def score(self, images_NxHxWxC: np.ndarray, batch_size: int = 64) -> tuple[np.ndarray, np.ndarray]:
        """(scores N, errors N x T) of images, `batch_size` at a time."""
        shape = tuple(self.about["image"][key] for key in ("height", "width", "channels"))
        images = np.asarray(images_NxHxWxC)
        if images.dtype != np.uint8 or images.shape[1:] != shape:
            raise RequestError(f"expected N x {shape} uint8 images, got {images.shape} {images.dtype}")
        scores, errors = [], []
        for start in range(0, len(images), batch_size):
            batch = images[start : start + batch_size]
            # One size of batch is compiled once.
            padding = np.zeros((batch_size - len(batch), *shape), np.uint8)
            result = self.call(jnp.asarray(np.concatenate([batch, padding])))
            scores.append(np.asarray(result["score"])[: len(batch)])
            errors.append(np.asarray(result["errors"])[: len(batch)])
        count = len(self.about["normal_errors"])
        return np.concatenate([np.zeros(0), *scores]), np.concatenate([np.zeros((0, count)), *errors])

    def threshold(self, false_alarms: float) -> float:
        """The score above which an image is called an anomaly, at this rate among normal ones."""
        if not self.about["normal_scores"]:
            raise RequestError("this export has no scores of held-out normal images to compute it from")
        return trained.threshold(np.asarray(self.about["normal_scores"]), false_alarms)


def load(path: Path) -> ExportedScorer:
    """Reads what `export` wrote as jax, with FILE.json beside it. No Python in it is executed.

    Raises:
      RequestError: one of the two is not there, damaged, or of another kind.
    """
    from jax import export as jax_export

    try:
        about = json.loads(_beside(path).read_text(encoding="utf-8"))
        if about["format"] != _FORMAT or about["kind"] != "jax":
            raise ValueError(f"format {about['format']} of kind {about['kind']}, expected {_FORMAT} of jax")
        if about["sha256"] != _sha256(path):
            raise ValueError(f"{_beside(path).name} is of another file")
        if not {"normal_errors", "normal_scores", "image", "error"} <= about.keys():
            raise ValueError(f"{_beside(path).name} does not tell all it should")
        exported = jax_export.deserialize(bytearray(path.read_bytes()))
        found = exported.in_avals[0].shape[1:]
        if found != tuple(about["image"][key] for key in ("height", "width", "channels")):
            raise ValueError(f"{path.name} takes images of {found}, {_beside(path).name} says otherwise")
    except Exception as error:  # the parser raises whatever the damage leads it to
        reason = f"lacks {error}" if isinstance(error, KeyError) else str(error).partition("\n")[0]
        raise RequestError(f"{path}: not a whole export ({reason or type(error).__name__})") from None
    return ExportedScorer(about, jax.jit(exported.call))
