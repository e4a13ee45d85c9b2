"""The one table of samplers, and the names by which other programs call them."""

import contextlib
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.recipes.values import Scheduler
from resources.samplers import SAMPLER_NAMES, SAMPLERS, a1111_sampler


def test_the_samplers_are_those_that_a_request_may_name() -> None:
    assert set(get_args(Scheduler)) == set(SAMPLER_NAMES)


@pytest.mark.parametrize("name", SAMPLER_NAMES)
def test_every_name_and_pair_of_the_table_is_its_own(name: str) -> None:
    sampler = SAMPLERS[name]
    assert a1111_sampler(name) == a1111_sampler(f" {name.upper()} ") == name
    for pair in (sampler.forge, sampler.comfyui):
        for between in (" ", "/", "_"):
            assert a1111_sampler(between.join(pair)) == name


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("dpmpp_2m", "DPM++ 2M"),
        ("euler_ancestral", "Euler a"),
        ("dpmpp_2m karras", "DPM++ 2M Karras"),
        ("dpmpp_2m/karras", "DPM++ 2M Karras"),
        ("dpmpp_2m_sde_gpu", "DPM++ 2M SDE"),
        ("dpmpp_3m_sde_gpu/karras", "DPM++ 3M SDE Karras"),
        ("uni_pc_bh2", "UniPC"),
        ("lcm", "LCM"),
        ("dpm_2_ancestral", "DPM2 a"),
        ("k_euler_a", "Euler a"),
        ("k_dpmpp_2m_ka", "DPM++ 2M Karras"),
        ("k_dpm_2_a", "DPM2 a"),
        ("k_heun", "Heun"),
        ("EulerDiscreteScheduler", "Euler"),
        ("EulerAncestralDiscreteScheduler", "Euler a"),
        ("DPMSolverMultistepScheduler", "DPM++ 2M"),
        ("DPMSolverMultistepScheduler karras", "DPM++ 2M Karras"),
        ("KDPM2AncestralDiscreteScheduler", "DPM2 a"),
        ("unipcmultistepscheduler", "UniPC"),
    ],
)
def test_the_names_of_other_programs_are_understood(text: str, name: str) -> None:
    assert a1111_sampler(text) == name


@pytest.mark.parametrize(
    ("text", "near"), [("dpm++ 2m karas", "DPM++ 2M Karras"), ("euler karras", "Euler"), ("LMS", "LCM"), ("", "UniPC")]
)
def test_what_is_no_sampler_is_told_with_what_is_near(text: str, near: str) -> None:
    with pytest.raises(ValueError, match="is no sampler that is known") as caught:
        a1111_sampler(text)
    assert near in str(caught.value)


@given(st.text())
def test_any_text_is_a_sampler_of_the_table_or_a_value_error(text: str) -> None:
    with contextlib.suppress(ValueError):
        assert a1111_sampler(text) in SAMPLER_NAMES
