"""What one training left to report of, its scores and its illustrations: read back, and checked."""

import csv
import tokenize
import zipfile
import zlib
from pathlib import Path

import numpy as np

from itae_jax import files
from itae_jax.errors import RequestError

_MOST = 3.4e38  # scores are float32
_ROUNDING = 1e-5  # of the measures in results.csv
_VIDEO = ("shanghaitech",)  # whose frames have ids `<video>/<frame>`
# What NumPy and the modules that it reads archives with raise of broken ones.
_DAMAGED = (OSError, EOFError, ValueError, KeyError, NotImplementedError)
_DAMAGED += (zipfile.BadZipFile, zlib.error, tokenize.TokenError, SyntaxError)


def is_video(row: dict[str, str]) -> bool:
    """Whether a result is of frames, which are scored within each video (Eq. 4)."""
    return row["dataset"] in _VIDEO


def read_scores(directory: Path, row: dict[str, str]) -> tuple[np.ndarray, np.ndarray]:
    """(is anomaly, score) of every test image of a training, from its scores.csv; of video by Eq. 4.

    So these are the scores that the measures in results.csv are computed from.

    Raises:
      RequestError: it is damaged.
    """
    from itae_jax.evaluate import metrics as measures
    from itae_jax.evaluate import restoration as evaluate  # and JAX

    try:
        scores = files.read_csv(directory / "scores.csv")
        if not scores or any(None in score.values() for score in scores):
            raise ValueError("scores.csv is cut short")
        is_anomaly = np.array([score["label"] != row["normal_label"] for score in scores])
        values = np.array([float(score["score"]) for score in scores])
        if not (np.abs(values) <= _MOST).all():
            raise ValueError("a score in scores.csv is not a finite number")
        if row["num_test"] and len(scores) != int(row["num_test"]):
            raise ValueError(f"scores.csv has {len(scores)} of {row['num_test']} images")
        videos = np.array([score["id"].rpartition("/")[0] for score in scores]) if is_video(row) else None

        def judged(values_N: np.ndarray) -> np.ndarray:
            return values_N if videos is None else 1 - evaluate.frame_normality(values_N, videos)

        values = judged(values)
        found = {"num_anomalous": is_anomaly.sum(), "auroc": evaluate.auroc(is_anomaly, values)}
        found |= measures.of_images(is_anomaly, values)
        for kind in set(evaluate.ERRORS) & {name.removeprefix("score_") for name in scores[0]}:
            by_error = judged(np.array([float(score[f"score_{kind}"]) for score in scores]))
            found[f"auroc_{kind}"] = evaluate.auroc(is_anomaly, by_error)
        for name, value in found.items():
            if row[name] and not abs(value - float(row[name])) <= _ROUNDING:
                raise ValueError(f"scores.csv gives {name}={value:.6g}, results.csv has {row[name]}")
        return is_anomaly, values
    except (OSError, ValueError, KeyError, csv.Error) as error:
        raise damaged(directory, error) from None


def check(directory: Path, row: dict[str, str]) -> None:
    """Raises RequestError unless the files of a training are whole and give what its row tells."""
    read_scores(directory, row)
    read_illustrations(directory)
    state = directory / "state"
    if state.exists():  # what older versions left may have none
        from itae_jax.training import checkpoint

        checkpoint.check(state)


def read_illustrations(directory: Path) -> dict[str, np.ndarray]:
    """The images that a training kept for the report.

    Raises:
      RequestError: they are damaged.
    """
    try:
        with (directory / "illustrations.npz").open("rb") as file, np.load(file, allow_pickle=False) as saved:
            needed = ("labels", "is_anomaly", "originals", "inputs", "outputs")
            arrays = {key: saved[key] for key in {*needed, *saved.files}}
        _check_arrays(arrays)
        return arrays
    except _DAMAGED as error:
        raise damaged(directory, error) from None


def _check_arrays(arrays: dict[str, np.ndarray]) -> None:
    """Raises ValueError unless all are what a training writes, of the same images."""
    count, height, width, channels = arrays["originals"].shape
    kinds = {"labels": "U", "is_anomaly": "b", "originals": "u", "inputs": "u", "outputs": "u"}
    kinds |= {"maps": "f", "masks": "b"}
    if any(arrays[key].dtype.kind != kind for key, kind in kinds.items() if key in arrays):
        raise ValueError("illustrations.npz holds values of other types than a training writes")
    if not count or channels not in (1, 3) or arrays["labels"].ndim != 1 or not len(arrays["inputs"]):
        raise ValueError("illustrations.npz holds no images, or others than grey and colour")
    of_images = all(len(arrays[key]) == count for key in ("labels", "is_anomaly"))
    of_members = all(arrays[key].shape[1:4] == (count, height, width) for key in ("inputs", "outputs"))
    maps = [arrays[key].shape for key in ("maps", "masks") if key in arrays]
    if not of_images or not of_members or any(shape != (count, height, width) for shape in maps):
        raise ValueError("the arrays of illustrations.npz are not of the same images")


def damaged(directory: Path, error: Exception) -> RequestError:
    """What to say of a training whose files cannot be read."""
    return RequestError(
        f"{directory}: its results are damaged ({error}); run the experiment into another directory"
    )
