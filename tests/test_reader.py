"""Image files of every kind become uint8 of one shape, or are refused by name."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from itae_jax.data.images import UnreadableImageError
from itae_jax.data.reader import Reader, is_grey, look

GREY, RGB = Reader(channels=1), Reader(channels=3)


@pytest.fixture
def save(tmp_path):
    def save(image, name="image.png", **options):
        image = image if isinstance(image, Image.Image) else Image.fromarray(image)
        image.save(tmp_path / name, **options)
        return tmp_path / name

    return save


@pytest.fixture
def colours(rng):
    return rng.integers(0, 256, (6, 8, 3), np.uint8)


def test_read_keeps_rgb_and_repeats_grey(save, colours):
    np.testing.assert_array_equal(RGB.read(save(colours)), colours)
    path = save(colours[..., 0])
    np.testing.assert_array_equal(RGB.read(path), np.repeat(colours[..., :1], 3, -1))
    np.testing.assert_array_equal(GREY.read(path), colours[..., :1])


def test_read_reduces_sixteen_bits_to_eight_and_takes_the_first_of_several_frames(save):
    deep = np.array([[0, 257, 32896, 65535]], np.uint16)
    np.testing.assert_array_equal(GREY.read(save(deep))[0, :, 0], [0, 1, 128, 255])
    frames = [Image.new("L", (4, 4), value) for value in (10, 200)]
    assert GREY.read(save(frames[0], "film.gif", save_all=True, append_images=frames[1:])).max() <= 12


def test_read_puts_transparent_parts_on_black(save, colours):
    alpha = np.full((6, 8, 1), 255, np.uint8)
    alpha[:, :4] = 0
    pixels = RGB.read(save(np.concatenate([colours, alpha], -1)))
    np.testing.assert_array_equal(pixels[:, 4:], colours[:, 4:])
    assert not pixels[:, :4].any()
    image = Image.new("P", (2, 1))
    image.putpalette([200, 10, 10, 10, 200, 10])
    image.putdata([0, 1])
    np.testing.assert_array_equal(RGB.read(save(image, transparency=0))[0], [[0, 0, 0], [10, 200, 10]])


TURNS = [  # how orientations 1 to 8 of EXIF are seen upright
    lambda x: x,
    np.fliplr,
    lambda x: np.rot90(x, 2),
    np.flipud,
    lambda x: x.swapaxes(0, 1),
    lambda x: np.rot90(x, -1),
    lambda x: np.rot90(x, 2).swapaxes(0, 1),
    np.rot90,
]
COMPRESSIONS = (None, "tiff_lzw", "tiff_adobe_deflate", "packbits")
KINDS = [("tif", mode, {"compression": how}) for mode in ("1", "L", "RGB", "CMYK") for how in COMPRESSIONS]
KINDS += [
    ("tif", mode, {"compression": how}) for mode in ("I;16", "P", "LA", "RGBA") for how in COMPRESSIONS[:2]
]
KINDS += [("tif", "1", {"compression": "group4"})]
KINDS += [("png", mode, {}) for mode in ("1", "L", "LA", "RGB", "RGBA", "P", "I;16")]
KINDS += [("jpg", mode, {}) for mode in ("L", "RGB", "CMYK")] + [("webp", "RGB", {"lossless": True})]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(("ending", "mode", "options"), KINDS)
def test_an_image_is_read_upright_from_a_file_and_from_bytes(save, rng, ending, mode, options, orientation):
    deep = mode == "I;16"
    image = rng.integers(
        0, 2**16 if deep else 256, (8, 24) if deep else (8, 24, 3), "uint16" if deep else "uint8"
    )
    image = Image.fromarray(image)
    image, exif = image if deep else image.convert(mode), Image.Exif()
    plain = save(image, f"plain.{ending}", **options)
    exif[0x0112] = orientation
    path = save(image, f"turned.{ending}", exif=exif, **options)
    for reader in (RGB, GREY):
        found = reader.read(path)
        np.testing.assert_array_equal(found, TURNS[orientation - 1](reader.read(plain)))
        np.testing.assert_array_equal(found, reader.read((path.name, path.read_bytes())))
    seen = look(path)
    assert (seen.height, seen.width) == found.shape[:2]


@pytest.mark.parametrize(
    "ending", ["bmp", "dib", "jp2", "j2k", "pcx", "ppm", "qoi", "sgi", "tga", "gif", "avif"]
)
def test_formats_without_an_orientation_are_read_alike_from_a_file_and_from_bytes(save, colours, ending):
    path = save(colours, f"image.{ending}")
    found = RGB.read(path)
    np.testing.assert_array_equal(found, RGB.read((path.name, path.read_bytes())))
    if ending in ("gif", "avif"):  # they change colours
        assert found.shape == colours.shape
    else:
        np.testing.assert_array_equal(found, colours)


XMP = (
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    '<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/></rdf:RDF></x:xmpmeta>'
)


def test_a_png_is_turned_by_its_texts_too(save, colours):
    exif = Image.Exif()
    exif[0x0112] = 6
    raw = exif.tobytes()
    xmp, profile = PngImagePlugin.PngInfo(), PngImagePlugin.PngInfo()
    xmp.add_itxt("XML:com.adobe.xmp", XMP)
    profile.add_text("Raw profile type exif", f"\nexif\n{len(raw):8}\n{raw.hex()}\n")
    packed, long, packed_profile = (PngImagePlugin.PngInfo() for _ in range(3))
    packed.add_itxt("XML:com.adobe.xmp", XMP, zip=True)
    long.add_itxt("XML:com.adobe.xmp", XMP + 70_000 * " ")
    packed_profile.add_text("Raw profile type exif", f"\nexif\n{len(raw):8}\n{raw.hex()}\n", zip=True)
    for text in (xmp, profile, packed, long, packed_profile):
        np.testing.assert_array_equal(RGB.read(save(colours, pnginfo=text)), np.rot90(colours, -1))


@pytest.mark.parametrize(
    ("marker", "content"),
    [
        (0xED, b"Photoshop 3.0\x008BIM\x03\xed"),
        (0xE0, b"JFIF\0"),
        (0xEE, b"Adobe\0"),
        (0xE2, b"MPF\0II"),
        (0xFE, b""),
    ],
)
def test_damaged_metadata_of_a_jpeg_cost_no_pixel(save, colours, marker, content):
    exif = Image.Exif()
    exif[0x0112] = 6
    path = save(colours, "fine.jpg", exif=exif)
    expected, (start, rest) = RGB.read(path), (path.read_bytes()[:2], path.read_bytes()[2:])
    segment = bytes([0xFF, marker]) + (2 + len(content)).to_bytes(2) + content
    for damaged in (
        start + segment + rest,
        start + rest[: rest.index(b"\xff\xdb")] + segment + rest[rest.index(b"\xff\xdb") :],
    ):
        path.write_bytes(damaged)
        np.testing.assert_array_equal(RGB.read(path), expected)


@pytest.mark.parametrize("orientation", [1, 6])
def test_bars_are_where_the_image_is_not_also_if_it_was_decoded_at_a_part_of_its_size(save, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    for height in range(280, 310):
        path = save(np.full((height, 600, 3), 255, np.uint8), "wide.jpg", exif=exif)
        reader = Reader(64, 3, "letterbox")
        is_shown = reader.read(path)[..., 0] > 127
        np.testing.assert_array_equal(is_shown, ~np.isnan(reader.without_bars(np.zeros((64, 64)), path)))


def test_a_tiny_defect_does_not_vanish_from_a_smaller_mask(save):
    mask = np.zeros((256, 256), np.uint8)
    mask[100:102, 50:52] = 255
    found = Reader(64, 1, "stretch").read_mask(save(mask))
    assert found[25, 12] and found.sum() <= 4
    assert not Reader(64, 1, "stretch").read_mask(save(np.zeros((256, 256), np.uint8))).any()


def chunk(kind, content, checksum=None):
    checksum = zlib.crc32(kind + content) if checksum is None else checksum
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)


DAMAGED = {
    "malformed eXIf": chunk(b"eXIf", b"MM\0*\0\0\0\x08\0\x09garbage"),
    "eXIf that fails its checksum": chunk(b"eXIf", b"MM\0*\0\0\0\x08\0\0", checksum=1),
    "text that fails its checksum": chunk(b"tEXt", b"Comment\0made by hand", checksum=1),
    "two megabytes of XMP": chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(b"<x>" * 700_000)),
    "a large ICC profile": chunk(b"iCCP", b"screen\0\0" + zlib.compress(bytes(3_000_000))),
}


@pytest.mark.parametrize("kind", DAMAGED)
@pytest.mark.parametrize("at_end", [False, True])
def test_damaged_metadata_of_a_png_do_not_hide_its_pixels(save, colours, kind, at_end):
    plain = save(colours).read_bytes()
    cut = plain.rindex(b"IEND") - 4 if at_end else 33  # behind IHDR
    damaged = plain[:cut] + DAMAGED[kind] + plain[cut:]
    np.testing.assert_array_equal(RGB.read(("damaged.png", damaged)), colours)


def test_damaged_pixels_of_a_png_are_refused(save, colours):
    plain = save(colours).read_bytes()
    start = plain.index(b"IDAT") + 8
    for damaged in (plain[: start + 40], plain[:start] + b"\0" * 4 + plain[start + 4 :]):
        with pytest.raises(UnreadableImageError):
            RGB.read(("damaged.png", damaged))


def test_a_jpeg_is_turned_though_the_rest_of_its_exif_is_wrong(save, colours):
    entries = [(0x0112, 3, 1, 6 << 16), (0x0128, 2, 2, 0x32000000)]  # ResolutionUnit as text
    exif = b"Exif\0\0MM\0*\0\0\0\x08" + struct.pack(">H", len(entries))
    exif += b"".join(struct.pack(">HHII", *entry) for entry in entries) + bytes(4)
    upright = RGB.read(save(colours, "upright.jpg", quality=95))
    np.testing.assert_array_equal(
        RGB.read(save(colours, "a.jpg", quality=95, exif=exif)), np.rot90(upright, -1)
    )


@pytest.mark.parametrize("kind", range(14))
def test_a_tiff_is_read_though_its_metadata_are_of_a_wrong_type(save, colours, kind):
    info = {282: 28.0, 283: 28.0, 296: 3, 700: b"<x/>", 33723: b"IPTC", 34377: b"8BIM", 34675: b"profile"}
    tiff = bytearray(save(colours, "a.tif", tiffinfo=info).read_bytes())
    (start,) = struct.unpack_from("<I", tiff, 4)
    (count,) = struct.unpack_from("<H", tiff, start)
    entries = {struct.unpack_from("<H", tiff, start + 2 + 12 * i)[0]: start + 4 + 12 * i for i in range(count)}
    for tag in info:
        struct.pack_into("<H", tiff, entries[tag], kind)
    np.testing.assert_array_equal(RGB.read(("a.tif", bytes(tiff))), colours)


@pytest.mark.parametrize("mode", ["1", "CMYK", "LA", "P", "YCbCr"])
def test_read_converts_other_modes(save, colours, mode):
    image = Image.fromarray(colours).convert(mode)
    expected = image.convert("RGBA").convert("RGB") if mode == "LA" else image.convert("RGB")
    pixels = RGB.read(save(image, "image.tif"))
    np.testing.assert_allclose(pixels.astype(int), np.asarray(expected), atol=3)


@pytest.mark.parametrize(
    ("fit", "expected_columns"),
    [("crop", [100, 100, 100, 100]), ("stretch", [0, 100, 100, 0]), ("letterbox", [0, 100, 100, 0])],
)
def test_read_makes_images_square_by_their_fit(save, fit, expected_columns):
    """A picture twice as wide as high, its middle half grey, its outer quarters black."""
    wide = np.zeros((8, 16), np.uint8)
    wide[:, 4:12] = 100
    pixels = Reader(4, 1, fit).read(save(wide))[..., 0]
    assert pixels.shape == (4, 4)
    row = pixels[2] if fit == "letterbox" else pixels[0]
    np.testing.assert_allclose(row, expected_columns, atol=35)
    if fit == "letterbox":
        assert not pixels[[0, 3]].any()


@pytest.mark.parametrize("fit", ["crop", "stretch", "letterbox"])
@pytest.mark.parametrize("turns", [0, 1])
def test_read_keeps_the_aspect_ratio_that_is_asked_for(save, colours, fit, turns):
    picture = Image.fromarray(np.rot90(colours, turns))
    small = picture.resize((3, 4) if turns else (4, 3), Image.Resampling.BILINEAR)
    reader = Reader(3, 3, fit, aspect=small.width / small.height)
    assert reader.shape == np.asarray(small).shape
    np.testing.assert_array_equal(reader.read(save(picture)), small)


def test_padding_enlarges_nothing_and_cuts_nothing_off(save, colours):
    small = save(colours[:6, :6])
    pixels = Reader(10, 3, "pad").read(small)
    np.testing.assert_array_equal(pixels[2:8, 2:8], colours[:6, :6])
    assert pixels.sum() == colours[:6, :6].sum()
    for size in (4, 6):
        as_letterbox = Reader(size, 3, "letterbox").read(save(colours))
        np.testing.assert_array_equal(Reader(size, 3, "pad").read(save(colours)), as_letterbox)


@pytest.mark.parametrize("fit", ["crop", "letterbox", "stretch"])
@pytest.mark.parametrize("shape", [(1, 640), (10, 640), (640, 3)])
def test_long_strips_are_not_lost(save, fit, shape):
    white = save(np.full(shape, 255, np.uint8))
    assert Reader(32, 1, fit).read(white).max() == 255
    assert Reader(32, 1, fit).read_mask(white).any()


def test_read_takes_32_bit_integers_of_8_bits_and_refuses_others_whatever_the_rest_of_a_set_holds(save):
    deep = np.array([[0, 51, 255]], np.int32)
    np.testing.assert_array_equal(GREY.read(save(deep, "deep.tif"))[0, :, 0], [0, 51, 255])
    for most in (256, 4095, 65535):
        with pytest.raises(UnreadableImageError, match="16 bits"):
            GREY.read(save(deep * 0 + most, "deep.tif"))
    dark = b"P5 3 1 65535\n" + np.array([0, 51, 255], ">u2").tobytes()  # 16 bits whatever their values
    np.testing.assert_array_equal(GREY.read(("dark.pgm", dark))[0, :, 0], [0, 0, 1])


def test_read_of_a_jpeg_decoded_at_a_fraction_looks_the_same(save, rng):
    from scipy.ndimage import gaussian_filter

    picture = gaussian_filter(rng.uniform(0, 1, (256, 256)), 12)
    picture = np.uint8(255 * (picture - picture.min()) / np.ptp(picture))
    reader = Reader(32, 1)
    from_jpeg, from_png = (reader.read(save(picture, name)) for name in ("a.jpg", "a.png"))
    assert np.abs(from_jpeg.astype(int) - from_png).mean() < 2


@pytest.mark.parametrize(
    ("mode", "defect"),
    [
        ("L", 255),
        ("L", 1),
        ("1", 1),
        ("I;16", 1),
        ("I;16", 65535),
        ("RGB", (255, 0, 0)),
        ("RGBA", (0, 0, 9, 255)),
    ],
)
def test_read_mask_takes_any_value_or_colour_as_a_defect(save, mode, defect):
    mask = Image.new(mode, (32, 32))
    mask.paste(defect, (8, 0, 32, 16))
    expected = np.zeros((32, 32), bool)
    expected[:16, 8:] = True
    np.testing.assert_array_equal(GREY.read_mask(save(mask)), expected)
    np.testing.assert_array_equal(Reader(16, 1).read_mask(save(mask)), expected[::2, ::2])


def test_read_mask_cuts_at_half_of_the_brightest_pixel(save):
    np.testing.assert_array_equal(GREY.read_mask(save(np.uint8([[0, 60, 70, 128]]))), [[0, 0, 1, 1]])
    assert not GREY.read_mask(save(Image.new("L", (4, 4)))).any()


def truncated(path):
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40), np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:400])


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda path: path.write_text("not a picture"), "not an image"),
        (lambda path: path.write_bytes(b""), "not an image"),
        (lambda path: None, "no such file"),
        (lambda path: path.mkdir(), "not a file"),
        (truncated, "truncated"),
        (lambda path: Image.new("F", (4, 4)).save(path, "TIFF"), "floating-point pixels"),
        (lambda path: Image.new("L", (60, 4)).save(path), r"60x4 pixels.*data\.max_side=50"),
    ],
)
def test_read_refuses_what_is_no_image_by_its_name(tmp_path, make, reason):
    path = tmp_path / "a name with spaces and ü.png"
    make(path)
    with pytest.raises(UnreadableImageError, match=reason) as caught:
        Reader(max_side=50).read(path)
    assert caught.value.name == str(path)


def test_look_and_is_grey_distinguish_grey_from_colour(save, colours, tmp_path):
    grey = np.repeat(colours[..., :1], 3, -1)
    assert is_grey(save(colours[..., 0])) is True
    assert is_grey(save(colours)) is False
    assert [look(save(pixels)).is_grey for pixels in (colours[..., 0], grey, colours)] == [True, True, False]
    (tmp_path / "text.png").write_text("x")
    assert is_grey(tmp_path / "text.png") is look(tmp_path / "text.png") is None
