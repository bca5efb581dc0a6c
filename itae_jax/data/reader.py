"""One image from a file: any format and mode that Pillow knows, as uint8 of one size."""

import dataclasses
import io
import warnings
from collections.abc import Callable
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
        return self._read(source, _eight_bits)

    def read_mask(self, path: Path) -> np.ndarray:
        """A mask in the geometry of `read`: H x W bool, true where it is above half of its brightest pixel.

        Raises:
          UnreadableImageError: as `read`.
        """
        return dataclasses.replace(self, channels=1)._read(path, _stretched)[..., 0] > 127

    def _read(self, source: Path | tuple[str, bytes], to_bytes: Callable) -> np.ndarray:
        from PIL import Image, ImageOps

        name, stream = (str(source), source) if isinstance(source, Path) else (source[0], io.BytesIO(source[1]))
        if isinstance(source, Path) and source.exists() and not source.is_file():
            raise UnreadableImageError(name, "not a file")  # a pipe would be waited for
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
                return self._array(self._fitted(to_bytes(upright, self.channels)))
        except UnreadableImageError:
            raise
        except FileNotFoundError:
            raise UnreadableImageError(name, "no such file") from None
        except Exception as error:  # Pillow's decoders raise whatever the damage leads them to
            raise UnreadableImageError(name, _reason(error)) from None

    def lay_over(self, map_HxW: np.ndarray, width: int, height: int) -> np.ndarray:
        """A map of what `read` gives, over the image of the file, which has this size.

        Returns:
          height x width float32; NaN where the image was cut off.
        """
        from PIL import Image

        inside, (left, top, right, bottom) = self._placement(width, height)
        shown = (right - left, bottom - top)
        part = Image.fromarray(np.float32(map_HxW)).resize(shown, _bilinear(), box=inside)
        over = np.full((height, width), np.nan, np.float32)
        over[top:bottom, left:right] = np.asarray(part)
        return over

    def without_bars(self, map_HxW: np.ndarray, path: Path) -> np.ndarray:
        """A map of what `read` gives of a file; NaN where that is the black around the image."""
        inside, _ = self._placement(*_size_of(path)) if self.fit in ("letterbox", "pad") else (None, None)
        if inside is None:
            return map_HxW
        left, top, right, bottom = inside
        result = np.full_like(map_HxW, np.nan)
        result[top:bottom, left:right] = map_HxW[top:bottom, left:right]
        return result

    def _placement(self, width: int, height: int) -> tuple[tuple, tuple[int, int, int, int]]:
        """Which box of the result shows which box of the image: both (left, top, right, bottom).

        The first is None if it is the whole result.
        """
        size, whole = self.size, (0, 0, width, height)
        if not size or self.fit == "stretch":
            return None, whole
        if self.fit == "letterbox":
            scale = size / max(width, height)
            shown = max(1, round(width * scale)), max(1, round(height * scale))
        elif self.fit == "pad" and max(width, height) <= size:
            shown = width, height
        else:
            side = min(width, height)
            left, top = round((width - side) / 2), round((height - side) / 2)
            return None, (left, top, left + side, top + side)
        offset = (size - shown[0]) // 2, (size - shown[1]) // 2
        if self.fit == "letterbox":  # Pillow rounds where `_canvas` cuts off
            offset = round((size - shown[0]) / 2), round((size - shown[1]) / 2)
        return (*offset, offset[0] + shown[0], offset[1] + shown[1]), whole

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


def _stretched(image, channels: int):
    """As `_eight_bits`, the brightest pixel at 255: masks mark defects by 255, by 1, or by a colour."""
    image = _eight_bits(image, channels)
    brightest = image.getextrema()[1]
    return image.point([round(255 * value / max(brightest, 1)) for value in range(256)])


def _reason(error: Exception) -> str:
    from PIL import UnidentifiedImageError

    if isinstance(error, UnidentifiedImageError):
        return "not an image"
    return " ".join(str(error).split()) or type(error).__name__


def is_grey(path: Path) -> bool | None:
    """Whether a file holds a grey image, by its header; None if it cannot be told."""
    from PIL import Image

    if not path.is_file():
        return None
    try:
        with warnings.catch_warnings(), Image.open(path) as image:
            warnings.simplefilter("ignore")
            return image.mode in _GREY_MODES
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None


@dataclasses.dataclass(frozen=True)
class Look:
    """What a glance at an image file tells: its size as it is to be seen, and whether it is grey."""

    width: int
    height: int
    is_grey: bool


_TURNED = (5, 6, 7, 8)  # values of EXIF's orientation that exchange width and height
_GREY_TOLERANCE = 8  # of 255: what colour compression makes of equal channels


def _size_of(path: Path) -> tuple[int, int]:
    """(width, height) of an image file that can be read, as it is to be seen."""
    from PIL import Image

    with warnings.catch_warnings(), Image.open(path) as image:
        warnings.simplefilter("ignore")
        return _upright_size(image)


def _upright_size(image) -> tuple[int, int]:
    width, height = image.size
    return (height, width) if image.getexif().get(0x0112) in _TURNED else (width, height)


def look(path: Path) -> Look | None:
    """A glance at a file, decoded no larger than need be; None if it cannot be read."""
    from PIL import Image

    if not path.is_file():
        return None
    try:
        with warnings.catch_warnings(), Image.open(path) as image:
            warnings.simplefilter("ignore")
            width, height = _upright_size(image)
            grey = image.mode in _GREY_MODES
            if not grey:
                image.draft(None, (64, 64))
                pixels = np.asarray(image.convert("RGB").resize((32, 32)), np.int16)
                grey = int((pixels.max(axis=2) - pixels.min(axis=2)).max()) <= _GREY_TOLERANCE
            return Look(width, height, grey)
    except Exception:  # Pillow's decoders raise whatever the damage leads them to
        return None
