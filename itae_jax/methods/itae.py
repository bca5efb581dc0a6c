"""The Inverse-Transform AutoEncoder: erase, restore, score by how badly the restoration fails.

The plain autoencoder is the same with the transform `identity`.
"""

import dataclasses
import functools
from collections.abc import Iterable
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from itae_jax import models, parallel, transforms
from itae_jax.config import MethodConfig, setting
from itae_jax.errors import RequestError
from itae_jax.evaluate import features, restoration, structure
from itae_jax.methods.method import Spec, State

_ANGLES = ("0°", "90°", "180°", "270°")
_OF_REGIONS = {"paste", "mask", "masks"}  # transforms that erase small parts of an image, as defects cover
_CHANGED = 0.03  # four grey levels: a pixel that the transform moved further is the head's to find

_IMPROVED = {
    "method.optimizer": "adamw",  # needs fewer steps than SGD
    "method.weight_decay": 0.01,
    "train.learning_rate": 0.002,
    "train.schedule": "cosine",  # the last steps are small, so the last state is a good one
}


@dataclasses.dataclass(frozen=True)
class ITAEConfig(MethodConfig):
    """Settings of ITAE; the defaults are the paper's."""

    NAME: ClassVar[str] = "itae"
    TRAIN: ClassVar[dict[str, Any]] = dict(epochs=500, batch_size=32, learning_rate=0.1, halve_every_epochs=50)
    BENCH: ClassVar[tuple[dict[str, Any], ...]] = ({"width": 16}, {"width": 32}, {"width": 64})
    RECIPES: ClassVar[dict[str, dict[str, Any]]] = {
        # Busy images are harder to restore, so the error is divided by their variation. Members that tell
        # little must not dilute the one that tells most.
        "improved": _IMPROVED | {"method.error": "relative", "method.combine": "max"},
        # In photographs, the features of the network tell more than its restoration does.
        "improved_colour": _IMPROVED | {"method.error": "features", "method.combine": "first"},
    }

    transform: str = setting("gray+rotate", "erasing transforms, joined by +; itae transforms shows them")
    network: str = setting("unet", "the network", choices=("unet", "resnet34_unet"))
    width: int = setting(64, "channels of the network's first block", least=1, most=4096, reduces=True)
    output: str = setting("tanh", "activation of the last layer", choices=("tanh", "linear"))
    loss: str = setting("l2", "training loss: squared (Eq. 2) or absolute error", choices=("l2", "l1"))
    msgms: float = setting(0.0, "weight of 1 - MSGMS in the loss", least=0, most=1e6)
    ssim: float = setting(0.0, "weight of 1 - SSIM in the loss", least=0, most=1e6)
    head: int = setting(0, "channels of the first block of the head that locates; 0: none", least=0, most=4096)
    error: str = setting(
        "l1", "error that scores (Eq. 3)", choices=(*restoration.ERRORS, "msgms", "ssim", "head", "features")
    )
    reduce: str = setting("mean", "an image's error from those of its pixels", choices=restoration.REDUCTIONS)
    top: float = setting(0.02, "share of the pixels that reduce=top averages", least=0, most=1)
    combine: str = setting("mean", "a score from those of the T members", choices=restoration.COMBINATIONS)
    views: str = setting(
        "one",
        "error maps are means over the image and copies mirrored, shifted by a pixel, or both",
        choices=restoration.VIEWS,
    )
    transforms_per_image: str = setting(
        "one", "one drawn transform of each image a step, or all", choices=("one", "all")
    )
    optimizer: str = setting(
        "sgd", "the optimiser; adamw needs a lower train.learning_rate", choices=("sgd", "adamw")
    )
    momentum: float = setting(0.0, "of SGD", least=0, most=0.9999)
    weight_decay: float = setting(0.0, "of the optimiser", least=0, most=1e6)

    @property
    def title(self) -> str:
        names = ("loss", "msgms", "ssim", "head", "error", "reduce", "top", "combine", "views", "optimizer")
        own = [name for name in names if getattr(self, name) != getattr(type(self), name)]
        return ", ".join([self.transform, *(f"{name}={getattr(self, name)}" for name in own)])

    @property
    def own_score(self) -> str:
        return f"score_{self.own_error}"

    @property
    def is_detailed(self) -> bool:
        """Whether every reduction of every error is measured, and not the means alone."""
        is_simple = self.error in (*restoration.ERRORS, "features") and self.reduce == "mean"
        return bool(self.msgms or self.ssim or self.head or self.views != "one" or not is_simple)

    @property
    def errors(self) -> tuple[str, ...]:
        """The errors of each image and member."""
        if not self.is_detailed:
            return restoration.ERRORS + (("probe", "distance", "features") if self.error == "features" else ())
        kinds = ["l1", "l2", "msgms"]
        kinds += ["relative"] if self.error == "relative" else []
        kinds += ["ssim"] if self.ssim or self.error == "ssim" else []
        kinds += ["head"] if self.head else []
        return tuple(f"{kind}_{reduction}" for kind in kinds for reduction in restoration.REDUCTIONS)

    @property
    def own_error(self) -> str:
        """The one of `errors` that scores."""
        return f"{self.error}_{self.reduce}" if self.is_detailed else self.error

    @property
    def foreign_code(self) -> str:
        return self.transform if ":" in self.transform else ""

    def _by_the_paper(self) -> "ITAEConfig":
        """These settings; if they follow a recipe, with the recipe's own ones back at their defaults."""
        for recipe in self.RECIPES.values():
            own = {name.removeprefix("method."): value for name, value in recipe.items() if "method." in name}
            if all(getattr(self, name) == value for name, value in own.items()):
                return dataclasses.replace(self, **{name: getattr(type(self), name) for name in own})
        return self

    def paper_name(self, table: str, grey: bool, score: str = "") -> str:
        if (plain := self._by_the_paper()) != self:  # another recipe of the same method
            return plain.paper_name(table, grey, score)
        error = score.removeprefix("score_") or self.error
        own = self.output, self.transforms_per_image, self.optimizer, self.momentum, self.weight_decay
        if self.is_detailed or self.combine != "mean" or own != ("tanh", "one", "sgd", 0, 0):
            return ""
        if table == "table5":
            is_theirs = self.transform == "gray+rotate" and error in ("l1", "l2")
            return f"{self.loss}->{error}" if is_theirs else ""
        if (self.loss, error) != ("l2", "l1"):
            return ""
        if table == "table4":
            names = {"scale": "AE+S", "gray": "AE+G", "rotate": "AE+R", "gray+rotate": "AE+G+R"}
        else:  # on grey images graying erases nothing, and rotation alone is the paper's set
            names = {"gray+rotate": "ITAE"} | ({"rotate": "ITAE"} if grey else {})
        return ({"identity": "AE"} | names).get(self.transform, "")

    def score_titles(self, table: str) -> dict[str, str]:
        if table != "table5" or self.is_detailed or self.error not in ("l1", "l2"):
            return {}
        return {f"score_{error}": f"{self.loss} loss, {error} score" for error in ("l1", "l2")}

    def square_only(self, asked: dict[str, Any]) -> bool:
        return transforms.get(self._transform_for(asked)).square_only

    def _transform_for(self, asked: dict[str, Any]) -> str:
        usual = type(self).transform if asked.get("method.error") == "features" else "paste"
        return asked.get("method.transform", usual)

    def suggest(self, asked: dict[str, Any], accelerator: bool) -> list[tuple[str, Any, str]]:
        transform = self._transform_for(asked)
        parts, pastes = transform.split("+"), transform == "paste"
        width = (64, "the paper's") if accelerator else (8 if pastes else 16, "what a CPU can do in minutes")
        chosen: list[tuple[str, Any, str]] = [("method.width", *width)]
        if asked.get("method.optimizer", "adamw") == "adamw":
            chosen += [
                ("method.optimizer", "adamw", "needs fewer steps than the paper's SGD"),
                ("method.weight_decay", 0.01, "of AdamW"),
                ("train.learning_rate", 0.002, "of AdamW"),
                ("train.batch_size", 16, "more steps in the same time"),
            ]
        if "flip" in parts:
            chosen.append(("train.augment", "none", "the transform flips the images"))
        if asked.get("method.error") == "features":
            chosen.append(("method.transform", transform, "only what is known can be turned back"))
        if _OF_REGIONS.isdisjoint(parts):
            return chosen
        error = "head" if asked.get("method.head", pastes) else "msgms"
        chosen += [
            ("method.msgms", 0.5, "restores structure"),
            ("method.error", error, "finds defects better than the mean error of the restoration"),
            ("method.reduce", "max", "a defect covers a small part of the image"),
        ]
        if not pastes:
            return chosen
        augment = asked.get("train.augment", "flip")
        views = "flip+shift" if "flip" in augment.split("+") else "shift"
        views = "one" if "crop" in augment else views  # to score whole images by several takes long
        return [
            ("method.transform", "paste", "defects: erases by parts of other normal images"),
            ("method.head", 32 if accelerator else 8, "locates what was erased"),
            ("method.views", views, "a mean over views is steadier"),
            *chosen,
        ]

    def component_titles(self, components: Iterable[str]) -> list[str]:
        names = list(components)
        members = self.example_titles(sum(name.startswith("error_") for name in names))
        errors = {f"error_{index}": f"error {title}".strip() for index, title in enumerate(members)}
        words = super().component_titles(names)
        return [errors.get(name, word) for name, word in zip(names, words, strict=True)]

    def example_titles(self, count: int) -> list[str]:
        parts = [name.strip() for name in self.transform.split("+")]
        if count == len(_ANGLES) and parts.count("rotate") == 1 and set(parts) <= {"gray", "rotate"}:
            return list(_ANGLES)
        return super().example_titles(count)


