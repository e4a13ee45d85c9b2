"""The writers, as the registry knows them."""

from __future__ import annotations

from typing import Final

from resources.backends import BackEnd, Finding, Inspection
from resources.generators.base import ModelChoice
from resources.settings import Settings
from resources.writers.base import Writer


def _claude(settings: Settings, _choice: ModelChoice) -> Writer:
    from resources.writers.claude import ClaudeWriter

    return ClaudeWriter.from_settings(settings)


def _offline(_settings: Settings, _choice: ModelChoice) -> Writer:
    from resources.writers.offline import OfflineWriter

    return OfflineWriter()


def _check_key(settings: Settings, used: bool) -> Finding:  # noqa: FBT001 - as `Inspection`
    """Whether there is a key. It is never shown."""
    if CLAUDE.is_ready(settings):
        return Finding("OK", "ANTHROPIC_API_KEY is set")
    if used:
        return Finding("FAIL", "ANTHROPIC_API_KEY is not set", "Set it, or FC_WRITER=offline.")
    return Finding("OK", "ANTHROPIC_API_KEY is not set; Claude is not used")


CLAUDE: Final = BackEnd[Writer](
    kind="writer",
    name="claude",
    about="Claude of Anthropic, for prompts and descriptions",
    make=_claude,
    place="network",
    key="anthropic_api_key",
    rank=10,
    settings=(
        "anthropic_api_key",
        "anthropic_base_url",
        "claude_model",
        "claude_timeout",
        "claude_max_retries",
    ),
    inspection=Inspection("anthropic key", _check_key),
)

OFFLINE: Final = BackEnd[Writer](
    kind="writer",
    name="offline",
    about="rules and measurements, without a model; it says so",
    make=_offline,
    last_resort="no model writes these words",
    trained=False,
)
