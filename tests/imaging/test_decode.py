"""Reading strangers' images: what is accepted, what comes out exactly, and that nothing else gets through."""

import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image, ImageCms, ImageFile

from imaging.errors import InvalidImageError
from imaging.files.decode import decode_image
from imaging.files.exif import clean_exif

SIZE = 64
NOISE = np.random.default_rng(7).integers(0, 256, (SIZE, SIZE + 8, 3), dtype=np.uint8)
YY, XX = np.mgrid[:SIZE, : SIZE + 8]
SMOOTH = np.stack([YY * 3 + 20, XX * 3 + 10, YY + XX + 30], axis=-1).astype(np.uint8)


def save(pixels, kind="PNG", mode=None, **options):
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    if mode:
        image = image.convert(mode)
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width, height, depth, colour, rows, extra=b""):
    """A PNG by hand: `rows` are the raw scan lines without their filter bytes."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    data = chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row for row in rows)))
    return b"\x89PNG\r\n\x1a\n" + header + extra + data + chunk(b"IEND", b"")


def heif_opener():
    import pillow_heif

    pillow_heif.register_heif_opener()


FILES = {
    "PNG": save(SMOOTH),
    "JPEG": save(SMOOTH, "JPEG", quality=60),
    "WEBP": save(SMOOTH, "WEBP", quality=40),
    "WEBP lossless": save(SMOOTH, "WEBP", lossless=True),
}


def test_png_and_lossless_webp_are_exact():
    for kind, options in (("PNG", {}), ("WEBP", {"lossless": True})):
        image = decode_image(save(NOISE, kind, **options), name="a")
        assert np.array_equal(image.pixels, NOISE)
        assert image.pixels.flags.writeable
        assert (image.format, image.stored_size, image.notes) == (kind, (SIZE + 8, SIZE), ())
        assert (image.had_alpha, image.icc, image.orientation) == (False, None, 1)


def test_jpeg_is_what_pillow_decodes():
    data = FILES["JPEG"]
    assert np.array_equal(decode_image(data, name="a").pixels, np.asarray(Image.open(io.BytesIO(data))))


def test_heic_round_trip():
    heif_opener()
    image = decode_image(save(SMOOTH, "HEIF", quality=-1, chroma=444), name="a.heic")
    assert image.format == "HEIF"
    assert np.abs(image.pixels.astype(int) - SMOOTH).max() <= 2


def test_heic_orientation_is_applied_once():
    heif_opener()
    exif = Image.Exif()
    exif[0x0112] = 6
    data = save(SMOOTH, "HEIF", quality=-1, chroma=444, exif=exif.tobytes())  # stored as a turn of the image
    image = decode_image(data, name="a.heic")
    assert np.abs(image.pixels.astype(int) - np.rot90(SMOOTH, -1)).max() <= 2


TURNS = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a, 2).transpose(1, 0, 2),
    8: lambda a: np.rot90(a, 1),
}


@pytest.mark.parametrize("value", TURNS)
@pytest.mark.parametrize(("kind", "options"), [("PNG", {}), ("WEBP", {"lossless": True})])
def test_exif_orientation_is_exact(value, kind, options):
    exif = Image.Exif()
    exif[0x0112] = value
    image = decode_image(save(NOISE, kind, exif=exif, **options), name="a")
    assert np.array_equal(image.pixels, TURNS[value](NOISE))
    assert image.orientation == value
    assert image.stored_size == (SIZE + 8, SIZE)


def test_jpeg_orientation():
    exif = Image.Exif()
    exif[0x0112] = 8
    plain = decode_image(save(SMOOTH, "JPEG"), name="a").pixels
    assert np.array_equal(decode_image(save(SMOOTH, "JPEG", exif=exif), name="a").pixels, np.rot90(plain))


def test_impossible_orientation_is_noted():
    exif = Image.Exif()
    exif[0x0112] = 9
    image = decode_image(save(NOISE, exif=exif), name="a")
    assert np.array_equal(image.pixels, NOISE)
    assert "orientation '9' does not exist" in image.notes[0]


def test_broken_exif_is_noted_and_costs_nothing():
    image = decode_image(save(NOISE, "WEBP", lossless=True, exif=b"Exif\0\0XX*\0garbage"), name="a")
    assert np.array_equal(image.pixels, NOISE)
    assert "EXIF" in image.notes[0]


def test_grey_palette_and_one_bit():
    grey = NOISE[..., 0]
    assert np.array_equal(decode_image(save(grey), name="a").pixels, np.repeat(grey[..., None], 3, axis=2))
    palette = Image.fromarray(NOISE).quantize(16)
    assert np.array_equal(decode_image(save(palette), name="a").pixels, np.asarray(palette.convert("RGB")))
    bits = grey > 127
    expected = np.repeat(bits[..., None] * np.uint8(255), 3, axis=2)
    assert np.array_equal(decode_image(save(Image.fromarray(bits)), name="a").pixels, expected)


def test_sixteen_bit_is_rounded():
    values = np.arange(SIZE * SIZE, dtype=np.uint16).reshape(SIZE, SIZE) * 16
    rows = [row.astype(">u2").tobytes() for row in values]
    image = decode_image(png(SIZE, SIZE, 16, 0, rows), name="grey")
    assert np.array_equal(image.pixels[..., 1], np.rint(values / 257))
    assert "rounded to 8" in image.notes[0]
    colour = np.stack([values, values[::-1], values.T], axis=-1)
    image = decode_image(png(SIZE, SIZE, 16, 2, [row.astype(">u2").tobytes() for row in colour]), name="colour")
    assert np.array_equal(image.pixels, np.rint(colour / 257))
    with_alpha = np.dstack([colour, values[:, ::-1]])
    data = png(SIZE, SIZE, 16, 6, [row.astype(">u2").tobytes() for row in with_alpha])
    assert np.array_equal(decode_image(data, name="rgba").rgba, np.rint(with_alpha / 257))
    grey = np.dstack([values, values.T])
    data = png(SIZE, SIZE, 16, 4, [row.astype(">u2").tobytes() for row in grey])
    image = decode_image(data, name="grey and alpha")
    assert np.array_equal(image.rgba, np.rint(grey[..., [0, 0, 0, 1]] / 257))


def test_sixteen_bit_grey_with_a_transparent_value():
    values = np.full((SIZE, SIZE), 0x1234, np.uint16)
    values[:, 0] = 0x4000
    rows = [row.astype(">u2").tobytes() for row in values]
    image = decode_image(png(SIZE, SIZE, 16, 0, rows, extra=chunk(b"tRNS", b"\x40\x00")), name="a")
    assert image.had_alpha
    assert (image.pixels[:, 0] == 255).all()
    assert (image.pixels[:, 1:] == 0x12).all()


def test_alpha_is_laid_on_white():
    rgba = np.dstack([NOISE, np.zeros(NOISE.shape[:2], np.uint8)])
    rgba[:, :20, 3] = 255
    rgba[:, 20:40, 3] = 128
    rgba[:, 20:40, :3] = 0
    image = decode_image(save(rgba), name="a")
    assert image.had_alpha
    assert np.array_equal(image.pixels[:, :20], NOISE[:, :20])
    assert (image.pixels[:, 20:40] == 127).all()
    assert (image.pixels[:, 40:] == 255).all()
    assert "white" in image.notes[0]
    assert np.array_equal(image.rgba, rgba)  # the colours themselves, also where nothing of them is seen


def test_transparency_turns_with_its_picture():
    exif = Image.Exif()
    exif[0x0112] = 6
    rgba = np.dstack([NOISE, NOISE[..., 1]])
    image = decode_image(save(rgba, exif=exif), name="a")
    assert np.array_equal(image.rgba, np.rot90(rgba, -1))
    assert image.pixels.shape == (*image.rgba.shape[:2], 3)


def full_exif() -> Image.Exif:
    """Orientation, place, camera, serial number, maker's notes."""
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "A maker"
    exif.get_ifd(ExifTags.IFD.Exif).update({0x829A: 0.01, 0xA431: "SN-1234", 0x927C: b"notes", 0x9286: b"of mine"})
    exif.get_ifd(ExifTags.IFD.GPSInfo).update({1: "N", 2: (48.0, 8.0, 0.0)})
    return exif


