"""Read an image that a stranger sent: bytes in, plain sRGB pixels out."""

from __future__ import annotations

import functools
import io
import struct
from dataclasses import dataclass
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageCms, UnidentifiedImageError

from imaging.errors import InvalidImageError
from imaging.files.alpha import on_white
from imaging.files.color_space import ColorSpace, told_by_exif, told_by_nclx, told_by_png
from imaging.files.exif import MOST_BYTES, upright_exif
from imaging.files.jpeg_end import ends_too_early
from imaging.files.making import Making, read_making
from imaging.files.png_chunks import MAGIC, PngParts, read_png

MIN_SIDE: Final = 64  # pixels; the smallest image that a request may ask for
MAX_PIXELS: Final = 50_000_000

ACCEPTED: Final = "PNG, JPEG, WebP or HEIF/HEIC"
_EXPORT_AGAIN: Final = f"Export the picture again as {ACCEPTED}."

_SIXTEEN_BITS: Final = 16  # per channel, in the 25th byte of a PNG
_GREY: Final = 0  # its 26th byte: grey without alpha
_PNG_XMP: Final = "XML:com.adobe.xmp"
_PILLOW_READS: Final = {_PNG_XMP, "Raw profile type exif"}  # texts of a PNG that may hold EXIF data
_HEIF_BRANDS: Final = (
    b"heic",
    b"heix",
    b"heim",
    b"heis",
    b"hevc",
    b"hevx",
    b"hevm",
    b"hevs",
    b"mif1",
    b"msf1",
)
_REFUSED: Final = (
    (b"GIF8", "a GIF"),
    (b"BM", "a BMP"),
    (b"II*\0", "a TIFF"),
    (b"MM\0*", "a TIFF"),
    (b"%PDF", "a PDF"),
    (b"<svg", "an SVG"),
    (b"<?xml", "an SVG or other XML"),
)

# EXIF 2.32, tag 0x0112: how the stored image must be turned to be upright.
_UPRIGHT: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True, slots=True, eq=False)
class DecodedImage:
    """An image as the pipeline works on it, and what it was before.

    Attributes:
        pixels: sRGB, uint8, shape (height, width, 3), upright, without alpha.
        format: `PNG`, `JPEG`, `WEBP` or `HEIF`.
        stored_size: (width, height) in the file, before the EXIF orientation was applied.
        mode: Pillow's mode of the file, for example `RGB`, `P`, `CMYK`, `I;16`.
        rgba: sRGB with its transparency, uint8, shape (height, width, 4), upright, its colours as they are and not on
            white; None when the file carried none.
        icc: description of the colour profile that was converted to sRGB; None without a usable one.
        orientation: the EXIF orientation that was applied, 1 to 8; 1 is upright.
        exif: the file's EXIF data without the orientation; empty when there are none.
        making: what the file says of how it was made; None when it says nothing.
        notes: one sentence for everything that was changed, left out or assumed.
    """

    pixels: NDArray[np.uint8]
    format: str
    stored_size: tuple[int, int]
    mode: str
    rgba: NDArray[np.uint8] | None
    icc: str | None
    orientation: int
    exif: bytes
    making: Making | None
    notes: tuple[str, ...]

    @property
    def had_alpha(self) -> bool:
        """Whether the file carried transparency; in `pixels` it is laid on white."""
        return self.rgba is not None


