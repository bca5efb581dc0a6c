"""Own-patch erasing for defects: parts of other normal images pasted into an image.

The network learns to remove what does not belong where it is, so that it restores a defect as a normal part.
After CutPaste (Li et al., CVPR 2021), NSA (Schlueter et al., ECCV 2022) and DRAEM (Zavrtanik et al., ICCV
2021), which paste rectangles, blended patches and textures of noise; all parts are drawn here from the
training images themselves.
"""

import jax
import jax.numpy as jnp

from itae_jax.transforms.transform import Transform

_REGIONS = 3  # at most
_CLEAN = 0.5  # the share of images that stay as they are
_NOISE_CELLS = 6  # along each side of the smooth noise that gives a blob its outline


def paste(key: jax.Array, image: jax.Array, other: jax.Array) -> jax.Array:
    """One to three regions of H x W x C pixels are replaced; half of the images stay as they are.

    A region is a rectangle, a scar (a thin oriented strip) or a blob. It takes its pixels from another
    image, from elsewhere in the same one, from a flat colour, or from its own place, then moved in
    brightness, with an opacity of 0.3 to 1.
    """
    region_key, key = jax.random.split(key)
    clean, count = jax.random.uniform(key, (2,), "float32")
    numbers = jax.random.uniform(region_key, (_REGIONS, 16 + 2 * image.shape[2] + _NOISE_CELLS**2), "float32")
    wide = image.dtype if jnp.finfo(image.dtype).bits >= 32 else jnp.float32
    dtype, image, other, numbers = image.dtype, *(array.astype(wide) for array in (image, other, numbers))

    def add_region(pasted, region):
        number, uniform = region
        covered = _REGIONS * count >= number  # the first always, the second in 2 of 3, the third in 1 of 3
        return jnp.where(covered, _paste_one(uniform, pasted, image, other), pasted), None

    pasted, _ = jax.lax.scan(add_region, image, (jnp.arange(_REGIONS, dtype="float32"), numbers))
    return jnp.where(clean < _CLEAN, image, pasted).astype(dtype)


def _paste_one(uniform: jax.Array, pasted: jax.Array, image: jax.Array, other: jax.Array) -> jax.Array:
    """Pastes the region that a row of uniform numbers describes."""
    height, width, channels = image.shape
    opacity, choice, moved, amount, sign, jitter, down, right = uniform[:8]
    level, tint = 2 * uniform[16 : 16 + 2 * channels].reshape(2, channels) - 1
    shift = (down * height).astype(jnp.int32), (right * width).astype(jnp.int32)
    own, others = (jnp.roll(source, shift, (0, 1)) for source in (image[:, ::-1], other))
    flat = jnp.broadcast_to(level[:1] + 0.5 * jitter * tint, image.shape)
    kind = sum((choice > edge).astype(jnp.int32) for edge in (0.45, 0.65, 0.85))
    source = jax.lax.select_n(kind, others, own, flat, image)
    # Its own place without another brightness would be no change.
    is_moved = (moved < 0.5) | (kind == 3)
    brightness = jnp.where(is_moved, jnp.where(sign < 0.5, -1.0, 1.0) * (0.08 + 0.5 * amount), 0.0)
    noise = uniform[16 + 2 * channels :].reshape(_NOISE_CELLS, _NOISE_CELLS)
    weight = (0.3 + 0.7 * opacity) * _region(uniform[8:16], noise, height, width)
    return (pasted + weight[..., None] * (source + brightness - pasted)).clip(-1, 1)


def _region(uniform: jax.Array, noise: jax.Array, height: int, width: int) -> jax.Array:
    """The share of each pixel, H x W in [0, 1], that a random region covers."""
    kind, long, short, turn, bend, soft, y, x = uniform
    side = min(height, width)
    rows = jnp.arange(height, dtype=uniform.dtype)[:, None] - y * height
    columns = jnp.arange(width, dtype=uniform.dtype)[None] - x * width
    is_scar = (kind > 0.35) & (kind <= 0.7)
    angle = jnp.where(is_scar, jnp.pi * turn, 0.0)
    along = columns * jnp.cos(angle) + rows * jnp.sin(angle)
    across = rows * jnp.cos(angle) - columns * jnp.sin(angle)
    across = across + jnp.where(is_scar, (bend - 0.5) * 0.06 * along**2, 0.0)
    length = jnp.where(is_scar, _between(6, side, long), _between(2, side / 2, long))
    breadth = jnp.where(is_scar, _between(1, side / 12, short), _between(2, side / 2, short))
    strip = jnp.minimum(length / 2 - abs(along), breadth / 2 - abs(across))
    smooth = jax.image.resize(2 * noise - 1, (height, width), "linear")
    blob = _between(3, side / 2, long) * (1 + smooth) - jnp.hypot(rows, columns)
    inside = jnp.where(kind > 0.7, blob, strip)  # pixels from the edge, positive inside
    return (inside / (0.5 + 2 * soft**2) + 0.5).clip(0, 1)


def _between(least: float, most: float, share: jax.Array) -> jax.Array:
    """A number between the two, uniform in its logarithm."""
    return least * (max(most, least) / least) ** share


PASTE = Transform(
    "paste",
    1,
    lambda image, index: image,
    invertible=True,
    draw=paste,
    erases="regions, by parts of other images, flat colours and brightness; nothing when scoring",
)
