"""Which face encoder the settings ask for."""

from __future__ import annotations

from resources.encoders.base import FaceEncoder
from resources.settings import Settings


def make_encoder(settings: Settings) -> tuple[FaceEncoder | None, str]:
    """SFace when `FC_SFACE_MODEL` is set, else None; and one sentence that says which and why.

    Raises:
        SettingsError: a model file that cannot be used.
    """
    if settings.sface_model is None:
        return None, "none, as FC_SFACE_MODEL is not set, so nobody tells whose face it is."
    from resources.encoders.sface import SFaceEncoder

    return SFaceEncoder(settings.sface_model), "sface, as FC_SFACE_MODEL is set."
