"""How options become part of a content key."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


def options_key(options: DataclassInstance) -> dict[str, Any]:
    """Options as JSON values for a content key; a later option, None by default, only where it says something.

    So results that were made before there was such an option are still found.
    """
    return {name: value for name, value in asdict(options).items() if value is not None}


def before_hash(decides: Mapping[str, Any]) -> Mapping[str, Any]:
    """What decided the same result before a server knew its checkpoint's hash, which A1111 makes with the first image.

    Args:
        decides: what decides a result now.
    """
    generator = decides.get("generator")
    if not isinstance(generator, Mapping) or not generator.get("model_hash"):
        return decides
    return {**decides, "generator": {**generator, "model_hash": None}}
