"""Reads one image file of any format and mode that Pillow knows, as uint8 of one size."""

import contextlib
import dataclasses
import io
import math
import struct
import warnings
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from itae_jax.data.images import Shape, UnreadableImageError

FITS = ("crop", "letterbox", "stretch", "pad")
_BILINEAR = Image.Resampling.BILINEAR
_GREY_MODES = ("1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L", "F")
_GREY_TOLERANCE = 8  # of 255: colour compression makes equal channels differ by so much
_ORIENTATION = 0x0112  # EXIF's tag
_LEAST_MARK = 16  # of 255, in masks: less is an artefact of resizing
_UPRIGHT = {
    **{2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM},
    **{5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE},
    8: Image.Transpose.ROTATE_90,
}
_TURNED = (5, 6, 7, 8)  # the orientations that exchange width and height
_JPEG = b"\xff\xd8"
_PNG = b"\x89PNG\r\n\x1a\n"
# Tags of TIFF files that say nothing of pixels: resolution, XMP, IPTC, Photoshop, EXIF, ICC.
_TIFF_METADATA = {282, 283, 296, 700, 33723, 34377, 34665, 34675}
# Beginnings of text chunks that may hold the orientation of a PNG file, and how much text Pillow takes.
_TURNING = (b"iTXtXML:com.adobe.xmp\0", b"tEXtRaw profile type exif\0", b"zTXtRaw profile type exif\0")
_MOST_TEXT = 2**20
# Markers of a JPEG file: those without a length, the start of the picture, and EXIF or XMP.
_BARE, _SCAN, _EXIF = {0x01, 0xFF, *range(0xD0, 0xD9)}, 0xDA, 0xE1
_METADATA = {*range(0xE0, 0xF0), 0xFE}
_LEAST_LENGTHS = {0xE0: 16, 0xEE: 14}  # of JFIF's and Adobe's segments, which say how colours are stored

Box = tuple[int, int, int, int]  # left, top, right, bottom


