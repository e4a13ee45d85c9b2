"""A line chart as SVG, written by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

WIDTH, HEIGHT = 560, 300
LEFT, RIGHT, TOP, BOTTOM = 56, 16, 34, 84
COLORS = ("#0b6e99", "#c2571a", "#777777")


def line_chart(title: str, across: str, up: str, ticks: Sequence[str], lines: Mapping[str, Sequence[float]]) -> str:
    """An SVG of lines over evenly spaced ticks; values from 0 to 1.

    Raises:
        ValueError: a line without a value for each tick, or fewer than two ticks.
    """
    if len(ticks) < 2 or any(len(values) != len(ticks) for values in lines.values()):
        raise ValueError(f"Each line needs a value for each of two or more ticks; got {len(ticks)} ticks.")
    wide, high = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
    xs = [LEFT + wide * number / (len(ticks) - 1) for number in range(len(ticks))]

    def y(value: float) -> float:
        return TOP + high * (1 - value)

    parts = [_text(WIDTH / 2, 20, title, bold=True), _text(WIDTH / 2, HEIGHT - 40, across)]
    parts.append(f'<g transform="rotate(-90 14 {TOP + high / 2})">{_text(14, TOP + high / 2, up)}</g>')
    for value in (0.0, 0.25, 0.5, 0.75, 1.0):
        parts.append(f'<path d="M{LEFT} {y(value):.1f}H{WIDTH - RIGHT}" stroke="#ddd"/>')
        parts.append(_text(LEFT - 20, y(value) + 4, f"{value:g}"))
    parts += [_text(x, TOP + high + 18, tick) for x, tick in zip(xs, ticks, strict=True)]
    for number, (name, values) in enumerate(lines.items()):
        color = COLORS[number % len(COLORS)]
        points = " ".join(f"{x:.1f},{y(value):.1f}" for x, value in zip(xs, values, strict=True))
        parts.append(f'<polyline points="{points}" fill="none" stroke="{color}" stroke-width="2"/>')
        place = LEFT + wide * (number + 0.5) / len(lines)
        parts.append(f'<path d="M{place - 72:.1f} {HEIGHT - 16}h14" stroke="{color}" stroke-width="3"/>')
        parts.append(_text(place, HEIGHT - 12, name))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" '
        f'font-size="11"><rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>' + "\n".join(parts) + "</svg>\n"
    )


def _text(x: float, y: float, text: str, *, bold: bool = False) -> str:
    weight = ' font-weight="bold"' if bold else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="middle"{weight}>{escape(text)}</text>'
