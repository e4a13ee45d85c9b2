"""EXIF data that go along: a list of what may stay, each tag of its right type, and true of the picture they are in."""

import io
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image

from imaging.files.decode import decode_image
from imaging.files.exif import clean_exif, fitted_exif
from tests.imaging.test_decode import SMOOTH, heif_opener

SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8}
POINTERS = {0x8769: "Exif", 0x8825: "GPS", 0xA005: "Interop"}


def parsed(data):
    """Every tag as `{directory: {tag: (type, bytes)}}`, read strictly: sorted, of known types, within the data."""
    assert data.startswith(b"Exif\0\0")
    data = data[6:]
    order = {b"II*\0": "<", b"MM\0*": ">"}[data[:4]]
    found, pending = {}, [("main", struct.unpack_from(order + "I", data, 4)[0])]
    while pending:
        name, at = pending.pop()
        number = struct.unpack_from(order + "H", data, at)[0]
        found[name] = {}
        for entry in range(at + 2, at + 2 + 12 * number, 12):
            tag, kind, count = struct.unpack_from(order + "HHI", data, entry)
            length = SIZES[kind] * count
            start = entry + 8 if length <= 4 else struct.unpack_from(order + "I", data, entry + 8)[0]
            value = data[start : start + length]
            assert len(value) == length > 0
            assert tag > max(found[name], default=-1)
            if tag in POINTERS:
                pending.append((POINTERS[tag], struct.unpack(order + "I", value)[0]))
            found[name][tag] = (kind, value)
        assert data[at + 2 + 12 * number :][:4] == b"\0\0\0\0", "a second picture"
    return found


def raw(order="<", **directories):
    """EXIF data by hand: `main={tag: (type, bytes)}`, and so `Exif`, `GPS`, `Interop`; a preview behind them."""
    directories = {"main": {}, "Exif": {}, "Interop": {}, "GPS": {}} | directories
    parents = {"Exif": "main", "GPS": "main", "Interop": "Exif"}
    tags = {name: number for number, name in POINTERS.items()}
    for name, parent in parents.items():
        directories[parent] = directories[parent] | {tags[name]: (4, b"....")}
    size = {name: 6 + 12 * len(values) + sum(len(v[1]) for v in values.values() if len(v[1]) > 4)
            for name, values in directories.items()}  # fmt: skip
    starts, at = {}, 8
    for name in directories:
        starts[name], at = at, at + size[name]
    out = [b"Exif\0\0", b"II*\0" if order == "<" else b"MM\0*", struct.pack(order + "I", 8)]
    for name, values in directories.items():
        outside, entries = b"", struct.pack(order + "H", len(values))
        for tag, (kind, value) in sorted(values.items()):
            body = struct.pack(order + "I", starts[POINTERS[tag]]) if tag in POINTERS else value
            entries += struct.pack(order + "HHI", tag, kind, len(body) // SIZES[kind])
            if len(body) <= 4:
                entries += body.ljust(4, b"\0")
            else:
                entries += struct.pack(order + "I", starts[name] + 6 + 12 * len(values) + len(outside))
                outside += body
        out += [entries, struct.pack(order + "I", at if name == "main" else 0), outside]
    return b"".join([*out, struct.pack(order + "HHHIHHI", 1, 0x0103, 3, 1, 6, 0, 0), b"PREVIEW"])


def text(value):
    return 2, value.encode() + b"\0"


def short(value, order="<"):
    return 3, struct.pack(order + "H", value)


def ratio(one, other, order="<", kind=5):
    return kind, struct.pack(order + "II", one, other)


SECRET = "Jane-Doe-4711"
PERSONAL = {
    "main": {
        **{tag: text(SECRET) for tag in (0x010E, 0x010D, 0x0131, 0x013B, 0x013C, 0x8298, 0xC62F, 0xC614, 0xFE00)},
        **{tag: (1, SECRET.encode("utf-16-le")) for tag in range(0x9C9B, 0x9CA0)},
        0x83BB: (7, SECRET.encode()), 0x02BC: (1, SECRET.encode()), 0x8649: (1, SECRET.encode()),
        0xC6D2: (1, SECRET.encode()), 0xC65D: (1, SECRET.encode()),
    },
    "Exif": {
        **{tag: text(SECRET) for tag in (0xA430, 0xA431, 0xA435, 0xA420, 0xFDE8, 0xFDE9, 0xFE4D, 0xA436, 0xA437, 0xA438,
                                         0xA439, 0xA43A, 0xA43B, 0xA43C, 0xA004, 0x8824, 0x9010, 0x9011)},
        0x927C: (7, SECRET.encode()), 0x9286: (7, b"ASCII\0\0\0" + SECRET.encode()), 0x9999: text(SECRET),
        0x9400: ratio(21, 1), 0x9214: (3, struct.pack("<4H", 47, 11, 47, 11)), 0xA40B: (7, SECRET.encode()),
    },
    "GPS": {1: text("N"), 2: (5, struct.pack("<6I", 48, 1, 8, 1, 47, 11)), 27: (7, SECRET.encode())},
}  # fmt: skip
CAMERA = {
    "main": {0x010F: text("Canon"), 0x0110: text("EOS R5"), 0x0132: text("2024:05:01 10:00:00")},
    "Exif": {
        0x829A: ratio(1, 200), 0x829D: ratio(28, 10), 0x8827: short(400), 0x9000: (7, b"0231"), 0x920A: ratio(85, 1),
        0x9003: text("2024:05:01 10:00:00"), 0x9204: ratio(0, 1, kind=10), 0xA434: text("RF85mm F1.2 L USM"),
        0xA301: (7, b"\1"), 0xA001: short(1), 0xA432: (5, struct.pack("<8I", 85, 1, 85, 1, 12, 10, 12, 10)),
    },
    "Interop": {1: text("R98"), 2: (7, b"0100")},
}  # fmt: skip
BOTH = {name: CAMERA.get(name, {}) | PERSONAL.get(name, {}) for name in ("main", "Exif", "Interop", "GPS")}


def carried(exif, kind="JPEG", pixels=SMOOTH):
    heif_opener()
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, exif=exif)
    return decode_image(buffer.getvalue(), name="a").exif


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "PNG", "HEIF"])
def test_clean_keeps_what_the_camera_was_set_to_and_nothing_else(kind):
    clean = clean_exif(carried(raw(**BOTH), kind))
    found = parsed(clean)
    for name, values in CAMERA.items():
        assert {tag: value for tag, value in found[name].items() if tag not in POINTERS} == values
    assert set(found) == {"main", "Exif", "Interop"}
    for form in (SECRET.encode(), SECRET.encode("utf-16-le"), b"PREVIEW"):
        assert form not in clean