def test_exif_goes_along_without_the_orientation_and_clean_without_the_person():
    image = decode_image(save(SMOOTH, "JPEG", exif=full_exif()), name="a")
    found = Image.Exif()
    found.load(image.exif)
    assert (image.orientation, dict(found).get(0x0112), found[0x010F]) == (6, None, "A maker")
    assert found.get_ifd(ExifTags.IFD.GPSInfo)[2] == (48.0, 8.0, 0.0)
    assert found.get_ifd(ExifTags.IFD.Exif)[0xA431] == "SN-1234"
    clean = Image.Exif()
    clean.load(clean_exif(image.exif))
    assert set(clean) == {0x010F, ExifTags.IFD.Exif}
    assert set(clean.get_ifd(ExifTags.IFD.Exif)) == {0x829A}
    for secret in (b"SN-1234", b"notes", b"of mine"):
        assert secret not in clean_exif(image.exif)
    assert clean_exif(b"") == b""
    only_orientation = Image.Exif()
    only_orientation[0x0112] = 3
    assert decode_image(save(SMOOTH, "JPEG", exif=only_orientation), name="a").exif == b""


@pytest.mark.parametrize("mode", ["LA", "P", "L", "RGB"])
def test_every_kind_of_transparency(mode):
    if mode == "LA":
        data = save(Image.new("LA", (SIZE, SIZE), (0, 0)))
    else:
        data = save(Image.new(mode, (SIZE, SIZE), 0), transparency=(0, 0, 0) if mode == "RGB" else 0)
    image = decode_image(data, name="a")
    assert image.had_alpha
    assert (image.pixels == 255).all()


