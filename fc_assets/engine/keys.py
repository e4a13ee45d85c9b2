"""How options become part of a content key."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


def options_key(options: DataclassInstance) -> dict[str, Any]:
    """Options as JSON values for a content key; a later option, None by default, only where it says something.

    So results that were made before there was such an option are still found.
    """
    return {name: value for name, value in asdict(options).items() if value is not None}
