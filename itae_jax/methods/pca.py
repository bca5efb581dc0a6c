"""Principal component analysis of the pixels; the score is the error of the reconstruction."""

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from itae_jax.config import setting
from itae_jax.evaluate import restoration
from itae_jax.methods._pixels import Pixels, PixelsConfig, in_batches, resized
from itae_jax.methods.method import Spec


@dataclasses.dataclass(frozen=True)
class PCAConfig(PixelsConfig):
    """Settings of PCA."""

    NAME: ClassVar[str] = "pca"

    variance: float = setting(0.95, "share of the variance to keep", least=0.01, most=0.9999)
    error: str = setting("l1", "absolute or squared error of a pixel", choices=("l1", "l2"))
    reduce: str = setting("mean", "an image's error from those of its pixels", choices=restoration.REDUCTIONS)

    @property
    def own_score(self) -> str:
        return f"score_{self.reduce}"


class PCA(Pixels):
    """See `Method`. The calibration is the mean image, D, the K axes, K x D, and the mean of each error.

    Maps of images that were reduced are enlarged, so that their mean is 1 up to interpolation.
    """

    components = tuple(f"score_{name}" for name in restoration.REDUCTIONS)

    def __init__(self, config: PCAConfig, image_shape: tuple[int, int, int], dtype: str):
        super().__init__(config, image_shape, dtype)
        self._reduced = jax.jit(lambda pixels, found: restoration.reduced(self._error_maps(pixels, found)))

    def calibrate(self, measured: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        from sklearn import decomposition

        with np.errstate(divide="ignore", invalid="ignore"):  # images that are all the same
            fitted = decomposition.PCA(self._config.variance).fit(measured["pixels"])
        found = {"mean_image": fitted.mean_, "axes": fitted.components_}
        errors = self._errors(measured["pixels"], found)
        means = {name: values.mean(dtype=np.float64) for name, values in errors.items()}
        return found | {name: np.maximum(mean, restoration.LEAST_NORMAL_ERROR) for name, mean in means.items()}

    def _restored(self, pixels_BxD: jax.Array, calibration: dict[str, Any]) -> jax.Array:
        mean_D, axes_KxD = (jnp.asarray(calibration[name], pixels_BxD.dtype) for name in ("mean_image", "axes"))
        codes_BxK = jnp.matmul(pixels_BxD - mean_D[None], axes_KxD.T, precision="highest")
        return mean_D[None] + jnp.matmul(codes_BxK, axes_KxD, precision="highest")

    def _error_maps(self, pixels_BxD: jax.Array, calibration: dict[str, Any]) -> jax.Array:
        difference = self._restored(pixels_BxD, calibration) - pixels_BxD
        errors_BxD = jnp.abs(difference) if self._config.error == "l1" else jnp.square(difference)
        return errors_BxD.reshape(errors_BxD.shape[0], *self._small, -1).mean(-1)

    def _errors(self, pixels_NxD: Any, calibration: dict[str, Any]) -> dict[str, Any]:
        found = {name: np.asarray(calibration[name], pixels_NxD.dtype) for name in ("mean_image", "axes")}
        errors = in_batches(lambda pixels_BxD: self._reduced(pixels_BxD, found), pixels_NxD)
        return {f"score_{name}": values for name, values in errors.items()}

    def columns(self, measured: dict[str, Any], calibration: dict[str, np.ndarray]) -> dict[str, Any]:
        errors = self._errors(measured["pixels"], calibration)
        return {name: values / np.asarray(calibration[name], values.dtype) for name, values in errors.items()}

    def score(self, measured: dict[str, Any], calibration: dict[str, np.ndarray]) -> Any:
        return self.columns(measured, calibration)[self._config.own_score]

    def anomaly_map(self, variables: Any, calibration: dict[str, Any], images_BxHxWxC: jax.Array) -> jax.Array:
        maps = self._error_maps(self.measure(variables, images_BxHxWxC)["pixels"], calibration)
        return resized(maps[..., None], self._sides)[..., 0] / calibration["score_mean"]

    def examples(
        self, variables: Any, calibration: dict[str, Any], images_BxHxWxC: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        pixels = self.measure(variables, images_BxHxWxC)["pixels"]
        pair = pixels, self._restored(pixels, calibration).clip(-1, 1)
        shape = len(images_BxHxWxC), *self._small, self._channels
        given, made = (resized(rows.reshape(shape), self._sides)[None] for rows in pair)
        return given, made


METHOD = Spec(PCAConfig, PCA)
