"""A word check that turns down prompts which plainly ask for sexual content, before anything runs.

It is a floor and not a judge: it needs no model and no network, so it catches plain English words only. A
writer with a model reads for meaning as well.
"""

from __future__ import annotations

import re
import unicodedata

from imaging.errors import RejectedError

_EXPLICIT = frozenset(
    """
    ahegao anal areola bdsm blowjob blowjobs boobs bukkake clitoris creampie cumshot cunnilingus
    deepthroat dildo ejaculation erotic erotica erotically fellatio fetish futanari gangbang genital
    genitalia genitals handjob hentai horny intercourse jailbait lolicon masturbate masturbates
    masturbating masturbation naked nakedness nipples nsfw nude nudes nudism nudist nudity orgasm
    orgasmic orgy penis penises porn porno pornographic pornography pussy r18 rape raped raping rule34
    sex sexual sexualised sexualized sexually shotacon striptease threesome topless undressing upskirt
    vagina vaginal vulva xxx
    """.split()  # noqa: SIM905 - a word list reads best as one
)
_EXPLICIT_PHRASES = (
    "bare breasts",
    "bare chested woman",
    "covered in cum",
    "having sex",
    "making love",
    "no clothes",
    "no clothing",
    "no panties",
    "no underwear",
    "rating explicit",
    "rating questionable",
    "without clothes",
    "without clothing",
    "without underwear",
    "wearing nothing",
)
_INNOCENT = re.compile(
    r"""
      \bnudes?\s(?=(?:colou?r(?:ed|s)?|tones?|toned|shades?|palette|lips?|lipstick|lipgloss|gloss|make\s?up
                     |eyeshadow|nails?|polish|heels?|pumps|shoes?|sandals|dress|gown|blouse|fabric|tights
                     |stockings|pink|beige)\b)
    | \bnaked\s(?=(?:eyes?|mole|flames?|bulbs?|light\s?bulbs?|trees?|branch(?:es)?|rocks?|cliffs?|truth|bike
                     |cake)\b)
    | \b(?:same|opposite|fair(?:er)?)\ssex\b
    | \bsex\s(?=(?:pistols|and\sthe\scity|education)\b)
    | \bpussy\s(?=(?:willows?|cats?|riot)\b)
    | \brape\s(?=(?:seeds?|fields?|oil|blossoms?|flowers?|plants?)\b)
    | \btopless\s(?=(?:cars?|convertible|jeep|roadster)\b)
    | \b(?:no|not|non|without|never|zero)\s(?:nudes?|nudity|naked|nsfw|sex|sexual|sexually|erotic|porn
                     |topless)\b
    | \bminor\s(?=(?:keys?|chords?|scales?|details?|repairs?)\b)
    | \b(?:asia|ursa|canis|[a-g]|sharp|flat)\sminor\b
    """,
    re.VERBOSE,
)
_MINOR = frozenset(
    """
    adolescent adolescents boy boys child childlike children daughter infant infants kid kids
    kindergarten loli lolis minor minors prepubescent preschooler preteen preteens pubescent schoolboy
    schoolboys schoolgirl schoolgirls shota shotas son stepdaughter stepson teen teenage teenaged
    teenager teenagers teens toddler toddlers tween tweens underage underaged
    """.split()  # noqa: SIM905 - a word list reads best as one
)
_MINOR_PHRASES = (
    "barely legal",
    "elementary school",
    "high school",
    "little girl",
    "little girls",
    "middle school",
    "primary school",
    "small girl",
    "under age",
    "young girl",
    "young girls",
)
_MINOR_AGE = re.compile(
    r"""
      \b(?:[1-9]|1[0-7])\s?(?:(?:years?|yrs?)\s?olds?|y\s?o)\b
    | \b(?:age|aged)\s(?:[1-9]|1[0-7])\b
    """,
    re.VERBOSE,
)
_SUGGESTIVE = frozenset(
    """
    aroused bra cleavage kinky lewd lingerie panties provocative provocatively seduction seductive
    seductively sensual sensually sexy stripping suggestive suggestively thong underwear undressed
    """.split()  # noqa: SIM905 - a word list reads best as one
)
_SIGNS_AS_LETTERS = str.maketrans("@$", "as")
_DIGITS_AS_LETTERS = str.maketrans("01345", "oieas")


def check_prompt_safety(text: str) -> None:
    """Turn down a prompt that plainly asks for sexual content.

    Args:
        text: what the image is to show. Not a negative prompt.

    Raises:
        RejectedError: the prompt asks for sexual content, and says so more sternly when the prompt also names
            someone under age. The message names the word that decided it.
    """
    spoken = _INNOCENT.sub(" ", _normalise(text))
    sexual = _first_of(spoken, _EXPLICIT, _EXPLICIT_PHRASES)
    minor = _first_of(spoken, _MINOR, _MINOR_PHRASES) or _first_age(spoken)
    if minor:
        sexual = sexual or _first_of(spoken, _SUGGESTIVE, ())
        if sexual:
            raise RejectedError(
                f"The prompt asks for sexual content about someone under age ('{sexual}' with '{minor}').",
                "Such a request is never run. If the words mean something else, write it without them.",
            )
    if sexual:
        raise RejectedError(
            f"The prompt asks for sexual content ('{sexual}'), which is not made here.",
            "Describe the picture without nudity and sexual content.",
        )


def _normalise(text: str) -> str:
    """Lower-case words with accents, invisible signs, look-alike digits and spelled-out words undone."""
    decomposed = unicodedata.normalize("NFKD", text).casefold()
    visible = "".join(c for c in decomposed if unicodedata.category(c) not in ("Mn", "Cf"))
    tokens = re.findall(r"[^\W_]+", visible.translate(_SIGNS_AS_LETTERS))
    words = " ".join(map(_letters_for_digits, tokens))
    return re.sub(r"\b(?:[a-z] ){2,}[a-z]\b", _joined, words)


def _joined(spelled: re.Match[str]) -> str:
    """`n u d e` as `nude`; with and without its first letter, which may be the article of `a n u d e man`."""
    word = spelled[0].replace(" ", "")
    return f"{word} {word[1:]}"


def _letters_for_digits(token: str) -> str:
    """`s3x` as `sex`; plain numbers, ages such as `15yo`, and listed words such as `r18` stay as they are."""
    if token in _EXPLICIT or not re.search(r"[^\W\d]", token) or re.match(r"\d+y", token):
        return token
    return token.translate(_DIGITS_AS_LETTERS)


def _first_of(spoken: str, words: frozenset[str], phrases: tuple[str, ...]) -> str | None:
    for word in spoken.split():
        if word in words:
            return word
    padded = f" {' '.join(spoken.split())} "
    return next((phrase for phrase in phrases if f" {phrase} " in padded), None)


def _first_age(spoken: str) -> str | None:
    found = _MINOR_AGE.search(spoken)
    return found[0] if found else None
