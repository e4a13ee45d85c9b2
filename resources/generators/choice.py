"""What a job says of the model, and which generator can do it."""

from __future__ import annotations

from imaging.errors import SettingsError
from resources.generators.base import ModelChoice

_WORDS = {"more_loras": "<lora:...> in a prompt"}


def check_honoured(generator: str, honours: frozenset[str], choice: ModelChoice) -> None:
    """Nothing when a generator can do all that a job says of the model.

    Args:
        generator: its name.
        honours: names of the fields of `ModelChoice` that it can take.
        choice: what the job says.

    Raises:
        SettingsError: names the first field that it cannot take.
    """
    for field in choice.given():
        if field not in honours:
            able = ", ".join(_WORDS.get(name, name) for name in sorted(honours)) or "nothing"
            raise SettingsError(
                f"{_WORDS.get(field, field)}: the generator {generator} cannot be given this by a job.",
                f"Leave it out, or use another generator. Of the model, {generator} takes from a job: {able}.",
            )
