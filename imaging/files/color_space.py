"""Colour spaces that a picture file tells without an ICC profile, and the way from there to sRGB."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image

Primaries = tuple[float, ...]
"""CIE x and y of white, red, green and blue, as in a cHRM chunk."""

_D65: Final = (0.3127, 0.3290)
_BT709: Final = (*_D65, 0.64, 0.33, 0.30, 0.60, 0.15, 0.06)
_P3: Final = (*_D65, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060)
_SMPTE: Final = (*_D65, 0.630, 0.340, 0.310, 0.595, 0.155, 0.070)

# ITU-T H.273, tables 2 and 3. 2 is "unspecified". The curves 1, 6, 14 and 15 are those of cameras, which viewers show
# as sRGB; so do we.
_PRIMARIES: Final[dict[int, tuple[str, Primaries]]] = {
    1: ("BT.709", _BT709),
    2: ("sRGB", _BT709),
    4: ("BT.470 M", (0.310, 0.316, 0.67, 0.33, 0.21, 0.71, 0.14, 0.08)),
    5: ("BT.470 BG", (*_D65, 0.64, 0.33, 0.29, 0.60, 0.15, 0.06)),
    6: ("BT.601", _SMPTE),
    7: ("SMPTE 240M", _SMPTE),
    9: ("BT.2020", (*_D65, 0.708, 0.292, 0.170, 0.797, 0.131, 0.046)),
    11: ("DCI-P3", (0.314, 0.351, *_P3[2:])),
    12: ("Display P3", _P3),
    22: ("EBU 3213", (*_D65, 0.630, 0.340, 0.295, 0.605, 0.155, 0.077)),
}
_CURVES: Final[dict[int, float | str]] = {
    1: "sRGB", 2: "sRGB", 4: 2.2, 5: 2.8, 6: "sRGB", 8: 1.0, 13: "sRGB", 14: "sRGB", 15: "sRGB", 16: "PQ", 18: "HLG",
}  # fmt: skip
_UNSPECIFIED: Final = 2
_WHITE_OF_HDR: Final = 203.0  # nits of a white page, ITU-R BT.2408
_PEAK_OF_HLG: Final = 1000.0  # nits

_ADOBE_GAMMA: Final = 563 / 256  # Adobe RGB (1998), 4.3.1.2
_ADOBE: Final = (*_D65, 0.64, 0.33, 0.21, 0.71, 0.15, 0.06)
_UNCALIBRATED: Final = 65_535  # EXIF 2.32, tag ColorSpace
_NOT_STANDARD: Final = 2  # for Adobe RGB, in some cameras' ColorSpace

_GAMMA_OF_SRGB: Final = 0.45455
_NEAR: Final = 0.05  # of a gamma, which no eye tells apart: libpng's PNG_GAMMA_THRESHOLD
_NEAR_XY: Final = 0.002  # of a chromaticity
_ROWS: Final = 256  # at a time, so that few floats are held
_BRADFORD: Final = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
_LUMA_2020: Final = np.array([0.2627, 0.6780, 0.0593])


@dataclass(frozen=True, slots=True)
class ColorSpace:
    """An RGB colour space.

    Attributes:
        name: for people.
        primaries: where white, red, green and blue lie.
        curve: `sRGB`, `PQ`, `HLG`, or the power that makes light of a sample.
        is_full: whether samples go over the whole range; False: from 16 to 235 of 255.
    """

    name: str
    primaries: Primaries = _BT709
    curve: float | str = "sRGB"
    is_full: bool = True

    @property
    def is_srgb(self) -> bool:
        """Whether there is nothing to convert."""
        return self.primaries == _BT709 and self.curve == "sRGB" and self.is_full

    def to_srgb(self, samples: NDArray[Any]) -> NDArray[np.uint8]:
        """Samples, uint8 or uint16 of shape (height, width) or (height, width, 3), as sRGB of that shape.

        Primaries are brought to those of sRGB in linear light, white by Bradford's adaptation (ICC.1:2022, annex E);
        what sRGB cannot show is clipped.
        """
        if self.is_srgb and samples.dtype == np.uint8:
            return samples.astype(np.uint8, copy=False)
        most = int(np.iinfo(samples.dtype).max)
        levels = np.arange(most + 1) / most
        if not self.is_full:
            levels = np.clip((levels * 255 - 16) / 219, 0, 1)
        light = self._light(levels).astype(np.float32)
        if samples.ndim == 2 and self.curve == "HLG":
            light = light * _hlg_gain(np.repeat(light[:, None], 3, axis=1))[:, 0]
        if samples.ndim == 2 or (self.primaries == _BT709 and self.curve != "HLG"):
            table = _encoded(light)
            return np.asarray(table[samples])
        result = np.empty(samples.shape, np.uint8)
        matrix = to_srgb_matrix(self.primaries).astype(np.float32)
        for top in range(0, len(samples), _ROWS):
            linear = light[samples[top : top + _ROWS]]
            if self.curve == "HLG":
                linear = linear * _hlg_gain(linear)
            result[top : top + _ROWS] = _encoded(linear @ matrix.T)
        return result

    def _light(self, levels: NDArray[np.float64]) -> NDArray[np.float64]:
        """Light of samples of 0 to 1; 1 is white."""
        if isinstance(self.curve, float):
            return np.asarray(np.power(levels, self.curve))
        if self.curve == "PQ":  # SMPTE ST 2084
            m1, m2, c1, c2, c3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128
            root = np.power(levels, 1 / m2)
            light: NDArray[np.float64] = np.power(np.maximum(root - c1, 0) / (c2 - c3 * root), 1 / m1)
            return light * 10_000 / _WHITE_OF_HDR
        if self.curve == "HLG":  # ARIB STD-B67: the scene's light, which `_hlg_gain` brings to the display
            a, b, c = 0.17883277, 0.28466892, 0.55991073
            return np.where(levels <= 0.5, levels**2 / 3, (np.exp((levels - c) / a) + b) / 12)
        return np.where(levels <= 0.04045, levels / 12.92, np.power((levels + 0.055) / 1.055, 2.4))  # IEC 61966-2-1


def _hlg_gain(scene: NDArray[np.float32]) -> NDArray[np.float32]:
    """What makes the display's light, 1 is white, of the scene's (ITU-R BT.2100, the OOTF with gamma 1.2)."""
    luma = np.maximum(scene @ _LUMA_2020.astype(np.float32), 1e-9)[..., None]
    return np.float32(_PEAK_OF_HLG / _WHITE_OF_HDR) * np.power(luma, np.float32(0.2))


def _encoded(light: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Levels of light, in sRGB (IEC 61966-2-1)."""
    light = np.clip(light, 0, 1)
    encoded = np.where(light <= 0.0031308, light * 12.92, 1.055 * np.power(light, 1 / 2.4) - 0.055)
    return np.asarray(np.rint(encoded * 255), np.uint8)


