"""Image files of every kind become uint8 of one shape, or are refused by name."""

import numpy as np
import pytest
from PIL import Image

from itae_jax.data.images import UnreadableImageError
from itae_jax.data.reader import Reader, is_grey

GREY, RGB = Reader(channels=1), Reader(channels=3)


@pytest.fixture
def save(tmp_path):
    def save(image, name="image.png", **options):
        image.save(tmp_path / name, **options)
        return tmp_path / name

    return save


@pytest.fixture
def colours(rng):
    return rng.integers(0, 256, (6, 8, 3), np.uint8)


def test_rgb_is_read_as_it_is(save, colours):
    np.testing.assert_array_equal(RGB.read(save(Image.fromarray(colours))), colours)


def test_grey_among_rgb_gets_three_equal_channels(save, colours):
    path = save(Image.fromarray(colours[..., 0]))
    np.testing.assert_array_equal(RGB.read(path), np.repeat(colours[..., :1], 3, -1))
    np.testing.assert_array_equal(GREY.read(path), colours[..., :1])


def test_sixteen_bits_become_eight(save):
    deep = np.array([[0, 257, 32896, 65535]], np.uint16)
    np.testing.assert_array_equal(GREY.read(save(Image.fromarray(deep)))[0, :, 0], [0, 1, 128, 255])


def test_palettes_are_looked_up(save, colours):
    image = Image.fromarray(colours).quantize(16)
    np.testing.assert_array_equal(RGB.read(save(image)), np.asarray(image.convert("RGB")))


def test_transparent_parts_lie_on_black(save, colours):
    alpha = np.full((6, 8, 1), 255, np.uint8)
    alpha[:, :4] = 0
    pixels = RGB.read(save(Image.fromarray(np.concatenate([colours, alpha], -1))))
    np.testing.assert_array_equal(pixels[:, 4:], colours[:, 4:])
    assert not pixels[:, :4].any()


def test_a_palette_with_a_transparent_colour_lies_on_black(save):
    image = Image.new("P", (2, 1))
    image.putpalette([200, 10, 10, 10, 200, 10])
    image.putdata([0, 1])
    pixels = RGB.read(save(image, transparency=0))
    np.testing.assert_array_equal(pixels[0], [[0, 0, 0], [10, 200, 10]])


def test_the_camera_is_turned_upright(save):
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise to see it upright
    image = Image.fromarray(np.repeat(np.uint8([[0, 255]]), 8, 0).repeat(4, 1))
    pixels = GREY.read(save(image, "turned.jpg", exif=exif, quality=95))[..., 0]
    assert pixels.shape == (8, 8)
    assert pixels[0].mean() < 20
    assert pixels[-1].mean() > 235


@pytest.mark.parametrize("mode", ["1", "CMYK", "LA", "YCbCr"])
def test_other_modes_are_converted(save, colours, mode):
    image = Image.fromarray(colours).convert(mode)
    path = save(image, "image.tif")
    expected = image.convert("RGBA").convert("RGB") if mode == "LA" else image.convert("RGB")
    np.testing.assert_allclose(RGB.read(path).astype(int), np.asarray(expected), atol=3)


def test_the_first_frame_of_several_is_taken(save):
    frames = [Image.new("L", (4, 4), value) for value in (10, 200)]
    path = save(frames[0], "film.gif", save_all=True, append_images=frames[1:])
    assert GREY.read(path).max() <= 12


@pytest.mark.parametrize(
    ("fit", "expected_columns"),
    [("crop", [100, 100, 100, 100]), ("stretch", [0, 100, 100, 0]), ("letterbox", [0, 100, 100, 0])],
)
def test_images_become_square_as_asked(save, fit, expected_columns):
    """A picture twice as wide as high, its middle half grey, its outer quarters black."""
    wide = np.zeros((8, 16), np.uint8)
    wide[:, 4:12] = 100
    pixels = Reader(4, 1, fit).read(save(Image.fromarray(wide)))[..., 0]
    assert pixels.shape == (4, 4)
    row = pixels[2] if fit == "letterbox" else pixels[0]
    np.testing.assert_allclose(row, expected_columns, atol=35)
    if fit == "letterbox":
        assert not pixels[[0, 3]].any()


def test_padding_keeps_the_pixels_and_centres_them(save, colours):
    small = colours[:6, :6]
    pixels = Reader(10, 3, "pad").read(save(Image.fromarray(small)))
    np.testing.assert_array_equal(pixels[2:8, 2:8], small)
    assert pixels.sum() == small.sum()


def test_a_jpeg_decoded_at_a_fraction_looks_the_same(save, rng):
    from scipy.ndimage import gaussian_filter

    picture = gaussian_filter(rng.uniform(0, 1, (256, 256)), 12)
    picture = np.uint8(255 * (picture - picture.min()) / np.ptp(picture))
    image = Image.fromarray(picture)
    reader = Reader(32, 1)
    from_jpeg, from_png = reader.read(save(image, "a.jpg", quality=95)), reader.read(save(image, "a.png"))
    assert np.abs(from_jpeg.astype(int) - from_png).mean() < 2


def test_masks_are_true_above_half_and_may_be_empty(save):
    path = save(Image.fromarray(np.uint8([[0, 120, 135, 255]])))
    np.testing.assert_array_equal(GREY.read_mask(path), [[False, False, True, True]])
    assert not GREY.read_mask(save(Image.new("L", (4, 4)))).any()


@pytest.mark.parametrize(
    ("mode", "defect"), [("L", 1), ("1", 1), ("RGB", (255, 0, 0)), ("RGBA", (0, 0, 9, 255))]
)
def test_masks_may_mark_defects_by_any_value_or_colour(save, mode, defect):
    mask = Image.new(mode, (32, 32))
    mask.paste(defect, (8, 0, 32, 16))
    expected = np.zeros((32, 32), bool)
    expected[:16, 8:] = True
    np.testing.assert_array_equal(GREY.read_mask(save(mask)), expected)
    np.testing.assert_array_equal(Reader(16, 1).read_mask(save(mask)), expected[::2, ::2])


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda path: path.write_text("not a picture"), "not an image"),
        (lambda path: path.write_bytes(b""), "not an image"),
        (lambda path: None, "no such file"),
        (lambda path: path.mkdir(), "not a file"),
        (lambda path: truncate(path), "truncated"),
        (lambda path: Image.new("F", (4, 4)).save(path, "TIFF"), "floating-point pixels"),
        (lambda path: Image.new("L", (60, 4)).save(path), "60x4 pixels, more than data.max_side=50"),
    ],
)
def test_what_cannot_be_read_is_refused_by_name(tmp_path, make, reason):
    path = tmp_path / "a name with spaces and ü.png"
    make(path)
    with pytest.raises(UnreadableImageError, match=reason) as caught:
        Reader(max_side=50).read(path)
    assert caught.value.name == str(path)


def truncate(path):
    pixels = np.random.default_rng(0).integers(0, 256, (40, 40), np.uint8)
    Image.fromarray(pixels).save(path)
    path.write_bytes(path.read_bytes()[:400])


def test_headers_tell_grey_from_colour(save, colours, tmp_path):
    assert is_grey(save(Image.fromarray(colours[..., 0]))) is True
    assert is_grey(save(Image.fromarray(colours))) is False
    (tmp_path / "text.png").write_text("x")
    assert is_grey(tmp_path / "text.png") is None
