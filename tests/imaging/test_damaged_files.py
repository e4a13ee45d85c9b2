"""Files that are odd or damaged in parts: read as viewers read them, with a note, or refused by name."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image
from skimage import data as samples

from imaging.errors import InvalidImageError
from imaging.files.decode import decode_image
from tests.imaging.test_decode import SIZE, SMOOTH, chunk, png, save

PHOTO = np.ascontiguousarray(samples.astronaut()[:200, 60:300])
PLAIN = save(SMOOTH)


def with_chunk(kind, body, crc=0):
    whole = chunk(kind, body)
    return PLAIN[:33] + whole[:-4] + struct.pack(">I", int.from_bytes(whole[-4:], "big") ^ crc) + PLAIN[33:]


@pytest.mark.parametrize(
    "chunks",
    [
        (b"tEXt", b"Comment\0" + b"a" * 5_000_000),
        (b"zTXt", b"Comment\0\0" + zlib.compress(bytes(range(32, 127)) * 50_000)),
        (b"iTXt", b"Comment\0\1\0\0\0" + zlib.compress("äöü ".encode() * 500_000)),
        (b"eXIf", b"MM\0*" + b"\0" * 200_000),
        (b"prVt", b"x" * 3_000_000),
        (b"tIME", b"no time"),
        (b"pHYs", b""),
        (b"gAMA", b"1"),
        (b"iCCP", b"p\0\0no zlib"),
        (b"zTXt", b"Comment\0\0no zlib"),
        (b"iTXt", b""),
        (b"tEXt", b""),
    ],
)
def test_a_png_with_large_or_broken_side_chunks_is_read(chunks):
    assert np.array_equal(decode_image(with_chunk(*chunks), name="a").pixels, SMOOTH)


def test_a_png_with_many_and_much_text_is_read():
    extra = b"".join(chunk(b"tEXt", b"k%d\0" % number + b"a" * 200_000) for number in range(400))
    assert np.array_equal(decode_image(PLAIN[:33] + extra + PLAIN[33:], name="a").pixels, SMOOTH)


@pytest.mark.parametrize("kind", [b"tEXt", b"gAMA", b"iCCP", b"tIME", b"eXIf", b"tRNS"])
def test_a_wrong_checksum_costs_only_its_chunk(kind):
    image = decode_image(with_chunk(kind, b"abcdef", crc=1), name="a")
    assert np.array_equal(image.pixels, SMOOTH)
    assert image.notes == (f"The chunk {kind.decode()!r} has a wrong checksum and is left out.",)


@pytest.mark.parametrize("kind", [b"IHDR", b"IDAT", b"IEND"])
def test_a_wrong_checksum_of_what_the_picture_needs_is_refused_by_name(kind):
    data = bytearray(PLAIN)
    at = data.index(kind)
    data[at + 4 + int.from_bytes(data[at - 4 : at], "big")] ^= 1
    with pytest.raises(InvalidImageError, match=f"its chunk {kind.decode()} has a wrong checksum"):
        decode_image(bytes(data), name="a")


def test_a_large_profile_is_used():
    from tests.imaging.test_decode import display_p3_like

    profile = bytearray(display_p3_like() + b"\0" * 3_000_000)
    profile[:4] = struct.pack(">I", len(profile))
    image = decode_image(with_chunk(b"iCCP", b"p\0\0" + zlib.compress(bytes(profile))), name="a")
    assert image.icc
    assert not np.array_equal(image.pixels, SMOOTH)


def test_apples_own_png_is_named():
    crushed = chunk(b"CgBI", b"\x50\0\x20\x02")
    with pytest.raises(InvalidImageError, match="CgBI") as caught:
        decode_image(PLAIN[:8] + crushed + PLAIN[8:], name="icon.png")
    assert "revert-iphone-optimizations" in caught.value.hint


KINDS = {
    "baseline": {},
    "4:4:4": {"subsampling": 0},
    "optimised": {"optimize": True},
    "progressive": {"progressive": True},
    "restart markers": {"restart_marker_rows": 1},
    "restart markers in rows": {"restart_marker_blocks": 3},
}


def jpeg(pixels=PHOTO, mode="RGB", **options):
    buffer = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(buffer, "JPEG", quality=85, **options)
    return buffer.getvalue()


def is_damaged(data):
    return any("damaged" in note for note in decode_image(data, name="a").notes)


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_jpeg_that_is_cut_off_and_ended_is_noted(kind, mode):
    whole = jpeg(mode=mode, **KINDS[kind])
    assert not is_damaged(whole)
    assert not is_damaged(whole + b"\0" * 5000)
    first = whole.index(b"\xff\xda") + 20
    for share in (0.1, 0.3, 0.5, 0.7, 0.9, 0.97):
        cut = first + int((len(whole) - first) * share)
        cut -= whole[cut - 1] == 0xFF  # not between the bytes of a marker
        assert is_damaged(whole[:cut] + b"\xff\xd9"), share


def test_a_jpeg_that_is_cut_off_between_its_scans_or_at_a_restart_marker_is_noted():
    whole = jpeg(progressive=True)
    scans = [at for at in range(len(whole)) if whole[at : at + 2] == b"\xff\xda"]
    assert len(scans) > 4
    for at in scans[1:]:
        start = whole.rfind(b"\xff\xc4", 0, at)  # the tables of the scan come before it
        assert is_damaged(whole[: max(start, scans[0] + 40) if start > scans[0] else at] + b"\xff\xd9")
    whole = jpeg(restart_marker_rows=1)
    assert is_damaged(whole[: whole.index(b"\xff\xd4")] + b"\xff\xd9")


@pytest.mark.parametrize("kind", KINDS)
def test_a_whole_jpeg_that_is_grey_or_flat_below_is_not_alarming(kind):
    for shade in (128, 127, 0, 255):
        pixels = PHOTO.copy()
        pixels[100:] = shade
        assert not is_damaged(jpeg(pixels, **KINDS[kind]))
    assert not is_damaged(jpeg(np.full_like(PHOTO, 128), **KINDS[kind]))


def test_sixteen_bits_with_side_chunks():
    values = np.arange(SIZE * SIZE, dtype=np.uint16).reshape(SIZE, SIZE) * 16
    rows = [row.astype(">u2").tobytes() for row in values]
    data = png(SIZE, SIZE, 16, 0, rows, chunk(b"tEXt", b"k\0" + b"a" * 2_000_000))
    assert np.array_equal(decode_image(data, name="a").pixels[..., 0], np.rint(values / 257))
