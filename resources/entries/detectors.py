"""The face detectors, as the registry knows them; each is imported when it is made."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from resources.backends import BackEnd, Finding, Inspection, Published
from resources.detectors.base import Detector
from resources.generators.base import ModelChoice
from resources.settings import Settings

CANDIDATES: Final = 0.4  # faces from this score on are reported, and dropped with their score as the reason


def _yunet(settings: Settings, _choice: ModelChoice) -> Detector:
    from resources.detectors.yunet import YuNetDetector

    confidence = settings.detector_confidence
    return YuNetDetector(Path(settings.yunet_model or ""), confidence, min(CANDIDATES, confidence))


def _haar(settings: Settings, _choice: ModelChoice) -> Detector:
    from resources.detectors.haar import HaarDetector

    return HaarDetector(settings.detector_confidence, min(CANDIDATES, settings.detector_confidence))


def _yunet_file() -> Published:
    from resources.detectors.yunet import MODEL_SHA256, MODEL_URL

    return Published(MODEL_URL, MODEL_SHA256)


def _check_yunet(settings: Settings, _used: bool) -> Finding:  # noqa: FBT001 - as `Inspection`
    from resources.detectors.yunet import YuNetDetector

    if settings.yunet_model is None:
        hint = "Run: fc models pull yunet --save"
        return Finding("WARN", "FC_YUNET_MODEL is not set; YuNet finds more faces than haar", hint)
    YuNetDetector(settings.yunet_model)  # raises when it is missing or another file
    return Finding("OK", f"{settings.yunet_model} is the right file")


YUNET: Final = BackEnd[Detector](
    kind="detector",
    name="yunet",
    about="YuNet through OpenCV: faces of any size and turn",
    make=_yunet,
    key="yunet_model",
    rank=10,
    settings=("yunet_model",),
    published=_yunet_file,
    inspection=Inspection("yunet", _check_yunet),
)

HAAR: Final = BackEnd[Detector](
    kind="detector",
    name="haar",
    about="the Haar cascades that OpenCV ships: upright faces, seen from the front",
    make=_haar,
    last_resort="YuNet finds more faces",
)
