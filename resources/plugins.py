"""What the installed packages declare as back ends (entry points), and what a dotted path `package.module:Class` names.

Nothing of a back end is imported before it is asked for: names are read from the metadata of the packages alone.
"""

from __future__ import annotations

import importlib
import tomllib
from collections.abc import Callable, Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, Final, Literal, get_args

from imaging.errors import SettingsError

Kind = Literal["generator", "writer", "detector", "encoder", "editor"]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
PACKAGE: Final = "face-changer"
ROOT: Final = Path(__file__).resolve().parent.parent


def group(kind: Kind) -> str:
    """The entry points' group of a kind."""
    return f"face_changer.{kind}s"


def is_dotted_path(spec: str) -> bool:
    """Whether `spec` is meant as `package.module:Class`, rather than as the name of a back end."""
    return ":" in spec


def names(kind: Kind) -> tuple[str, ...]:
    """The names of the installed back ends of a kind, sorted."""
    return tuple(sorted({entry.name for entry in _installed().get(group(kind), ())}))


def choices(kind: Kind) -> str:
    """What a setting that names a back end of this kind may be, in words."""
    return in_words(names(kind))


def in_words(known: tuple[str, ...]) -> str:
    """Names that may be chosen, in words, with those that are always understood."""
    return ", ".join(["auto", *known, "or package.module:Class"])


def declared(kind: Kind) -> Mapping[str, EntryPoint]:
    """The entry points of a kind, by name, in the order of the names.

    Raises:
        SettingsError: two packages declare one name, or the installed metadata of face-changer are older than its code.
    """
    found: dict[str, EntryPoint] = {}
    for entry in sorted(_installed().get(group(kind), ()), key=lambda entry: entry.name):
        other = found.setdefault(entry.name, entry)
        if other.value != entry.value:
            raise SettingsError(
                f"Two packages have a {kind} {entry.name}: {package_of(other)} and {package_of(entry)}.",
                "Uninstall one of them.",
            )
    missing = [name for name, value in own(kind).items() if name not in found or found[name].value != value]
    if missing:
        raise SettingsError(
            f"face-changer was installed before it had the {kind} {', '.join(missing)}, so these cannot be found.",
            f"Run again: pip install --editable {ROOT}",
        )
    return found


@cache
def own(kind: Kind) -> Mapping[str, str]:
    """What the `pyproject.toml` beside this code declares, name to value; empty where there is none."""
    file = ROOT / "pyproject.toml"
    project = tomllib.loads(file.read_text(encoding="utf-8")).get("project", {}) if file.is_file() else {}
    found = project.get("entry-points", {}) if project.get("name") == PACKAGE else {}
    return dict(found.get(group(kind), {}))


def package_of(entry: EntryPoint) -> str:
    """The name of the package that declares an entry point."""
    return entry.dist.name if entry.dist else "a package without metadata"


@cache
def _installed() -> Mapping[str, tuple[EntryPoint, ...]]:
    """All entry points of back ends, by group; read once per process."""
    found = entry_points()
    return {group(kind): tuple(found.select(group=group(kind))) for kind in KINDS}


def load_plugin(spec: str, setting: str) -> Callable[..., Any]:
    """The class or function that a dotted path names.

    Args:
        spec: `package.module:Class`; `Class` may be dotted itself.
        setting: where it was named, for messages, for example `FC_DETECTOR`.

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
    called: Callable[..., Any] = found
    return called