def decode_image(data: bytes, *, name: str, max_pixels: int = MAX_PIXELS, colors: bool = True) -> DecodedImage:
    """Decode a PNG, JPEG, WebP or HEIF image completely.

    The size in the header is checked before any pixel is decoded. Of an animation or a file of several images
    the first (HEIF: the primary) one is used. 16-bit channels are rounded to 8 bits. Colours are converted to
    sRGB by the embedded ICC profile, or by what else the file tells of them (PNG's cICP, gAMA and cHRM, HEIF's nclx,
    EXIF); what cannot be used is noted, and the colours count as sRGB.

    Args:
        data: the whole file.
        name: what the errors call the file.
        max_pixels: most pixels, width x height, that are decoded.
        colors: whether the numbers are colours, to be brought to sRGB; those of a mask are not.

    Raises:
        InvalidImageError: not an accepted format, damaged, truncated, or outside the size limits.
    """
    kind = _sniff(data, name)
    size = _header_size(data, kind)
    if size is not None:
        _check_size(size, name, max_pixels)
    try:
        parts = read_png(data) if kind == "PNG" else PngParts(data)
        image = _open(parts, kind)
        _check_size(image.size, name, max_pixels)
        frames = getattr(image, "n_frames", 1)
        stored_size, mode = image.size, image.mode
        image.load()
        _check_size(image.size, name, max_pixels)  # HEIF: the decoded size may differ from the header's
        orientation, notes = _orientation(image)
        tags = Image.Exif() if notes else image.getexif()
        exif = b"" if notes else _exif(image, notes)
        making = read_making(parts.texts, _xmp(image), tags, notes)
        space = _told_space(image, parts, tags, notes) if colors else None
        if kind == "PNG" and parts.data[24] == _SIXTEEN_BITS:
            notes.append("Channels of 16 bits are rounded to 8.")
            image = _eight_bit(parts.data, image, space)
            color, alpha = _split_alpha(image)
        else:
            color, alpha = _split_alpha(image)
            if space is not None and color.mode != "CMYK":
                color = Image.fromarray(space.to_srgb(np.asarray(color)))
        rgb, icc, color_notes = _to_srgb(color, image.info.get("icc_profile") if colors and space is None else None)
    except (InvalidImageError, MemoryError):
        raise
    except Image.DecompressionBombError:
        raise InvalidImageError(
            f"{name} has far more than the {max_pixels:,} pixels that are accepted.",
            "Make it smaller and try again.",
        ) from None
    except Exception as error:  # on a hostile file the decoders raise almost any type
        raise _damaged(name, kind, error) from error
    notes += parts.notes + color_notes + _left_out(data, kind, image, frames)
    if alpha is not None:
        rgb.putalpha(alpha)
        notes.append("Transparent parts are laid on white for all work, and are transparent again in the final image.")
    if orientation in _UPRIGHT:
        rgb = rgb.transpose(_UPRIGHT[orientation])
    pixels = np.array(rgb)
    return DecodedImage(
        pixels=pixels if alpha is None else on_white(pixels),
        format=kind,
        stored_size=stored_size,
        mode=mode,
        rgba=None if alpha is None else pixels,
        icc=icc,
        orientation=orientation,
        exif=exif,
        making=making,
        notes=tuple(notes),
    )


def _sniff(data: bytes, name: str) -> str:
    """The format by the first bytes, never by a file's name."""
    if not data:
        raise InvalidImageError(f"{name} is empty.", f"Give a {ACCEPTED} file.")
    if data.startswith(MAGIC):
        if data[12:16] == b"CgBI":
            raise InvalidImageError(
                f"{name} is one of Apple's own PNGs (CgBI), as Xcode puts them into apps; it is no PNG to others.",
                "`xcrun pngcrush -revert-iphone-optimizations IN OUT` on a Mac makes it one; or take the original.",
            )
        return "PNG"
    if data.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return "WEBP"
    if data[4:8] == b"ftyp" and data[8:12] in _HEIF_BRANDS:
        return "HEIF"
    if data[4:8] == b"ftyp" and data[8:12] in (b"avif", b"avis"):
        what = "an AVIF"
    else:
        what = next((label for magic, label in _REFUSED if data.startswith(magic)), "not an image that is known here")
    raise InvalidImageError(f"{name} is {what}; only {ACCEPTED} are accepted.", _EXPORT_AGAIN)


