"""Heat maps: where in an image the error is high, drawn over the image at its own size."""

import numpy as np

# Blurred by this share of a side, so that a single pixel's noise does not show as a defect.
_BLUR = 1 / 64
# What a map costs in visibility of the image: colours never cover more than this.
_OPACITY = 0.65


def smooth(map_HxW: np.ndarray) -> np.ndarray:
    """The map blurred by a Gaussian of 1/64 of its longer side."""
    from scipy.ndimage import gaussian_filter

    return gaussian_filter(map_HxW, _BLUR * max(map_HxW.shape), mode="nearest")


def outline(picture_HxWx3: np.ndarray, mask_HxW: np.ndarray) -> np.ndarray:
    """The picture with a line around the mask, which may have another size."""
    from PIL import Image, ImageColor
    from scipy import ndimage

    from itae_jax.report.figures import OUTLINE

    height, width, _ = picture_HxWx3.shape
    shares = Image.fromarray(np.float32(mask_HxW)).resize((width, height), Image.Resampling.BOX)
    inside = np.asarray(shares) > 0  # the smallest defect has a line, too
    around = ndimage.binary_dilation(inside, iterations=max(1, round(max(height, width) / 160)))
    return np.where((around & ~inside)[..., None], np.uint8(ImageColor.getrgb(OUTLINE)), picture_HxWx3)


def overlay(image_HxWxC: np.ndarray, map_HxW: np.ndarray, full: float) -> np.ndarray:
    """The image in grey with the map over it.

    Args:
      image_HxWxC: uint8.
      map_HxW: errors relative to those of normal images, of the image's size; NaN where there are none.
      full: the value that is drawn in the strongest colour. At 1, the mean of normal images, and
        below it nothing is drawn.

    Returns:
      H x W x 3 uint8.
    """
    import matplotlib
    from PIL import Image

    strength_HxW = np.clip((map_HxW - 1) / max(full - 1, 1e-6), 0, 1)
    index_HxW = np.uint8(np.rint(255 * np.nan_to_num(strength_HxW, nan=0.0)))
    shades = np.linspace(0, 1, 256)
    palette = np.uint8(255 * matplotlib.colormaps["inferno"](0.25 + 0.6 * shades)[:, :3])
    opacity = np.uint8(255 * _OPACITY * shades)
    image = Image.fromarray(image_HxWxC[..., 0] if image_HxWxC.shape[2] == 1 else image_HxWxC)
    grey = image.convert("L").convert("RGB")
    colour, mask = Image.fromarray(palette[index_HxW]), Image.fromarray(opacity[index_HxW])
    return np.asarray(Image.composite(colour, grey, mask))
