"""The chunks of a PNG that a stranger sent: read as viewers do, who leave out what they can do without."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, NamedTuple

MAGIC: Final = b"\x89PNG\r\n\x1a\n"
MOST_TEXT: Final = 1 << 20  # bytes of one text chunk, after decompression
_MOST_UNPACKED: Final = 32 << 20  # bytes of all texts and the profile of a file
_MOST_TEXTS: Final = 256
_TEXTS: Final = (b"tEXt", b"zTXt", b"iTXt")
_COLORS: Final = (b"cICP", b"sRGB", b"gAMA", b"cHRM")
_NEEDED: Final = (b"tRNS", b"eXIf", b"acTL", b"fcTL", b"fdAT")
_ANCILLARY: Final = 0x20  # in the first byte of a chunk's kind (W3C PNG, 5.4)


class Chunk(NamedTuple):
    """A chunk (W3C PNG, 5.3); `body` is a view of the file, `checksum` what is stored, `end` where it ends there."""

    kind: bytes
    body: memoryview
    checksum: int
    end: int

    @property
    def start(self) -> int:
        """Where it begins in the file."""
        return self.end - len(self.body) - 12

    @property
    def is_whole(self) -> bool:
        """Whether its checksum is right."""
        return zlib.crc32(self.body, zlib.crc32(self.kind)) == self.checksum


@dataclass(slots=True)
class PngParts:
    """A PNG taken apart.

    Attributes:
        data: the file without what its pixels do not need, and without what is broken and can be left out.
        texts: by their keywords; of several under one keyword, the first.
        icc: its ICC profile, if it has one that can be unpacked.
        colors: the bodies of cICP, sRGB, gAMA and cHRM, by their kinds.
        notes: a sentence for everything left out.
    """

    data: bytes = b""
    texts: dict[str, str] = field(default_factory=dict)
    icc: bytes | None = None
    colors: dict[bytes, bytes] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def png_chunks(data: bytes) -> Iterator[Chunk]:
    """Every chunk up to the end mark, or to where the file is cut off."""
    view = memoryview(data)
    at = len(MAGIC)
    while at + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        end = at + 12 + length
        if end > len(data):
            return
        yield Chunk(kind, view[at + 8 : end - 4], int.from_bytes(view[end - 4 : end], "big"), end)
        if kind == b"IEND":
            return
        at = end


def read_png(data: bytes) -> PngParts:
    """Take a PNG apart.

    Raises:
        OSError: it has no end, or a chunk that the picture needs is broken.
        ValueError: it unpacks to far more than any text or profile needs.
    """
    parts = PngParts()
    kept: list[bytes | memoryview] = [data[: len(MAGIC)]]
    budget, chunk = _MOST_UNPACKED, None
    for chunk in png_chunks(data):
        name = chunk.kind.decode("latin-1")
        if not chunk.is_whole:
            if not chunk.kind[0] & _ANCILLARY:
                raise OSError(f"its chunk {name} has a wrong checksum")
            parts.notes.append(f"The chunk {name[:4]!r} has a wrong checksum and is left out.")
        elif chunk.kind in _TEXTS or chunk.kind == b"iCCP":
            budget -= _unpack(chunk, parts, budget)
        elif chunk.kind in _COLORS:
            parts.colors[chunk.kind] = bytes(chunk.body)
        elif not chunk.kind[0] & _ANCILLARY or chunk.kind in _NEEDED:
            kept.append(memoryview(data)[chunk.start : chunk.end])
    if chunk is None or chunk.kind != b"IEND":
        raise OSError("the end of the file is missing")
    parts.data = b"".join(kept)
    return parts


def _unpack(chunk: Chunk, parts: PngParts, budget: int) -> int:
    """Put a text or profile where it belongs; how many bytes it unpacked to."""
    try:
        if chunk.kind == b"iCCP":
            parts.icc = _inflate(bytes(chunk.body).partition(b"\0")[2][1:], budget)
            return len(parts.icc)
        keyword, text = read_text(chunk.kind, bytes(chunk.body), budget)
    except (UnicodeDecodeError, IndexError, zlib.error) as error:
        parts.notes.append(f"A broken {chunk.kind.decode()} chunk is left out ({type(error).__name__}).")
        return len(chunk.body)
    if len(text) <= MOST_TEXT and len(parts.texts) < _MOST_TEXTS:
        parts.texts.setdefault(keyword, text)
    else:
        parts.notes.append(f"The text {keyword[:79]!r} is longer than is read, and is left out.")
    return len(text)


def read_text(kind: bytes, body: bytes, most: int = MOST_TEXT) -> tuple[str, str]:
    """Keyword and text of a tEXt, zTXt or iTXt chunk (W3C PNG, 11.3.3).

    Raises:
        ValueError, IndexError, zlib.error: it is broken, or unpacks to more than `most` bytes.
    """
    keyword, _, rest = body.partition(b"\0")
    if kind == b"tEXt":
        return keyword.decode("latin-1"), rest.decode("latin-1")
    if kind == b"zTXt":
        return keyword.decode("latin-1"), _inflate(rest[1:], most).decode("latin-1")
    compressed = rest[0]
    _, _, text = rest[2:].split(b"\0", 2)  # language, translated keyword
    return keyword.decode("latin-1"), (_inflate(text, most) if compressed else text).decode("utf-8")


def _inflate(data: bytes, most: int) -> bytes:
    stream = zlib.decompressobj()
    plain = stream.decompress(data, max(most, 1))
    if len(plain) >= most and not stream.eof:
        raise ValueError("a text or profile unpacks to more than is accepted")
    if not stream.eof:
        raise zlib.error("it is cut off")
    return plain