def _header_size(data: bytes, kind: str) -> tuple[int, int] | None:
    """(width, height) of a PNG or WebP; None where opening the file is cheap anyway.

    libwebp allocates the whole canvas on opening, so this must be known before. W3C PNG 11.2.1; RFC 9649.
    """
    if kind == "PNG" and len(data) >= 24:
        width, height = struct.unpack(">II", data[16:24])
        return width, height
    if kind == "WEBP" and len(data) >= 30:
        if data[12:16] == b"VP8X":
            return int.from_bytes(data[24:27], "little") + 1, int.from_bytes(data[27:30], "little") + 1
        if data[12:16] == b"VP8L":
            bits = int.from_bytes(data[21:25], "little")
            return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        width, height = struct.unpack("<HH", data[26:30])
        return width & 0x3FFF, height & 0x3FFF
    return None


def _check_size(size: tuple[int, int], name: str, max_pixels: int) -> None:
    width, height = size
    if width * height > max_pixels:
        raise InvalidImageError(
            f"{name} is {width} x {height} pixels; at most {max_pixels:,} pixels are accepted.",
            "Make it smaller and try again.",
        )
    if min(size) < MIN_SIDE:
        raise InvalidImageError(
            f"{name} is {width} x {height} pixels; each side must have at least {MIN_SIDE}.",
            "Use a larger picture.",
        )


def _open(parts: PngParts, kind: str) -> Image.Image:
    if kind == "HEIF":
        _register_heif()
    image = Image.open(io.BytesIO(parts.data), formats=[kind])
    key = image.info.get("transparency")
    if kind == "PNG" and isinstance(key, int) and parts.data[25] == _GREY and parts.data[24] in (2, 4):
        image.info["transparency"] = key * 255 // (2 ** parts.data[24] - 1)  # Pillow widens the samples, not this
    if parts.icc is not None:
        image.info["icc_profile"] = parts.icc
    for keyword in _PILLOW_READS & parts.texts.keys():
        image.info[keyword] = parts.texts[keyword]
    return image


def _xmp(image: Image.Image) -> str:
    """The XMP packet; empty without one."""
    packet = image.info.get(_PNG_XMP) or image.info.get("xmp") or ""
    return packet.decode("utf-8", "replace") if isinstance(packet, bytes) else str(packet)


@functools.cache
def _register_heif() -> None:
    import pillow_heif  # noqa: PLC0415 - only who reads HEIF pays for loading libheif

    pillow_heif.register_heif_opener()


def _damaged(name: str, kind: str, error: Exception) -> InvalidImageError:
    reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
    if isinstance(error, UnidentifiedImageError):  # its own text holds an address in memory
        reason = "its header cannot be read"
    return InvalidImageError(f"{name} is a damaged or truncated {kind} file ({reason}).", _EXPORT_AGAIN)


def _orientation(image: Image.Image) -> tuple[int, list[str]]:
    """The EXIF orientation, 1 to 8. A tag that is broken or out of range counts as upright and is noted."""
    try:
        value = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception as error:  # noqa: BLE001 - a broken EXIF block must not cost the picture
        return 1, [f"The EXIF data cannot be read ({type(error).__name__}); the picture is taken as upright."]
    if value == 1 or (isinstance(value, int) and value in _UPRIGHT):
        return value, []
    return 1, [f"The EXIF orientation {str(value)[:20]!r} does not exist; the picture is taken as upright."]


def _exif(image: Image.Image, notes: list[str]) -> bytes:
    """The EXIF data to carry along; what cannot be read, or is too much, is left out and noted."""
    try:
        exif = upright_exif(image)
    except Exception as error:  # noqa: BLE001 - a broken EXIF block must not cost the picture
        notes.append(f"The EXIF data cannot be carried along ({type(error).__name__}).")
        return b""
    if len(exif) > MOST_BYTES:
        notes.append(f"The EXIF data have {len(exif)} bytes and are not carried along.")
        return b""
    return exif


