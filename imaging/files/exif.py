"""EXIF data that go along with a photo."""

from __future__ import annotations

from typing import Final

from PIL import ExifTags, Image

MOST_BYTES: Final = 65_533  # what a JPEG can hold

# EXIF 2.32: who owns a camera and which one it is; the maker's own notes hold the same, and more.
_PERSONAL: Final = (
    ExifTags.Base.MakerNote,
    ExifTags.Base.UserComment,
    ExifTags.Base.CameraOwnerName,
    ExifTags.Base.BodySerialNumber,
    ExifTags.Base.LensSerialNumber,
    ExifTags.Base.ImageUniqueID,
)


def upright_exif(image: Image.Image) -> bytes:
    """A picture's EXIF data without its orientation and its small preview; empty when there are none.

    Raises:
        Exception: of almost any type, when they are broken.
    """
    exif = image.getexif()
    exif.pop(ExifTags.Base.Orientation, None)
    return exif.tobytes() if len(exif) else b""


def clean_exif(data: bytes) -> bytes:
    """EXIF data without the place (GPS), the camera's owner and serial numbers, the maker's notes, and comments.

    Args:
        data: what `upright_exif` gave.
    """
    if not data:
        return b""
    exif = Image.Exif()
    exif.load(data)
    exif.pop(ExifTags.IFD.GPSInfo, None)
    inner = exif.get_ifd(ExifTags.IFD.Exif)
    for tag in _PERSONAL:
        inner.pop(tag, None)
        exif.pop(tag, None)
    if not inner:
        exif.pop(ExifTags.IFD.Exif, None)
    return exif.tobytes() if len(exif) else b""
