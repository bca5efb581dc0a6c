"""Transforms by name: those of the package, registered ones, and the user's own as `module:attribute`."""

import dataclasses
import functools
import importlib
import os
import sys
from types import ModuleType

from itae_jax.errors import RequestError
from itae_jax.transforms import further, paper
from itae_jax.transforms.paste import PASTE
from itae_jax.transforms.transform import Transform, compose

_BUILT_IN = (
    *(paper.IDENTITY, paper.GRAY, paper.ROTATE, paper.SCALE),
    *(further.MASK, further.MASKS, further.SHUFFLE, further.BLUR, further.DROP_CHANNEL, further.FLIP, PASTE),
)
_REGISTRY: dict[str, Transform] = {transform.name: transform for transform in _BUILT_IN}


def register(transform: Transform) -> Transform:
    """Registers a transform under its name, and returns it; ValueError for a taken name or a wrong field."""
    if not transform.name or not transform.name.replace("_", "").isalnum():
        raise ValueError(f"transform name {transform.name!r}: use letters, digits and underscores")
    if transform.name in _REGISTRY:
        raise ValueError(f"a transform named {transform.name!r} is registered already")
    if wrong := _wrong_field(transform):
        raise ValueError(f"transform {transform.name!r} has {wrong}")
    _REGISTRY[transform.name] = transform
    return transform


def names() -> list[str]:
    """Returns the registered names, in order of registration."""
    return list(_REGISTRY)


def get(name: str) -> Transform:
    """Returns the transform of that name, or composes those joined by `+`, first to last.

    A part `module:attribute` is imported from the current directory or from where Python looks for
    modules; the attribute is a Transform, or a function without arguments that makes one.
    """
    return functools.reduce(compose, [_find(part.strip(), name) for part in name.split("+")])


def _find(part: str, name: str) -> Transform:
    if ":" in part:
        return _from_module(part)
    if part not in _REGISTRY:
        raise RequestError(
            f"method.transform={name!r}: {part!r} is not a transform; choose from {', '.join(names())}, "
            "name one of your own as module:attribute, or join several with +"
        )
    return _REGISTRY[part]


def _from_module(part: str) -> Transform:
    """Imports the user's own transform, and names it `module:attribute`."""
    module_name, _, attribute = part.partition(":")
    where = f"method.transform={part!r}"
    parts = [*module_name.split("."), attribute]
    if not all(map(str.isidentifier, parts)) or module_name.endswith(".py"):
        raise RequestError(f"{where}: expected module:attribute, as my_module:MyTransform for my_module.py")
    module = _import(module_name, where)
    if not hasattr(module, attribute):
        raise RequestError(f"{where}: there is no {attribute} in {module.__file__ or module_name}")
    made = getattr(module, attribute)
    if not isinstance(made, Transform) and callable(made):
        try:
            made = made()
        except (Exception, SystemExit) as error:  # the user's own code may raise anything
            raise RequestError(f"{where}: {attribute}() fails: {type(error).__name__}: {error}") from error
    if not isinstance(made, Transform):
        got = type(made).__name__
        raise RequestError(f"{where}: expected an itae_jax.Transform or a function that returns one, got {got}")
    if wrong := _wrong_field(made):
        raise RequestError(f"{where}: has {wrong}")
    # A plain Transform, even of a subclass with another signature.
    fields = {field.name: getattr(made, field.name) for field in dataclasses.fields(Transform)}
    return Transform(**fields | {"name": part})


def _import(module_name: str, where: str) -> ModuleType:
    """Imports a module; the current directory comes last in the search path."""
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
        importlib.invalidate_caches()
    try:
        return importlib.import_module(module_name)
    except (Exception, SystemExit) as error:  # the user's own code may raise anything
        if isinstance(error, ModuleNotFoundError) and f"{module_name}.".startswith(f"{error.name}."):
            remedy = f"put {module_name.replace('.', '/')}.py into the current directory or set PYTHONPATH"
            raise RequestError(f"{where}: there is no module {error.name}; {remedy}") from None
        reason = f"{type(error).__name__}: {error}"
        raise RequestError(f"{where}: importing {module_name} fails: {reason}") from error


def _wrong_field(transform: Transform) -> str:
    """Returns the first wrong field, as `count=0, expected ...`; empty if all are right."""
    checks = [
        ("count", type(transform.count) is int and transform.count >= 1, "a whole number from 1 up"),
        ("erase", callable(transform.erase), "a function of (image, index)"),
        ("out_channels", callable(transform.out_channels), "a function of the channels"),
        ("draw", transform.draw is None or callable(transform.draw), "a function of (key, image, other image)"),
        ("erases", isinstance(transform.erases, str), "text"),
    ]
    for flag in ("square_only", "colour_only", "invertible"):
        checks.append((flag, type(getattr(transform, flag)) is bool, "True or False"))
    for field, is_right, expected in checks:
        if not is_right:
            return f"{field}={getattr(transform, field)!r}, expected {expected}"
    try:
        hash((transform.erase, transform.out_channels, transform.draw))
    except TypeError:
        return "an erase, out_channels or draw that is not hashable, expected plain functions"
    return ""