def to_srgb_matrix(primaries: Primaries) -> NDArray[np.float64]:
    """The matrix, of shape (3, 3), from linear RGB with these primaries to that of sRGB.

    Raises:
        ValueError: they span no colour space.
    """
    own, target = _to_xyz(primaries), _to_xyz(_BT709)
    gain = (_BRADFORD @ target.sum(axis=1)) / (_BRADFORD @ own.sum(axis=1))
    adapt = np.linalg.inv(_BRADFORD) @ np.diag(gain) @ _BRADFORD
    matrix: NDArray[np.float64] = np.linalg.inv(target) @ adapt @ own
    return np.asarray(matrix / matrix.sum(axis=1, keepdims=True))  # a grey stays one to the last bit


def _to_xyz(primaries: Primaries) -> NDArray[np.float64]:
    """From linear RGB to XYZ (SMPTE RP 177)."""
    x, y = np.array(primaries[::2]), np.array(primaries[1::2])
    if np.any(y <= 0) or np.any(x + y > 1) or np.any(x < 0):
        raise ValueError("chromaticities out of range")
    xyz = np.stack([x / y, np.ones(4), (1 - x - y) / y])
    if abs(np.linalg.det(xyz[:, 1:])) < 1e-3:
        raise ValueError("primaries on one line")
    matrix: NDArray[np.float64] = xyz[:, 1:] * np.linalg.solve(xyz[:, 1:], xyz[:, 0])
    return matrix