@pytest.mark.parametrize("depth", [1, 2, 4, 8])
@pytest.mark.parametrize("is_white", [False, True])
def test_the_transparent_value_of_every_depth_of_grey(depth, is_white):
    row = b"\0" * depth * 4 + b"\xff" * depth * 4
    key = chunk(b"tRNS", struct.pack(">H", is_white * (2**depth - 1)))
    image = decode_image(png(SIZE, SIZE, depth, 0, [row] * SIZE, key), name="a")
    assert (image.rgba[:, :32, :3] == 0).all()
    assert (image.rgba[:, 32:, :3] == 255).all()
    assert (image.rgba[:, :32, 3] == 255 * is_white).all()
    assert (image.rgba[:, 32:, 3] == 255 * (not is_white)).all()


def test_cmyk_jpeg():
    image = decode_image(save(Image.new("CMYK", (SIZE, SIZE), (0, 255, 255, 0)), "JPEG", quality=95), name="a")
    assert image.mode == "CMYK"
    assert np.abs(image.pixels.astype(int) - (255, 0, 0)).max() <= 3
    assert any("CMYK" in note for note in image.notes)


def display_p3_like():
    """A matrix profile with wider primaries than sRGB: sRGB's own, with red and green columns changed."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    columns = {
        b"rXYZ": (0.51512, 0.24120, -0.00105),
        b"gXYZ": (0.29198, 0.69225, 0.04189),
        b"bXYZ": (0.15710, 0.06657, 0.78407),
    }
    count = struct.unpack(">I", profile[128:132])[0]
    for index in range(count):
        tag, offset, _ = struct.unpack(">4sII", profile[132 + 12 * index : 144 + 12 * index])
        if tag in columns:
            profile[offset + 8 : offset + 20] = struct.pack(">3i", *(round(value * 65536) for value in columns[tag]))
    return bytes(profile)


def test_wide_gamut_profile_is_converted():
    colour = np.full((SIZE, SIZE, 3), (200, 100, 50), np.uint8)
    image = decode_image(save(colour, icc_profile=display_p3_like()), name="a")
    # Display P3 (200, 100, 50) is sRGB (215, 95, 32), by the two matrices of CSS Color 4.
    assert np.abs(image.pixels.astype(int) - (215, 95, 32)).max() <= 2
    assert image.icc
    assert "to sRGB" in image.notes[0]


def test_srgb_profile_changes_nothing():
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    image = decode_image(save(NOISE, icc_profile=profile), name="a")
    assert np.array_equal(image.pixels, NOISE)
    assert "sRGB" in image.icc


@pytest.mark.parametrize("profile", [b"no profile at all", b"\0" * 200, display_p3_like()[:300]])
def test_broken_profile_is_noted(profile):
    image = decode_image(save(NOISE, icc_profile=profile), name="a")
    assert np.array_equal(image.pixels, NOISE)
    assert image.icc is None
    assert "profile cannot be used" in image.notes[0]


def test_profile_of_another_colour_space_is_noted():
    image = decode_image(save(NOISE[..., 0], icc_profile=display_p3_like()), name="a")
    assert np.array_equal(image.pixels[..., 0], NOISE[..., 0])
    assert "profile cannot be used" in image.notes[0]


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_first_frame_of_an_animation(kind):
    frames = [Image.fromarray(NOISE), Image.fromarray(SMOOTH)]
    options = {"lossless": True} if kind == "WEBP" else {}
    image = decode_image(save(frames[0], kind, save_all=True, append_images=frames[1:], **options), name="a")
    assert np.array_equal(image.pixels, NOISE)
    assert "2 images" in image.notes[0]


@pytest.mark.parametrize("kind", ["GIF", "BMP", "TIFF"])
def test_other_formats_are_refused_by_name(kind):
    with pytest.raises(
        InvalidImageError, match=rf"holiday\.x is a {kind}; only PNG, JPEG, WebP or HEIF/HEIC"
    ) as caught:
        decode_image(save(NOISE, kind), name="holiday.x")
    assert "Export" in caught.value.hint


@pytest.mark.parametrize(
    "data", [b"", b"hello", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"RIFF\0\0\0\0WEBP", b"\0\0\0\x18ftypheic"]
)
def test_stubs_are_refused(data):
    with pytest.raises(InvalidImageError, match="note"):
        decode_image(data, name="note.txt")


@pytest.mark.parametrize("kind", FILES)
def test_every_truncation_is_refused(kind):
    data = FILES[kind]
    for length in [*range(0, len(data), 23), *range(len(data) - 12, len(data))]:
        with pytest.raises(InvalidImageError):
            decode_image(data[:length], name="a")


def test_truncated_heic_is_refused():
    heif_opener()
    data = save(SMOOTH, "HEIF")
    for length in range(0, len(data), 101):
        with pytest.raises(InvalidImageError):
            decode_image(data[:length], name="a")


def test_bytes_after_the_end_do_no_harm():
    data = FILES["PNG"] + b"\0" * 100_000
    assert np.array_equal(decode_image(data, name="a").pixels, SMOOTH)


def test_header_alone_decides_about_the_size():
    bomb = png(60_000, 60_000, 8, 2, [])
    with pytest.raises(InvalidImageError, match="60000 x 60000 pixels; at most 50,000,000"):
        decode_image(bomb, name="a")
    canvas = b"VP8X" + struct.pack("<I", 10) + b"\0" * 4 + (16_382).to_bytes(3, "little") * 2
    webp = b"RIFF" + struct.pack("<I", 4 + len(canvas)) + b"WEBP" + canvas
    with pytest.raises(InvalidImageError, match="16383 x 16383"):
        decode_image(webp, name="a")


def test_jpeg_bomb():
    data = FILES["JPEG"]
    at = data.index(b"\xff\xc0") + 5
    with pytest.raises(InvalidImageError, match="pixels"):
        decode_image(data[:at] + struct.pack(">HH", 65_000, 65_000) + data[at + 4 :], name="a")


@pytest.mark.parametrize("kind", [b"zTXt", b"iCCP", b"iTXt"])
def test_text_and_profile_bombs(kind):
    body = zlib.compress(b"\0" * 50_000_000)
    head = b"k\0\1\0\0\0" if kind == b"iTXt" else b"k\0\0"
    row = b"\0" * SIZE * 3
    with pytest.raises(InvalidImageError):
        decode_image(png(SIZE, SIZE, 8, 2, [row] * SIZE, extra=chunk(kind, head + body)), name="a")


def test_size_limits():
    assert decode_image(save(NOISE), name="a", max_pixels=SIZE * (SIZE + 8)).pixels.shape == NOISE.shape
    with pytest.raises(InvalidImageError, match="smaller"):
        decode_image(save(NOISE), name="a", max_pixels=SIZE * (SIZE + 8) - 1)
    with pytest.raises(InvalidImageError, match="72 x 63 pixels; each side must have at least 64"):
        decode_image(save(NOISE[:63]), name="a")


def test_pillow_is_left_as_it_was():
    before = Image.MAX_IMAGE_PIXELS
    with pytest.raises(InvalidImageError):
        decode_image(png(60_000, 60_000, 8, 2, []), name="a")
    assert before == Image.MAX_IMAGE_PIXELS
    assert ImageFile.LOAD_TRUNCATED_IMAGES is False


def only_invalid(data):
    try:
        outcome = decode_image(data, name="fuzz", max_pixels=1_000_000)
    except InvalidImageError as error:
        outcome = error
    if isinstance(outcome, InvalidImageError):
        assert outcome.what.startswith("fuzz")
        assert outcome.hint
    else:
        assert outcome.pixels.dtype == np.uint8
        assert outcome.pixels.ndim == 3


MAGICS = [b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"RIFF\x20\0\0\0WEBPVP8 ", b"\0\0\0\x18ftypheic"]


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(MAGICS), st.binary(max_size=200))
def test_random_bytes(magic, data):
    only_invalid(magic + data)


@pytest.mark.filterwarnings("ignore")
@settings(max_examples=400, deadline=None)
@given(
    st.sampled_from(sorted(FILES)),
    st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=6),
    st.booleans(),
)
def test_mutated_files(kind, changes, near_the_start):
    data = bytearray(FILES[kind])
    for place, value in changes:
        data[int(place * min(len(data), 100 if near_the_start else len(data)))] = value
    only_invalid(bytes(data))
