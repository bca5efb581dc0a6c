"""ITAE, principal components and nearest neighbours as one score, for images of which little is known.

Restoration finds small defects; the distance to whole training images finds what is altogether different.
"""

import dataclasses
import math
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from itae_jax.errors import RequestError
from itae_jax.methods.itae import ITAE, ITAEConfig, torch_weights
from itae_jax.methods.knn import KNN, KNNConfig
from itae_jax.methods.method import Method, Spec, State
from itae_jax.methods.pca import PCA, PCAConfig

_FINE, _PART = 512, 64  # side of images that show fine defects, and of the parts to train on
_SIDE = 32  # of the images of which PCA is computed
_FOLDS, _MOST_FOLDED = 5, 300  # of training images, to score some that PCA and neighbours did not see
_LEAST = 0.01  # of the mean of normal images: lower scores are no more normal


@dataclasses.dataclass(frozen=True)
class EnsembleConfig(ITAEConfig):
    """Settings of the ensemble: those of ITAE."""

    NAME: ClassVar[str] = "ensemble"
    RECIPES: ClassVar[dict[str, dict[str, Any]]] = {}
    FOR_OBJECTS: ClassVar[dict[str, Any]] = {
        "method.name": "itae",
        "method.transform": "gray+rotate",
        "method.error": "features",
        "method.combine": "first",
    }

    @property
    def title(self) -> str:
        return f"{self.NAME} with {super().title}"

    @property
    def own_score(self) -> str:
        return ""

    def paper_name(self, table: str, grey: bool, score: str = "") -> str:
        return ""

    def candidates(self, side: int, asked: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
        size, whole = asked.get("data.image_size", 0), {"method.transform": "paste"}
        found, fine = list[tuple[str, dict[str, Any]]](), max(size, _FINE)
        if asked.get("method.error") == "features":
            return []
        if size < _FINE or "train.augment" in asked:  # else it would take hours on a CPU
            found.append(("whole images", whole))
        if max(side, size) >= _FINE:
            parts = {"data.image_size": fine, "train.augment": f"flip+crop{_PART}+light"}
            found.append((f"parts of images of {fine} pixels", whole | parts))
        return found


class Ensemble:
    """See `Method`. The score is the weighted mean of the members' scores in standard deviations.

    A member contributes (log max(s, 0.01) - m) / d, with the mean m and the deviation d over normal images:
    those handed to `combined`, which also sets the weights, else the training images; PCA and neighbours score
    each fifth of these as fitted on the others. 0 is a usual normal image.
    """

    def __init__(self, config: EnsembleConfig, image_shape: tuple[int, int, int], dtype: str):
        if config.error == "features":  # these scores of training images are far below those of others
            raise RequestError("method.error=features: cannot be combined; set method.name=itae")
        self._itae = ITAE(config, image_shape, dtype)
        self._others: dict[str, Method] = {
            "pca": PCA(PCAConfig(side=_SIDE), image_shape, dtype),
            "knn": KNN(KNNConfig(k=1, features="hog"), image_shape, dtype),
        }
        others = [f"score_{name}" for name in self._others]
        self.components = (*self._itae.components, *others)
        own = [f"score_{config.own_error}", "score_msgms_top" if config.is_detailed else "score_l1"]
        self.members = (*dict.fromkeys(own), *others)  # what the score combines

    def init(self, key: jax.Array) -> State:
        return self._itae.init(key)

    def update(
        self, state: State, keys_B: jax.Array, rate: jax.Array, images_BxHxWxC: jax.Array
    ) -> tuple[State, dict[str, jax.Array]]:
        """A step of ITAE."""
        return self._itae.update(state, keys_B, rate, images_BxHxWxC)

    def measure(self, variables: Any, images_BxHxWxC: jax.Array) -> dict[str, jax.Array]:
        measured = self._itae.measure(variables, images_BxHxWxC)
        for member in self._others.values():
            measured |= member.measure(variables, images_BxHxWxC)
        return measured

    def calibrate(self, measured: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        members: dict[str, Method] = {"itae": self._itae, **self._others}
        parts = {name: member.calibrate(measured) for name, member in members.items()}
        found = {f"{part}_{name}": value for part, values in parts.items() for name, value in values.items()}
        all_images = len(next(iter(measured.values())))
        some = {name: values[:: math.ceil(all_images / _MOST_FOLDED)] for name, values in measured.items()}
        normal, count = self.columns(some, found), len(next(iter(some.values())))
        fold_N = np.arange(count) % _FOLDS
        for name, member in self._others.items():
            scores_N = normal[f"score_{name}"] = np.zeros(count)
            for fold in range(min(_FOLDS, count)):
                inside, outside = (
                    {key: values[chosen] for key, values in some.items()}
                    for chosen in (fold_N == fold, fold_N != fold)
                )
                fitted = member.calibrate(outside)
                fitted |= {key: value for key, value in parts[name].items() if np.ndim(value) == 0}
                scores_N[fold_N == fold] = member.score(inside, fitted)
        return self.combined(found, normal, {})

    def combined(
        self, calibration: dict[str, np.ndarray], normal: dict[str, Any], ratings: dict[str, float]
    ) -> dict[str, np.ndarray]:
        """Weighs each member by how far its AUROC exceeds chance; without ratings all weigh the same."""
        logs_NxM = self._logs(normal)
        weights_M = np.array([max(0.0, ratings.get(name, 1.0) - 0.5) for name in self.members])
        if not weights_M.any():
            weights_M = np.ones(len(self.members))
        deviations_M = np.maximum(logs_NxM.std(0, dtype=np.float64), 1e-6)
        own = {"weights": weights_M / weights_M.sum(), "deviations": deviations_M}
        return calibration | own | {"means": logs_NxM.mean(0, dtype=np.float64)}

    def weights(self, calibration: dict[str, np.ndarray]) -> dict[str, float]:
        return dict(zip(self.members, calibration["weights"].tolist(), strict=True))

    def _logs(self, columns: dict[str, Any]) -> Any:
        xp: Any = jnp if isinstance(columns[self.members[0]], jax.Array) else np
        return xp.log(xp.maximum(xp.stack([columns[name] for name in self.members], 1), _LEAST))

    def score(self, measured: dict[str, Any], calibration: dict[str, np.ndarray]) -> Any:
        return self.combine(self.columns(measured, calibration), calibration)

    def combine(self, columns: dict[str, Any], calibration: dict[str, np.ndarray]) -> Any:
        logs_NxM = self._logs(columns)
        means, deviations, weights = (
            np.asarray(calibration[name], logs_NxM.dtype)[None] for name in ("means", "deviations", "weights")
        )
        return ((logs_NxM - means) / deviations * weights).sum(1)

    def columns(self, measured: dict[str, Any], calibration: dict[str, np.ndarray]) -> dict[str, Any]:
        of_itae = self._itae.columns(measured, _part(calibration, "itae"))
        return of_itae | {
            f"score_{name}": member.score(measured, _part(calibration, name))
            for name, member in self._others.items()
        }

    def anomaly_map(self, variables: Any, calibration: dict[str, Any], images_BxHxWxC: jax.Array) -> jax.Array:
        """That of ITAE."""
        return self._itae.anomaly_map(variables, _part(calibration, "itae"), images_BxHxWxC)

    def examples(
        self, variables: Any, calibration: dict[str, Any], images_BxHxWxC: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """Those of ITAE."""
        return self._itae.examples(variables, _part(calibration, "itae"), images_BxHxWxC)


def _part(calibration: dict[str, Any], name: str) -> dict[str, Any]:
    prefix = f"{name}_"
    return {key.removeprefix(prefix): v for key, v in calibration.items() if key.startswith(prefix)}


METHOD = Spec(EnsembleConfig, Ensemble, torch_weights)
