"""GeoTrans (Golan and El-Yaniv, NeurIPS 2018): a classifier that tells geometric transforms apart.

It learns which of 72 transforms was applied to a normal image. An image is anomalous if the classifier's
answers are unlikely under the Dirichlet distributions fitted to those of the training images.
"""

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import optax

from itae_jax import parallel
from itae_jax.config import MethodConfig, setting
from itae_jax.errors import RequestError
from itae_jax.methods.method import Spec, State
from itae_jax.models.layers import parameter_dtype
from itae_jax.models.wide_resnet import WideResNet

COUNT = 72  # 2 flips, 3 x 3 shifts, 4 rotations
_DECAY = 2.5e-4  # weight of the squared parameters in the loss
_LEAST_SIDE = 8
_MOST_ITERATIONS, _TOLERANCE = 100, 1e-9  # of the Dirichlet fit
_MOST_SURE = 1e6  # a parameter grows without end if all images get the same answers


@dataclasses.dataclass(frozen=True)
class GeoTransConfig(MethodConfig):
    """Settings of GeoTrans; it is trained by Adam.

    Each image is seen by one random transform an epoch: 216 epochs are 3 over all 72. For images of 64 pixels
    its authors take depth=16 and widen=8. Training needs 20 kB of memory for each image.
    """

    NAME: ClassVar[str] = "geotrans"
    TRAIN: ClassVar[dict[str, Any]] = dict(
        epochs=216, batch_size=128, learning_rate=1e-3, halve_every_epochs=10**6
    )

    depth: int = setting(10, "layers of the wide residual network: 10, 16, 22, ...", least=10, most=1000)
    widen: int = setting(4, "its channels: 16, 32 and 64 times this", least=1, most=256, reduces=True)

    @property
    def title(self) -> str:
        return "GeoTrans"

    def square_only(self, asked: dict[str, Any]) -> bool:
        return True

    def suggest(self, asked: dict[str, Any], accelerator: bool) -> list[tuple[str, Any, str]]:
        return [("train.augment", "none", "the transforms mirror the images")]

    def paper_name(self, table: str, grey: bool, score: str = "") -> str:
        is_theirs = (self.depth == 10 and self.widen <= 4) or (self.depth, self.widen) == (16, 8)
        return "GeoTrans" if is_theirs and table in ("table1", "table2", "table6", "figure3") else ""


def transformed(image_HxWxC: jax.Array, index: jax.Array) -> jax.Array:
    """Transform number 0 to 71 of a square image: mirrored or not, shifted, then rotated; 0 changes nothing.

    Shifts are by a quarter of the side or none, up or down and left or right; what moves in is mirrored at the
    edge. `index` counts the rotation fastest, then the column's shift, the row's, and the mirroring.
    """
    side = image_HxWxC.shape[0]
    step = side // 4
    flip, row, column, turns = jnp.unravel_index(index, (2, 3, 3, 4))
    image = jnp.where(flip == 1, image_HxWxC[:, ::-1], image_HxWxC)
    padded = jnp.pad(image, ((step, step), (step, step), (0, 0)), mode="symmetric")
    offsets = jnp.asarray([step, 0, 2 * step], "int32")
    corner = offsets[row], offsets[column], jnp.zeros((), "int32")
    image = jax.lax.dynamic_slice(padded, corner, image_HxWxC.shape)
    return jax.lax.switch(turns, [lambda x, k=k: jnp.rot90(x, k) for k in range(4)], image)


