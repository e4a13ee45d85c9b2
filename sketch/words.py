"""Prompt words become wishes: how many people, what each looks like, and where they are.

Every person is painted as a clothed adult, whatever the words say.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from itertools import pairwise
from typing import Final, NamedTuple

MAX_PEOPLE: Final = 6


@dataclass(frozen=True, slots=True)
class Wish:
    """What the words say about one person; None or False where they are silent, values as in `palette`."""

    gender: str | None = None
    age: str | None = None
    skin: str | None = None
    hair_color: str | None = None
    hair_style: str | None = None
    hair_texture: str | None = None
    beard: str | None = None
    eyes: str | None = None
    glasses: str | None = None
    hat: str | None = None
    freckles: str | None = None
    garment: str | None = None
    cloth: str | None = None
    expression: str | None = None
    lipstick: str | None = None
    blush: str | None = None


@dataclass(frozen=True, slots=True)
class Brief:
    """A whole prompt, read.

    Attributes:
        people: one wish per person, one to six, in the order of the words.
        place: the background, or None.
        light: `warm`, `cold` or `dramatic`, or None.
        monochrome: black and white.
        banned: for each field of `Wish`, and for `place` and `light`, the values that must not be chosen.
    """

    people: tuple[Wish, ...]
    place: str | None
    light: str | None
    monochrome: bool
    banned: dict[str, frozenset[str]]


# ---------------------------------------------------------------------------------------------------------------
# Vocabulary: a pattern and the value it stands for, tried in order.

Vocabulary = tuple[tuple[str, str], ...]

_HAIR_COLORS: Final[Vocabulary] = (
    (r"(?:jet|raven|ebony)(?:[- ]?black)?|black", "black"),
    (r"dark[- ]?brown|brunette|chocolate", "dark brown"),
    (r"auburn|chestnut|copper|reddish[- ]brown", "auburn"),
    (r"light[- ]brown|brown", "brown"),
    (r"strawberry[- ]blonde?|red|ginger|orange|redhead(?:ed)?", "red"),
    (r"(?:platinum|golden|dark|light|honey|dirty|ash)[- ]blonde?|blonde?|golden|yellow|fair", "blonde"),
    (r"silver|grey|gray|salt[- ]and[- ]pepper", "grey"),
    (r"white|snowy", "white"),
    (r"blue|teal|turquoise|cyan", "blue"),
    (r"pink|rose", "pink"),
    (r"purple|violet|lavender|lilac", "purple"),
    (r"green|mint", "green"),
)
_EYE_COLORS: Final[Vocabulary] = (
    (r"dark|black|dark[- ]brown", "dark"),
    (r"hazel", "hazel"),
    (r"(?:light[- ])?brown|chestnut", "brown"),
    (r"(?:icy?|bright|light|deep|dark|sky|pale)?[- ]?blue|sapphire|aqua|teal|turquoise", "blue"),
    (r"(?:emerald|bright|light|dark|sea)?[- ]?green|emerald", "green"),
    (r"gr[ea]y|silver", "grey"),
    (r"amber|golden|gold|yellow|orange", "amber"),
    (r"purple|violet|lavender|pink", "purple"),
    (r"red|crimson|scarlet", "red"),
)
_CLOTH_COLORS: Final[Vocabulary] = (
    (r"burgundy|maroon|wine|crimson|dark[- ]red", "burgundy"),
    (r"red|scarlet", "red"),
    (r"mustard|ochre", "mustard"),
    (r"orange|rust|coral", "orange"),
    (r"yellow", "yellow"),
    (r"olive|khaki|army[- ]green", "olive"),
    (r"teal|petrol", "teal"),
    (r"turquoise|cyan|aqua", "turquoise"),
    (r"green|emerald|mint", "green"),
    (r"navy(?:[- ]blue)?|dark[- ]blue|midnight[- ]blue", "navy"),
    (r"denim|jeans?", "denim"),
    (r"blue|azure|sky[- ]blue|royal[- ]blue", "blue"),
    (r"purple|violet|lavender|lilac", "purple"),
    (r"pink|magenta|rose", "pink"),
    (r"brown|leather|chocolate", "brown"),
    (r"beige|tan|camel|sand", "beige"),
    (r"cream|ivory", "cream"),
    (r"white", "white"),
    (r"silver", "silver"),
    (r"gr[ea]y|charcoal", "grey"),
    (r"black", "black"),
    (r"gold(?:en)?", "gold"),
)
_GARMENTS: Final[Vocabulary] = (
    (r"space[- ]?suits?|astronauts?|cosmonauts?", "spacesuit"),
    (r"suits?(?: and tie)?|tuxedos?|tux|blazers?|business ?(?:wo)?m[ae]n|necktie|tie", "suit"),
    (r"(?:summer |evening |cocktail |sun ?)?(?:dress(?:es)?|gowns?)", "dress"),
    (r"hood(?:ies?|y|ed sweatshirt)|sweatshirts?", "hoodie"),
    (r"jackets?|coats?|parkas?|trench ?coats?|uniforms?|armou?r|cardigans?", "jacket"),
    (r"sweaters?|jumpers?|turtle ?necks?|pullovers?|knit(?:wear|ted)?", "sweater"),
    (r"t-?shirts?|tees?|tank ?tops?|tops?", "t-shirt"),
    (r"(?:button[- ](?:up|down) )?shirts?|blouses?|polo", "shirt"),
)
_HATS: Final[Vocabulary] = (
    (r"beanies?|(?:knit(?:ted)?|woolly|winter|wool) (?:hats?|caps?)", "beanie"),
    (r"(?:baseball |flat )?caps?", "cap"),
    (
        r"(?:cowboy|straw|sun|bowler|top|felt|wide[- ]brimmed|brimmed)?[- ]?hats?|fedoras?|sombreros?|panamas?",
        "hat",
    ),
)
_EXPRESSIONS: Final[Vocabulary] = (
    (r"laugh(?:s|ing|ter)?|big smile|grin(?:s|ning)?|broad(?:ly)? smil\w+|beaming|cheerful", "laughing"),
    (r"smil(?:e|es|ing|ey)|happy|joyful|friendly|cheery", "smiling"),
    (r"sad|crying|melanchol(?:y|ic)|sorrow(?:ful)?|unhappy|gloomy|frown(?:s|ing)?", "sad"),
    (r"angry|furious|mad|scowl(?:s|ing)?|rage", "angry"),
    (r"surprised?|shocked|astonished|amazed|startled", "surprised"),
    (r"neutral(?: expression)?|serious|stern|calm|stoic|solemn|thoughtful", "neutral"),
)
_PLACES: Final[Vocabulary] = (
    (r"outer space|space|galax(?:y|ies)|nebula|cosmos|starship|planets?", "space"),
    (r"sunset|sunrise|dusk|dawn|golden hour", "sunset"),
    (r"forests?|woods?|woodland|trees|jungle", "forest"),
    (r"cit(?:y|yscape)|streets?|urban|downtown|skyline|skyscrapers?|neon|cyberpunk|tokyo|new york", "city"),
    (r"beach(?:es)?|sea(?:side|shore)?|oceans?|coast|shore|tropical", "beach"),
    (r"mountains?|alps|alpine|hills?|peaks?|snowy", "mountains"),
    (r"gardens?|flowers?|parks?|meadows?|blossoms?|roses|field", "garden"),
    (r"rooms?|indoors?|interior|office|kitchen|library|caf[eé]|home|living ?room|bedroom|window", "room"),
    (r"night(?:time)?|moon(?:lit|light)?|starry", "night"),
    (r"studio|plain background|simple background|backdrop|gr[ea]y background|white background", "studio"),
)
_LIGHTS: Final[Vocabulary] = (
    (
        r"dramatic|chiaroscuro|rembrandt(?: light(?:ing)?)?|moody|low[- ]key|film noir|rim light(?:ing)?",
        "dramatic",
    ),
    (r"warm|golden hour|candle ?lit|candlelight|firelight|sunlit|sunset|golden light", "warm"),
    (r"cold|cool (?:light\w*|tones?)|moonlight|moonlit|icy light|blue hour|winter light", "cold"),
)
_SKINS: Final[Vocabulary] = (
    (r"(?:very )?(?:pale|porcelain|ivory|white)", "pale"),
    (r"fair|light|rosy|caucasian|european", "fair"),
    (r"olive|asian|mediterranean|beige", "light"),
    (r"tan(?:ned)?|golden|bronzed?|latin[ao]|hispanic|arab", "tan"),
    (r"brown|indian|caramel|medium", "brown"),
    (r"dark(?:[- ]brown)?|black|ebony|deep|african(?:[- ]american)?", "dark"),
)
_LIPSTICKS: Final[Vocabulary] = (
    (r"red|crimson|scarlet", "red"),
    (r"pink|rose", "pink"),
    (r"purple|plum|violet|berry", "purple"),
    (r"black|dark", "black"),
    (r"orange|coral", "orange"),
    (r"brown", "brown"),
    (r"nude|natural", "nude"),
)
_STYLES: Final[Vocabulary] = (
    (r"bald(?:ing)?|shaved head|hairless", "bald"),
    (r"(?:hair )?bun|updo|top ?knot|chignon", "bun"),
    (r"pony[- ]?tails?|pigtails?", "ponytail"),
    (r"bob(?: cut| hair\w*)?|shoulder[- ]length|medium(?:[- ]length)? hair|chin[- ]length", "bob"),
)
_BEARDS: Final[Vocabulary] = (
    (r"stubble|unshaven|five o'?clock shadow", "stubble"),
    (r"(?:full |long |short |bushy |thick |trimmed )?beard(?:ed)?|goatee", "beard"),
    (r"m(?:o)?ustached?|moustaches", "moustache"),
)

_NUMBERS: Final = {"one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8}
_AMOUNTS: Final = {"both": 2, "several": 4, "many": 6}
_MOST_COUNTED: Final = 99
_WOMAN: Final = r"wom[ae]n|girls?|lad(?:y|ies)|females?|actress(?:es)?|queens?|princess(?:es)?|mothers?|sisters?"
_WOMAN_MORE: Final = r"|grandmothers?|grandmas?|witch(?:es)?|daughters?|businesswom[ae]n|brides?|waitress(?:es)?"
_MAN: Final = r"m[ae]n|boys?|guys?|gentlem[ae]n|males?|actors?|kings?|princes?|fathers?|brothers?|grandfathers?"
_MAN_MORE: Final = r"|grandpas?|wizards?|sons?|businessm[ae]n|grooms?|fisherm[ae]n|cowboys?(?! hat)|sailors?"
_ANYONE: Final = r"people|persons?|friends?|humans?|portraits of people|couples?|adults?|astronauts?|characters?"
_ANYONE_MORE: Final = r"|family|families|students?|colleagues?|musicians?|band|team|trio|twins|crowd|group"
_GENDERS: Final = (
    ("woman", _WOMAN + _WOMAN_MORE),
    ("man", _MAN + _MAN_MORE),
    ("any", _ANYONE + _ANYONE_MORE),
)
_GROUPS: Final = {
    "couple": 2, "twins": 2, "trio": 3, "family": 4, "families": 4, "band": 4, "team": 4, "group": 4, "crowd": 6,
}  # fmt: skip
_PERSON: Final = re.compile(
    r"(?<![\w-])(?:(?P<count>\d+|one|two|three|four|five|six|seven|eight|both|several|many|an?|the|another)[ -]?)?"
    r"(?P<words>(?:(?!(?:and|with|or|of|in|on|at|by|next|beside|near|the)\b)[\w'-]+ ){0,4}?)"
    r"(?P<noun>" + "|".join(f"(?P<{name}>{pattern})" for name, pattern in _GENDERS) + r")(?![\w-])"
)
_PLURAL: Final = re.compile(r"men$|women$|people|ies$|s$")
_SINGULAR_S: Final = frozenset({"actress", "princess", "waitress"})
_ANOTHER: Final = re.compile(r"\b(?:and|with|,) (?:an?|one|another)\b")
_NEGATED: Final = re.compile(r"\b(?:no|without(?: an?| any)?|not wearing(?: an?| any)?|never) ((?:[\w-]+ )?[\w-]+)")
_MONOCHROME: Final = re.compile(
    r"\bblack[ -](?:and|&|n)[ -]white\b|\bmonochrome\b|\bgr[ea]y ?scale\b|\bb&w\b|\bblack-and-white\b"
)
_WORD: Final = r"(?:(?!(?:and|with|in|on|of|an?|the|wom[ae]n|m[ae]n|girl|boy|person)\b)[\w'-]+ ){0,3}?"


def read(prompt: str, negative: str = "") -> Brief:
    """Read a prompt and a negative prompt. Never fails: words that mean nothing here are passed over."""
    text = _clean(prompt)
    against = [_clean(negative), *_NEGATED.findall(text)]
    text = _NEGATED.sub(" ", text)
    monochrome = bool(_MONOCHROME.search(text)) and not _MONOCHROME.search(against[0])
    text = _MONOCHROME.sub(" ", text)
    banned = _read_bans(" , ".join(against))
    people = tuple(_without(person, banned) for person in _read_people(text))
    place, light = _first(text, _PLACES), _first(text, _LIGHTS)
    if place == "city" and re.search(r"\b(?:night|neon|cyberpunk)", text) and "night" not in banned["place"]:
        place = "night city"
    return Brief(
        people=people,
        place=None if place in banned["place"] else place,
        light=None if light in banned["light"] else light,
        monochrome=monochrome,
        banned=banned,
    )


def common_wish(brief: Brief) -> Wish:
    """What the words say about every person alike; for a picture of one face out of several."""
    first = brief.people[0]
    same = {
        field.name: getattr(first, field.name)
        for field in fields(Wish)
        if len({getattr(person, field.name) for person in brief.people}) == 1
    }
    return Wish(**same)


def _clean(text: str) -> str:
    # Weights such as (word:1.2) and other punctuation of prompt syntax carry no meaning here.
    text = re.sub(r":\d+(?:\.\d+)?", " ", text.lower())
    text = re.sub(r"[()\[\]{}<>\"|_*]", " ", text)
    return re.sub(r"\s+", " ", text).strip()


def _first(text: str, vocabulary: Vocabulary) -> str | None:
    """The value whose word comes first in the text; of words at one place, the first of the vocabulary."""
    best: tuple[int, int, str] | None = None
    for rank, (pattern, value) in enumerate(vocabulary):
        match = re.search(rf"(?<![\w-])(?:{pattern})(?![\w-])", text)
        if match and (best is None or (match.start(), rank) < best[:2]):
            best = (match.start(), rank, value)
    return best[2] if best else None


def _colored(text: str, vocabulary: Vocabulary, noun: str) -> str | None:
    """The colour that stands up to three words before a noun, as in `red curly hair`."""
    best: tuple[int, int, str] | None = None
    for rank, (pattern, value) in enumerate(vocabulary):
        # The colour nearest to its noun counts: `black suit, red hair`.
        for match in re.finditer(rf"(?<![\w-])(?:{pattern})[ -](?P<gap>{_WORD})(?:{noun})(?!\w)", text):
            distance = len(match.group("gap"))
            if best is None or (distance, rank) < best[:2]:
                best = (distance, rank, value)
    return best[2] if best else None


class _Mention(NamedTuple):
    """Where the noun starts that names someone, `woman`, `man` or `any`, and how many."""

    start: int
    gender: str
    number: int


def _read_people(text: str) -> list[Wish]:
    mentions = _mentions(text)
    named = [mention for mention in mentions if mention.gender != "any"]
    anyone = _anyone(text, mentions)
    # `two people, a woman and a man` are two: the named ones are the people, and fill up to the number given.
    wishes = _wishes(text, named or [anyone])
    if named:
        wishes += [Wish()] * (anyone.number - len(wishes))
    if named and anyone.number > 1 and sum(mention.number for mention in named) == 1 and not _ANOTHER.search(text):
        wishes[1:] = [wishes[0]] * (len(wishes) - 1)
    return _with_shared(text, wishes)[:MAX_PEOPLE]


def _anyone(text: str, mentions: Iterable[_Mention]) -> _Mention:
    """The mention of most people of no gender; one person where there is none."""
    anyone = [mention for mention in mentions if mention.gender == "any"]
    if "group of" in text and any(mention.number not in (1, _GROUPS["group"]) for mention in anyone):
        anyone = [mention for mention in anyone if mention.number != _GROUPS["group"]]  # `group of three friends`
    return max(anyone, key=lambda mention: mention.number, default=_Mention(0, "any", 1))


def _wishes(text: str, mentions: Sequence[_Mention]) -> list[Wish]:
    """What the words around each mention say, once for each of its people."""
    borders = [0, *(_clause(text, one.start, other.start) for one, other in pairwise(mentions)), len(text)]
    wishes: list[Wish] = []
    for mention, (begin, end) in zip(mentions, pairwise(borders), strict=True):
        gender = None if mention.gender == "any" else mention.gender
        wishes += [replace(_read_person(text[begin:end]), gender=gender)] * mention.number
    return wishes


def _with_shared(text: str, wishes: list[Wish]) -> list[Wish]:
    """The wishes, and what is said of all: `both smiling`."""
    shared = re.search(r"\b(?:both|all)(?: of them)?\b(.*)", text)
    if len(wishes) < 2 or shared is None:
        return wishes
    wish = _read_person(shared.group(1))
    given = {field.name: value for field in fields(Wish) if (value := getattr(wish, field.name))}
    given.pop("gender", None)
    return [replace(one, **given) for one in wishes]


def _mentions(text: str) -> list[_Mention]:
    """Each time someone is named."""
    found: list[_Mention] = []
    for match in _PERSON.finditer(text):
        gender = next(name for name, _ in _GENDERS if match.group(name))
        noun = match.group("noun")
        number = None if re.match(r"years?\b", match.group("words")) else match.group("count")  # `25 years old woman`
        plural = bool(_PLURAL.search(noun)) and noun not in _SINGULAR_S
        known = any(gender in ("any", other.gender) for other in found)
        if number == "the" or (number is None and known and not plural):
            continue
        count = _count(noun, number, gender, text, usual=2 if plural else 1)
        if 1 <= count <= _MOST_COUNTED:
            found.append(_Mention(match.start("noun"), gender, min(count, MAX_PEOPLE)))
    return found


def _count(noun: str, number: str | None, gender: str, text: str, *, usual: int) -> int:
    """How many people a noun with a number before it stands for."""
    if noun in _GROUPS or noun.rstrip("s") in _GROUPS:
        return _GROUPS.get(noun, _GROUPS.get(noun.rstrip("s"), 4))
    if gender == "any" and noun == "friends" and (number is None or ("group" in text and number not in _NUMBERS)):
        return 4
    if number and number.isdigit():
        return int(number)
    return (_NUMBERS | _AMOUNTS).get(number or "", usual)


def _clause(text: str, before: int, after: int) -> int:
    """Where the words about the later of two persons begin: at the last joint between their nouns."""
    joints = list(re.finditer(r",|;|\band\b|&|\bnext to\b|\bbeside\b|\bwith\b|\bplus\b|\.", text[before:after]))
    return before + (joints[-1].end() if joints else 0)


def _read_person(text: str) -> Wish:
    hair = _colored(text, _HAIR_COLORS, r"hair\w*|curls|locks|bun|ponytail|bob|braids?|afro|beard")
    alone = re.search(r"(?<![\w-])(blonde?|redhead(?:ed)?|brunette|ginger)(?![\w-])", text)
    if hair is None and alone:
        hair = _first(alone.group(), _HAIR_COLORS)
    cloth_nouns = "|".join(pattern for pattern, _ in _GARMENTS)
    persons = f"{_WOMAN}{_WOMAN_MORE}|{_MAN}{_MAN_MORE}|person|people"
    skin = _colored(text, _SKINS, "skin(?:ned)?|complexion") or _skin_of(text, persons)
    style, texture = _hair_shape(text)
    glasses = None
    if re.search(r"(?<![\w-])(?:sun|eye)?-?glasses|spectacles|(?<![\w-])shades\b", text):
        glasses = "sunglasses" if re.search(r"sunglasses|\bshades\b", text) else "glasses"
    return Wish(
        age=_age(text, persons),
        skin=skin,
        hair_color=hair,
        hair_style=style,
        hair_texture=texture,
        beard=_first(text, _BEARDS),
        eyes=_colored(text, _EYE_COLORS, r"eyes?|eyed"),
        glasses=glasses,
        hat=_first(text, _HATS),
        freckles="freckles" if re.search(r"\bfreckle(?:s|d)?\b", text) else None,
        garment=_first(text, _GARMENTS),
        cloth=_colored(text, _CLOTH_COLORS, cloth_nouns + r"|cloth(?:es|ing)"),
        expression=_first(text, _EXPRESSIONS),
        lipstick=_colored(text, _LIPSTICKS, r"lip ?stick|lips")
        or ("red" if re.search(r"\blip ?stick\b", text) else None),
        blush="blush" if re.search(r"\bblush(?:ing|ed)?\b|\brosy cheeks\b|\brouge\b", text) else None,
    )


def _skin_of(text: str, persons: str) -> str | None:
    match = re.search(
        rf"(?<![\w-])(pale|tan(?:ned)?|black|white|brown|dark|asian|african(?:[- ]american)?|indian|latin[ao]|"
        rf"hispanic|european|caucasian|arab)(?: (?:young|old|elderly|adult|middle-aged))? (?:{persons})\b",
        text,
    )
    if match is None:
        return None
    return "fair" if match.group(1) == "white" else _first(match.group(1), _SKINS)


def _hair_shape(text: str) -> tuple[str | None, str | None]:
    style = _first(text, _STYLES)
    length = re.search(rf"(?<![\w-])(long|short|cropped|buzz)[- ,]*{_WORD}(?:hair\w*|curls|locks|cut)", text)
    if style is None and length:
        style = "long" if length.group(1) == "long" else "short"
    texture = None
    if re.search(r"\b(?:curly|curls|afro|frizzy|kinky)\b", text):
        texture = "curly"
    elif re.search(r"\bwav(?:y|es)\b", text) and "hair" in text:
        texture = "wavy"
    elif re.search(r"\bstraight[\w -]*hair", text):
        texture = "straight"
    if "afro" in text.split():
        style = style or "short"
    return style, texture


def _age(text: str, persons: str) -> str | None:
    years = re.search(r"\b(\d{2,3})[- ]years?[- ]old|\baged? (\d{2,3})\b", text)
    if years:
        return "old" if int(years.group(1) or years.group(2)) >= 55 else "young"
    if re.search(
        r"\b(?:elderly|senior|aged|wrinkled|grand(?:mother|father|ma|pa)|in (?:his|her|their) [6-9]0s)\b",
        text,
    ):
        return "old"
    if re.search(rf"(?<![\w-])old(?:er)?,? {_WORD}(?:{persons})\b", text):
        return "old"
    return "young" if re.search(r"\b(?:young|youthful)\b", text) else None


def _read_bans(text: str) -> dict[str, frozenset[str]]:
    """What the negative words forbid. A bare noun such as `hat` forbids every kind of it."""
    found = _read_person(text)
    banned = {field.name: frozenset({value} if (value := getattr(found, field.name)) else ()) for field in fields(Wish)}
    if found.glasses == "glasses":
        banned["glasses"] = frozenset({"glasses", "sunglasses"})
    if re.search(r"\bhats?\b|\bheadwear\b", text):
        banned["hat"] = frozenset({"hat", "cap", "beanie"})
    if re.search(r"\bfacial hair\b|\bbeard", text):
        banned["beard"] = frozenset(
            {"beard", "stubble"} | ({"moustache"} if re.search(r"facial hair|m(?:o)?ustache", text) else set())
        )
    if re.search(r"\bsmil(?:e|ing)\b", text):
        banned["expression"] = frozenset({"smiling", "laughing"})
    banned["place"] = frozenset(
        value
        for pattern, value in _PLACES
        if value != "studio" and re.search(rf"(?<![\w-])(?:{pattern})(?![\w-])", text)
    )
    light = _first(text, _LIGHTS)
    banned["light"] = frozenset({light} if light else ())
    banned["gender"] = frozenset()  # `man` in a negative prompt does not undo a man who was asked for
    return banned


def _without(wish: Wish, banned: dict[str, frozenset[str]]) -> Wish:
    return replace(
        wish,
        **{
            field.name: None
            for field in fields(Wish)
            if getattr(wish, field.name) in banned.get(field.name, frozenset())
        },
    )
