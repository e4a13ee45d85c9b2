"""How an image was made, written into the PNG itself, and read back."""

from __future__ import annotations

import io
import json
import re
import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypedDict
from xml.sax.saxutils import escape

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from imaging.errors import InvalidImageError
from imaging.files.png_chunks import MAGIC, MOST_TEXT, read_text
from imaging.files.record_text import record_text

RECORD_SCHEMA: Final = 1  # raise it when a field of the record changes its meaning

# IPTC NewsCodes "Digital Source Type", release of 2024-10-23.
DigitalSourceType = Literal[
    "trainedAlgorithmicMedia", "compositeWithTrainedAlgorithmicMedia", "algorithmicMedia", "composite"
]
_SOURCE_TYPE_URL: Final = "http://cv.iptc.org/newscodes/digitalsourcetype/"

_TO_OPENCV: Final = {3: cv2.COLOR_RGB2BGR, 4: cv2.COLOR_RGBA2BGRA}  # by the number of channels
_PNG_OPTIONS: Final = (
    cv2.IMWRITE_PNG_COMPRESSION, 1, cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE,
    cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_PAETH,
)  # fmt: skip
_HEADER: Final = 33  # bytes: signature and IHDR, which our chunks follow
_MAX_TEXT_CHUNKS: Final = 64
_MAX_PIXELS: Final = 8192 * 8192  # the largest output_size, squared

_A1111_ORDER: Final = (
    "Steps",
    "Sampler",
    "Schedule type",
    "CFG scale",
    "Seed",
    "Size",
    "Model hash",
    "Model",
    "VAE hash",
    "VAE",
    "Clip skip",
)
_A1111_LAST: Final = ("Version", "Hashes")
_A1111_KEY: Final = re.compile(r"\w[\w \-/]+")
_A1111_PAIR: Final = re.compile(r'\s*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])*"|\{"[^{}]*"\}|[^,]*)(?:,|$)')
_A1111_MIN_PAIRS: Final = 3
_COMFYUI: Final = ("prompt", "workflow")
_NEGATIVE: Final = "Negative prompt: "


class A1111Parameters(TypedDict):
    """What an A1111 `parameters` text says. Every value of `settings` is text, as the format has no types."""

    prompt: str
    negative_prompt: str
    settings: dict[str, str]


@dataclass(frozen=True, slots=True)
class Provenance:
    """What is written into one PNG.

    Attributes:
        parameters: A1111 text, see `a1111_parameters`; empty writes none.
        record: our own record, JSON values only; the field `schema` is added.
        source_type: IPTC's term for how the pixels came to be, see `digital_source_type`; None says nothing.
        tool: program and version, for XMP's `CreatorTool`.
        texts: what a back end's own file said and others read, by keyword: ComfyUI's `prompt` and `workflow`. One that
            is longer than `read_texts` takes is not written.
    """

    parameters: str
    record: Mapping[str, Any]
    source_type: DigitalSourceType | None
    tool: str = "face-changer"
    texts: Mapping[str, str] = field(default_factory=dict)


def digital_source_type(*, trained: bool, from_photo: bool) -> DigitalSourceType:
    """IPTC's term for an image that a generator made or changed.

    A photo with a face that was painted by rules is a `composite`: `compositeSynthetic` means that at least
    one element is generative AI, and `algorithmicallyEnhanced` that the main content is unchanged.

    Args:
        trained: whether a trained model made pixels of it; False for rules and formulas alone.
        from_photo: whether a photo went in.
    """
    if trained:
        return "compositeWithTrainedAlgorithmicMedia" if from_photo else "trainedAlgorithmicMedia"
    return "composite" if from_photo else "algorithmicMedia"


