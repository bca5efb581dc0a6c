"""HTML pages from the templates of this package, and the pictures inside them."""

import base64
import io
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

_PICTURE_SIDE = 320


def render(template: str, filters: Mapping[str, Callable] | None = None, **values: Any) -> str:
    """Returns the page of a template.

    Texts in HTML are escaped. A value that is not given is an error.

    Args:
      filters: functions that the template may use.
    """
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("itae_jax.report"),
        autoescape=template.endswith(".html"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= filters or {}
    return environment.get_template(template).render(**values)


def printable(text: str) -> str:
    """Returns the text with characters replaced that UTF-8 lacks, as names of files may have."""
    return text.encode("utf-8", "replace").decode()


def thumbnail(image_HxWxC: np.ndarray) -> np.ndarray:
    """Returns the image no larger than a page shows it."""
    from PIL import Image

    picture = Image.fromarray(image_HxWxC)
    picture.thumbnail((_PICTURE_SIDE, _PICTURE_SIDE))
    return np.asarray(picture)


def jpeg(image_HxWxC: np.ndarray) -> str:
    """Returns the image as a data URL, made smaller if it is large."""
    return _of_image(thumbnail(image_HxWxC), "JPEG", quality=88)


def tile(image_HxWxC: np.ndarray) -> str:
    """Returns a small image as a data URL, pixel by pixel."""
    return _of_image(image_HxWxC[..., 0] if image_HxWxC.shape[2] == 1 else image_HxWxC, "PNG")


def draw(figure: Figure, **options) -> bytes:
    """Returns the content of a figure's file; letters that its font lacks become boxes."""
    content = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        figure.savefig(content, **options)
    return content.getvalue()


def png(figure: Figure) -> str:
    """Returns a figure as a data URL."""
    return data_url(draw(figure, dpi=160), "png")


def data_url(picture: bytes, kind: str) -> str:
    """Returns a file's content as a link that a page can hold."""
    return f"data:image/{kind};base64," + base64.b64encode(picture).decode()


def _of_image(image: np.ndarray, kind: str, **options) -> str:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, kind, **options)
    return data_url(buffer.getvalue(), kind.lower())