@dataclasses.dataclass(frozen=True)
class Reader:
    """Reads image files as arrays of one shape.

    Of the ways to give an image the aspect ratio, "crop" cuts out the middle, "letterbox" adds black bars,
    "stretch" changes the aspect ratio of the image, and "pad" does as "letterbox" but enlarges nothing.
    """

    size: int = 0  # shorter side of the result in pixels; 0 keeps the size of the file
    channels: int = 3  # or 1: grey, Pillow's luma of colour images
    fit: str = "crop"
    max_side: int = 20_000  # larger images are refused before they are decoded
    aspect: float = 1.0  # of the result, width over height

    @property
    def shape(self) -> Shape:
        """(height, width, channels) of the result, if `size` is not 0."""
        width, height = self._target
        return height, width, self.channels

    @property
    def _target(self) -> tuple[int, int]:
        longer = round(self.size * max(self.aspect, 1 / self.aspect))
        return (longer, self.size) if self.aspect > 1 else (self.size, longer)

    def read(self, source: Path | tuple[str, bytes]) -> np.ndarray:
        """Reads a file, or (name, bytes), as H x W x C uint8.

        Applies the camera's orientation, reduces 16 bits to 8, puts transparent parts on black, and takes the
        first of several frames. UnreadableImageError if it is no image, damaged, larger than `max_side`, or
        of 32 bits with pixels above 255.
        """
        return self._read(source, _eight_bits)

    def read_mask(self, path: Path) -> np.ndarray:
        """Reads a mask in the geometry of `read`: H x W bool, true above half of its brightest pixel."""
        mask_HxW = dataclasses.replace(self, channels=1)._read(path, _stretched)[..., 0]
        # A small defect pales as it shrinks.
        return mask_HxW > max(_LEAST_MARK, min(127, mask_HxW.max(initial=0) / 2))

    def _read(self, source: Path | tuple[str, bytes], to_bytes: Callable) -> np.ndarray:
        name, stream = (str(source), source) if isinstance(source, Path) else (source[0], io.BytesIO(source[1]))
        try:
            if isinstance(source, Path) and source.exists() and not source.is_file():
                raise UnreadableImageError(name, "not a file")  # reading a pipe would block
            with _opened(stream) as image:
                if max(image.size) > self.max_side:
                    reason = f"{image.width}x{image.height} pixels, more than data.max_side={self.max_side}"
                    raise UnreadableImageError(name, reason)
                stored = image.size
                if self.size:
                    # Decodes a JPEG at 1/2, 1/4 or 1/8 where that leaves twice the size.
                    image.draft(None, (2 * max(self._target),) * 2)  # the image may be turned
                is_reduced, upright = image.size != stored, _upright(image)
                full_size = stored[::-1] if _orientation(image) in _TURNED else stored
                fitted = self._fitted(
                    to_bytes(upright, self.channels), full_size if is_reduced else upright.size
                )
                return np.asarray(fitted, np.uint8).reshape(fitted.height, fitted.width, -1)
        except UnreadableImageError:
            raise
        except FileNotFoundError:
            raise UnreadableImageError(name, "no such file") from None
        except UnidentifiedImageError:
            raise UnreadableImageError(name, "not an image") from None
        except Exception as error:  # on damaged files Pillow's decoders raise anything
            raise UnreadableImageError(name, " ".join(str(error).split()) or type(error).__name__) from None

    def _fitted(self, image: Image.Image, full_size: tuple[int, int]) -> Image.Image:
        """Fits an image, decoded at its full size or at a part of it."""
        target = self._target
        if not self.size or image.size == target:
            return image
        if self.fit == "stretch":
            return image.resize(target, _BILINEAR)
        inside, _ = self._placement(*full_size)
        if inside is None:
            return ImageOps.fit(image, target, _BILINEAR)
        left, top, right, bottom = inside
        canvas = Image.new(image.mode, target)
        canvas.paste(image.resize((right - left, bottom - top), _BILINEAR), (left, top))
        return canvas

    def fitted(self, image_HxWxC: np.ndarray) -> np.ndarray:
        """Brings a uint8 image of any size to what `read` returns for a file of these pixels."""
        image = Image.fromarray(image_HxWxC[..., 0] if image_HxWxC.shape[2] == 1 else image_HxWxC)
        image = self._fitted(image, image.size)
        return np.asarray(image, np.uint8).reshape(image.height, image.width, -1)

    def lay_over(self, map_HxW: np.ndarray, width: int, height: int) -> np.ndarray:
        """Resizes a map of what `read` returned to its file's height and width; NaN where it was cut off."""
        inside, (left, top, right, bottom) = self._placement(width, height)
        part = Image.fromarray(np.float32(map_HxW)).resize((right - left, bottom - top), _BILINEAR, box=inside)
        if part.size == (width, height):
            return np.asarray(part)
        over = np.full((height, width), np.nan, np.float32)
        over[top:bottom, left:right] = np.asarray(part)
        return over

    def without_bars(self, map_HxW: np.ndarray, path: Path) -> np.ndarray:
        """Replaces the map's values in the black bars around the file's image by NaN."""
        if self.fit not in ("letterbox", "pad"):
            return map_HxW
        with _opened(path) as image:
            inside, _ = self._placement(*_upright_size(image))
        if inside is None:
            return map_HxW
        left, top, right, bottom = inside
        result = np.full_like(map_HxW, np.nan)
        result[top:bottom, left:right] = map_HxW[top:bottom, left:right]
        return result

    def _placement(self, width: int, height: int) -> tuple[Box | None, Box]:
        """Returns (box in the result, box in the image) that show the same; None for the whole result."""
        target, whole = self._target, (0, 0, width, height)
        if not self.size or self.fit == "stretch":
            return None, whole
        scales = target[0] / width, target[1] / height
        if self.fit == "crop":
            kept = max(1, round(target[0] / max(scales))), max(1, round(target[1] / max(scales)))
            left, top = round((width - kept[0]) / 2), round((height - kept[1]) / 2)
            return None, (left, top, left + kept[0], top + kept[1])
        scale = min(scales) if self.fit == "letterbox" else min(1, *scales)
        shown = max(1, round(width * scale)), max(1, round(height * scale))
        left, top = (round((side - part) / 2) for side, part in zip(target, shown, strict=True))
        return (left, top, left + shown[0], top + shown[1]), whole


