"""Which writer the settings give, and why."""

from __future__ import annotations

from typing import Any

import pytest

from imaging.errors import SettingsError
from resources.choose import make_writer
from resources.settings import Settings
from resources.writers.claude import ClaudeWriter
from resources.writers.offline import OfflineWriter


def settings(writer: str = "auto", key: str = "") -> Settings:
    fields: dict[str, Any] = {"writer": writer, "ANTHROPIC_API_KEY": key, "ANTHROPIC_BASE_URL": "http://localhost:1"}
    return Settings(_env_file=None, **fields)


class PluginWriter(OfflineWriter):
    """A writer from outside: made from the settings."""

    def __init__(self, given: Settings) -> None:
        self.given = given


@pytest.mark.parametrize(
    ("name", "key", "kind", "reason"),
    [
        ("auto", "sk-1", ClaudeWriter, "ANTHROPIC_API_KEY is set"),
        ("auto", "", OfflineWriter, "ANTHROPIC_API_KEY is not set"),
        ("auto", "  ", OfflineWriter, "ANTHROPIC_API_KEY is not set"),
        ("claude", "sk-1", ClaudeWriter, "claude, as FC_WRITER says"),
        ("offline", "sk-1", OfflineWriter, "offline, as FC_WRITER says"),
    ],
)
def test_the_choice_and_its_reason(name: str, key: str, kind: type, reason: str) -> None:
    writer, why = make_writer(settings(name, key))
    assert type(writer) is kind
    assert reason in why
    assert "sk-1" not in why


def test_claude_without_a_key_is_an_error_and_no_fallback() -> None:
    with pytest.raises(SettingsError, match="ANTHROPIC_API_KEY"):
        make_writer(settings("claude"))


def test_an_unknown_name_is_an_error_that_lists_the_known_ones() -> None:
    with pytest.raises(SettingsError, match="gpt") as caught:
        make_writer(settings("gpt"))
    assert "offline" in caught.value.hint


def test_a_dotted_path_is_loaded_and_given_the_settings() -> None:
    given = settings(f"{__name__}:PluginWriter")
    writer, why = make_writer(given)
    assert isinstance(writer, PluginWriter)
    assert writer.given is given
    assert f"{__name__}:PluginWriter" in why


def test_a_dotted_path_that_leads_nowhere_names_the_setting() -> None:
    with pytest.raises(SettingsError, match="FC_WRITER"):
        make_writer(settings("no.such.module:Writer"))
