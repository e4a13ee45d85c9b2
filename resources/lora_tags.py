"""LoRAs that a prompt names, as A1111 users write them."""

from __future__ import annotations


def take_loras(text: str) -> tuple[str, tuple[str, ...]]:
    """A prompt without its LoRA tags, and the LoRAs as `NAME=WEIGHT`."""
    return text, ()
