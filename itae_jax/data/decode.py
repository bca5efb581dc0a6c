"""One image from a file: any format and mode that Pillow knows, as uint8 of one size."""

import dataclasses
import io
import warnings
from pathlib import Path

import numpy as np

from itae_jax.data.images import UnreadableImageError

FITS = ("crop", "letterbox", "stretch", "pad")
_GREY_MODES = ("1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L", "F")


@dataclasses.dataclass(frozen=True)
class Reader:
    """How image files become arrays of one shape.

    Attributes:
      size: side of the square result in pixels; 0 keeps the size of the file.
      channels: 1 (grey: Pillow's luma of colour images) or 3.
      fit: how an image comes to be square: "crop" its middle after resizing the shorter side,
        "letterbox" it between black bars, "stretch" it, or "pad" it with black without resizing.
      max_side: larger images are refused before they are decoded.
    """

    size: int = 0
    channels: int = 3
    fit: str = "crop"
    max_side: int = 20_000

    def read(self, source: Path | tuple[str, bytes]) -> np.ndarray:
        """The image of a file, or of (name, bytes): H x W x C uint8.

        The orientation that a camera notes is applied, 16 bits become 8, transparent parts lie on
        black, and of several frames the first is taken.

        Raises:
          UnreadableImageError: not an image, a damaged one, or one beyond `max_side`.
        """
        from PIL import Image, ImageOps

        name, stream = (str(source), source) if isinstance(source, Path) else (source[0], io.BytesIO(source[1]))
        try:
            with warnings.catch_warnings(), Image.open(stream) as image:
                warnings.simplefilter("ignore")  # of Pillow's on damaged metadata; size is checked here
                if max(image.size) > self.max_side:
                    raise UnreadableImageError(
                        name, f"{image.width}x{image.height} pixels, more than data.max_side={self.max_side}"
                    )
                if self.size and self.fit != "pad":
                    # JPEG is decoded at a half, a quarter or an eighth where twice the size is left.
                    image.draft(None, (2 * self.size, 2 * self.size))
                upright = ImageOps.exif_transpose(image)
                return self._array(self._fitted(_eight_bits(upright, self.channels)))
        except UnreadableImageError:
            raise
        except FileNotFoundError:
            raise UnreadableImageError(name, "no such file") from None
        except Exception as error:  # Pillow's decoders raise whatever the damage leads them to
            raise UnreadableImageError(name, _reason(error)) from None

    def read_mask(self, path: Path) -> np.ndarray:
        """A mask in the geometry of `read`: H x W bool, true where the file is above half of 255.

        Raises:
          UnreadableImageError: as `read`.
        """
        geometry = dataclasses.replace(self, channels=1)
        return geometry.read(path)[..., 0] > 127

    def _fitted(self, image):
        from PIL import ImageOps

        if not self.size:
            return image
        target = (self.size, self.size)
        if self.fit == "stretch":
            return image if image.size == target else image.resize(target, _bilinear())
        if self.fit == "letterbox":
            return ImageOps.pad(image, target, _bilinear())
        if self.fit == "pad" and max(image.size) <= self.size:
            padded = image.copy() if image.size == target else _canvas(image, target)
            return padded
        return image if image.size == target else ImageOps.fit(image, target, _bilinear())

    def _array(self, image) -> np.ndarray:
        array = np.asarray(image, np.uint8)
        return array[..., None] if array.ndim == 2 else array


def _canvas(image, size):
    from PIL import Image

    canvas = Image.new(image.mode, size)
    canvas.paste(image, ((size[0] - image.width) // 2, (size[1] - image.height) // 2))
    return canvas


def _bilinear():
    from PIL import Image

    return Image.Resampling.BILINEAR


def _eight_bits(image, channels: int):
    """The image in mode L or RGB."""
    from PIL import Image

    if image.mode.startswith("I"):
        values = np.asarray(image)
        if values.size and (values.min() < 0 or values.max() > 65535):
            raise ValueError("pixels beyond 16 bits")
        image = Image.fromarray(np.uint8(np.rint(values / 257)))
    elif image.mode == "F":
        raise ValueError("floating-point pixels; convert it to 8 or 16 bits")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, (0, 0, 0, 255)), image)
    return image.convert("L" if channels == 1 else "RGB")


def _reason(error: Exception) -> str:
    from PIL import UnidentifiedImageError

    if isinstance(error, UnidentifiedImageError):
        return "not an image"
    return " ".join(str(error).split()) or type(error).__name__


def is_grey(path: Path) -> bool | None:
    """Whether a file holds a grey image, by its header; None if it cannot be told."""
    from PIL import Image

    try:
        with warnings.catch_warnings(), Image.open(path) as image:
            warnings.simplefilter("ignore")
            return image.mode in _GREY_MODES
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None
