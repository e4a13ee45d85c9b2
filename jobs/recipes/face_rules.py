"""Which face gets which prompt, strength, padding and seed: rules, and the tags of a face prompt."""

from __future__ import annotations

import json
import math
import operator
import re
import reprlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from imaging.geometry.boxes import Face
from resources.writers.face_tags import PromptPart, part_of, prompt_parts

MOST_RULES: Final = 32
_LONGEST_RULE: Final = 100_000  # characters: two prompts, with every character escaped
_Words = Annotated[str, Field(max_length=8000)]
_Number = Annotated[float, Field(allow_inf_nan=False)]

# ---- which faces a rule is for

_ORDINAL: Final = r"(?P<n>\d{1,3})(?:st|nd|rd|th)?"
_COMPARE: Final[Mapping[str, Callable[[float, float], bool]]] = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
}
_LIMIT: Final = r"(?P<op>[<>]=?) ?(?P<limit>\d+(?:\.\d+)?) ?"
_TERMS: Final = tuple(
    (kind, re.compile(pattern))
    for kind, pattern in (
        ("all", r"all"),
        ("largest", rf"(?:main face|main|(?:{_ORDINAL} )?largest)"),
        ("smallest", rf"(?:{_ORDINAL} )?smallest"),
        ("left", rf"{_ORDINAL} from left"),
        ("right", rf"{_ORDINAL} from right"),
        ("top", rf"{_ORDINAL} from top"),
        ("bottom", rf"{_ORDINAL} from bottom"),
        ("area", rf"area ?{_LIMIT}%"),
        ("width", rf"width ?{_LIMIT}px"),
        ("confidence", rf"confidence ?{_LIMIT}"),
    )
)
_PLACE: Final[Mapping[str, Callable[[Face], float]]] = {
    "largest": lambda face: -face.box.area,
    "smallest": lambda face: face.box.area,
    "left": lambda face: face.box.center[0],
    "right": lambda face: -face.box.center[0],
    "top": lambda face: face.box.center[1],
    "bottom": lambda face: -face.box.center[1],
}
_SELECTORS: Final = (
    "all, main face, largest, 2nd largest, smallest, 1st from left (right, top, bottom), area > 4 %, width < 64 px, "
    "confidence >= 0.8; `not` before one turns it round, `and` joins several"
)


def matching(selector: str, faces: Sequence[Face], size: tuple[int, int]) -> set[int]:
    """The numbers, from 0, of the faces that a selector means.

    Args:
        selector: such as `largest`, `1st from left`, `area > 4 %` or `not main face and width >= 64 px`.
        faces: the faces of a picture; of equal ones, the earlier counts first.
        size: (width, height) of the picture in pixels.

    Raises:
        ValueError: the selector cannot be read; says what can.
    """
    found = set(range(len(faces)))
    for term in _joined(selector).split(" and "):
        negated = term.startswith("not ")
        meant = _meant(term.removeprefix("not "), faces, size)
        found &= set(range(len(faces))) - meant if negated else meant
    return found


def _meant(term: str, faces: Sequence[Face], size: tuple[int, int]) -> set[int]:
    for kind, pattern in _TERMS:
        match = pattern.fullmatch(term)
        if match is None:
            continue
        said = match.groupdict()
        if kind == "all":
            return set(range(len(faces)))
        if kind in _PLACE:
            place = int(said["n"] or 1)
            if place < 1:
                break
            ordered = sorted(range(len(faces)), key=lambda number: (_PLACE[kind](faces[number]), number))
            return set(ordered[place - 1 : place])
        compare, limit = _COMPARE[said["op"]], float(said["limit"])
        return {number for number, face in enumerate(faces) if compare(_measured(kind, face, size), limit)}
    raise ValueError(f"{term!r} means no face; a rule is for: {_SELECTORS}")


def _measured(kind: str, face: Face, size: tuple[int, int]) -> float:
    if kind == "area":
        return 100 * face.box.area / (size[0] * size[1])
    return face.box.width if kind == "width" else face.score


def _joined(selector: str) -> str:
    return " ".join(selector.lower().split())


def _checked_selector(selector: str) -> str:
    matching(selector, [], (1, 1))
    return _joined(selector)


# ---- rules


def _plain_whole(value: object) -> object:
    if isinstance(value, float) or (isinstance(value, str) and not re.fullmatch(r"[+-]?(0|[1-9][0-9]{0,17})", value)):
        raise ValueError("must be a whole number, written plainly")
    return value