def _left_out(data: bytes, kind: str, image: Image.Image, frames: int) -> list[str]:
    """Notes on what is missing in the picture, and on what is not looked at."""
    notes = []
    if kind == "JPEG" and ends_too_early(data, image):
        notes.append("The JPEG is damaged: it ends before its picture does, and the rest is grey or coarse.")
    if frames > 1:
        which = "primary" if kind == "HEIF" else "first"
        notes.append(f"The file holds {frames} images; only the {which} one is used.")
    return notes


def _told_space(image: Image.Image, parts: PngParts, exif: Image.Exif, notes: list[str]) -> ColorSpace | None:
    """The colour space that the file tells in another way than by a profile that holds; None when it does not.

    One that is converted from is noted.
    """
    has_icc = bool(image.info.get("icc_profile"))
    space = told_by_png(parts.colors, has_icc=has_icc, notes=notes)
    if space is None and not has_icc:
        profile = image.info.get("nclx_profile")
        space = told_by_nclx(profile, notes) if profile else None
        space = space or told_by_exif(exif, notes)
    if space is not None and not space.is_srgb:
        notes.append(f"Colours are converted from {space.name!r} to sRGB.")
    return space


def _eight_bit(data: bytes, image: Image.Image, space: ColorSpace | None) -> Image.Image:
    """A PNG of 16 bits per channel as 8: mode L, RGB or RGBA. Pillow itself only cuts them to 8.

    Colours of a space of their own are brought to sRGB, before they are rounded.
    """
    values = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED | cv2.IMREAD_IGNORE_ORIENTATION)
    if values is None or values.dtype != np.uint16 or values.shape[:2] != (image.height, image.width):
        raise OSError("its 16-bit channels cannot be read")
    key = image.info.get("transparency")
    if values.ndim == 3:
        values = cv2.cvtColor(values, cv2.COLOR_BGRA2RGBA if values.shape[2] == 4 else cv2.COLOR_BGR2RGB)
    rounded = ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)
    if space is not None and not space.is_srgb:
        if values.ndim == 2:
            rounded = space.to_srgb(values)
        else:
            rounded[..., :3] = space.to_srgb(values[..., :3])
    if key is not None and rounded.ndim == 2:  # the one value that is transparent
        rounded = np.dstack([rounded, rounded, rounded, np.where(values == key, 0, 255).astype(np.uint8)])
    reduced = Image.fromarray(rounded)
    if image.info.get("icc_profile"):
        reduced.info["icc_profile"] = image.info["icc_profile"]
    return reduced


def _split_alpha(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """The colours as mode L, RGB or CMYK, and the alpha channel as mode L or None."""
    if image.mode == "RGBa":
        image = image.convert("RGBA")
    alpha = image.convert("RGBA").getchannel("A") if image.has_transparency_data else None
    if image.mode in ("L", "RGB", "CMYK"):
        return image, alpha
    return image.convert("L" if image.mode in ("1", "LA") else "RGB"), alpha


def _to_srgb(color: Image.Image, profile: Any) -> tuple[Image.Image, str | None, list[str]]:  # noqa: ANN401
    """The colours as sRGB, the description of the profile that was used, and notes."""
    notes: list[str] = []
    if profile:
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            rgb = ImageCms.profileToProfile(color, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
            description = ImageCms.getProfileDescription(source).strip() or "unnamed"
        except (ImageCms.PyCMSError, OSError, TypeError, ValueError) as error:
            notes.append(f"The colour profile cannot be used ({str(error)[:80]}); the colours are taken as sRGB.")
        else:
            if rgb is None:  # never without inPlace
                raise RuntimeError("ImageCms returned no image")
            return rgb, description, [f"Colours are converted from {description[:80]!r} to sRGB."]
    if color.mode == "CMYK":
        notes.append("CMYK without a usable profile is converted by the plain formula.")
    return color.convert("RGB"), None, notes
