"""What `itae fit` chooses between, and the ratings that decide: AUROCs on surrogate anomalies."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from itae_jax import methods
from itae_jax.config import MethodConfig
from itae_jax.data.images import LazyImages
from itae_jax.data.reader import Look, Reader
from itae_jax.detection import surrogates
from itae_jax.detection.choose import Choice, choose, shorter_side
from itae_jax.evaluate.metrics import auroc
from itae_jax.methods.method import Combines
from itae_jax.training.learner import Trained

_LEAST_TRAINING, _MOST_RATED = 40, 64  # images
_SHARE_RATED = 0.15  # of the training images
_MOST_SIDE = 1024  # larger images are reduced before a part of them is changed
_MARGIN = 0.02  # of AUROC, by which another candidate must exceed the usual one


@dataclasses.dataclass(frozen=True)
class Candidate:
    """A method with its settings: `choices` for images like these, and what makes it this candidate.

    Surrogates, which are defects, cannot rate one `for_objects`.
    """

    title: str
    choices: list[Choice]
    settings: dict[str, Any]
    for_objects: bool = False


def candidates(
    looks: Sequence[Look], asked: dict[str, Any], num_train: int, method: MethodConfig, accelerator: bool
) -> list[Candidate]:
    """The different candidates that agree with what was `asked` for, the usual one first; at least one.

    One for objects comes last, unless a setting of a method was asked for.
    """
    others = [] if "method.name" in asked else [methods.config_class(name)() for name in methods.names()]
    side, found, taken = shorter_side(looks), list[Candidate](), list[dict[str, Any]]()
    all_methods = [method, *(other for other in others if other.NAME != method.NAME)]
    for one in all_methods:
        for title, settings in one.candidates(side, asked):
            settings = settings | {"method.name": one.NAME}
            if all(_agrees(one, settings, *item) for item in asked.items()):
                chosen = choose(looks, asked | settings, num_train, one, accelerator)
                whole = {choice.field: choice.value for choice in chosen} | settings | asked
                if whole not in taken:
                    taken.append(whole)
                    found.append(Candidate(title, chosen, settings))
    found = found or [Candidate(method.title, choose(looks, asked, num_train, method, accelerator), {})]
    settings = next((one.FOR_OBJECTS for one in all_methods if one.FOR_OBJECTS), {})
    if settings and not any(field.startswith("method.") for field in asked):
        other = methods.config_class(settings["method.name"])()
        chosen = choose(looks, asked | settings, num_train, other, accelerator)
        if asked.get("data.aspect", 1.0) == 1 or not other.square_only(settings):
            found.append(Candidate("other kinds of objects", chosen, settings, for_objects=True))
    return found


def _agrees(method: MethodConfig, settings: dict[str, Any], field: str, value: Any) -> bool:
    section, _, name = field.rpartition(".")
    is_known = section != "method" or field == "method.name" or hasattr(method, name)
    return is_known and settings.get(field, value) == value


def best(ratings: dict[str, float]) -> str:
    """The name of the highest rating, or the first if no other exceeds it by the margin."""
    usual, highest = next(iter(ratings)), max(ratings, key=lambda name: ratings[name])
    return highest if ratings[highest] > ratings[usual] + _MARGIN else usual


def set_aside(training_N: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draws the images that rate, at most 64, from the training images; returns them and the others, sorted.

    Of fewer than 40 images none are set aside.
    """
    count = min(_MOST_RATED, round(_SHARE_RATED * len(training_N))) * (len(training_N) >= _LEAST_TRAINING)
    order = np.random.default_rng([seed, 1]).permutation(training_N)
    return np.sort(order[:count]), np.sort(order[count:])


def rated(
    trained: Trained, normal: LazyImages, reader: Reader, seed: int, weigh: bool = True
) -> tuple[Trained, float, dict[str, float]]:
    """Weighs the scores of a method that combines some; rates the result, and each of these scores by name.

    Without `weigh` the weights stay as they are.

    A rating is the mean AUROC over the families of surrogates. Each of the normal images, whose keys are paths,
    gives one of every family, the same in every call. Without a readable image nothing changes, and the rating
    is 0.
    """
    families = ["", *surrogates.FAMILIES]
    whole = Reader(channels=reader.channels, max_side=reader.max_side)

    def read(key: tuple[int, str]) -> np.ndarray:
        index, family = key
        image = _reduced(whole.read(normal.keys[index]))
        if family:
            rng = np.random.default_rng([seed, index, families.index(family)])
            image = surrogates.make(image, family, rng)
        return reader.fitted(image)

    keys = [(index, family) for family in families for index in range(len(normal))]
    images = dataclasses.replace(normal, read=read, keys=keys).in_memory()

    def auroc_of(scores_N: np.ndarray) -> float:
        return _mean_auroc(scores_N.reshape(len(families), -1))

    found, method = trained.score(images), trained.learner.method
    if np.isnan(found.scores_N).all():
        return trained, 0.0, {}
    if not (weigh and isinstance(method, Combines)):
        return trained, auroc_of(found.scores_N), {}
    ratings = {name: auroc_of(found.columns[name]) for name in method.members}
    is_normal = (np.arange(len(images)) < len(normal)) & ~np.isnan(found.scores_N)
    trained = trained.combined({name: found.columns[name][is_normal] for name in ratings}, ratings)
    return trained, auroc_of(method.combine(found.columns, trained.calibration)), ratings


def _mean_auroc(scores_FxN: np.ndarray) -> float:
    """The first row is of the normal images, each other one of a family; unreadable images have NaN."""
    normal_N, *others = scores_FxN[:, ~np.isnan(scores_FxN).any(0)]
    is_surrogate = np.repeat([False, True], len(normal_N))
    return float(np.mean([auroc(is_surrogate, np.concatenate([normal_N, other])) for other in others]))


def _reduced(image_HxWxC: np.ndarray) -> np.ndarray:
    longest = max(image_HxWxC.shape[:2])
    if longest <= _MOST_SIDE:
        return image_HxWxC
    image = Image.fromarray(image_HxWxC[..., 0] if image_HxWxC.shape[2] == 1 else image_HxWxC)
    image.thumbnail((_MOST_SIDE, _MOST_SIDE))
    return np.asarray(image).reshape(image.height, image.width, -1)
