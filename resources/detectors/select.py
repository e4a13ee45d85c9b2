"""Which face detector the settings ask for."""

from __future__ import annotations

from typing import Final

from imaging.errors import SettingsError
from resources.detectors.base import Detector
from resources.plugins import is_dotted_path, load_plugin
from resources.settings import Settings

BUILT_IN: Final = ("auto", "yunet", "haar")
CANDIDATES: Final = 0.4  # faces from this score on are reported, and dropped with their score as the reason


def make_detector(settings: Settings) -> tuple[Detector, str]:
    """The detector that `FC_DETECTOR` names, and one sentence that says what was picked and why.

    `auto` is `yunet` when `FC_YUNET_MODEL` is set, else `haar`.

    Raises:
        SettingsError: an unknown name, a plugin that cannot be loaded, or a model file that cannot be used.
        BackendError: this OpenCV ships no cascades.
    """
    from resources.detectors.haar import HaarDetector
    from resources.detectors.yunet import YuNetDetector

    choice = settings.detector
    if is_dotted_path(choice):
        detector: Detector = load_plugin(choice, "FC_DETECTOR")(settings)
        return detector, f"{choice}, as FC_DETECTOR says."
    if choice not in BUILT_IN:
        raise SettingsError(
            f"FC_DETECTOR={choice!r} is not a detector.", "Use auto, yunet, haar, or package.module:Class."
        )
    why = "as FC_DETECTOR says"
    if choice == "auto":
        choice, why = (
            ("yunet", "as FC_YUNET_MODEL is set")
            if settings.yunet_model is not None
            else ("haar", "as FC_YUNET_MODEL is not set; YuNet finds more faces")
        )
    confidence = settings.detector_confidence
    candidates = min(CANDIDATES, confidence)
    if choice == "haar":
        return HaarDetector(confidence, candidates), f"haar, {why}."
    if settings.yunet_model is None:
        raise SettingsError(
            "FC_DETECTOR=yunet needs the model file, and FC_YUNET_MODEL is not set.",
            "Run: fc models pull yunet --save",
        )
    return YuNetDetector(settings.yunet_model, confidence, candidates), f"yunet, {why}."
