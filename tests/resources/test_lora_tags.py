"""LoRAs in a prompt, as A1111 writes them."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imaging.errors import RejectedError
from resources.lora_tags import take_loras
from resources.models.places import read_lora


@pytest.mark.parametrize(
    ("text", "rest", "entries"),
    [
        ("<lora:style>", "", ["style"]),
        ("<lora:style:1>", "", ["style"]),
        ("a cat <lora:style:0.8>", "a cat", ["style=0.8"]),
        ("a cat, <lora:style:0.8>, in the rain", "a cat, in the rain", ["style=0.8"]),
        ("a cat <lora:style:.5> in the rain", "a cat in the rain", ["style=0.5"]),
        ("a cat <lora:style:1>, in the rain", "a cat, in the rain", ["style"]),
        ("<lora:style:-0.5>, a cat ,", "a cat ,", ["style=-0.5"]),
        ("a cat,<lora:a:1><lora:b:2>, <lora:c>", "a cat", ["a", "b=2", "c"]),
        ("(a cat <lora:style:1>:1.2)", "(a cat :1.2)", ["style"]),
        ("a cat\n<lora:style:1>\nBREAK  b", "a cat\nBREAK  b", ["style"]),
        ("cat<lora:style>fish", "catfish", ["style"]),
        ("<lora:my style v1.2:0.8>", "", ["my style v1.2=0.8"]),
        ("<lora: style : 0.8 >", "", ["style=0.8"]),
        ("<LoRA:style:0.8> a", "a", ["style=0.8"]),
        ("<lyco:style:0.8>", "", ["style=0.8"]),
        ("<lora:style:0.5:1>", "", ["style=1,0.5"]),
        ("<lora:style:te=0.5:unet=1>", "", ["style=1,0.5"]),
        ("<lora:style:unet=0.5>", "", ["style=0.5,1"]),
        ("<lora:style:te=0.5>", "", ["style=0.5"]),
        ("<lora:style:0.8:unet=0>", "", ["style=0,0.8"]),
        ("a < b, <b> <loras:x:1> <wild:x> lora:x:1", "a < b, <b> <loras:x:1> <wild:x> lora:x:1", []),
    ],
)
def test_tags_are_read_as_a1111_does(text: str, rest: str, entries: list[str]) -> None:
    assert take_loras(text) == (rest, tuple(entries))


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("<hypernet:anime:1>", "hypernetworks are not understood"),
        ("<lora:style:much>", "'much' in <lora:style:much> is not a weight"),
        ("<lora:style:>", "'' in <lora:style:> is not a weight"),
        ("<lora:style:nan>", "'nan' in"),
        ("<lora:style:te=>", "'' in"),
        ("<lora:style:1:1:8>", "more than two weights"),
        ("<lora:style:1:dyn=8>", "more than two weights"),
        ("<lora:>", "does not begin with the name"),
        ("<lora::1>", "does not begin with the name"),
        ("<lora:owner/name:1>", "does not begin with the name"),
    ],
)
def test_what_is_no_lora_is_told_in_words(text: str, what: str) -> None:
    with pytest.raises(RejectedError, match=re.escape(what)) as caught:
        take_loras(f"a cat {text}")
    assert caught.value.hint


@given(st.text() | st.lists(st.sampled_from(["<", ">", "lora", ":", ",", " ", "1", "a", "\n"])).map("".join))
def test_text_without_tags_comes_back_unchanged(text: str) -> None:
    if not re.search("<(lora|lyco|hypernet):", text, re.IGNORECASE):
        assert take_loras(text) == (text, ())


WEIGHTS = st.integers(-200, 200).map(lambda number: number / 100)
NAMES = st.from_regex(r"\w[\w .-]*\w", fullmatch=True)


@given(st.text(st.characters(exclude_characters="<>")), NAMES, WEIGHTS, WEIGHTS, st.text())
def test_a_tag_anywhere_gives_its_name_and_weights_and_leaves_the_words(
    before: str, name: str, text_weight: float, weight: float, behind: str
) -> None:
    behind = re.sub("[<>]", "", behind)
    rest, (entry,) = take_loras(f"{before}<lora:{name}:{text_weight}:{weight}>{behind}")
    assert read_lora(entry) == (name, weight, text_weight)
    assert re.sub(r"[ \t\r\n,]", "", rest) == re.sub(r"[ \t\r\n,]", "", before + behind)
    assert take_loras(rest) == (rest, ())
