"""What Claude costs: one table, dated, and the sum for one answer.

Source: https://platform.claude.com/docs/en/about-claude/pricing and the model pages beside it, as of 2026-10-24;
standard tier, five-minute cache writes. Prices change: raise `PRICES_DATED` with every change of the table.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

PRICES_DATED = "2026-10-24"


@dataclass(frozen=True, slots=True)
class Price:
    """US dollars per million tokens: read fresh, written, read from the cache, written to the cache."""

    input: float
    output: float
    cache_read: float
    cache_write: float


_PRICES = {
    "claude-haiku-5-5": Price(0.10, 0.50, 0.01, 0.125),  # prompts up to 100,000 tokens, which ours never exceed
    "claude-haiku-4-5": Price(1.00, 5.00, 0.10, 1.25),
    "claude-sonnet-5-5": Price(2.00, 10.00, 0.10, 2.50),
    "claude-sonnet-5": Price(2.00, 10.00, 0.20, 2.50),
    "claude-sonnet-4-6": Price(3.00, 15.00, 0.30, 3.75),
    "claude-sonnet-4-5": Price(3.00, 15.00, 0.30, 3.75),
    "claude-opus-5-5": Price(4.00, 20.00, 0.20, 5.00),
    "claude-opus-5": Price(5.00, 25.00, 0.50, 6.25),
    "claude-opus-4-8": Price(5.00, 25.00, 0.50, 6.25),
    "claude-opus-4-7": Price(5.00, 25.00, 0.50, 6.25),
    "claude-opus-4-6": Price(5.00, 25.00, 0.50, 6.25),
    "claude-opus-4-5": Price(5.00, 25.00, 0.50, 6.25),
    "claude-opus-4-1": Price(15.00, 75.00, 1.50, 18.75),
}


def price_of(model: str) -> Price | None:
    """The price of a model by its id, with or without a release date (`claude-haiku-4-5-20251001`).

    A newer model is never taken for an older one whose id it extends: what is not in the table has no price.
    """
    return _PRICES.get(re.sub(r"-20\d{6}$", "", model))


def cost_usd(model: str, fresh_input: int, output: int, cache_read: int, cache_write: int) -> float | None:
    """The price of one answer in US dollars; None when the model's price is not known."""
    price = price_of(model)
    if price is None:
        return None
    total = (
        fresh_input * price.input
        + output * price.output
        + cache_read * price.cache_read
        + cache_write * price.cache_write
    )
    return total / 1_000_000
