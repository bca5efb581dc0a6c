"""Heat maps: an anomaly map drawn over the image that it belongs to."""

import numpy as np

from itae_jax.evaluate import restoration

_OPACITY = 0.65  # of the strongest colour, so that the image stays visible


def smooth(map_HxW: np.ndarray) -> np.ndarray:
    """Smooths a map as scores do, see `restoration.smoothed`, without compiling a program for its shape."""
    from scipy.ndimage import gaussian_filter

    return gaussian_filter(map_HxW, restoration.deviation(map_HxW.shape), mode="nearest")


def outline(picture_HxWx3: np.ndarray, mask_HxW: np.ndarray, colour: str) -> np.ndarray:
    """Draws a line around a mask, which may have another size than the picture."""
    from PIL import Image, ImageColor
    from scipy import ndimage

    height, width, _ = picture_HxWx3.shape
    shares = Image.fromarray(np.float32(mask_HxW)).resize((width, height), Image.Resampling.BOX)
    inside = np.asarray(shares) > 0  # even the smallest defect gets a line
    around = ndimage.binary_dilation(inside, iterations=max(1, round(max(height, width) / 160)))
    line = np.array(ImageColor.getrgb(colour), np.uint8)
    return np.where((around & ~inside)[..., None], line, picture_HxWx3)


def colour_bar(width: int = 256) -> np.ndarray:
    """Draws the colours of `overlay` from 1, on the left, to `full`, over grey: 1 x width x 3 uint8."""
    return overlay(np.full((1, width, 1), 160, np.uint8), np.linspace(1, 2, width)[None], full=2)


def overlay(image_HxWxC: np.ndarray, map_HxW: np.ndarray, full: float) -> np.ndarray:
    """Draws an anomaly map over the uint8 image in grey; returns H x W x 3 uint8.

    Nothing is drawn at 1, the mean of normal images, and below, nor at NaN, where the model does not see the
    image; the colour is strongest at `full`.
    """
    import matplotlib
    from PIL import Image

    strength_HxW = np.clip((map_HxW - 1) / max(full - 1, 1e-6), 0, 1)
    index_HxW = np.rint(255 * np.nan_to_num(strength_HxW, nan=0.0)).astype(np.uint8)
    shades = np.linspace(0, 1, 256)
    palette = (255 * matplotlib.colormaps["inferno"](0.25 + 0.6 * shades)[:, :3]).astype(np.uint8)
    opacity = (255 * _OPACITY * shades).astype(np.uint8)
    image = Image.fromarray(image_HxWxC[..., 0] if image_HxWxC.shape[2] == 1 else image_HxWxC)
    grey = image.convert("L").convert("RGB")
    colour, mask = Image.fromarray(palette[index_HxW]), Image.fromarray(opacity[index_HxW])
    return np.asarray(Image.composite(colour, grey, mask))