@contextlib.contextmanager
def _opened(source: Path | io.BytesIO) -> Iterator[Image.Image]:
    # Given a name, Pillow maps some TIFF files into memory, and scrambles turned ones.
    with contextlib.ExitStack() as stack, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of damaged metadata
        stream = stack.enter_context(source.open("rb")) if isinstance(source, Path) else source
        start = stream.read(len(_PNG))
        stream.seek(0)
        if start == _PNG:
            stream = io.BytesIO(_png_without_metadata(stream.read()))
        elif start[:4] in (b"II*\0", b"MM\0*"):
            stream = io.BytesIO(stream.read())
            _remove_metadata(stream.getbuffer())
        try:
            image = Image.open(stream)
        except UnidentifiedImageError:
            if not start.startswith(_JPEG):
                raise
            stream.seek(0)
            image = Image.open(io.BytesIO(_jpeg_without_metadata(stream.read())))
        yield stack.enter_context(image)


def _jpeg_without_metadata(jpeg: bytes) -> bytes:
    """Removes all metadata but EXIF and XMP: Pillow refuses a file where some are damaged."""
    kept, start = [_JPEG], len(_JPEG)
    while start + 4 <= len(jpeg) and jpeg[start] == 0xFF and jpeg[start + 1] != _SCAN:
        marker = jpeg[start + 1]
        end = start + 2 + (0 if marker in _BARE else int.from_bytes(jpeg[start + 2 : start + 4]))
        least = _LEAST_LENGTHS.get(marker, 0 if marker == _EXIF else 2**16)
        if marker not in _METADATA or end - start - 2 >= least:
            kept.append(jpeg[start:end])
        start = end
    return b"".join([*kept, jpeg[start:]])


def _remove_metadata(tiff: memoryview) -> None:
    """Removes the metadata of a TIFF's first directory: Pillow refuses a file where some have a wrong type."""
    order = "<" if tiff[0] == ord("I") else ">"
    with contextlib.suppress(struct.error, ValueError):  # Pillow says what is damaged
        (start,) = struct.unpack_from(f"{order}I", tiff, 4)
        (count,) = struct.unpack_from(f"{order}H", tiff, start)
        end = start + 2 + 12 * count + 4  # with the place of the next directory
        entries = [bytes(tiff[place : place + 12]) for place in range(start + 2, end - 4, 12)]
        kept = [entry for entry in entries if struct.unpack(f"{order}H", entry[:2])[0] not in _TIFF_METADATA]
        directory = struct.pack(f"{order}H", len(kept)) + b"".join(kept) + bytes(tiff[end - 4 : end])
        tiff[start:end] = directory.ljust(end - start, b"\0")


def _png_without_metadata(png: bytes) -> bytes:
    """Removes all metadata but the orientation: Pillow refuses a file where some are damaged or long."""
    kept, start = [_PNG], len(_PNG)
    while start + 8 <= len(png):
        length, kind = struct.unpack_from(">I4s", png, start)
        end = start + length + 12  # with length, kind and checksum
        chunk = png[start + 4 : end - 4]
        if kind == b"eXIf" or (chunk.startswith(_TURNING) and _text_bytes(chunk) <= _MOST_TEXT):
            is_kept = zlib.crc32(chunk).to_bytes(4) == png[end - 4 : end]
        else:
            is_kept = kind == b"tRNS" or not kind[0] & 0x20  # a capital letter: critical
        if is_kept:
            kept.append(png[start:end])
        start = end
    return b"".join(kept)


