"""What a picture file says of how it was made, whichever tool made it and whichever format it has."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from PIL import ExifTags, Image

from imaging.files.provenance import parse_a1111

_PROMPT_KEYS: Final = frozenset({
    "prompt", "workflow",  # ComfyUI, and what is built on it
    "extras", "postprocessing",  # A1111
    "invokeai_metadata", "invokeai_graph", "invokeai_workflow", "sd-metadata", "Dream",  # InvokeAI, old and new
    "fooocus_scheme", "metadata_scheme", "parameters-json", "smproj",  # Fooocus, Stability Matrix
    "generation_data", "sui_image_params", "negative_prompt", "AIGC",  # SeaArt, SwarmUI, Easy Diffusion, GB 45438
})  # fmt: skip
_NOVELAI: Final = ("Title", "Description", "Software", "Source", "Generation time", "Comment")
_OUR_RECORD: Final = "face-changer"
_MOST_CARRIED: Final = 1_000_000  # bytes of one text, in UTF-8; what reads our own PNGs takes no more
_MOST_TEXTS: Final = 2_000_000  # bytes of all together
_MOST_RECORD: Final = 500_000  # bytes; the request of the job that works on the picture comes on top

# IPTC NewsCodes "Digital Source Type": as an element, an attribute or a resource of XMP, with its address or without.
_SOURCE_TYPE: Final = re.compile(
    r"DigitalSourceType(?:\s*=\s*[\"']|\s*>\s*|\s[^<>]*rdf:resource\s*=\s*[\"'])"
    r"(?:https?://cv\.iptc\.org/newscodes/digitalsourcetype/)?([A-Za-z]{1,64})"
)
_GENERATED: Final = ("trainedAlgorithmicMedia", "algorithmicMedia")
_CHANGED: Final = ("compositeWithTrainedAlgorithmicMedia", "compositeSynthetic", "composite", "algorithmicallyEnhanced")
_A1111_WORDS: Final = {"Steps", "Sampler", "Seed"}
_JSON_WORDS: Final = ("prompt", "sui_image_params", "class_type", "sampler", "seed")
_COMFYUI_EXIF: Final = re.compile(r"(prompt|workflow):\s*(?=\{)", re.IGNORECASE)
_COMMENT_TAGS: Final = (ExifTags.Base.UserComment, ExifTags.Base.ImageDescription)


@dataclass(frozen=True, slots=True)
class Making:
    """How a picture was made, in the words of its file.

    Attributes:
        parameters: A1111's text; empty without one.
        record: face-changer's own record, which anyone may have written; None without one.
        source_type: IPTC's term for how the pixels came to be; None when it is not said.
        texts: what else tools say of it, such as ComfyUI's `workflow`, by the keyword of its PNG chunk.
    """

    parameters: str = ""
    record: Mapping[str, Any] | None = None
    source_type: str | None = None
    texts: Mapping[str, str] = field(default_factory=dict)

    @property
    def origin(self) -> str:
        """`generated`, `edited photo`, or `photo` when nothing says otherwise."""
        told = (self.record or {}).get("origin")
        if told in ("generated", "edited photo"):
            return str(told)
        if self.source_type in _CHANGED:
            return "edited photo"
        return "generated" if self.source_type in _GENERATED or self.parameters or self.texts else "photo"


def read_making(texts: Mapping[str, str], xmp: str, exif: Image.Exif, notes: list[str]) -> Making | None:
    """What a file says of how it was made; None when it says nothing.

    Args:
        texts: those of a PNG by their keywords.
        xmp: its XMP packet; empty without one.
        exif: its EXIF data.
        notes: gets a sentence for what is left out.
    """
    found = {**_in_exif(exif), **texts}
    for name, most in (("parameters", _MOST_CARRIED), (_OUR_RECORD, _MOST_RECORD)):
        if len(found.get(name, "").encode("utf-8", "replace")) > most:
            notes.append(f"The text {name!r} has more than {most} bytes and is not carried along.")
            del found[name]
    source_type = _SOURCE_TYPE.search(xmp)
    making = Making(
        parameters=found.get("parameters", ""),
        record=_record(found[_OUR_RECORD], notes) if _OUR_RECORD in found else None,
        source_type=source_type[1] if source_type else None,
        texts=carried_texts(found, notes),
    )
    return None if making == Making() else making


def carried_texts(texts: Mapping[str, str], notes: list[str] | None = None) -> dict[str, str]:
    """Those of a file's texts that say how it was made, and that no field of `Making` of their own has."""
    known = {name: text for name, text in texts.items() if name in _PROMPT_KEYS}
    if texts.get("Software") == "NovelAI" or texts.get("Source", "").startswith(("Stable Diffusion", "NovelAI")):
        known |= {name: texts[name] for name in _NOVELAI if name in texts}
    carried: dict[str, str] = {}
    left = _MOST_TEXTS
    for name, text in known.items():
        size = len(text.encode("utf-8", "replace"))
        if size <= min(left, _MOST_CARRIED):
            carried[name] = text
            left -= size
        elif notes is not None:
            notes.append(f"The text {name!r} has {size} bytes and is not carried along.")
    return carried


def _record(text: str, notes: list[str]) -> dict[str, Any] | None:
    try:
        record = json.loads(text)
    except (ValueError, RecursionError) as error:
        notes.append(f"The face-changer record cannot be read ({type(error).__name__}) and is left out.")
        return None
    return record if isinstance(record, dict) else None


def _in_exif(exif: Image.Exif) -> dict[str, str]:
    """Texts as a PNG would have them: A1111's comment, and what ComfyUI puts into tags of the camera."""
    found: dict[str, str] = {}
    try:
        tags = {**exif, **exif.get_ifd(ExifTags.IFD.Exif)}
    except Exception:  # noqa: BLE001 - broken EXIF data are noted where they are carried along
        return found
    for tag, value in tags.items():
        text = comment_text(value) if isinstance(value, (str, bytes)) else ""
        comfyui = _COMFYUI_EXIF.match(text)
        if comfyui:
            found.setdefault(comfyui[1].lower(), text[comfyui.end() :])
        elif tag in _COMMENT_TAGS and says_how_it_was_made(text):
            found.setdefault("parameters", text)
    return found


def comment_text(value: str | bytes) -> str:
    """The text of an EXIF UserComment (EXIF 2.32, 4.6.5), or of another tag. UTF-16 is told by where its zeros are."""
    if isinstance(value, str):
        return value.strip("\0 ")
    head, body = value[:8], value[8:]
    if head == b"UNICODE\0":
        if body[:2] in (b"\xff\xfe", b"\xfe\xff"):
            return body.decode("utf-16", "replace").strip("\0 ")
        big = body[::2].count(0) >= body[1::2].count(0)
        return body.decode("utf-16-be" if big else "utf-16-le", "replace").strip("\0 ")
    if head == b"JIS\0\0\0\0\0":
        return body.decode("iso2022_jp", "replace").strip("\0 ")
    known = head in (b"ASCII\0\0\0", b"\0" * 8)
    return (body if known else value).decode("utf-8", "replace").strip("\0 ")


def says_how_it_was_made(comment: str) -> bool:
    """Whether a comment is A1111's text or a generator's JSON, and not what a photographer wrote."""
    if comment.startswith("{"):
        try:
            return any(f'"{word}"' in comment for word in _JSON_WORDS) and isinstance(json.loads(comment), dict)
        except (ValueError, RecursionError):
            return False
    return bool(_A1111_WORDS & parse_a1111(comment)["settings"].keys())
