"""Colour spaces told without an ICC profile: exact sRGB comes out, by a computation of its own in this file."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageCms

from imaging.files.color_space import ColorSpace, to_srgb_matrix
from imaging.files.decode import decode_image
from tests.imaging.test_decode import SIZE, chunk, display_p3_like, heif_opener, png

RAMP = np.stack(np.meshgrid(np.arange(64) * 4, np.arange(64) * 4 + 3, indexing="ij"), axis=-1).astype(np.uint8)
COLORS = np.dstack([RAMP, RAMP[::-1, :, 0]])  # 4,096 colours
GREY = COLORS[..., 1]

# RGB to XYZ under D65, as published: CSS Color 4 (sRGB, Display P3, Rec. 2020), Adobe RGB (1998) 4.3.5.3.
XYZ = {
    "sRGB": [[0.412391, 0.357584, 0.180481], [0.212639, 0.715169, 0.072192], [0.019331, 0.119195, 0.950532]],
    "P3": [[0.48657095, 0.26566769, 0.19821729], [0.22897456, 0.69173852, 0.07928691], [0.0, 0.04511338, 1.04394437]],
    "2020": [[0.63695805, 0.14461690, 0.16888098], [0.26270021, 0.67799807, 0.05930172], [0.0, 0.02807269, 1.06098506]],
    "Adobe": [[0.57667, 0.18556, 0.18823], [0.29734, 0.62736, 0.07529], [0.02703, 0.07069, 0.99134]],
}  # fmt: skip


def decoded(value):
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def expected(samples, matrix="sRGB", power=None, most=255):
    value = samples / most
    light = decoded(value) if power is None else value**power
    light = np.clip(light @ (np.linalg.inv(XYZ["sRGB"]) @ XYZ[matrix]).T, 0, 1) if matrix != "sRGB" else light
    return np.rint(255 * np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)).astype(int)


def off(pixels, wanted):
    """The largest error, and how many samples in a thousand have any: rounding may fall to either side."""
    error = np.abs(pixels.astype(int) - wanted)
    return error.max() <= 1 and (error > 0).mean() < 0.01


def eight(*extra, samples=COLORS):
    return png(SIZE, SIZE, 8, 2 if samples.ndim == 3 else 0, [row.tobytes() for row in samples], b"".join(extra))


def gama(value):
    return chunk(b"gAMA", struct.pack(">I", round(value * 100_000)))


def chrm(*points):
    return chunk(b"cHRM", struct.pack(">8I", *(round(point * 100_000) for point in points)))


def cicp(primaries, curve, matrix=0, full=1):
    return chunk(b"cICP", bytes([primaries, curve, matrix, full]))


def icc(profile):
    return chunk(b"iCCP", b"p\0\0" + zlib.compress(profile))


D65 = (0.3127, 0.3290)
P3_POINTS = (*D65, 0.68, 0.32, 0.265, 0.69, 0.15, 0.06)
ADOBE_POINTS = (*D65, 0.64, 0.33, 0.21, 0.71, 0.15, 0.06)
SRGB_POINTS = (*D65, 0.64, 0.33, 0.30, 0.60, 0.15, 0.06)

CASES = {
    "gamma 1.0": ((gama(1.0),), {"power": 1.0}),
    "gamma of Apple's old screens": ((gama(0.55556),), {"power": 1.8}),
    "P3 by cICP": ((cicp(12, 13),), {"matrix": "P3"}),
    "2020 with its camera curve": ((cicp(9, 14),), {"matrix": "2020"}),
    "linear 2020": ((cicp(9, 8),), {"matrix": "2020", "power": 1.0}),
    "P3 by cHRM": ((gama(0.45455), chrm(*P3_POINTS)), {"matrix": "P3"}),
    "Adobe RGB by cHRM": ((gama(256 / 563), chrm(*ADOBE_POINTS)), {"matrix": "Adobe"}),
    "linear, cHRM alone is sRGB's": ((gama(1.0), chrm(*SRGB_POINTS)), {"power": 1.0}),
}


@pytest.mark.parametrize("case", CASES)
def test_what_a_png_tells_is_converted_exactly(case):
    chunks, how = CASES[case]
    if case == "Adobe RGB by cHRM":
        how = how | {"power": None}  # its gamma is as near to sRGB's as eyes tell
    image = decode_image(eight(*chunks), name="a")
    assert off(image.pixels, expected(COLORS, **how))
    assert any("to sRGB" in note for note in image.notes)


@pytest.mark.parametrize(
    "chunks",
    [
        (gama(0.45455),), (gama(0.45455), chrm(*SRGB_POINTS)), (cicp(1, 13),), (cicp(1, 1),),
        (chunk(b"sRGB", b"\0"), gama(1.0), chrm(*P3_POINTS)),  # sRGB ranks over gAMA and cHRM
        (cicp(1, 13), chunk(b"sRGB", b"\0"), gama(1.0)), (cicp(1, 13), icc(display_p3_like())),
        (gama(0),), (chunk(b"gAMA", b"\0"),),
    ],
)  # fmt: skip
def test_what_is_srgb_stays_as_it_is(chunks):
    image = decode_image(eight(*chunks), name="a")
    assert np.array_equal(image.pixels, COLORS)
    assert not any("converted" in note for note in image.notes)


def test_what_ranks_over_what():
    p3 = expected(COLORS, "P3")
    assert off(decode_image(eight(cicp(12, 13), icc(display_p3_like()), gama(1.0)), name="a").pixels, p3)
    srgb = icc(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    assert off(decode_image(eight(cicp(12, 13), srgb), name="a").pixels, p3)
    by_icc = decode_image(eight(icc(display_p3_like()), gama(1.0), chunk(b"sRGB", b"\0")), name="a")
    assert np.abs(by_icc.pixels.astype(int) - p3).max() <= 3
    assert by_icc.icc is not None


def test_sixteen_bits_are_converted_before_they_are_rounded():
    values = np.arange(SIZE * SIZE, dtype=np.uint16).reshape(SIZE, SIZE) * 16
    colour = np.stack([values, values[::-1], values.T], axis=-1)
    for samples, kind in ((values, 0), (colour, 2), (np.dstack([colour, values]), 6)):
        rows = [row.astype(">u2").tobytes() for row in samples]
        image = decode_image(png(SIZE, SIZE, 16, kind, rows, gama(1.0)), name="a")
        found = image.pixels if image.rgba is None else image.rgba[..., :3]
        wanted = expected(np.atleast_3d(samples)[..., :3], power=1.0, most=65_535)
        assert off(found, np.broadcast_to(wanted, found.shape))
        if image.rgba is not None:
            assert np.array_equal(image.rgba[..., 3], np.rint(values / 257))


def test_grey_stays_grey_and_palettes_are_converted():
    image = decode_image(eight(gama(1.0), chrm(*P3_POINTS), samples=GREY), name="a")
    assert np.array_equal(image.pixels, np.repeat(image.pixels[..., :1], 3, axis=2))
    assert off(image.pixels[..., 0], expected(GREY, power=1.0))
    grey = np.repeat(GREY[..., None], 3, axis=2)
    image = decode_image(eight(cicp(12, 13), samples=grey), name="a")
    assert np.array_equal(image.pixels, grey)
    palette = Image.fromarray(COLORS).quantize(64)
    buffer = io.BytesIO()
    palette.save(buffer, "PNG")
    data = buffer.getvalue()
    image = decode_image(data[:33] + gama(1.0) + data[33:], name="a")
    assert off(image.pixels, expected(np.asarray(palette.convert("RGB")), power=1.0))


def test_hdr_is_noted_and_a_white_page_is_white():
    def level(curve, light):
        if curve == 16:
            root = (light / 10_000) ** (2610 / 16384)
            return ((3424 / 4096 + 2413 / 128 * root) / (1 + 2392 / 128 * root)) ** (2523 / 32)
        scene = (light / 1000) ** (1 / 1.2)
        return 0.17883277 * np.log(12 * scene - 0.28466892) + 0.55991073 if scene > 1 / 12 else np.sqrt(3 * scene)

    for curve in (16, 18):
        for nits, wanted in ((203, 255), (203 * 0.2140411, 128), (600, 255), (0.0, 0)):
            for samples in (np.full((SIZE, SIZE), round(255 * level(curve, nits))),
                            np.full((SIZE, SIZE, 3), round(255 * level(curve, nits)))):  # fmt: skip
                image = decode_image(eight(cicp(9, curve), samples=samples.astype(np.uint8)), name="a")
                assert np.abs(image.pixels.astype(int) - wanted).max() <= 6, (curve, nits)
                assert any("HDR" in note for note in image.notes)


@pytest.mark.parametrize(
    "chunks",
    [(cicp(10, 13),), (cicp(12, 17),), (cicp(12, 13, matrix=1),), (chunk(b"cICP", b"\1"),), (chrm(*[0.3] * 8),)],
)
def test_what_cannot_be_used_is_noted(chunks):
    image = decode_image(eight(*chunks), name="a")
    assert np.array_equal(image.pixels, COLORS)
    assert any("cICP" in note or "cHRM" in note for note in image.notes)


def test_the_narrow_range_of_video():
    samples = np.full((SIZE, SIZE, 3), 126, np.uint8)
    samples[:8], samples[8:16] = 16, 235
    image = decode_image(eight(cicp(1, 13, full=0), samples=samples), name="a")
    assert [int(image.pixels[row, 0, 0]) for row in (0, 8, 20)] == [0, 255, 128]


def jpeg(make=None, space=None, index=None, kind="JPEG"):
    exif = Image.Exif()
    if make:
        exif[ExifTags.Base.Make] = make
    inner = exif.get_ifd(ExifTags.IFD.Exif)
    if space is not None:
        inner[ExifTags.Base.ColorSpace] = space
    if index:
        inner[ExifTags.IFD.Interop] = {1: index, 2: b"0100"}
    buffer = io.BytesIO()
    options = {"lossless": True} if kind == "WEBP" else {"quality": 100, "subsampling": 0} if kind == "JPEG" else {}
    Image.fromarray(COLORS).save(buffer, kind, exif=exif.tobytes(), **options)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "PNG"])
@pytest.mark.parametrize(
    ("told", "matrix", "power", "assumed"),
    [
        ({"space": 65_535, "index": "R03"}, "Adobe", 563 / 256, False),
        ({"space": 65_535}, "Adobe", 563 / 256, True),
        ({"space": 2}, "Adobe", 563 / 256, False),
        ({"space": 65_535, "make": "Apple"}, "P3", None, True),
        ({"space": 1, "index": "R98"}, "sRGB", None, False),
    ],
)
def test_what_exif_tells(kind, told, matrix, power, assumed):
    data = jpeg(kind=kind, **told)
    image = decode_image(data, name="a")
    with Image.open(io.BytesIO(data)) as stored:
        samples = np.asarray(stored.convert("RGB"))
    assert off(image.pixels, expected(samples, matrix, power))
    assert any("assumed" in note for note in image.notes) == assumed
    assert any("to sRGB" in note for note in image.notes) == (matrix != "sRGB")


@pytest.mark.parametrize(
    ("codes", "matrix"), [((12, 13), "P3"), ((9, 14), "2020"), ((1, 13), "sRGB"), ((2, 2), "sRGB")]
)
def test_heifs_nclx(codes, matrix):
    heif_opener()
    import pillow_heif

    pillow_heif.options.SAVE_NCLX_PROFILE = True
    heif = pillow_heif.from_pillow(Image.fromarray(np.repeat(np.repeat(COLORS, 2, axis=0), 2, axis=1)))
    buffer = io.BytesIO()
    heif.save(buffer, quality=-1, chroma=444, color_primaries=codes[0], transfer_characteristics=codes[1],
              matrix_coefficients=6, full_range_flag=1)  # fmt: skip
    with Image.open(io.BytesIO(buffer.getvalue())) as stored:
        samples = np.asarray(stored.convert("RGB"))
        assert stored.info.get("nclx_profile")
    image = decode_image(buffer.getvalue(), name="a")
    assert off(image.pixels, expected(samples, matrix))
    assert any("to sRGB" in note for note in image.notes) == (matrix != "sRGB")


def test_the_matrices_are_those_that_are_published():
    for name, points in (("P3", P3_POINTS), ("Adobe", ADOBE_POINTS)):
        assert np.allclose(to_srgb_matrix(points), np.linalg.inv(XYZ["sRGB"]) @ XYZ[name], atol=2e-4)
    # ProPhoto's white is D50: by Bradford to D65, as CSS Color 4 has it (XYZ D50 to D65, then to sRGB).
    prophoto = to_srgb_matrix((0.3457, 0.3585, 0.734699, 0.265301, 0.159597, 0.840403, 0.036598, 0.000105))
    wanted = [
        [2.0343676, -0.7276344, -0.3067332],
        [-0.2288259, 1.2317537, -0.0029278],
        [-0.0085585, -0.1532895, 1.1618480],
    ]
    assert np.allclose(prophoto, wanted, atol=5e-4)


def test_a_large_picture_is_converted_in_parts():
    tall = np.tile(COLORS, (9, 1, 1))
    assert np.array_equal(ColorSpace("P3", P3_POINTS).to_srgb(tall)[:64], ColorSpace("P3", P3_POINTS).to_srgb(COLORS))