def told_by_png(chunks: Mapping[bytes, bytes], *, has_icc: bool, notes: list[str]) -> ColorSpace | None:
    """What cICP, or else sRGB, or else gAMA and cHRM say (W3C PNG, third edition, 4.3).

    None when they say nothing, and when the ICC profile holds, which ranks behind cICP alone.
    """
    codes = chunks.get(b"cICP")
    if codes is not None:
        if len(codes) == 4 and codes[2] == 0 and _UNSPECIFIED not in codes[:2] and _are_known(*codes[:2]):
            return told_by_codes(codes[0], codes[1], is_full=bool(codes[3]), notes=notes)
        notes.append(f"The PNG's cICP chunk ({codes[:8].hex(' ')}) cannot be used and is left out.")
    if has_icc:
        return None
    if b"sRGB" in chunks:
        return ColorSpace("sRGB")
    gamma, points = _gamma(chunks), _points(chunks, notes)
    if gamma is None and points is None:
        return None
    near = gamma is None or abs(gamma / _GAMMA_OF_SRGB - 1) < _NEAR
    return ColorSpace(
        f"the PNG's own colours (gAMA {'of sRGB' if near else gamma}, cHRM {points or 'of sRGB'})",
        points or _BT709,
        "sRGB" if near or gamma is None else 1 / gamma,
    )


def _gamma(chunks: Mapping[bytes, bytes]) -> float | None:
    body = chunks.get(b"gAMA", b"")
    value = struct.unpack(">I", body)[0] / 100_000 if len(body) == 4 else 0.0
    return value if 0.05 <= value <= 20 else None


def _points(chunks: Mapping[bytes, bytes], notes: list[str]) -> Primaries | None:
    """The primaries of cHRM; None without them, and where they are those of sRGB."""
    body = chunks.get(b"cHRM", b"")
    if len(body) != 32:
        return None
    points = tuple(value / 100_000 for value in struct.unpack(">8I", body))
    if max(abs(one - other) for one, other in zip(points, _BT709, strict=True)) <= _NEAR_XY:
        return None
    try:
        to_srgb_matrix(points)
    except (ValueError, np.linalg.LinAlgError) as error:
        notes.append(f"The PNG's cHRM chunk cannot be used ({error}); its primaries are taken as those of sRGB.")
        return None
    return points


def _are_known(primaries: int, curve: int) -> bool:
    return primaries in _PRIMARIES and curve in _CURVES


def told_by_codes(primaries: int, curve: int, *, is_full: bool, notes: list[str]) -> ColorSpace | None:
    """What the codes of ITU-T H.273 say, as in cICP and HEIF's nclx; None for codes that are not known here."""
    if primaries == curve == _UNSPECIFIED:
        return None
    if not _are_known(primaries, curve):
        notes.append(f"The colour codes {primaries}/{curve} are not known here; the colours are taken as sRGB.")
        return None
    name, points = _PRIMARIES[primaries]
    if _CURVES[curve] in ("PQ", "HLG"):
        name = f"{name} {_CURVES[curve]}"
        notes.append(f"The picture is HDR ({name}): what is brighter than a white page is clipped.")
    return ColorSpace(name, points, _CURVES[curve], is_full)


def told_by_exif(exif: Image.Exif, notes: list[str]) -> ColorSpace | None:
    """What EXIF's ColorSpace and InteroperabilityIndex say; None for sRGB, and when they say nothing."""
    told = exif.get_ifd(ExifTags.IFD.Exif).get(ExifTags.Base.ColorSpace)
    index = exif.get_ifd(ExifTags.IFD.Interop).get(ExifTags.Interop.InteropIndex)
    if told in (_UNCALIBRATED, None) and index in ("R03", b"R03", b"R03\0"):  # DCF 2.0: the optional colour space
        return ColorSpace("Adobe RGB", _ADOBE, _ADOBE_GAMMA)
    if told == _NOT_STANDARD:
        return ColorSpace("Adobe RGB", _ADOBE, _ADOBE_GAMMA)
    if told != _UNCALIBRATED:
        return None
    if str(exif.get(ExifTags.Base.Make, "")).startswith("Apple"):  # whose photos lost their profile
        space = ColorSpace("Display P3", _P3)
    else:
        space = ColorSpace("Adobe RGB", _ADOBE, _ADOBE_GAMMA)
    notes.append(f"The EXIF data say that the colours are not sRGB, but not what they are: {space.name} is assumed.")
    return space


def told_by_nclx(profile: Mapping[str, Any], notes: list[str]) -> ColorSpace | None:
    """What HEIF's nclx box says; its range is that of the coded picture, which the decoder has brought to RGB."""
    codes = int(profile["color_primaries"]), int(profile["transfer_characteristics"])
    return told_by_codes(*codes, is_full=True, notes=notes)
