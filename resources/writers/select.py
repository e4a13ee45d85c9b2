"""Which writer the settings ask for."""

from __future__ import annotations

from imaging.errors import SettingsError
from resources.plugins import is_dotted_path, load_plugin
from resources.settings import Settings
from resources.writers.base import Writer
from resources.writers.claude import ClaudeWriter
from resources.writers.offline import OfflineWriter


def make_writer(settings: Settings) -> tuple[Writer, str]:
    """Make the writer that `FC_WRITER` names, and say why it is this one.

    `auto` takes Claude when there is a key and the offline writer otherwise. A writer that is named is taken
    or refused, never replaced. No request is sent.

    Raises:
        SettingsError: `claude` without a key, an unknown name, or a dotted path that cannot be loaded.
    """
    has_key = bool(settings.anthropic_api_key.get_secret_value().strip())
    choice = settings.writer
    if is_dotted_path(choice):
        return load_plugin(choice, "FC_WRITER")(settings), f"{choice}, as FC_WRITER says."
    match choice:
        case "auto" if has_key:
            return ClaudeWriter.from_settings(settings), "claude, as ANTHROPIC_API_KEY is set."
        case "auto":
            return OfflineWriter(), "offline, as ANTHROPIC_API_KEY is not set; no model writes these words."
        case "claude" if has_key:
            return ClaudeWriter.from_settings(settings), "claude, as FC_WRITER says."
        case "claude":
            raise SettingsError(
                "FC_WRITER is claude, but ANTHROPIC_API_KEY is not set.",
                "Set ANTHROPIC_API_KEY, or set FC_WRITER to offline.",
            )
        case "offline":
            return OfflineWriter(), "offline, as FC_WRITER says."
        case _:
            raise SettingsError(
                f"FC_WRITER is {choice!r}, which is no writer.",
                "Use auto, claude, offline, or package.module:Class.",
            )