def a1111_parameters(prompt: str, negative_prompt: str, settings: Mapping[str, str | float]) -> str:
    r"""The `parameters` text as A1111's web UI writes and reads it.

    The known settings come first, in A1111's order, the others as given, `Version` and `Hashes` last. `parse_a1111`
    gives everything back, except that a prompt with a line that starts with `Negative prompt:` is split there: the
    format has no escape. Our own record keeps the exact words. `Hashes` is JSON without quotes around it, as Civitai's
    extension writes it and its site reads it; A1111 itself reads as far as the first comma, hence its place.

    Args:
        prompt: may hold several lines.
        negative_prompt: may hold several lines; empty leaves its line out.
        settings: at least three; keys of letters, digits, spaces, `-` and `/`.

    Raises:
        ValueError: too few settings for a reader to know the line by, or a key that the format cannot hold.
    """
    if len(settings) < _A1111_MIN_PAIRS:
        raise ValueError(f"A1111's format needs at least {_A1111_MIN_PAIRS} settings; got {len(settings)}.")
    if wrong := [key for key in settings if not _A1111_KEY.fullmatch(key) or key != key.strip()]:
        raise ValueError(f"A1111's format cannot hold these keys: {wrong}.")
    others = [key for key in settings if key not in (*_A1111_ORDER, *_A1111_LAST)]
    order = [key for key in (*_A1111_ORDER, *others, *_A1111_LAST) if key in settings]
    values = {key: str(settings[key]) for key in order}
    pairs = ", ".join(f"{key}: {_quote(value) if key != 'Hashes' else value}" for key, value in values.items())
    negative = f"\n{_NEGATIVE}{negative_prompt}" if negative_prompt else ""
    return f"{prompt}{negative}\n{pairs}"


def parse_a1111(text: str) -> A1111Parameters:
    """Read a `parameters` text of ours, of A1111 or of a tool that writes alike. Any text is valid.

    The last line holds the settings when it has at least three pairs; otherwise it is part of the prompt.
    """
    prompt, _, line = text.rpartition("\n")
    settings = _pairs(line)
    if len(settings) < _A1111_MIN_PAIRS:
        prompt, settings = text, {}
    before, found, after = f"\n{prompt}".partition(f"\n{_NEGATIVE.rstrip()}")
    return {
        "prompt": before[1:] if found else prompt,
        "negative_prompt": after.removeprefix(" ") if found else "",
        "settings": settings,
    }


def _quote(value: str) -> str:
    plain = value and value == value.strip() and not re.search(r'[,:"\n\r]', value)
    return value if plain else json.dumps(value, ensure_ascii=False)


def _pairs(line: str) -> dict[str, str]:
    """The `Key: value` pairs of a line, in linear time; what is no pair is skipped up to its comma."""
    pairs: dict[str, str] = {}
    at = 0
    while at < len(line):
        match = _A1111_PAIR.match(line, at)
        if match:
            pairs[match[1]] = _unquote(match[2])
            at = match.end()
        else:
            comma = line.find(",", at)
            at = comma + 1 if comma >= 0 else len(line)
    return pairs


def _unquote(value: str) -> str:
    if len(value) < 2 or value[0] != '"' or value[-1] != '"':
        return value
    try:
        return str(json.loads(value))
    except ValueError:  # quotes of another tool, which are part of the value
        return value


def encode_png(pixels: NDArray[np.uint8], *, provenance: Provenance | None = None, exif: bytes = b"") -> bytes:
    """Write an RGB or RGBA image or a mask as PNG. Equal input gives equal bytes (with the same OpenCV).

    Args:
        pixels: RGB or RGBA, uint8, shape (height, width, 3 or 4), marked as sRGB; or a mask, uint8, shape
            (height, width).
        provenance: how it was made.
        exif: EXIF data of the photo that it was made from.

    Raises:
        ValueError: another shape or dtype, or a record that is not JSON.
    """
    if pixels.dtype != np.uint8 or not (pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] in (3, 4))):
        raise ValueError(
            f"Expected uint8 of shape (h, w), (h, w, 3) or (h, w, 4); got {pixels.dtype} of {pixels.shape}."
        )
    chunks = [] if provenance is None else _text_of(provenance)
    if pixels.ndim == 3:
        chunks.insert(0, (b"sRGB", b"\0"))  # perceptual intent
    if exif:
        chunks.append((b"eXIf", exif.removeprefix(b"Exif\0\0")))
    # Z_RLE and one filter for all rows, measured on a photo of 1024 px: 36 ms and 1.1 MB, against 56 and as much with
    # a filter chosen for each row, and far more time at the usual level 6. Paintings of 256 px: 2 ms, not 4.
    image = np.ascontiguousarray(pixels) if pixels.ndim == 2 else cv2.cvtColor(pixels, _TO_OPENCV[pixels.shape[2]])
    data = cv2.imencode(".png", image, _PNG_OPTIONS)[1].tobytes()
    return b"".join([data[:_HEADER], *(_chunk(kind, body) for kind, body in chunks), data[_HEADER:]])


