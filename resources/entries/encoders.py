"""The face encoder, as the registry knows it; it is imported when it is made."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from resources.backends import BackEnd, Finding, Inspection, Published
from resources.encoders.base import FaceEncoder
from resources.generators.base import ModelChoice
from resources.settings import Settings


def _sface(settings: Settings, _choice: ModelChoice) -> FaceEncoder:
    from resources.encoders.sface import SFaceEncoder

    return SFaceEncoder(Path(settings.sface_model or ""))


def _sface_file() -> Published:
    from resources.encoders.sface import MODEL_SHA256, MODEL_URL

    return Published(MODEL_URL, MODEL_SHA256)


def _check_sface(settings: Settings, _used: bool) -> Finding:  # noqa: FBT001 - as `Inspection`
    from resources.encoders.sface import SFaceEncoder

    if settings.sface_model is None:
        return Finding("OK", "off (FC_SFACE_MODEL is not set): nobody tells whose face it is")
    SFaceEncoder(settings.sface_model)  # raises when it is missing or another file
    return Finding("OK", f"{settings.sface_model} is the right file")


SFACE: Final = BackEnd[FaceEncoder](
    kind="encoder",
    name="sface",
    about="SFace through OpenCV: whose face it is",
    make=_sface,
    key="sface_model",
    rank=10,
    settings=("sface_model",),
    published=_sface_file,
    inspection=Inspection("sface", _check_sface),
)
