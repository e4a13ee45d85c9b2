"""Whether a JPEG that has an end mark ends before its picture does, which decoders fill up without a word."""

from __future__ import annotations

import io
import re
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from PIL import Image

_MARKER: Final = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")  # one that ends a scan (T.81, B.1.1.2)
_SCAN, _END = 0xDA, 0xD9
_FRAMES: Final = (0xC0, 0xC1, 0xC2)  # baseline, extended, progressive; all with Huffman codes
_PROGRESSIVE: Final = 0xC2
_CORNER: Final = 4  # pixels of the last block, where no colour of its neighbours is mixed in
# Bits that are the next blocks of a scan that is not complete, and nothing behind one that is; restart markers between
# them, for a scan that was cut off at one.
_MORE: Final = b"".join(b"\xa5\x5a\x93\x6c" * 16 + bytes([0xFF, 0xD0 + number % 8]) for number in range(16))


@dataclass(slots=True)
class _Layout:
    """What the markers say: the frame's kind and components, each scan's header, and where the last scan ends."""

    frame: int = 0
    components: bytes = b""
    scans: list[bytes] = field(default_factory=list)
    end: int = 0


def ends_too_early(data: bytes, image: Image.Image) -> bool:
    """Whether scans are missing, or the last one is cut off and an end mark put behind.

    A cut-off scan is found by adding bits to it: they show in the picture only when it was not complete. Where there is
    one scan, that costs a second decoding only if the last block of the picture is flat, as a filled up one is; a cut
    within the very last block is not found, nor are arithmetic codes looked at.

    Args:
        data: the file.
        image: the same, decoded.
    """
    layout = _layout(data)
    if layout.frame not in _FRAMES or not layout.scans or not layout.end:
        return False
    if _misses_scans(layout):
        return True
    corner = np.asarray(image.crop((image.width - _CORNER, image.height - _CORNER, image.width, image.height)))
    if len(layout.scans) == 1 and not (corner == corner[-1, -1]).all():
        return False
    try:
        with Image.open(io.BytesIO(data[: layout.end] + _MORE + data[layout.end :]), formats=["JPEG"]) as longer:
            return longer.size == image.size and longer.tobytes() != image.tobytes()
    except (OSError, SyntaxError, ValueError):  # nothing can be told of it
        return False


def _layout(data: bytes) -> _Layout:
    """Walk the markers (T.81, B.1 and B.2), as far as they are sound."""
    found = _Layout()
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        kind = data[at + 1]
        if kind == 0xFF:  # fill byte
            at += 1
            continue
        if kind == _END:
            break
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        body = data[at + 4 : at + 2 + length]
        at += 2 + max(length, 2)
        if 0xC0 <= kind <= 0xCF and kind not in (0xC4, 0xC8, 0xCC):
            found.frame, found.components = kind, body[6::3]
        if kind == _SCAN:
            found.scans.append(body)
            marker = _MARKER.search(data, at)
            at = found.end = marker.start() if marker else len(data)
    return found


def _misses_scans(layout: _Layout) -> bool:
    """Whether a component, or for a progressive picture one of its coefficients, is never told to its last bit."""
    told: set[tuple[int, int]] = set()
    for scan in layout.scans:
        names = scan[1 : 1 + 2 * scan[0] : 2] if scan else b""
        first, last, bits = scan[-3:] if len(scan) >= 3 else (0, 63, 0)
        if layout.frame != _PROGRESSIVE:
            first, last, bits = 0, 63, 0
        if bits & 15 == 0:
            told |= {(name, number) for name in names for number in range(first, min(last, 63) + 1)}
    return any((name, number) not in told for name in layout.components for number in range(64))
