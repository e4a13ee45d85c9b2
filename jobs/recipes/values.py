"""The kinds of values that requests and recipes are made of: what each refuses, in words."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic.fields import FieldInfo

from resources.samplers import a1111_sampler

MAX_SEED = 2**32 - 1

Scheduler = Literal[
    "Euler",
    "Euler a",
    "Euler SGM Uniform",
    "DDIM",
    "DDPM",
    "DPM++ 2M",
    "DPM++ 2M Karras",
    "DPM++ 2M SDE",
    "DPM++ 2M SDE Karras",
    "DPM++ 3M SDE",
    "DPM++ 3M SDE Karras",
    "DPM++ SDE",
    "DPM++ SDE Karras",
    "DPM2",
    "DPM2 a",
    "Heun",
    "LCM",
    "UniPC",
]


def _known_sampler(value: object) -> object:
    return a1111_sampler(value) if isinstance(value, str) else value


Sampler = Annotated[Scheduler, BeforeValidator(_known_sampler)]
"""A sampler by the name that A1111 shows; those of ComfyUI, k-diffusion and diffusers are understood."""


class PathMark:
    """Marks a field that names a file: a relative path in it is anchored to where the request was written."""


def _multiple_of_8(value: int) -> int:
    if value % 8:
        below = value - value % 8
        raise ValueError(f"must be a multiple of 8, as SDXL works in steps of 8 pixels; use {below} or {below + 8}")
    return value


def _no_text_for_a_number(value: object) -> object:
    if isinstance(value, bool | str | bytes):
        raise ValueError("must be a number, written without quotes")  # noqa: TRY004 - pydantic reports ValueError
    return value


def _storable(text: str) -> str:
    if "\0" in text:
        raise ValueError("holds a NUL character; remove it")
    return text


Text = Annotated[str, AfterValidator(_storable)]
Label = Annotated[Text, Field(max_length=256)]
FileName = Annotated[Text, Field(max_length=4096), PathMark()]
Whole = Annotated[int, BeforeValidator(_no_text_for_a_number)]
Number = Annotated[float, BeforeValidator(_no_text_for_a_number), Field(allow_inf_nan=False)]
Side = Annotated[Whole, Field(ge=64, le=2048), AfterValidator(_multiple_of_8)]


def as_request_value(info: FieldInfo) -> Any:  # noqa: ANN401 - a type
    """The type of a setting's field as a request takes it: numbers are no text, and text can be stored."""
    stricter: tuple[Any, ...] = ()
    if info.annotation in (int, float):
        stricter = (BeforeValidator(_no_text_for_a_number), Field(allow_inf_nan=False))
    elif info.annotation is str:
        stricter = (AfterValidator(_storable), Field(max_length=8000))
    marks = (*info.metadata, *stricter)
    return Annotated[(info.annotation, *marks)] if marks else info.annotation
