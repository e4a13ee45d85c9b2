"""Requests: what is accepted as it is, and that everything else is turned down with the field and the hint."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imaging.errors import RejectedError
from jobs.model.request import JobRequest, parse_request
from jobs.recipes.values import MAX_SEED

PROMPT = {"pony_prompt": "a lighthouse keeper"}


def rejection(fields: Any) -> str:
    with pytest.raises(RejectedError) as caught:
        parse_request(fields)
    assert caught.value.hint
    return caught.value.what


def test_defaults() -> None:
    request = parse_request(PROMPT)
    assert (request.job_type, request.width, request.height, request.priority) == ("pony_flux", 1024, 1024, 5)
    assert request.seed is None
    assert request.face_prompt == "a lighthouse keeper"


def test_json_text_is_read_as_well() -> None:
    assert parse_request(json.dumps(PROMPT)) == parse_request(PROMPT)


def test_a_request_survives_json() -> None:
    request = parse_request(PROMPT | {"seed": 5, "cfg_scale": 7, "tags": {"client": "é"}})
    assert parse_request(request.model_dump_json()) == request


def test_a_seed_is_drawn_once() -> None:
    drawn = parse_request(PROMPT).with_seed()
    assert 0 <= drawn.seed <= MAX_SEED
    assert drawn.with_seed() is drawn
    assert parse_request(PROMPT | {"seed": 0}).with_seed().seed == 0


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"width": 100}, ["width", "multiple of 8", "96 or 104"]),
        ({"height": 2056}, ["height", "2048"]),
        ({"width": 56}, ["width", "64"]),
        ({"seed": -1}, ["seed"]),
        ({"seed": MAX_SEED + 1}, ["seed", str(MAX_SEED)]),
        ({"seed": 10**400}, ["seed"]),
        ({"seed": 1.5}, ["seed"]),
        ({"steps": True}, ["steps", "must be a number", "True"]),
        ({"steps": "30"}, ["steps", "without quotes", "'30'"]),
        ({"cfg_scale": "6"}, ["cfg_scale", "without quotes"]),
        ({"cfg_scale": float("nan")}, ["cfg_scale", "nan"]),
        ({"cfg_scale": float("inf")}, ["cfg_scale", "inf"]),
        ({"face_strength": 1.01}, ["face_strength", "1"]),
        ({"priority": 0}, ["priority"]),
        ({"priority": None}, ["priority"]),
        ({"scheduler": "euler b"}, ["scheduler", "Euler a"]),
        ({"scheduler": 3}, ["scheduler", "Euler a"]),
        ({"job_type": "video"}, ["job_type", "pony_flux"]),
        ({"pony_prompt": "x" * 8001}, ["pony_prompt", "8000"]),
        ({"pony_prompt": "   "}, ["pony_prompt", "needs a prompt"]),
        ({"pony_prompt": "a\0b"}, ["pony_prompt", "NUL"]),
        ({"pony_prompt": "\ud800"}, ["pony_prompt", "unicode"]),
        ({"pony_prompt": 3}, ["pony_prompt", "string"]),
        ({"tags": {"year": 2026}}, ["tags.year", "string"]),
        ({"tags": {"x": "y" * 257}}, ["tags.x", "256"]),
        ({"tags": {str(number): "" for number in range(33)}}, ["tags", "32"]),
        ({"negativ_prompt": "x"}, ["negativ_prompt", "no such field", "negative_prompt"]),
        ({"source_image": "a.jpg"}, ["source_image", "face_processing"]),
        ({"job_type": "description"}, ["source_image", "needs a photo"]),
        ({"job_type": "sdxl_generation", "output_size": 512}, ["output_size", "sdxl_generation"]),
        ({"scheduler": "LCM", "steps": 51}, ["steps", "LCM", "at most 50"]),
    ],
)
def test_what_is_wrong_is_named(fields: dict[str, Any], words: list[str]) -> None:
    what = rejection(PROMPT | fields)
    assert [word for word in words if word not in what] == []


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("euler a", "Euler a"),
        ("euler_ancestral", "Euler a"),
        ("dpmpp_2m karras", "DPM++ 2M Karras"),
        ("EulerDiscreteScheduler", "Euler"),
    ],
)
def test_samplers_are_kept_by_the_names_of_a1111(name: str, kept: str) -> None:
    assert parse_request(PROMPT | {"sampler": name}).scheduler == kept


def test_whole_numbers_may_be_written_with_a_point() -> None:
    assert parse_request(PROMPT | {"steps": 30.0}).steps == 30


def test_every_wrong_field_is_named_but_not_without_end() -> None:
    assert all(field in rejection({"width": 1, "steps": 0, "seed": -1}) for field in ("width", "steps", "seed"))
    many = rejection({f"field{number}": 1 for number in range(10_000)})
    assert "and 9990 more" in many


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", "3", '"a"', "[" * 100_000, '{"seed": 1' + "0" * 5000 + "}", '{"seed": NaN}', "{1: 2}"],
)
def test_text_that_is_no_request(text: str) -> None:
    assert rejection(text)


def test_a_hostile_value_is_shown_shortly() -> None:
    nested: list[Any] = []
    for _ in range(60):
        nested = [nested, nested]
    assert len(rejection(PROMPT | {"seed": nested})) < 500
    assert len(rejection({"x" * 100_000: 1})) < 1000


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
field_names = st.sampled_from([*JobRequest.model_fields, "job_id", "model_config", "__class__"])


@given(st.dictionaries(field_names | st.text(max_size=8), json_values))
def test_anything_is_accepted_or_rejected(fields: dict[str, Any]) -> None:
    try:
        request = parse_request(PROMPT | fields)
    except RejectedError as error:
        assert error.what  # noqa: PT017
        assert error.hint  # noqa: PT017
    else:
        assert parse_request(request.model_dump(mode="json")) == request.without_placing()
        request.model_dump_json()
        assert request.width % 8 == request.height % 8 == 0