class ITAE:
    """ITAE for images of one shape; see `Method`.

    The calibration is the mean of the config's `errors` over the training images, the normaliser n_i of Eq. 3.
    Measured are these errors, N x T each. The error "features" is the geometric mean of "l1", "probe" and,
    twice, "distance" (see `evaluate.features`); calibration fits the last two to features that are measured,
    too, in 56 T `width` bytes an image.

    Raises:
      RequestError: the transform or the network cannot take images of this shape.
    """

    def __init__(self, config: ITAEConfig, image_shape: tuple[int, int, int], dtype: str):
        self._config = config
        self._transform = transforms.get(config.transform)
        self._transform.try_on(image_shape)
        height, width, channels = image_shape
        least = models.min_side(config.network)
        if min(height, width) < least:
            raise RequestError(
                f"images of {height}x{width} are too small for method.network={config.network}; "
                f"set data.image_size to {least} or more"
            )
        options: dict[str, Any] = {"dtype": dtype, "axis_name": parallel.AXIS}
        of_restorer: dict[str, Any] = {"width": config.width, "output": config.output, "out_channels": channels}
        self._model: nn.Module = models.build(config.network, **of_restorer, **options)
        if config.head:
            head = models.build("unet", width=config.head, out_channels=1, output="linear", **options)
            self._model = models.RestoreAndLocate(self._model, head)
        elif config.error == "head":
            raise RequestError("method.error=head: needs a head; set method.head to its width")
        if config.head and self._transform.out_channels(channels) not in (1, channels):
            changed = f"{config.transform} changes the number of channels"
            raise RequestError(f"method.head={config.head}: {changed}; set it to 0")
        self._of_features = config.error == "features"
        if self._of_features and config.is_detailed:
            remedy = "leave method.head, msgms, ssim, views and reduce at their defaults"
            raise RequestError(f"method.error=features: scores no pixels; {remedy}")
        if self._of_features and self._transform.count == 1:
            alone = f"{config.transform} has one member, and nothing tells it"
            raise RequestError(f"method.error=features: {alone}; choose another transform or error")
        if config.transforms_per_image == "all" and self._transform.draw is not None:
            drawn = f"{config.transform} draws at random"
            raise RequestError(f"method.transforms_per_image=all: {drawn}; set it to one")
        self._parameter_dtype = models.parameter_dtype(dtype)
        self._input_shape = (1, height, width, self._transform.out_channels(channels))
        errors = [f"error_{index}" for index in range(self._transform.count)]
        self._scores = {f"score_{kind}": (kind, config.combine) for kind in config.errors}
        if self._transform.count > 1:
            others = [rule for rule in restoration.COMBINATIONS if rule != config.combine]
            self._scores |= {
                f"score_{kind}_combine_{rule}": (kind, rule) for rule in others for kind in config.errors
            }
        self.components = (*errors, *self._scores)

    def init(self, key: jax.Array) -> State:
        variables = dict(self._model.init(key, jnp.zeros(self._input_shape, self._parameter_dtype)))
        return State(variables, self._optimiser(0.0).init(variables["params"]))

    def _optimiser(self, rate) -> optax.GradientTransformation:
        # The rate is an argument of each step, so that one compiled step serves epochs of any length.
        decay = self._config.weight_decay
        if self._config.optimizer == "adamw":
            return optax.adamw(rate, weight_decay=decay)
        return optax.chain(
            optax.add_decayed_weights(decay) if decay else optax.identity(),
            optax.sgd(rate, momentum=self._config.momentum or None),
        )

    def update(
        self, state: State, keys_B: jax.Array, rate: jax.Array, images_BxHxWxC: jax.Array
    ) -> tuple[State, dict[str, jax.Array]]:
        """Restores each image from one drawn member of the transform, or from all T, and descends the loss."""
        inputs, targets = self._erase(keys_B, images_BxHxWxC)
        batch_stats = state.variables["batch_stats"]

        def loss_of(params):
            made, updated = self._model.apply(
                {"params": params, "batch_stats": batch_stats}, inputs, train=True, mutable=["batch_stats"]
            )
            return self._loss(made, inputs, targets), updated["batch_stats"]

        (loss, batch_stats), grads = jax.value_and_grad(loss_of, has_aux=True)(state.variables["params"])
        loss, grads = parallel.mean((loss, grads))
        with jax.numpy_dtype_promotion("standard"):  # optax's Adam mixes types
            updates, opt_state = self._optimiser(rate).update(grads, state.opt_state, state.variables["params"])
        params = optax.apply_updates(state.variables["params"], updates)
        return State({"params": params, "batch_stats": batch_stats}, opt_state), {"loss": loss}

    def _parts(self, made: Any) -> tuple[Any, Any]:
        """The restorations, and the logits of the head or None, of what the network returns."""
        return made if self._config.head else (made, None)

    def _loss(self, made: Any, inputs: jax.Array, targets: jax.Array) -> jax.Array:
        """Eq. 2, plus the structural errors that have a weight, and the focal loss of the head."""
        config = self._config
        restored, logits = self._parts(made)
        loss = restoration.loss(restored, targets, config.loss)
        if config.msgms:
            loss += config.msgms * structure.msgms_error(restored, targets).mean()
        if config.ssim:
            loss += config.ssim * structure.ssim_error(restored, targets).mean()
        if config.head:
            erased = (jnp.abs(inputs - targets).max(-1) > _CHANGED).astype(loss.dtype)
            loss += optax.sigmoid_focal_loss(logits, erased).mean()  # its weights are the head's alone
        return loss

    def _erase(self, keys_B: jax.Array, originals: jax.Array) -> tuple[jax.Array, jax.Array]:
        count = self._transform.count
        if self._config.transforms_per_image == "all":
            inputs = self._transform.apply_all(originals)
            return inputs.reshape(-1, *inputs.shape[2:]), jnp.tile(originals, (count, 1, 1, 1))
        if self._transform.draw is not None:
            batch = parallel.all_images(originals)
            keys_Bx2 = jax.vmap(jax.random.split)(keys_B)
            most = max(2, len(batch))
            steps_B = jax.vmap(lambda key: jax.random.randint(key, (), 1, most, "int32"))(keys_Bx2[:, 0])
            others = batch[(parallel.example_indices(len(originals)) + steps_B) % len(batch)]
            return self._transform.draw_each(keys_Bx2[:, 1], originals, others), originals
        index_B = jax.vmap(lambda key: jax.random.randint(key, (), 0, count))(keys_B)
        return self._transform.apply_each(originals, index_B), originals

    def measure(self, variables: Any, images_BxHxWxC: jax.Array) -> dict[str, jax.Array]:
        if not self._config.is_detailed:
            _, restored, sown = self._restored_and_sown(variables, images_BxHxWxC)
            of_pixels = restoration.pixel_errors(restored, images_BxHxWxC)
            measured = {kind: values.mean((2, 3, 4)).T for kind, values in of_pixels.items()}
            if self._of_features:
                for name in features.PARTS:
                    (means_TBxF,) = sown["features"][name]
                    measured[name] = means_TBxF.reshape(*restored.shape[:2], -1).swapaxes(0, 1)
            return measured
        measured = {}
        for kind, maps_TxBxHxW in self._error_maps(variables, images_BxHxWxC).items():
            of_members = jax.vmap(lambda maps: restoration.reduced(maps, self._config.top))(maps_TxBxHxW)
            measured |= {f"{kind}_{reduction}": values.T for reduction, values in of_members.items()}
        return {kind: measured[kind] for kind in self._config.errors}

    def _error_maps(self, variables: Any, images: jax.Array) -> dict[str, jax.Array]:
        """The error of every pixel, T x B x H x W, of each kind: the mean over the views."""
        views = self._config.views
        return restoration.over_views(functools.partial(self._maps_of_one, variables), images, views)

    def _maps_of_one(self, variables: Any, images: jax.Array) -> dict[str, jax.Array]:
        inputs_TxB = self._transform.apply_all(images)
        restored, logits = self._parts(
            self._model.apply(variables, inputs_TxB.reshape(-1, *inputs_TxB.shape[2:]))
        )
        originals = jnp.tile(images, (self._transform.count, 1, 1, 1))
        of_pixels = {k: v[0] for k, v in restoration.pixel_errors(restored[None], originals).items()}
        of_pixels["msgms"] = structure.msgms_error(restored, originals)
        if self._config.ssim or self._config.error == "ssim":
            of_pixels["ssim"] = structure.ssim_error(restored, originals)
        if self._config.head:
            of_pixels["head"] = jax.nn.sigmoid(logits)[..., None]
        shape = self._transform.count, *images.shape[:3]
        return {kind: values.mean(-1).reshape(shape) for kind, values in of_pixels.items()}

    def calibrate(self, measured: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        fitted = features.fit(measured) if self._of_features else {}
        errors = self._errors(measured, fitted)
        return fitted | {kind: restoration.normal_errors(errors[kind]) for kind in self._config.errors}

    def _errors(self, measured: dict[str, Any], calibration: dict[str, np.ndarray]) -> dict[str, Any]:
        """What was measured, and those of the config's `errors` that follow from it, N x T each."""
        if not self._of_features:
            return measured
        found = features.errors(measured, calibration)
        mean = (measured["l1"] * found["probe"]) ** 0.25 * found["distance"] ** 0.5
        return measured | found | {"features": mean}

    def score(self, measured: dict[str, Any], calibration: dict[str, np.ndarray]) -> Any:
        kind = self._config.own_error
        errors = self._errors(measured, calibration)
        return restoration.anomaly_scores(errors[kind], calibration[kind], self._config.combine)

    def columns(self, measured: dict[str, Any], calibration: dict[str, np.ndarray]) -> dict[str, Any]:
        measured = self._errors(measured, calibration)
        errors = {f"error_{index}": column for index, column in enumerate(measured[self._config.own_error].T)}
        scores = {
            name: restoration.anomaly_scores(measured[kind], calibration[kind], combine)
            for name, (kind, combine) in self._scores.items()
        }
        return errors | scores

    def anomaly_map(self, variables: Any, calibration: dict[str, Any], images_BxHxWxC: jax.Array) -> jax.Array:
        """Eq. 3 at every pixel: with the paper's settings the mean of a map is the image's score.

        Features score no pixels; their map is that of "l1".
        """
        if self._config.is_detailed:
            kind = self._config.error
            errors = self._error_maps(variables, images_BxHxWxC)[kind]
            return restoration.maps(errors, calibration[f"{kind}_mean"], self._config.combine)
        _, restored = self._restored(variables, images_BxHxWxC)
        kind = "l1" if self._of_features else self._config.error
        errors = restoration.pixel_errors(restored, images_BxHxWxC)[kind]
        return restoration.maps(errors.mean(-1), calibration[kind], self._config.combine)

    def examples(
        self, variables: Any, calibration: dict[str, Any], images_BxHxWxC: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        return self._restored(variables, images_BxHxWxC)

    def _restored(self, variables: Any, images_BxHxWxC: jax.Array) -> tuple[jax.Array, jax.Array]:
        """The inputs of the T members and their restorations, both T x B x H x W x C."""
        return self._restored_and_sown(variables, images_BxHxWxC)[:2]

    def _restored_and_sown(
        self, variables: Any, images_BxHxWxC: jax.Array
    ) -> tuple[jax.Array, jax.Array, dict[str, Any]]:
        """Inputs and restorations, T x B x H x W x C, and what the network sows of its features."""
        sown: dict[str, Any] = {}

        def restore(inputs: jax.Array) -> Any:
            made, of_call = self._model.apply(variables, inputs, mutable=["features"])
            sown.update(of_call)
            return self._parts(made)[0]

        return (*restoration.restore_all(restore, self._transform, images_BxHxWxC), sown)


def torch_weights(config: ITAEConfig, variables: Any) -> dict[str, np.ndarray]:
    if config.network != "unet":
        raise RequestError(f"method.network={config.network}: only the unet has a counterpart in PyTorch")
    from itae_jax.models.torch_weights import to_state_dict

    if not config.head:
        return to_state_dict(variables)
    arrays: dict[str, np.ndarray] = {}
    for part in ("restorer", "head"):
        of_part = {collection: tree[part] for collection, tree in variables.items()}
        arrays |= {f"{part}.{name}": array for name, array in to_state_dict(of_part).items()}
    return arrays


def _torch_reference(config: ITAEConfig, channels: int) -> Any:
    if (config.network, config.output, config.head) != ("unet", "tanh", 0):
        return None
    from itae_jax.models.torch_unet import TorchUNet

    inputs = transforms.get(config.transform).out_channels(channels)
    return TorchUNet(config.width, inputs, channels), inputs


METHOD = Spec(ITAEConfig, ITAE, torch_weights, _torch_reference)
