"""EXIF data that go along with a photo: each tag as the camera wrote it, as far as it is wanted and still true."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

from PIL import ExifTags, Image

from imaging.files.making import comment_text, says_how_it_was_made

MOST_BYTES: Final = 65_533  # what a JPEG can hold
_MOST_TAGS: Final = 1000  # of one directory
_MOST_CLEAN: Final = 64  # bytes of a value; a camera's name or setting has no more

# EXIF 2.32, 4.6.2: the types and how many bytes one value has.
_ASCII, _SHORT, _LONG, _RATIONAL, _UNDEFINED, _SRATIONAL = 2, 3, 4, 5, 7, 10
_SIZES: Final = {1: 1, _ASCII: 1, _SHORT: 2, _LONG: 4, _RATIONAL: 8, 6: 1, _UNDEFINED: 1, 8: 2, 9: 4, _SRATIONAL: 8,
                 11: 4, 12: 8}  # fmt: skip
_FLOATS: Final = {11: "f", 12: "d"}
_ALIKE: Final = ({1, _ASCII, _UNDEFINED}, {_RATIONAL, _SRATIONAL})  # the same bytes under another type

_EXIF, _GPS, _INTEROP = int(ExifTags.IFD.Exif), int(ExifTags.IFD.GPSInfo), int(ExifTags.IFD.Interop)
_MAIN: Final = 0
_COMMENT: Final = int(ExifTags.Base.UserComment)
_COLOR_SPACE: Final = int(ExifTags.Base.ColorSpace)
_WIDTHS: Final = ((_MAIN, 0x0100), (_EXIF, 0xA002), (_INTEROP, 0x1001))
_HEIGHTS: Final = ((_MAIN, 0x0101), (_EXIF, 0xA003), (_INTEROP, 0x1002))

# Of how the file before was stored: orientation, sampling, where its strips lie, its curve and primaries.
_OF_THE_FILE: Final = {
    _MAIN: {0x0102, 0x0103, 0x0106, 0x0111, 0x0112, 0x0115, 0x0116, 0x0117, 0x011C, 0x012D, 0x013E, 0x013F, 0x0201,
            0x0202, 0x0211, 0x0212, 0x0213, 0x0214, 0x8773},
    _EXIF: {0x9101, 0x9102, 0xA500},
    _INTEROP: {0x1000},
}  # fmt: skip

# EXIF 2.32, tables 4, 7 and 13: what a camera was set to, and when. Nothing here is a free text or a number of its own.
_ALLOWED: Final[Mapping[int, Mapping[int, int]]] = {
    _MAIN: {0x010F: _ASCII, 0x0110: _ASCII, 0x0132: _ASCII, 0x0100: _LONG, 0x0101: _LONG},
    _EXIF: {
        **dict.fromkeys((0x829A, 0x829D, 0x9202, 0x9205, 0x9206, 0x920A, 0xA404, 0xA432), _RATIONAL),
        **dict.fromkeys((0x9201, 0x9203, 0x9204), _SRATIONAL),
        **dict.fromkeys((0x8822, 0x8827, 0x8830, 0x9207, 0x9208, 0x9209, 0xA001, 0xA217), _SHORT),
        **dict.fromkeys((0xA401, 0xA402, 0xA403, 0xA405, 0xA406, 0xA407, 0xA408, 0xA409, 0xA40A, 0xA40C), _SHORT),
        **dict.fromkeys((0x8831, 0x8832, 0x8833, 0xA002, 0xA003), _LONG),
        **dict.fromkeys((0x9003, 0x9004, 0x9290, 0x9291, 0x9292, 0xA433, 0xA434), _ASCII),
        **dict.fromkeys((0x9000, 0xA000, 0xA300, 0xA301), _UNDEFINED),
    },
    _INTEROP: {0x0001: _ASCII, 0x0002: _UNDEFINED, 0x1001: _LONG, 0x1002: _LONG},
}
_DATES: Final = {0x0132, 0x9003, 0x9004, 0x9290, 0x9291, 0x9292}
_VERSIONS: Final = {0x9000, 0xA000, 0xA300, 0xA301, 0x0002}
# In either setting: what must have this type, or readers stumble.
_OTHER_TYPES: Final = {_COMMENT: _UNDEFINED, int(ExifTags.Base.MakerNote): _UNDEFINED}


@dataclass(frozen=True, slots=True)
class _Value:
    """One tag: its type, and its bytes in the order of its file."""

    kind: int
    data: bytes


@dataclass(frozen=True, slots=True)
class _Tags:
    """EXIF data: `<` or `>` as order of bytes, and each directory's values by its pointer's tag (0: the main one)."""

    order: str
    directories: dict[int, dict[int, _Value]]

    def only(self, wanted: Callable[[int, int, _Value], _Value | None]) -> _Tags:
        """Each value as `wanted(directory, tag, value)` has it; None leaves it out."""
        kept = {
            place: {tag: new for tag, value in values.items() if (new := wanted(place, tag, value)) is not None}
            for place, values in self.directories.items()
        }
        return _Tags(self.order, kept)

    def number(self, value: int, kind: int) -> _Value:
        return _Value(kind, struct.pack(self.order + ("H" if kind == _SHORT else "I"), value))

    def retyped(self, place: int, tag: int, value: _Value) -> _Value | None:
        """A value under the type that the standard has for it; None when it cannot be one."""
        right = _ALLOWED.get(place, {}).get(tag) or (_OTHER_TYPES.get(tag) if place == _EXIF else None)
        if right is None or value.kind == right or {value.kind, right} == {_SHORT, _LONG}:
            return value
        if any({value.kind, right} <= alike for alike in _ALIKE):
            text = value.data.removesuffix(b"\0") if _ASCII in (value.kind, right) else value.data
            return _Value(right, text + b"\0" if right == _ASCII else text)
        if value.kind in _FLOATS and right in _ALIKE[1]:
            return self._ratios(value, right)
        return None

    def _ratios(self, value: _Value, kind: int) -> _Value | None:
        try:
            numbers = struct.unpack(
                f"{self.order}{len(value.data) // _SIZES[value.kind]}{_FLOATS[value.kind]}", value.data
            )
            ratios = [Fraction(number).limit_denominator(1_000_000) for number in numbers]
            pair = "II" if kind == _RATIONAL else "ii"
            return _Value(kind, b"".join(struct.pack(self.order + pair, *one.as_integer_ratio()) for one in ratios))
        except (ValueError, OverflowError, struct.error):  # no number, or out of range
            return None


def upright_exif(image: Image.Image) -> bytes:
    """A picture's EXIF data, as far as they are true of it upright and in sRGB; empty when there are none.

    Left out are the orientation, the small preview, how the file was stored, and the prompt of a generator, which
    goes on in a place of its own.

    Raises:
        Exception: of almost any type, when they are broken.
    """
    data = image.info.get("exif") or image.getexif().tobytes()
    tags = _read(data)

    def true_of_it(place: int, tag: int, value: _Value) -> _Value | None:
        if tag in _OF_THE_FILE.get(place, ()) or _is_a_prompt(tag, value):
            return None
        if (place, tag) == (_EXIF, _COLOR_SPACE):
            return tags.number(1, _SHORT)  # sRGB
        if (place, tag) == (_INTEROP, 0x0001):
            return _Value(_ASCII, b"R98\0")  # DCF: sRGB
        return tags.retyped(place, tag, value)

    return _write(tags.only(true_of_it))


def clean_exif(data: bytes) -> bytes:
    """Of EXIF data only what a camera was set to, which camera it was, and when: a list of what may stay.

    Anything else goes: place, owner, serial numbers, comments, the maker's notes, and every tag that is not known.

    Args:
        data: what `upright_exif` gave.
    """
    return _write(_read(data).only(_allowed)) if data else b""


def fitted_exif(data: bytes, size: tuple[int, int]) -> bytes:
    """EXIF data that tell, if they tell one, the size (width, height) of the picture that they go along with."""
    tags = _read(data) if data else _Tags("<", {})
    told = [(place, tag, side) for sides, side in ((_WIDTHS, size[0]), (_HEIGHTS, size[1])) for place, tag in sides]
    new = {(place, tag): tags.number(side, _LONG) for place, tag, side in told}
    held = {(place, tag) for place, values in tags.directories.items() for tag in values} & new.keys()
    if all(tags.directories[place][tag] == new[place, tag] for place, tag in held):
        return data
    return _write(tags.only(lambda place, tag, value: new.get((place, tag), value)))


def _is_a_prompt(tag: int, value: _Value) -> bool:
    """Whether a text tells how a generator made the picture, or is a comment without a word."""
    if value.kind not in _ALIKE[0]:
        return False
    text = comment_text(value.data)
    return (tag == _COMMENT and not text) or re.match(r"(prompt|workflow):\s*\{", text, re.IGNORECASE) is not None or (
        tag in (_COMMENT, int(ExifTags.Base.ImageDescription)) and says_how_it_was_made(text)
    )  # fmt: skip


def _allowed(place: int, tag: int, value: _Value) -> _Value | None:
    """A value that `upright_exif` let through, if it may stay and holds what its tag is for."""
    if tag not in _ALLOWED.get(place, ()) or len(value.data) > _MOST_CLEAN:
        return None
    text = value.data.rstrip(b"\0 ")
    if tag in _DATES:
        return value if re.fullmatch(rb"[\d: ]+", text) else None
    if value.kind == _ASCII:
        return value if re.fullmatch(rb"[^{}\0-\x1f]*", text) else None
    return None if tag in _VERSIONS and len(value.data) > 4 else value


def _read(data: bytes) -> _Tags:
    """Take EXIF data apart (TIFF 6.0, section 2).

    Raises:
        ValueError, struct.error: they do not begin as such.
    """
    data = data.removeprefix(b"Exif\0\0")
    order = {b"II": "<", b"MM": ">"}.get(data[:2], "")
    if not order:
        raise ValueError("no EXIF data")
    directories = {_MAIN: _directory(data, order, struct.unpack_from(order + "I", data, 4)[0])}
    for place, parent in ((_EXIF, _MAIN), (_GPS, _MAIN), (_INTEROP, _EXIF)):
        pointer = directories.get(parent, {}).pop(place, None)
        if pointer is not None and len(pointer.data) == 4:
            directories[place] = _directory(data, order, struct.unpack(order + "I", pointer.data)[0])
    return _Tags(order, directories)


def _directory(data: bytes, order: str, at: int) -> dict[int, _Value]:
    """The values of one directory; what lies outside the data, or is of a type that does not exist, is left out."""
    values: dict[int, _Value] = {}
    if at + 2 > len(data):
        return values
    for number in range(min(struct.unpack_from(order + "H", data, at)[0], _MOST_TAGS)):
        entry = at + 2 + 12 * number
        if entry + 12 > len(data):
            break
        tag, kind, count = struct.unpack_from(order + "HHI", data, entry)
        length = _SIZES.get(kind, 0) * count
        start = entry + 8 if length <= 4 else struct.unpack_from(order + "I", data, entry + 8)[0]
        if 0 < length <= len(data) - start:
            values.setdefault(tag, _Value(kind, data[start : start + length]))
    return values


def _write(tags: _Tags) -> bytes:
    """EXIF data with these tags; empty for none."""
    order = tags.order
    directories = {place: dict(tags.directories.get(place, {})) for place in (_MAIN, _EXIF, _INTEROP, _GPS)}
    for place, parent in ((_INTEROP, _EXIF), (_EXIF, _MAIN), (_GPS, _MAIN)):
        if directories[place]:
            directories[parent][place] = tags.number(0, _LONG)
    at, starts = 8, {}
    for place, values in directories.items():
        starts[place] = at
        at += 6 + 12 * len(values) + sum(_padded(value) for value in values.values()) if values else 0
    parts = [b"Exif\0\0", b"II*\0" if order == "<" else b"MM\0*", struct.pack(order + "I", 8)]
    for place, values in directories.items():
        if values:
            values |= {child: tags.number(starts[child], _LONG) for child in (_EXIF, _INTEROP, _GPS) if child in values}
            parts.append(_block(values, order, starts[place]))
    return b"".join(parts) if directories[_MAIN] else b""


def _padded(value: _Value) -> int:
    """How many bytes of a value lie outside its entry."""
    return 0 if len(value.data) <= 4 else len(value.data) + len(value.data) % 2


def _block(values: Mapping[int, _Value], order: str, at: int) -> bytes:
    entries, outside = [struct.pack(order + "H", len(values))], b""
    for tag, value in sorted(values.items()):
        entries.append(struct.pack(order + "HHI", tag, value.kind, len(value.data) // _SIZES[value.kind]))
        if len(value.data) <= 4:
            entries.append(value.data.ljust(4, b"\0"))
        else:
            entries.append(struct.pack(order + "I", at + 6 + 12 * len(values) + len(outside)))
            outside += value.data.ljust(_padded(value), b"\0")
    return b"".join([*entries, b"\0\0\0\0", outside])