def _chunk(kind: bytes, body: bytes) -> bytes:
    """A chunk of a PNG (W3C PNG, 5.3)."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(body, zlib.crc32(kind)))


def _text_of(provenance: Provenance) -> list[tuple[bytes, bytes]]:
    """The kinds and bodies of the text chunks, uncompressed (W3C PNG, 11.3.3)."""
    record = record_text({**provenance.record, "schema": RECORD_SCHEMA}, MOST_TEXT - 100)
    # PNG 11.3.3 forbids NUL in text; half surrogate pairs have no UTF-8. The record keeps both exactly.
    short = {
        keyword: text
        for keyword, text in {"parameters": provenance.parameters, **provenance.texts}.items()
        if len(text.encode("utf-8", "replace")) < MOST_TEXT - 100
    }
    texts = {keyword: text.replace("\0", "\ufffd") for keyword, text in short.items()} | {"face-changer": record}
    if provenance.source_type is not None:
        texts["XML:com.adobe.xmp"] = _xmp(provenance.source_type, provenance.tool)
    return [_text_chunk(keyword, text) for keyword, text in texts.items() if text]


def _text_chunk(keyword: str, text: str) -> tuple[bytes, bytes]:
    """As tEXt where Latin-1 holds it, else iTXt: as A1111 and ComfyUI write it, so what their readers are made for."""
    try:
        return b"tEXt", keyword.encode() + b"\0" + text.encode("latin-1")
    except UnicodeEncodeError:
        return b"iTXt", keyword.encode() + b"\0\0\0\0\0" + text.encode("utf-8", "replace")


def _xmp(source_type: DigitalSourceType, tool: str) -> str:
    """An XMP packet (ISO 16684-1) with the property `Iptc4xmpExt:DigitalSourceType`."""
    tool = re.sub(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "\ufffd", tool)  # XML 1.0, 2.2
    return (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
        '<x:xmpmeta xmlns:x="adobe:ns:meta/">'
        '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        '<rdf:Description rdf:about="" xmlns:xmp="http://ns.adobe.com/xap/1.0/"'
        ' xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/">'
        f"<Iptc4xmpExt:DigitalSourceType>{_SOURCE_TYPE_URL}{source_type}</Iptc4xmpExt:DigitalSourceType>"
        f"<xmp:CreatorTool>{escape(tool)}</xmp:CreatorTool>"
        "</rdf:Description></rdf:RDF></x:xmpmeta>"
        '<?xpacket end="r"?>'
    )


def read_provenance(data: bytes, *, name: str = "The image") -> dict[str, Any] | None:
    """Read what a PNG says about how it was made, ours or A1111's, without decoding its pixels; see `read_texts`.

    Args:
        data: the whole file; may come from anyone.
        name: what the errors call the file.

    Returns:
        None when it says nothing; otherwise `parameters` (text or None), `record` (our JSON object or None)
        and `digital_source_type` (IPTC's term or None).

    Raises:
        InvalidImageError: not a PNG, damaged, or with text beyond the limits.
    """
    texts = read_texts(data, name=name)
    source_type = re.search(re.escape(_SOURCE_TYPE_URL) + "([A-Za-z]{1,64})", texts.get("XML:com.adobe.xmp", ""))
    found = {
        "parameters": texts.get("parameters"),
        "record": _read_record(texts["face-changer"], name) if "face-changer" in texts else None,
        "digital_source_type": source_type[1] if source_type else None,
    }
    return found if any(value is not None for value in found.values()) else None


def read_texts(data: bytes, *, name: str = "The image") -> dict[str, str]:
    """The texts of a PNG, whoever wrote them, by their keywords; of several under one keyword, the first.

    Raises:
        InvalidImageError: not a PNG, damaged, or with text beyond the limits.
    """
    texts: dict[str, str] = {}
    for kind, body in _text_chunks(data, name):
        try:
            keyword, text = read_text(kind, body)
        except (ValueError, IndexError, zlib.error) as error:
            raise _damaged(name, f"a text chunk is broken: {error}") from None
        texts.setdefault(keyword, text)
    return texts


def back_end_texts(data: bytes) -> dict[str, str]:
    """What ComfyUI's chunks `prompt` and `workflow` say, as far as a PNG has them; see `read_texts`."""
    texts = read_texts(data)
    return {keyword: texts[keyword] for keyword in _COMFYUI if keyword in texts}


def _text_chunks(data: bytes, name: str) -> Iterator[tuple[bytes, bytes]]:
    """Kind and body of each text chunk; the layout is that of W3C PNG, 5.3."""
    if not data.startswith(MAGIC):
        raise InvalidImageError(f"{name} is not a PNG.", "Give a PNG file; only those carry our record.")
    at, count = len(MAGIC), 0
    while True:
        header = data[at : at + 8]
        if len(header) < 8:
            raise _damaged(name, "it ends too early")
        length, kind = struct.unpack(">I4s", header)
        end = at + 8 + length
        if kind == b"IEND":
            return
        if end + 4 > len(data):
            raise _damaged(name, "it ends too early")
        if kind in (b"tEXt", b"zTXt", b"iTXt"):
            count += 1
            if length > MOST_TEXT or count > _MAX_TEXT_CHUNKS:
                raise _damaged(name, "it holds more text than is accepted")
            body = data[at + 8 : end]
            if zlib.crc32(body, zlib.crc32(kind)) != int.from_bytes(data[end : end + 4], "big"):
                raise _damaged(name, "a text chunk has a wrong checksum")
            yield kind, body
        at = end + 4


def _read_record(text: str, name: str) -> dict[str, Any]:
    try:
        record = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _damaged(name, f"its face-changer record is not JSON: {type(error).__name__}") from None
    if not isinstance(record, dict):
        raise _damaged(name, "its face-changer record is not a JSON object")
    return record


def decode_png_exact(data: bytes, *, name: str = "The stored image") -> NDArray[np.uint8]:
    """Read a PNG that `encode_png` wrote, pixel for pixel.

    Returns:
        uint8 of shape (height, width, 3) for RGB, (height, width, 4) for RGBA, or (height, width) for a mask.

    Raises:
        InvalidImageError: damaged, or a kind of PNG that `encode_png` does not write.
    """
    if not data.startswith(MAGIC) or len(data) < 29:
        raise _damaged(name, "it does not begin like a PNG")
    width, height, depth, color = struct.unpack(">IIBB", data[16:26])
    if depth != 8 or color not in (0, 2, 6) or width * height > _MAX_PIXELS:
        raise InvalidImageError(f"{name} is not a PNG that face-changer wrote.", "Use the image importer for it.")
    try:
        with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
            return np.array(image)
    except MemoryError:
        raise
    except Exception as error:  # on a damaged file the decoder raises almost any type
        raise _damaged(name, f"{type(error).__name__}: {error}") from error


def read_exif(data: bytes) -> bytes:
    """The EXIF data of a PNG that `encode_png` wrote; empty when it has none."""
    with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
        return bytes(image.info.get("exif", b""))


def _damaged(name: str, reason: str) -> InvalidImageError:
    return InvalidImageError(f"{name} is damaged: {reason[:200]}.", "Make or export the picture again.")
