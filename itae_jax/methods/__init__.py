"""The methods, by the name of their file: `method.name=itae` is methods/itae.py.

Each file ends with `METHOD`, its `Spec`; files whose name begins with _ are no methods. Nothing else in the
package knows a method's settings.
"""

import functools
import importlib
import pkgutil
from typing import TYPE_CHECKING

from itae_jax.config import MethodConfig
from itae_jax.errors import RequestError

if TYPE_CHECKING:
    from itae_jax.methods.method import Method, Spec


@functools.cache
def names() -> list[str]:
    """The names of all methods, sorted."""
    found = (module.name for module in pkgutil.iter_modules(__path__))
    return sorted(name for name in found if name != "method" and not name.startswith("_"))


def spec(name: str) -> "Spec":
    """The spec of a method; RequestError if there is none of that name."""
    if name not in names():
        raise RequestError(f"method.name={name!r}: choose from {', '.join(names())}")
    return importlib.import_module(f"{__name__}.{name}").METHOD


def config_class(name: str) -> type[MethodConfig]:
    """The class of a method's settings; raises what `spec` raises."""
    return spec(name).config


def build(config: MethodConfig, image_shape: tuple[int, int, int], dtype: str) -> "Method":
    """The method for images of one shape, (height, width, channels); RequestError if it cannot take them."""
    return spec(config.NAME).build(config, image_shape, dtype)
