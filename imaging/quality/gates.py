"""Gates between stages: whether a score is good enough to go on, to go on with a word, or to wait for a person."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Mode = Literal["off", "warn", "review"]
SHOWN = 3  # of the parts of a score, the lowest


@dataclass(frozen=True, slots=True)
class Gate:
    """What is asked of a score.

    Attributes:
        name: what is looked at, as a person calls it, such as `the quality of the generated image`.
        mode: `off` lets everything through, `warn` says so, `review` makes the job wait for a person.
        minimum: the least score that passes, 0 to 1.

    Raises:
        ValueError: a minimum outside 0 to 1.
    """

    name: str
    mode: Mode
    minimum: float

    def __post_init__(self) -> None:
        if not 0 <= self.minimum <= 1:
            raise ValueError(f"The minimum of a gate must be 0 to 1; got {self.minimum}.")


@dataclass(frozen=True, slots=True)
class Decision:
    """What a gate decided.

    Attributes:
        verdict: `pass`, `warn` or `review`.
        text: one sentence with the numbers that decided; empty when it passed.
        numbers: the score, the minimum, and the score's parts.
    """

    verdict: Literal["pass", "warn", "review"]
    text: str = ""
    numbers: Mapping[str, float] = field(default_factory=dict)


def read_gate(name: str, text: str) -> Gate:
    """A gate as a setting writes it: `off`, `warn N` or `review N`, N from 0 to 1.

    Raises:
        ValueError: it is none of these.
    """
    match = re.fullmatch(r"(?:off|(warn|review) +(0?\.\d+|[01](?:\.0*)?))", text.strip())
    if match is None:
        raise ValueError(f"{text!r} is no gate; write off, warn N or review N, with N from 0 to 1, such as review 0.5")
    mode: Mode = "warn" if match[1] == "warn" else "review" if match[1] else "off"
    return Gate(name, mode, float(match[2] or 0))


def decide(gate: Gate, score: float, parts: Mapping[str, float] | None = None) -> Decision:
    """What a gate says to a score.

    Args:
        gate: what is asked.
        score: 0 to 1.
        parts: what the score was made of, each 0 to 1; the lowest of them are named.

    Raises:
        ValueError: a score that is not a number from 0 to 1.
    """
    if not 0 <= score <= 1:
        raise ValueError(f"A score must be 0 to 1; got {score} for {gate.name}.")
    parts = parts or {}
    numbers = {**parts, "score": score, "minimum": gate.minimum}
    if gate.mode == "off" or score >= gate.minimum:
        return Decision("pass", numbers=numbers)
    lowest = sorted(parts.items(), key=lambda part: part[1])[:SHOWN]
    named = f" (lowest: {', '.join(f'{name} {value:.3g}' for name, value in lowest)})" if lowest else ""
    return Decision(gate.mode, f"{gate.name} is {score:.3g}, under {gate.minimum:.3g}{named}", numbers)
