"""Face prompts with tags, and rules per face: what each face gets, and that a wrong rule is turned down in words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imaging.errors import RejectedError
from imaging.geometry.boxes import Box, Face
from jobs.model.request import parse_request
from jobs.recipes.face_rules import FaceRule, denoising_strength, matching, plan_faces
from jobs.requests.accept import check_prompts
from jobs.requests.files import cell_value
from resources.writers.base import PromptDraft
from resources.writers.face_tags import map_parts, part_of, prompt_parts, tags_in
from resources.writers.offline import OfflineWriter

SIZE = (1000, 500)
# In the portrait stage's order: a large one on the right, a middle one on the left, a small one in the middle, below.
FACES = [
    Face(Box(700, 100, 900, 300), 0.9),
    Face(Box(100, 100, 200, 200), 0.8),
    Face(Box(480, 300, 520, 340), 0.95),
]


def rule(text: str) -> FaceRule:
    return FaceRule.model_validate(text)


def prompts(text: str, count: int, scene: str = "a street") -> list[str | None]:
    parts = prompt_parts(text)
    found = [part_of(parts, number) for number in range(count)]
    return [None if part.left else part.prompt(scene) for part in found]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("an old man", ["an old man"] * 3),
        ("an old man [SEP] a girl", ["an old man", "a girl", "a girl"]),
        ("[SKIP] [SEP] a girl", [None, "a girl", "a girl"]),
        ("an old man [SEP] [STOP] [SEP] a girl", ["an old man", None, None]),
        ("[CONCAT] green eyes [SEP] a girl", ["a street, green eyes", "a girl", "a girl"]),
        ("a girl, [PROMPT], smiling", ["a girl, a street, smiling"] * 3),
        ("an old man [SEP] [SEP] a girl", ["an old man", "a street", "a girl"]),
        ("a [red] hat", ["a [red] hat"] * 3),
    ],
)
def test_tags_give_each_face_its_prompt(text: str, expected: list[str | None]) -> None:
    assert prompts(text, 3) == expected


@given(st.lists(st.sampled_from(["a", "b, c", "[SEP]", "[SKIP]", "[STOP]", "[CONCAT]", "[PROMPT]", ""])))
def test_words_may_change_but_tags_stay(pieces: list[str]) -> None:
    text = " ".join(pieces)
    louder = map_parts(text, lambda words: f"{words}!")
    assert tags_in(louder) == tags_in(text)
    before, after = prompt_parts(text), prompt_parts(louder)
    assert [(part.left, part.stop, part.concat) for part in before] == [
        (part.left, part.stop, part.concat) for part in after
    ]


def test_the_offline_writer_improves_each_part_by_itself() -> None:
    draft = PromptDraft(job_id="j", pony_prompt="a street", flux_prompt="an old man [SEP] [SKIP] [SEP] a girl, smiling")
    answer = OfflineWriter().enhance(draft).flux_prompt
    first, second, third = answer.split(" [SEP] ")
    assert first.startswith("an old man, ")
    assert second == "[SKIP]"
    assert third.startswith("a girl, smiling, ")


@pytest.mark.parametrize(
    ("selector", "numbers"),
    [
        ("all", {0, 1, 2}),
        ("largest", {0}),
        ("main face", {0}),
        ("not main face", {1, 2}),
        ("2nd largest", {1}),
        ("4th largest", set()),
        ("smallest", {2}),
        ("1st from left", {1}),
        ("2 from left", {2}),
        ("1st from right", {0}),
        ("1st from top", {1}),
        ("1st from bottom", {2}),
        ("area > 4 %", {0}),
        ("area<=2%", {1, 2}),
        ("width < 64 px", {2}),
        ("confidence >= 0.9", {0, 2}),
        ("Not  Largest and area > 1 %", {1}),
    ],
)
def test_selectors(selector: str, numbers: set[int]) -> None:
    assert matching(selector, FACES, SIZE) == numbers


@pytest.mark.parametrize(
    "selector", ["", "biggest", "0th largest", "area > 4", "area = 4 %", "largest or smallest", "not", "left"]
)
def test_a_selector_that_means_nothing_is_turned_down(selector: str) -> None:
    with pytest.raises(ValueError, match="means no face"):
        matching(selector, FACES, SIZE)


def test_of_equal_faces_the_earlier_counts_first() -> None:
    twins = [Face(Box(0, 0, 10, 10), 0.9), Face(Box(50, 0, 60, 10), 0.9)]
    assert matching("largest", twins, SIZE) == {0}
    assert matching("smallest", twins, SIZE) == {0}


def test_rules_are_laid_over_one_another() -> None:
    rules = [
        rule("all: strength=0.5; padding=0.3"),
        rule("largest: strength=0.2; prompt=[PROMPT], a beard"),
        rule("width < 64 px: skip"),
    ]
    plans = plan_faces(rules, "an old man", FACES, SIZE)
    assert [plan.strength for plan in plans] == [0.2, 0.5, 0.5]
    assert [plan.padding for plan in plans] == [0.3, 0.3, 0.3]
    assert [plan.rules for plan in plans] == [(1, 2), (1,), (1, 3)]
    assert [plan.left for plan in plans] == ["", "", "rule 3 says skip"]
    assert plans[0].words("an old man") == "an old man, a beard"
    assert plans[1].words("an old man") == "an old man"


def test_a_later_rule_takes_a_skip_back_but_a_tag_stays() -> None:
    rules = [rule("all: skip"), rule("largest: skip=false; seed_offset=7")]
    plans = plan_faces(rules, "an old man [SEP] a girl [SEP] [SKIP]", FACES, SIZE)
    assert [plan.left for plan in plans] == ["", "rule 1 says skip", "the face prompt says [SKIP]"]
    assert [plan.seed_offset for plan in plans] == [7, 1, 2]


def test_without_rules_nothing_differs_but_the_seed() -> None:
    plans = plan_faces([], "", FACES, SIZE)
    assert [(plan.left, plan.rules, plan.seed_offset) for plan in plans] == [("", (), 0), ("", (), 1), ("", (), 2)]


_WORDS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20).map(str.strip)


@given(
    st.sampled_from(["largest", "not main face", "area > 4 %", "2nd from left and confidence >= 0.5"]),
    st.fixed_dictionaries(
        {},
        optional={
            "prompt": _WORDS,
            "negative_prompt": _WORDS,
            "strength": st.floats(0, 1),
            "padding": st.floats(0, 3),
            "seed_offset": st.integers(0, 2**31),
            "skip": st.booleans(),
        },
    ).filter(bool),
)
def test_a_rule_survives_being_written_down(faces: str, fields: dict[str, object]) -> None:
    made = FaceRule.model_validate({"faces": faces, **fields})
    assert FaceRule.model_validate(str(made)) == made


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("largest", "no ':'"),
        ("largest:", "says nothing"),
        ("largest: strength=2", "strength"),
        ("largest: strenght=0.2", "strenght"),
        ("largest: strength", "has no value"),
        ("largest: skip; skip", "names skip twice"),
        ("biggest: skip", "'biggest' means no face"),
        ("{", "rule"),
        (7, "rule"),
    ],
)
def test_a_wrong_rule_is_turned_down_with_its_fault(text: object, words: str) -> None:
    with pytest.raises(RejectedError) as caught:
        parse_request({"pony_prompt": "a street", "face_rules": [text]})
    assert "face_rules" in caught.value.what
    assert words in caught.value.what


def test_a_request_keeps_rules_as_text() -> None:
    given_as_object = parse_request(
        {"pony_prompt": "a street", "face_rules": [{"faces": "Largest", "prompt": "one; two"}, "all: skip=false"]}
    )
    again = parse_request(given_as_object.model_dump_json())
    assert again == given_as_object
    assert again.rules()[0] == FaceRule(faces="largest", prompt="one; two")
    assert again.face_rules[1] == "all: skip=False"


def test_a_cell_of_a_table_holds_several_rules() -> None:
    assert cell_value("x", "face_rules", "largest: skip | all: strength=0.3") == ["largest: skip", "all: strength=0.3"]


def test_the_prompt_of_a_rule_is_checked_like_any_other() -> None:
    request = parse_request({"pony_prompt": "a 12 year old girl", "face_rules": ["all: prompt=nude"]})
    with pytest.raises(RejectedError, match="face_rules"):
        check_prompts("job-1", request)


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1))
def test_the_strength_lies_between_those_of_small_and_large_faces(usual: float, large: float, share: float) -> None:
    found = denoising_strength(usual, large, share)
    assert min(usual, large) - 1e-4 <= found <= max(usual, large) + 1e-4


@pytest.mark.parametrize(("share", "strength"), [(0, 0.8), (0.01, 0.8), (0.09, 0.5), (0.25, 0.2), (1, 0.2)])
def test_the_strength_goes_over_with_the_faces_width(share: float, strength: float) -> None:
    assert denoising_strength(0.8, 0.2, share) == pytest.approx(strength)
    assert denoising_strength(0.8, None, share) == 0.8
