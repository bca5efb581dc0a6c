"""HTML pages from the templates of this package, and the pictures inside them."""

import base64
import functools
import io
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

_PICTURE_SIDE = 320
_MADE_BY = {"Software": "itae_jax"}  # in PNG files


def render(template: str, **values: Any) -> str:
    """Returns a template filled in; texts in HTML are escaped, and a value that is not given is an error."""
    return printable(_templates(template.endswith(".html")).get_template(template).render(**values))


@functools.cache
def _templates(escape: bool) -> Any:
    import jinja2

    options: dict[str, Any] = {"trim_blocks": True, "lstrip_blocks": True, "undefined": jinja2.StrictUndefined}
    return jinja2.Environment(loader=jinja2.PackageLoader("itae_jax.report"), autoescape=escape, **options)


def printable(text: str) -> str:
    """Returns the text with characters replaced that UTF-8 lacks, as names of files may have."""
    return text.encode("utf-8", "replace").decode()


def thumbnail(image_HxWxC: np.ndarray) -> np.ndarray:
    """Returns the image no larger than a page shows it."""
    from PIL import Image

    picture = Image.fromarray(image_HxWxC)
    picture.thumbnail((_PICTURE_SIDE, _PICTURE_SIDE))
    return np.asarray(picture)


def embed(image_HxWxC: np.ndarray, kind: str = "jpeg") -> str:
    """Returns an image as a data URL."""
    from PIL import Image

    content = io.BytesIO()
    image = image_HxWxC[..., 0] if image_HxWxC.shape[2] == 1 else image_HxWxC
    Image.fromarray(image).save(content, kind, quality=88)
    return data_url(content.getvalue(), kind)


def draw(figure: Figure, **options: Any) -> bytes:
    """Returns a figure as a file, and fixes its layout; letters that its font lacks become boxes."""
    content = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        figure.savefig(content, **{"metadata": _MADE_BY, **options})
    figure.set_layout_engine("none")  # which takes long for each format
    return content.getvalue()


def is_ours(page: Path) -> bool:
    """Returns whether a file is a page of this program."""
    return page.is_file() and b'content="itae_jax"' in page.read_bytes()[:500]


def is_drawn(path: Path) -> bool:
    """Returns whether a file is a PNG or a PDF that `draw` made."""
    from PIL import Image

    try:
        if path.suffix == ".pdf":
            return b"/Creator (itae_jax)" in path.read_bytes()
        with Image.open(path) as image:
            return image.info.items() >= _MADE_BY.items()
    except (OSError, SyntaxError):
        return False


def png(figure: Figure) -> str:
    """Returns a figure as a data URL."""
    return data_url(draw(figure, dpi=160))


def data_url(picture: bytes, kind: str = "png") -> str:
    """Returns a file's content as a link that a page can hold."""
    return f"data:image/{kind};base64," + base64.b64encode(picture).decode()