class GeoTrans:
    """GeoTrans for images of one shape; see `Method`.

    Measured is `log_p`, the logarithm of the answer to each transform, N x 72 x 72. The calibration is `alpha`,
    the parameters of a Dirichlet distribution for each transform, 72 x 72. The score is
    -sum_t sum_k (alpha_tk - 1) log p_tk, the negative log-likelihood but for a constant.

    Raises:
      RequestError: images that are too small or not square, or a depth that is not 6 n + 4.
    """

    components: tuple[str, ...] = ()

    def __init__(self, config: GeoTransConfig, image_shape: tuple[int, int, int], dtype: str):
        height, width, _ = image_shape
        if height != width or height < _LEAST_SIDE:
            needed = f"squares of {_LEAST_SIDE} pixels or more; set data.image_size and data.aspect=1"
            raise RequestError(f"images of {height}x{width}: method.name=geotrans takes {needed}")
        if config.depth % 6 != 4:
            raise RequestError(f"method.depth={config.depth}: expected 6 n + 4, as 10, 16 or 22")
        self._image_shape, self._dtype = image_shape, parameter_dtype(dtype)
        options: dict[str, Any] = {"axis_name": parallel.AXIS, "dtype": jnp.dtype(dtype)}
        self._network = WideResNet(config.depth, config.widen, COUNT, **options)

    def init(self, key: jax.Array) -> State:
        images = jnp.zeros((1, *self._image_shape), self._dtype)
        variables = dict(self._network.init(key, images, train=False))
        return State(variables, optax.adam(0.0).init(variables["params"]))

    def update(
        self, state: State, keys_B: jax.Array, rate: jax.Array, images_BxHxWxC: jax.Array
    ) -> tuple[State, dict[str, jax.Array]]:
        """One step of Adam on the cross-entropy of one random transform of each image, and weight decay."""
        index_B = jax.vmap(lambda key: jax.random.randint(key, (), 0, COUNT, "int32"))(keys_B)
        inputs = jax.vmap(transformed)(images_BxHxWxC, index_B)
        batch_stats = state.variables["batch_stats"]

        def loss_of(params):
            variables = {"params": params, "batch_stats": batch_stats}
            logits, updated = self._network.apply(variables, inputs, train=True, mutable=["batch_stats"])
            loss = optax.softmax_cross_entropy_with_integer_labels(logits, index_B).mean()
            squares = sum(jnp.square(leaf).sum() for leaf in jax.tree.leaves(params))
            return loss + _DECAY * squares, updated["batch_stats"]

        (loss, batch_stats), grads = jax.value_and_grad(loss_of, has_aux=True)(state.variables["params"])
        loss, grads = parallel.mean((loss, grads))
        with jax.numpy_dtype_promotion("standard"):  # Optax mixes floats with its integer count of steps
            updates, opt_state = optax.adam(rate).update(grads, state.opt_state)
        params = optax.apply_updates(state.variables["params"], updates)
        return State({"params": params, "batch_stats": batch_stats}, opt_state), {"loss": loss}

    def measure(self, variables: Any, images_BxHxWxC: jax.Array) -> dict[str, jax.Array]:
        def answers(index):
            inputs = jax.vmap(lambda image: transformed(image, index))(images_BxHxWxC)
            logits: Any = self._network.apply(variables, inputs, train=False)
            return jax.nn.log_softmax(logits)

        # One transform of the batch after the other: 72 at once would take 72 times the memory.
        log_p_TxBxK = jax.lax.map(answers, jnp.arange(COUNT, dtype="int32"))
        return {"log_p": log_p_TxBxK.swapaxes(0, 1)}

    def calibrate(self, measured: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {"alpha": dirichlet(measured["log_p"].mean(0, dtype=np.float64))}

    def score(self, measured: dict[str, Any], calibration: dict[str, np.ndarray]) -> Any:
        log_p_NxTxK = measured["log_p"]
        weights_TxK = np.asarray(calibration["alpha"] - 1, log_p_NxTxK.dtype)
        return -(log_p_NxTxK * weights_TxK[None]).sum((1, 2))

    def columns(self, measured: dict[str, Any], calibration: dict[str, np.ndarray]) -> dict[str, Any]:
        return {}


def dirichlet(mean_log_p_TxK: np.ndarray) -> np.ndarray:
    """The most likely parameters, T x K, of T Dirichlet distributions given the means of log p.

    By Newton's method (Minka, Estimating a Dirichlet distribution, 2000); no step more than doubles or halves.
    """
    from scipy.special import digamma, polygamma

    alpha_TxK = np.ones_like(mean_log_p_TxK)
    for _ in range(_MOST_ITERATIONS):
        before, total_Tx1 = alpha_TxK, alpha_TxK.sum(1, keepdims=True)
        slope_TxK = digamma(total_Tx1) - digamma(alpha_TxK) + mean_log_p_TxK
        own_TxK, shared_Tx1 = -polygamma(1, alpha_TxK), polygamma(1, total_Tx1)  # the Hessian
        both_Tx1 = (slope_TxK / own_TxK).sum(1, keepdims=True)
        both_Tx1 /= 1 / shared_Tx1 + (1 / own_TxK).sum(1, keepdims=True)
        step_TxK = (slope_TxK - both_Tx1) / own_TxK
        alpha_TxK = np.clip(alpha_TxK - step_TxK, alpha_TxK / 2, np.minimum(2 * alpha_TxK, _MOST_SURE))
        if np.abs(alpha_TxK / before - 1).max() < _TOLERANCE:
            break
    return alpha_TxK


METHOD = Spec(GeoTransConfig, GeoTrans)
