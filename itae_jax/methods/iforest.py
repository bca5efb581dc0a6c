"""The isolation forest of Liu et al. (2008) on pixels: anomalies are alone after few random cuts."""

import dataclasses
import math
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np

from itae_jax.config import setting
from itae_jax.methods._pixels import Pixels, PixelsConfig, in_batches
from itae_jax.methods.method import Spec


@dataclasses.dataclass(frozen=True)
class IForestConfig(PixelsConfig):
    """Settings of the isolation forest."""

    NAME: ClassVar[str] = "iforest"

    trees: int = setting(100, "the number of trees", least=1, most=10_000)
    samples: int = setting(256, "training images that each tree divides", least=2, most=2**20)
    random_state: int = setting(0, "the seed of the trees", least=0, most=2**32 - 1)


class IForest(Pixels):
    """See `Method`. Scores are in (0, 1]: scikit-learn's `score_samples` with the other sign.

    The calibration is the trees as arrays, T x M nodes: a node sends an image whose `feature` is at most
    `threshold` to the node `left`, else to `right`. Leaves send it to themselves; `length` is their depth
    and the mean depth of a tree of their images. `normal` is that of all images of a tree.
    """

    def calibrate(self, measured: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        from sklearn.ensemble import IsolationForest

        config, pixels = self._config, measured["pixels"]
        samples = min(config.samples, len(pixels))
        forest = IsolationForest(
            n_estimators=config.trees, max_samples=samples, random_state=config.random_state
        ).fit(pixels)
        trees = [each.tree_ for each in forest.estimators_]
        shape = len(trees), max(tree.node_count for tree in trees)
        found = {name: np.zeros(shape, np.int32) for name in ("feature", "left", "right")}
        found |= {name: np.zeros(shape, np.float32) for name in ("threshold", "length")}
        for number, tree in enumerate(trees):
            nodes = np.arange(tree.node_count)
            is_leaf = tree.children_left < 0
            values = {
                "feature": np.where(is_leaf, 0, tree.feature),
                "left": np.where(is_leaf, nodes, tree.children_left),
                "right": np.where(is_leaf, nodes, tree.children_right),
                "threshold": _rounded_down(tree.threshold),
                "length": tree.compute_node_depths() - 1 + _mean_depth(tree.n_node_samples),
            }
            for name, value in values.items():
                found[name][number, nodes] = value
        return found | {"normal": _mean_depth(np.array([samples]))[0]}

    def score(self, measured: dict[str, Any], calibration: dict[str, np.ndarray]) -> Any:
        def scores(pixels_BxD):
            trees_1xT = jnp.arange(len(calibration["left"]), dtype="int32")[None]
            nodes_BxT = jnp.zeros((pixels_BxD.shape[0], trees_1xT.shape[1]), "int32")
            for _ in range(math.ceil(math.log2(self._config.samples))):  # scikit-learn's greatest depth
                of_node = {name: values[trees_1xT, nodes_BxT] for name, values in tree.items()}
                values_BxT = jnp.take_along_axis(pixels_BxD, of_node["feature"], 1)
                goes_left = values_BxT <= of_node["threshold"].astype(values_BxT.dtype)
                nodes_BxT = jnp.where(goes_left, of_node["left"], of_node["right"])
            return jnp.exp2(-tree["length"][trees_1xT, nodes_BxT].mean(1) / normal)

        tree = {name: jnp.asarray(calibration[name]) for name in calibration if name != "normal"}
        normal = max(float(calibration["normal"]), 1.0)  # 0 for a single training image
        return in_batches(scores, measured["pixels"])


def _rounded_down(thresholds: np.ndarray) -> np.ndarray:
    """float64 as the next float32 below, which divides float32 pixels alike."""
    rounded = thresholds.astype(np.float32)
    return np.where(rounded > thresholds, np.nextafter(rounded, np.float32(-np.inf)), rounded)


def _mean_depth(counts: np.ndarray) -> np.ndarray:
    """The mean depth at which a random tree of so many images isolates one."""
    many = np.maximum(counts, 3).astype(np.float64)
    depths = 2 * (np.log(many - 1) + np.euler_gamma) - 2 * (many - 1) / many
    return np.where(counts > 2, depths, (counts == 2).astype(np.float64))


METHOD = Spec(IForestConfig, IForest)
