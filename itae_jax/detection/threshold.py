"""Calibration: scores of normal images that were not trained on, and the thresholds that follow from them."""

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from itae_jax import files
from itae_jax.data import Images
from itae_jax.detection import anomaly_map
from itae_jax.errors import RequestError
from itae_jax.training.learner import Trained

_USUAL_RATE = 0.05  # of normal images have a brighter heat map than `usual_peak`


def threshold(normal_scores_N: np.ndarray, false_positive_rate: float) -> float:
    """Returns the least score that a new normal image exceeds with at most this probability.

    It is the k-th lowest of the N scores, k = ceil((N + 1) (1 - rate)): a new normal image is equally likely
    to take any of the N + 1 places among them. For a rate below 1 / (N + 1) it is the highest score, and the
    rate is 1 / (N + 1).
    """
    if not 0 < false_positive_rate < 1:
        raise RequestError(f"a false-positive rate of {false_positive_rate}: expected a number between 0 and 1")
    count = len(normal_scores_N)
    rank = math.ceil((count + 1) * (1 - false_positive_rate) - 1e-9)
    return float(np.sort(normal_scores_N)[min(max(rank, 1), count) - 1])


@dataclasses.dataclass(frozen=True)
class NormalScores:
    """Scores of the calibration images.

    Attributes:
      ids: their paths, or other names.
      scores_N: the anomaly scores.
      peaks_N: the highest value of each smoothed anomaly map; 0 where the method has no maps.
      components: the method's components by name, N numbers each.
    """

    ids: tuple[str, ...]
    scores_N: np.ndarray
    peaks_N: np.ndarray
    components: dict[str, np.ndarray]

    @classmethod
    def measure(cls, trained: Trained, images: Images, ids: Sequence[str]) -> "NormalScores":
        """Scores images; leaves out those that cannot be read."""
        kept, parts, peaks = [], [], []
        for positions, measured, maps_BxHxW in trained.measure(images, maps=True):
            kept += positions.tolist()
            parts.append(trained.score_of(measured))
            maps = np.zeros((len(positions), 1, 1)) if maps_BxHxW is None else maps_BxHxW
            peaks += [float(anomaly_map.smooth(map_HxW).max()) for map_HxW in maps]
        if not kept:
            raise RequestError(f"none of the {len(images)} calibration images can be read")
        names = trained.learner.method.components
        components = {name: np.concatenate([part.columns[name] for part in parts]) for name in names}
        scores_N = np.concatenate([part.scores_N for part in parts])
        return cls(tuple(ids[position] for position in kept), scores_N, np.asarray(peaks), components)

    @property
    def least_rate(self) -> float:
        """The lowest false-positive rate that so many images can ensure."""
        return 1 / (len(self.ids) + 1)

    @property
    def usual_peak(self) -> float:
        """The value that one in twenty normal images exceeds anywhere: heat maps are brightest there."""
        return self.peak(_USUAL_RATE)

    def peak(self, false_positive_rate: float) -> float:
        """Returns the value that this share of normal images exceeds anywhere in the smoothed map."""
        return threshold(self.peaks_N, false_positive_rate)

    def threshold(self, false_positive_rate: float) -> float:
        """Returns the score above which an image is called an anomaly."""
        return threshold(self.scores_N, false_positive_rate)

    def p_values(self, scores_M: np.ndarray) -> np.ndarray:
        """Returns for each score the chance that a new normal image scores as high or higher.

        (1 + number of the N calibration scores >= score) / (1 + N). A normal image's is at most r with a
        probability of at most r.
        """
        below_M = np.searchsorted(np.sort(self.scores_N), scores_M, side="left")
        return (1 + len(self.ids) - below_M) / (1 + len(self.ids))

    def write(self, path: Path) -> None:
        """Writes a CSV file: path, score, peak, and the components."""
        columns = {"score": self.scores_N, "peak": self.peaks_N} | self.components
        rows = [
            {"path": name} | {column: repr(float(values[i])) for column, values in columns.items()}
            for i, name in enumerate(self.ids)
        ]
        files.write_csv(path, rows)

    @classmethod
    def read(cls, path: Path) -> "NormalScores":
        """Reads what `write` wrote."""
        rows = files.read_csv(path)
        numbers = {name: np.array([float(row[name]) for row in rows]) for name in list(rows[0])[1:]}
        return cls(tuple(row["path"] for row in rows), numbers.pop("score"), numbers.pop("peak"), numbers)
