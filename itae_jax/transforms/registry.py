"""Transforms by name: those that ship, those that were registered, and `module:attribute` of the user."""

import dataclasses
import functools
import importlib
import os
import sys

from itae_jax.errors import RequestError
from itae_jax.transforms import further, paper
from itae_jax.transforms.transform import Transform, compose

_SHIPPED = (
    *(paper.IDENTITY, paper.GRAY, paper.ROTATE, paper.SCALE),
    *(further.MASK, further.SHUFFLE, further.BLUR, further.DROP_CHANNEL, further.FLIP),
)
_REGISTRY: dict[str, Transform] = {transform.name: transform for transform in _SHIPPED}


def register(transform: Transform) -> Transform:
    """Makes a transform known by its name, and returns it.

    Raises:
      ValueError: the name is taken or is no word, or another value makes no sense.
    """
    if not transform.name or not transform.name.replace("_", "").isalnum():
        raise ValueError(f"transform name {transform.name!r}: use letters, digits and underscores")
    if transform.name in _REGISTRY:
        raise ValueError(f"a transform named {transform.name!r} is registered already")
    if wrong := _wrong_value(transform):
        raise ValueError(f"transform {transform.name!r} has {wrong}")
    _REGISTRY[transform.name] = transform
    return transform


def names() -> list[str]:
    """The registered names, in order of registration."""
    return list(_REGISTRY)


def get(name: str) -> Transform:
    """The transform of that name, or the composition of several joined by `+`, first to last.

    A part `module:attribute` is imported from the current directory or from where Python looks for
    modules; the attribute is a Transform, or is called without arguments to make one.

    Raises:
      RequestError: a part of the name is not registered, or cannot be imported.
    """
    return functools.reduce(compose, [_find(part.strip(), name) for part in name.split("+")])


def _find(part: str, name: str) -> Transform:
    if ":" in part:
        return _from_module(part)
    if part not in _REGISTRY:
        raise RequestError(
            f"transform.name={name!r}: {part!r} is not a transform; choose from {', '.join(names())}, "
            "name one of your own as module:attribute, or join several with +"
        )
    return _REGISTRY[part]


def _from_module(part: str) -> Transform:
    """The user's own transform, known by the name `module:attribute`."""
    module_name, _, attribute = part.partition(":")
    where = f"transform.name={part!r}"
    words = [*module_name.split("."), attribute]
    if not all(word.isidentifier() for word in words) or module_name.endswith(".py"):
        raise RequestError(f"{where}: expected module:attribute, as my_module:MyTransform for my_module.py")
    module = _import(module_name, where)
    if not hasattr(module, attribute):
        raise RequestError(f"{where}: there is no {attribute} in {module.__file__ or module_name}")
    made = getattr(module, attribute)
    if not isinstance(made, Transform) and callable(made):
        try:
            made = made()
        except (Exception, SystemExit) as error:  # whatever the user's own code does
            raise RequestError(f"{where}: {attribute}() fails: {type(error).__name__}: {error}") from error
    if not isinstance(made, Transform):
        raise RequestError(
            f"{where}: expected an itae_jax.Transform or a function that returns one, got {type(made).__name__}"
        )
    if wrong := _wrong_value(made):
        raise RequestError(f"{where}: has {wrong}")
    fields = {field.name: getattr(made, field.name) for field in dataclasses.fields(Transform)}
    return Transform(**fields | {"name": part})


def _import(module_name: str, where: str):
    """The module, looked for in the current directory after all other places."""
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
        importlib.invalidate_caches()
    try:
        return importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name and f"{module_name}.".startswith(f"{error.name}."):
            raise RequestError(
                f"{where}: there is no module {error.name}; "
                f"put {module_name.replace('.', '/')}.py into the current directory or set PYTHONPATH"
            ) from None
        raise RequestError(f"{where}: importing {module_name} fails: {error}") from error
    except (Exception, SystemExit) as error:  # whatever the user's own code does
        raise RequestError(
            f"{where}: importing {module_name} fails: {type(error).__name__}: {error}"
        ) from error


def _wrong_value(transform: Transform) -> str:
    """What is wrong with the values of a transform, as `count 0, expected ...`; empty if nothing is."""
    expected = {
        "count": (type(transform.count) is int and transform.count >= 1, "a whole number from 1 up"),
        "erase": (callable(transform.erase), "a function of (image, index)"),
        "out_channels": (callable(transform.out_channels), "a function of the channels"),
        "square_only": (type(transform.square_only) is bool, "True or False"),
        "colour_only": (type(transform.colour_only) is bool, "True or False"),
        "invertible": (type(transform.invertible) is bool, "True or False"),
        "erases": (isinstance(transform.erases, str), "text"),
    }
    for field, (right, words) in expected.items():
        if not right:
            return f"{field}={getattr(transform, field)!r}, expected {words}"
    try:
        hash((transform.erase, transform.out_channels))
    except TypeError:
        return "an erase or out_channels that is not hashable, expected plain functions"
    return ""
