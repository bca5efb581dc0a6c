"""An erasing transform: T functions of one image, how they are applied, and how they are composed."""

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from itae_jax.errors import RequestError


def to_float(images_uint8: jax.Array, dtype=jnp.float32) -> jax.Array:
    """Scales uint8 pixels to floats in [-1, 1]: x / 127.5 - 1, the range of every data set."""
    return images_uint8.astype(dtype) / 127.5 - 1


def _same_channels(channels: int) -> int:
    return channels


@dataclasses.dataclass(frozen=True)
class Transform:
    """A set of T erasing functions of an image, its members.

    `erase` takes (image H x W x C, index in [0, T)) and returns an image of the same height, width and dtype.
    It is pure and traceable; the index may be traced. Pixels are floats in [-1, 1], before and after.
    `draw` takes (random key, image, another training image) and returns what `erase` would: training uses it
    instead of a drawn member. Scoring applies all members.
    """

    name: str  # as in `method.transform`; without `+`, which composes
    count: int  # T, the number of members
    erase: Callable[[jax.Array, jax.Array | int], jax.Array]
    out_channels: Callable[[int], int] = _same_channels  # channels of an image -> channels of the result
    square_only: bool = False  # height and width have to be equal
    colour_only: bool = False  # images need three channels
    invertible: bool = False  # declares that nothing is erased, as by the identity
    draw: Callable[[jax.Array, jax.Array, jax.Array], jax.Array] | None = None
    erases: str = ""  # what is taken away, for people

    def sample(self, key: jax.Array, image: jax.Array, other: jax.Array) -> jax.Array:
        """Erases one image as training does."""
        if self.draw is not None:
            return self.draw(key, image, other)
        return self.erase(image, jax.random.randint(key, (), 0, self.count))

    def check_size(self, height: int, width: int, channels: int = 3) -> None:
        """Raises RequestError if images of this size cannot be transformed."""
        needs, another = f"transform {self.name!r} needs", "choose another method.transform"
        if self.square_only and height != width:
            remedy = f"make them so by data.image_size and data.aspect=1, or {another}"
            raise RequestError(f"{needs} square images, these are {height}x{width}; {remedy}")
        if self.colour_only and channels != 3:
            have = f"these have {channels} channel{'s' * (channels != 1)}"
            raise RequestError(f"{needs} colour images, {have}; {another}")

    def try_on(self, image_shape: tuple[int, int, int]) -> None:
        """Traces `erase` and `draw` on images of this shape; RequestError for a failure or a wrong shape."""
        self.check_size(*image_shape)
        image, index = jax.ShapeDtypeStruct(image_shape, "float32"), jax.ShapeDtypeStruct((), "int32")
        key = jax.eval_shape(lambda: jax.random.key(0))
        size, advice = "x".join(map(str, image_shape)), f"see itae transforms check {self.name}"
        try:
            expected = (*image_shape[:2], self.out_channels(image_shape[2]))
            made = jax.eval_shape(self.erase, image, index), jax.eval_shape(self.sample, key, image, image)
            wrong = [
                f"{one.dtype} {one.shape}" for one in made if (one.dtype, one.shape) != ("float32", expected)
            ]
        except Exception as error:  # the user's own code may raise anything
            reason = f"{type(error).__name__}: " + str(error).strip().partition("\n")[0]
            raise RequestError(f"transform {self.name!r} on images of {size}: {reason}; {advice}") from error
        if wrong:
            found = f"makes {wrong[0]} of images of {size}, expected float32 {expected}"
            raise RequestError(f"transform {self.name!r} {found}; {advice}")

    def apply(self, image_HxWxC: jax.Array, index: jax.Array | int) -> jax.Array:
        """Applies one member to one image: H x W x C floats to H x W x out_channels(C), same dtype."""
        if image_HxWxC.ndim != 3:
            raise ValueError(f"expected one image, H x W x C; got shape {image_HxWxC.shape}")
        if isinstance(index, int) and not 0 <= index < self.count:
            raise IndexError(f"transform {self.name!r} has members 0 to {self.count - 1}, not {index}")
        self._check(image_HxWxC.dtype, image_HxWxC.shape)
        return _erase(self, image_HxWxC, index)

    def apply_each(self, images_BxHxWxC: jax.Array, index_B: jax.Array) -> jax.Array:
        """Applies to each image of a batch the member of its own index: B x H x W x C'."""
        self._check(images_BxHxWxC.dtype, images_BxHxWxC.shape[1:])
        return _erase_each(self, images_BxHxWxC, index_B)

    def draw_each(self, keys_B: jax.Array, images_BxHxWxC: jax.Array, others_BxHxWxC: jax.Array) -> jax.Array:
        """Erases as training does, by `draw` or by a drawn member: B x H x W x C'.

        Args:
          others_BxHxWxC: for each image another one, which `draw` may take parts of.
        """
        self._check(images_BxHxWxC.dtype, images_BxHxWxC.shape[1:])
        return _draw_each(self, keys_B, images_BxHxWxC, others_BxHxWxC)

    def apply_all(self, images_BxHxWxC: jax.Array) -> jax.Array:
        """Applies every member to every image: B x H x W x C floats to T x B x H x W x C'."""
        self._check(images_BxHxWxC.dtype, images_BxHxWxC.shape[1:])
        return _erase_all(self, images_BxHxWxC)

    def _check(self, dtype, image_shape: tuple[int, ...]) -> None:
        if not jnp.issubdtype(dtype, jnp.floating):
            raise TypeError(f"transforms take floats in [-1, 1], got {dtype}; convert uint8 by x / 127.5 - 1")
        self.check_size(*image_shape)


@functools.partial(jax.jit, static_argnums=0)
def _erase(transform, image, index):
    return transform.erase(image, index)


@functools.partial(jax.jit, static_argnums=0)
def _erase_each(transform, images, index):
    return jax.vmap(transform.erase)(images, index)


@functools.partial(jax.jit, static_argnums=0)
def _draw_each(transform, keys, images, others):
    return jax.vmap(transform.sample)(keys, images, others)


@functools.partial(jax.jit, static_argnums=0)
def _erase_all(transform, images):
    over_batch = jax.vmap(transform.erase, in_axes=(0, None))
    return jax.vmap(over_batch, in_axes=(None, 0))(images, jnp.arange(transform.count))


@functools.cache
def compose(first: Transform, second: Transform) -> Transform:
    """Composes first `first`, then `second`; member i is (i // second.count, i % second.count)."""
    name = f"{first.name}+{second.name}"
    if second.colour_only and first.out_channels(3) != 3:
        raise RequestError(
            f"method.transform={name!r}: {second.name!r} needs colour images, and {first.name!r} leaves "
            f"{first.out_channels(3)} channel; change their order or leave one out"
        )

    def erase(image, index):
        image = first.erase(image, index // second.count)
        return second.erase(image, index % second.count)

    def draw(key, image, other):
        first_key, second_key, other_key = jax.random.split(key, 3)
        image, other = first.sample(first_key, image, other), first.sample(other_key, other, image)
        return second.sample(second_key, image, other)

    return Transform(
        name=name,
        count=first.count * second.count,
        erase=erase,
        out_channels=lambda channels: second.out_channels(first.out_channels(channels)),
        square_only=first.square_only or second.square_only,
        colour_only=first.colour_only or second.colour_only,
        invertible=first.invertible and second.invertible,
        draw=draw if first.draw or second.draw else None,
        erases=f"{first.erases}; {second.erases}",
    )