def test_keep_keeps_all_that_is_true_of_the_picture():
    stored = {0x0112: short(6), 0x0103: short(6), 0x0213: short(1)}
    found = parsed(carried(raw(**BOTH | {"main": BOTH["main"] | stored})))
    for name, values in BOTH.items():
        assert {tag: value for tag, value in found[name].items() if tag not in POINTERS} == values


def test_a_tag_that_is_not_what_it_should_be_goes_or_gets_its_type():
    main = {0x010F: text('prompt:{"1": 2}'), 0x0110: text("x" * 99), 0x0132: text("by " + SECRET)}
    inner = {
        0x9000: (2, b"0231\0"), 0x9204: ratio(1, 3), 0xA434: (7, b"A lens"), 0x829A: short(3), 0xA300: text(SECRET),
        0xA002: short(72), 0x829D: (12, struct.pack("<d", 2.8)), 0x920A: (11, struct.pack("<f", np.nan)),
    }  # fmt: skip
    found = parsed(clean_exif(carried(raw(main=main, Exif=inner))))
    assert set(found["main"]) == {0x8769}
    assert found["Exif"] == {
        0x9000: (7, b"0231"), 0x9204: ratio(1, 3, kind=10), 0xA434: text("A lens"), 0xA002: short(72),
        0x829D: ratio(14, 5),
    }  # fmt: skip


@pytest.mark.parametrize("order", ["<", ">"])
def test_colours_are_told_to_be_srgb_once_they_are(order):
    told = {0xA001: short(65_535, order), 0xA500: ratio(22, 10, order)}
    primaries = {0x013E: (5, struct.pack(order + "4I", 3127, 10_000, 329, 1000))}
    found = parsed(carried(raw(order, main=primaries, Exif=told, Interop={1: text("R03")})))
    assert found["Exif"][0xA001] == short(1, order)
    assert found["Interop"] == {1: text("R98")}
    assert 0xA500 not in found["Exif"]
    assert 0x013E not in found["main"]


def test_sizes_are_those_of_the_picture():
    exif = carried(raw(Exif={0xA002: short(72), 0xA003: (4, struct.pack("<I", 64))}, main={0x010F: text("A")}))
    found = parsed(fitted_exif(exif, (200, 100)))
    assert (found["Exif"][0xA002], found["Exif"][0xA003]) == ((4, struct.pack("<I", 200)), (4, struct.pack("<I", 100)))
    assert found["main"][0x010F] == text("A")
    without = carried(raw(main={0x010F: text("A")}))
    assert fitted_exif(without, (9, 9)) == without
    assert fitted_exif(b"", (9, 9)) == b""


def test_a_prompt_goes_from_the_comment_to_where_readers_look_for_it():
    prompt = "a fox\nSteps: 2, Sampler: Euler a, Seed: 3, Size: 64x64"
    comments = {prompt: False, "on the beach": True, "": False}
    for comment, stays in comments.items():
        body = b"UNICODE\0" + comment.encode("utf-16-be") if comment else b"\0" * 20
        exif = carried(raw(Exif={0x9286: (7, body), 0x829A: ratio(1, 9)}))
        assert (0x9286 in parsed(exif)["Exif"]) == stays


def test_pillow_and_our_own_reader_agree():
    exif = Image.Exif()
    exif.load(carried(raw(">", Exif={0x829A: ratio(1, 200, ">"), 0x9204: ratio(0, 3, ">", 10)}, GPS={1: text("N")})))
    assert exif.get_ifd(ExifTags.IFD.Exif) == {0x829A: 1 / 200, 0x9204: 0}
    assert exif.get_ifd(ExifTags.IFD.GPSInfo) == {1: "N"}


WHOLE = raw(**BOTH)


@pytest.mark.filterwarnings("ignore")
@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.integers(6, len(WHOLE) - 1), st.integers(0, 255)), max_size=8), st.integers(8, len(WHOLE)))
def test_broken_data_cost_no_picture_and_what_comes_out_is_sound(changes, length):
    data = bytearray(WHOLE)
    for place, value in changes:
        data[place] = value
    try:
        exif = carried(bytes(data[:length]), "WEBP")
    except ValueError:  # Pillow itself will not write it
        return
    for one in filter(None, (exif, clean_exif(exif), fitted_exif(exif, (9, 9)))):
        tag_types = [kind for values in parsed(one).values() for kind, _ in values.values()]
        assert np.isin(tag_types, list(SIZES)).all()