def _text_bytes(chunk: bytes) -> float:
    """The length of the text of a PNG's chunk, decompressed; infinite if it is damaged or too long."""
    text = chunk.partition(b"\0")[2]
    is_compressed = chunk.startswith(b"zTXt") or text.startswith(b"\1")
    if chunk.startswith(b"iTXt"):
        text = text[2:].split(b"\0", 2)[-1]  # after a language and a translated keyword
    elif is_compressed:
        text = text[1:]
    if not is_compressed:
        return len(text)
    with contextlib.suppress(zlib.error):
        unpacking = zlib.decompressobj()
        unpacked = unpacking.decompress(text, _MOST_TEXT)
        return len(unpacked) if unpacking.eof else math.inf
    return math.inf


def _upright(image: Image.Image) -> Image.Image:
    image.load()  # which turns a TIFF
    turn = _UPRIGHT.get(_orientation(image) or 0)
    if turn is None:
        return image
    upright = image.transpose(turn)
    upright.format = image.format  # which a copy lacks
    return upright


def _orientation(image: Image.Image) -> int | None:
    with contextlib.suppress(Exception):  # on damaged metadata Pillow raises anything
        return image.getexif().get(_ORIENTATION)
    return None


def _eight_bits(image: Image.Image, channels: int) -> Image.Image:
    """Converts the image to mode L or RGB."""
    if image.mode.startswith("I"):
        values = np.asarray(image)
        if values.size and (values.min() < 0 or values.max() > 65535):
            raise ValueError("pixels beyond 16 bits")
        # Pillow opens PGM files of 16 bits in the mode of TIFF's 32.
        is_long = image.format == "TIFF" and image.mode == "I"
        if is_long and values.max(initial=0) > 255:
            raise ValueError("32-bit pixels above 255; save it with 16 bits")
        image = Image.fromarray(np.uint8(np.rint(values / (1 if is_long else 257))))
    elif image.mode == "F":
        raise ValueError("floating-point pixels; convert it to 8 or 16 bits")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, (0, 0, 0, 255)), image)
    return image.convert("L" if channels == 1 else "RGB")


def _stretched(image: Image.Image, channels: int) -> Image.Image:
    """Does the same and scales the brightest pixel to 255: masks mark defects by 255, by 1, or by a colour."""
    if image.mode.startswith("I"):  # of more than 8 bits
        values = np.asarray(image).clip(0)
        return Image.fromarray(np.uint8(np.rint(255.0 * values / max(values.max(initial=0), 1))))
    image = _eight_bits(image, channels)
    brightest = max(int(np.asarray(image).max(initial=0)), 1)
    return image.point([round(255 * value / brightest) for value in range(256)])


def is_grey(path: Path) -> bool | None:
    """Returns whether a file's header says that the image is grey; None if it cannot be read."""
    return _ask(path, lambda image: image.mode in _GREY_MODES)


def count_pixels(path: Path) -> int:
    """Returns width times height by a file's header; 0 if it cannot be read."""
    return _ask(path, lambda image: image.width * image.height) or 0


def _ask(path: Path, question: Callable[[Image.Image], Any]) -> Any:
    with contextlib.suppress(Exception):  # on damaged files Pillow's decoders raise anything
        if path.is_file():
            with _opened(path) as image:
                return question(image)
    return None


@dataclasses.dataclass(frozen=True)
class Look:
    """The upright size of an image file, and whether all its channels are equal."""

    width: int
    height: int
    is_grey: bool


def look(path: Path, max_side: int = Reader.max_side) -> Look | None:
    """Looks at a file, decoding as little as possible; None if it is too large or cannot be read."""

    def seen(image: Image.Image) -> Look | None:
        if max(image.size) > max_side:
            return None
        width, height = _upright_size(image)
        grey = image.mode in _GREY_MODES
        if not grey:
            image.draft(None, (64, 64))
            pixels = np.asarray(image.convert("RGB").resize((32, 32)), np.int16)
            grey = int((pixels.max(axis=2) - pixels.min(axis=2)).max()) <= _GREY_TOLERANCE
        return Look(width, height, grey)

    return _ask(path, seen)


def _upright_size(image: Image.Image) -> tuple[int, int]:
    if _orientation(image) not in _TURNED:
        return image.size
    if image.format == "TIFF":  # whose header gives the stored or the upright size, as it was compressed
        return _upright(image).size
    return image.size[::-1]
