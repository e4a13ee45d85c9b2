"""Back ends by dotted path: `package.module:Class`, called with the settings."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from imaging.errors import SettingsError
from resources.settings import Settings


def is_dotted_path(spec: str) -> bool:
    """Whether `spec` is meant as `package.module:Class`, rather than as the name of a built-in back end."""
    return ":" in spec


def load_plugin(spec: str, setting: str) -> Callable[[Settings], Any]:
    """The class or function that `spec` names.

    Args:
        spec: `package.module:Class`; `Class` may be dotted itself.
        setting: the environment variable it came from, for messages, for example `FC_DETECTOR`.

    Raises:
        SettingsError: `spec` has another shape, its module cannot be imported, or holds no such callable.
    """
    module_name, _, attribute = spec.partition(":")
    if not all(name.isidentifier() for name in [*module_name.split("."), *attribute.split(".")]):
        raise SettingsError(f"{setting}={spec!r} is not a dotted path.", "Write it as package.module:Class.")
    try:
        found: Any = importlib.import_module(module_name)
    except Exception as error:  # an import may fail in any way, and each way makes the setting wrong
        why = f"{type(error).__name__}: {error}"
        raise SettingsError(
            f"{setting}={spec!r}: the module {module_name} cannot be imported ({why}).",
            "Install it in this environment, or correct the path.",
        ) from error
    for name in attribute.split("."):
        try:
            found = getattr(found, name)
        except AttributeError as error:
            raise SettingsError(
                f"{setting}={spec!r}: {module_name} has no {attribute}.", "Correct the name after the colon."
            ) from error
    if not callable(found):
        raise SettingsError(f"{setting}={spec!r}: {attribute} cannot be called.", "Name a class or a function.")
    called: Callable[[Settings], Any] = found
    return called
