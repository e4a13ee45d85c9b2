"""What an answer of Claude costs."""

from __future__ import annotations


def cost_usd(model: str, fresh_input: int, output: int, cache_read: int, cache_write: int) -> float | None:
    """The price of one answer in US dollars; None when the model's price is not known.

    Args:
        model: its id, with or without a release date (`claude-haiku-4-5-20251001`). A newer model is never taken for
            an older one whose id it extends.
        fresh_input: tokens that were neither read from the cache nor written to it.
        output: tokens of the answer.
        cache_read: tokens read from the cache.
        cache_write: tokens written to the cache, for five minutes.
    """
    from genai_prices import Usage, calc_price

    usage = Usage(
        input_tokens=fresh_input + cache_read + cache_write,
        output_tokens=output,
        cache_read_tokens=cache_read,
        cache_write_tokens=cache_write,
    )
    try:
        return float(calc_price(usage, model_ref=model, provider_id="anthropic").total_price)
    except LookupError:
        return None