class FaceRule(BaseModel):
    """What is different for some faces. A field that is left out leaves what holds without the rule.

    As text: `SELECTOR: skip`, or `SELECTOR: strength=0.3; padding=0.4; prompt=an old man`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, str_strip_whitespace=True)

    faces: Annotated[str, Field(max_length=200), AfterValidator(_checked_selector)] = Field(
        description=f"Which faces: {_SELECTORS}."
    )
    prompt: _Words | None = Field(
        None, description="Face prompt, used as it is; [PROMPT] in it stands for the one that would hold without it."
    )
    negative_prompt: _Words | None = Field(None, description="Negative prompt, used as it is.")
    strength: _Number | None = Field(None, ge=0, le=1, description="Denoising strength.")
    padding: _Number | None = Field(
        None, ge=0, le=3, description="Room around the face, as a share of its longer side."
    )
    seed_offset: Annotated[int, BeforeValidator(_plain_whole)] | None = Field(
        None, ge=0, le=2**31, description="Added to the job's seed."
    )
    skip: bool | None = Field(None, description="Leave these faces as they are.")

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: object) -> object:
        return _read(value) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _says_something(self) -> FaceRule:
        if not self.said():
            raise ValueError("says nothing; give skip, prompt, negative_prompt, strength, padding or seed_offset")
        return self

    def said(self) -> dict[str, Any]:
        """The fields that it gives, besides `faces`."""
        return self.model_dump(exclude_none=True, exclude={"faces"})

    def __str__(self) -> str:
        """The rule as text; as JSON where a prompt holds what would end it in the text."""
        said = self.said()
        text = f"{self.faces}: " + "; ".join(f"{name}={value}" for name, value in said.items())
        try:
            same = FaceRule.model_validate(text) == self
        except ValidationError:
            same = False
        return text if same else json.dumps({"faces": self.faces, **said})


def _read(text: str) -> Any:  # noqa: ANN401 - what pydantic checks next
    if len(text) > _LONGEST_RULE:
        raise ValueError(f"has {len(text)} characters; a rule has {_LONGEST_RULE} at most")
    if text.lstrip().startswith("{"):
        try:
            return json.loads(text)
        except RecursionError:
            raise ValueError("lists or objects stand in each other too deep") from None
    selector, colon, rest = text.partition(":")
    if not colon:
        raise ValueError("has no ':'; write it as SELECTOR: skip, or SELECTOR: strength=0.3; prompt=an old man")
    fields: dict[str, Any] = {"faces": selector}
    for part in filter(None, map(str.strip, rest.split(";"))):
        name, equals, value = (piece.strip() for piece in part.partition("="))
        if name in fields:
            raise ValueError(f"names {name} twice")
        if not equals and name != "skip":
            raise ValueError(f"{name!r} has no value; write NAME=VALUE")
        fields[name] = value if equals else True
    return fields


def rule_text(value: object) -> str:
    """A rule, given as text or as an object, in its one written form.

    Raises:
        ValueError: says what is wrong with it.
    """
    try:
        return str(FaceRule.model_validate(value))
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(map(str, problem["loc"]))
        said = str(problem["msg"]).removeprefix("Value error, ")
        raise ValueError(f"the rule {reprlib.repr(value)}: {field}{': ' if field else ''}{said}") from None


RuleTexts = Annotated[list[Annotated[str, BeforeValidator(rule_text)]], Field(max_length=MOST_RULES)]
"""Rules in a request: each a text, or an object with the fields of a `FaceRule`; kept as text."""


@dataclass(frozen=True, slots=True)
class FacePlan:
    """What is done with one face.

    Attributes:
        left: why it is left as it is; empty when it is made anew.
        rules: the numbers of the rules that it matches, from 1, in their order.
        prompt: its prompt by rule, or None.
        negative_prompt: the same.
        strength: denoising strength by rule, or None.
        padding: padding by rule, or None.
        seed_offset: what is added to the job's seed.
    """

    left: str = ""
    rules: tuple[int, ...] = ()
    prompt: str | None = None
    negative_prompt: str | None = None
    strength: float | None = None
    padding: float | None = None
    seed_offset: int = 0

    def words(self, usual: str) -> str:
        """The face's prompt, given the one that holds without a rule."""
        return usual if self.prompt is None else self.prompt.replace("[PROMPT]", usual)


SMALL, LARGE = 0.01, 0.25  # shares of the picture


def denoising_strength(usual: float, large: float | None, share: float) -> float:
    """The strength of the face pass for a face of a share of the picture, 0 to 1.

    Small faces lack detail and get the usual strength; large ones have their own, and are easily made worse. Between
    1 % and a quarter of the picture it goes over from one to the other evenly with the face's width.

    Args:
        usual: for faces up to 1 % of the picture.
        large: for faces from a quarter of it on; None: the usual one for all.
        share: area of the face's box over that of the picture.
    """
    if large is None:
        return usual
    low, high = math.sqrt(SMALL), math.sqrt(LARGE)
    there = min(1.0, max(0.0, (math.sqrt(share) - low) / (high - low)))
    return float(round(usual + (large - usual) * there, 4))


def plan_faces(
    rules: Sequence[FaceRule], face_prompt: str, faces: Sequence[Face], size: tuple[int, int]
) -> list[FacePlan]:
    """What is done with each face of a picture.

    Rules are applied in their order, so a later one wins over an earlier one, field by field; a face that the prompt's
    tags leave alone is left alone whatever the rules say. Each face's seed offset is its number, from 0, unless a rule
    gives another.

    Args:
        rules: the request's.
        face_prompt: the request's face prompt, with its tags.
        faces: in the order of the portrait stage.
        size: (width, height) of the picture in pixels.
    """
    parts = prompt_parts(face_prompt)
    matched = [matching(rule.faces, faces, size) for rule in rules]
    return [
        _plan(number, part_of(parts, number), [place for place, meant in enumerate(matched) if number in meant], rules)
        for number in range(len(faces))
    ]


def _plan(number: int, part: PromptPart, applied: Sequence[int], rules: Sequence[FaceRule]) -> FacePlan:
    said: dict[str, Any] = {"seed_offset": number}
    left = ""
    for place in applied:
        here = rules[place].said()
        if "skip" in here:
            left = f"rule {place + 1} says skip" if here.pop("skip") else ""
        said |= here
    if part.left:
        left = f"the face prompt says {'[STOP]' if part.stop else '[SKIP]'}"
    return FacePlan(left, tuple(place + 1 for place in applied), **said)
