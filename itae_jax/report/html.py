"""HTML pages from the templates of this package, and the pictures inside them."""

import base64
import io

import numpy as np

_PICTURE_SIDE = 320


def render(template: str, **values) -> str:
    """The page of a template, every text that is put in escaped; a value that is not given is an error."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("itae_jax.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(**values)


def thumbnail(image_HxWxC: np.ndarray) -> np.ndarray:
    """The image no larger than a page shows it."""
    from PIL import Image

    picture = Image.fromarray(image_HxWxC)
    picture.thumbnail((_PICTURE_SIDE, _PICTURE_SIDE))
    return np.asarray(picture)


def jpeg(image_HxWxC: np.ndarray) -> str:
    """The image as a data URL, made smaller if it is large."""
    return _of_image(thumbnail(image_HxWxC), "JPEG", quality=88)


def tile(image_HxWxC: np.ndarray) -> str:
    """A small image as a data URL, pixel by pixel."""
    return _of_image(image_HxWxC[..., 0] if image_HxWxC.shape[2] == 1 else image_HxWxC, "PNG")


def png(figure) -> str:
    """A matplotlib figure as a data URL."""
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=160)
    return data_url(buffer.getvalue(), "png")


def data_url(picture: bytes, kind: str) -> str:
    """A file's content as a link that a page can hold."""
    return f"data:image/{kind};base64," + base64.b64encode(picture).decode()


def _of_image(image: np.ndarray, kind: str, **options) -> str:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, kind, **options)
    return data_url(buffer.getvalue(), kind.lower())
