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

    strength_HxW = np.clip((np.nan_to_num(map_HxW, nan=0.0) - 1) / max(full - 1, 1e-6), 0, 1)
    colours = matplotlib.colormaps["inferno"](0.25 + 0.6 * strength_HxW)[..., :3] * 255
    opacity_HxWx1 = (_OPACITY * strength_HxW)[..., None]
    grey_HxWx1 = image_HxWxC.mean(axis=2, keepdims=True)
    return np.uint8(np.rint((1 - opacity_HxWx1) * grey_HxWx1 + opacity_HxWx1 * colours))
