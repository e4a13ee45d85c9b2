"""What a job request may say."""

from __future__ import annotations

import json
import reprlib
import secrets
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Final, Literal, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from imaging.errors import RejectedError
from imaging.faces.identity import SAME_PERSON
from jobs.model.ids import check_job_id
from jobs.model.times import read_moment
from jobs.recipes.face_rules import FaceRule, RuleTexts

JobType = Literal["pony_flux", "sdxl_generation", "face_processing", "description", "group"]
JOB_TYPES: tuple[JobType, ...] = get_args(JobType)

MAX_SEED = 2**32 - 1
_MOST_DISTILLED_STEPS: Final = 50  # LCM models were distilled over 50 steps and are run with some of them
_MOST_PROBLEMS: Final = 10

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


def _job_id(text: str) -> str:
    try:
        return check_job_id(text)
    except RejectedError as error:
        raise ValueError(f"{error.what.removeprefix('job_id: ')} {error.hint}") from None


def _moment(value: object) -> object:
    if isinstance(value, str | datetime):
        return read_moment(value)
    if value is None:
        return None
    raise ValueError("must be text; in YAML, write it in quotes")


RESULT_OF: Final = "job:"
"""Before a job's id in `source_image`: the picture that this job makes."""
PLACING: Final = ("parent", "after", "at")
"""The fields that say when a job runs and whose it is. They are kept in the job's row, not with its request."""

JobId = Annotated[str, AfterValidator(_job_id)]
Text = Annotated[str, AfterValidator(_storable)]
Label = Annotated[Text, Field(max_length=256)]
Whole = Annotated[int, BeforeValidator(_no_text_for_a_number)]
Number = Annotated[float, BeforeValidator(_no_text_for_a_number), Field(allow_inf_nan=False)]
Side = Annotated[Whole, Field(ge=64, le=2048), AfterValidator(_multiple_of_8)]


class JobRequest(BaseModel):
    """One request, as the user wrote it, with defaults filled in and a seed drawn when there was none.

    Unknown fields are refused. `pony_flux` and `sdxl_generation` start from `pony_prompt`; `face_processing` and
    `description` start from `source_image`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, str_strip_whitespace=True)

    job_type: JobType = Field(
        "pony_flux",
        description=(
            "pony_flux: scene, faces, description. sdxl_generation: scene only. face_processing: faces and "
            "description of source_image. description: only describe source_image. group: no work of its own; "
            "completed when all jobs are that name it as their parent."
        ),
    )
    pony_prompt: Text = Field(
        "", max_length=8000, description="What the scene shows. Needed for pony_flux and sdxl_generation."
    )
    flux_prompt: Text = Field(
        "",
        max_length=8000,
        description="What the faces look like. Empty: taken from pony_prompt. [SEP] between several: one per face.",
    )
    negative_prompt: Text = Field("", max_length=8000, description="What must not be seen.")
    source_image: Text | None = Field(
        None,
        max_length=4096,
        description=(
            "Photo to work on: its path (or URL, if FC_SOURCE_URLS), or job:ID for the picture that job ID makes. "
            "Needed for face_processing, description."
        ),
    )
    seed: Whole | None = Field(
        None, ge=0, le=MAX_SEED, description="Start of the random numbers. Empty: one is drawn and stored."
    )
    width: Side = Field(1024, description="Width of the generated image in pixels: 64 to 2048, a multiple of 8.")
    height: Side = Field(1024, description="Height of the generated image in pixels: 64 to 2048, a multiple of 8.")
    steps: Whole = Field(30, ge=1, le=150, description="Denoising steps, 1 to 150.")
    cfg_scale: Number = Field(6.0, ge=1, le=30, description="Classifier-free guidance (CFG) scale, 1 to 30.")
    scheduler: Scheduler = Field("Euler a", description="Sampler, by the name that A1111 shows.")
    face_strength: Number = Field(
        0.5, ge=0, le=1, description="Denoising strength of the face pass: 0 keeps the face, 1 makes a new one."
    )
    large_face_strength: Number | None = Field(
        None,
        ge=0,
        le=1,
        description=(
            "Denoising strength of a face that fills a quarter of the picture; one of 1 % gets face_strength, those "
            "between them something between. Empty: face_strength for all."
        ),
    )
    identity: Literal["change", "keep", "match"] | None = Field(
        None,
        description=(
            "What each new face is to be: change: another person's; keep: the same person's; match: reference_face's. "
            "A job whose face is not waits for review. Needs FC_SFACE_MODEL. Empty: anybody's."
        ),
    )
    identity_limit: Number = Field(
        SAME_PERSON, ge=-1, le=1, description="Similarity by which two faces count as one person's, -1 to 1."
    )
    reference_face: Text | None = Field(
        None, max_length=4500, description="Photo of the face to compare with: its path (or URL, if FC_SOURCE_URLS)."
    )
    face_rules: RuleTexts = Field(
        default_factory=list,
        description=(
            "What is different for some faces, such as 'largest: strength=0.3; prompt=an old man' or "
            "'not main face: skip'. Later rules win."
        ),
    )
    output_size: Whole | None = Field(
        None, ge=64, le=8192, description="Longest side of the final image in pixels. Empty: the size it was made at."
    )
    priority: Whole = Field(
        5, ge=1, le=10, description="1 is most urgent, 10 least; equal priorities run oldest first."
    )
    tags: dict[Label, Label] = Field(
        default_factory=dict, max_length=32, description="Your own labels, such as project or client."
    )

    parent: JobId | None = Field(None, exclude=True, description="The group that this job belongs to, by its id.")
    after: JobId | None = Field(
        None, exclude=True, description="The job that must be completed before this one starts, by its id."
    )
    at: Annotated[datetime | None, BeforeValidator(_moment)] = Field(
        None,
        exclude=True,
        description=(
            "Not before this time: 2026-11-30T09:00 (local, or with a zone), 09:00 (today or tomorrow), or +2h. "
            "Empty: at once."
        ),
    )

    @model_validator(mode="after")
    def _check_inputs(self) -> JobRequest:
        if self.job_type == "group":
            self._check_group()
        elif self.job_type in ("pony_flux", "sdxl_generation"):
            if not self.pony_prompt:
                raise ValueError(f"pony_prompt: a {self.job_type} job needs a prompt; say what the image shows")
            if self.source_image is not None:
                raise ValueError(
                    f"source_image: a {self.job_type} job makes its own image; leave the field out, "
                    "or set job_type to face_processing"
                )
        elif not self.source_image:
            raise ValueError(f"source_image: a {self.job_type} job needs a photo; give its path")
        if self.scheduler == "LCM" and self.steps > _MOST_DISTILLED_STEPS:
            raise ValueError(
                f"steps: the scheduler {self.scheduler} takes at most {_MOST_DISTILLED_STEPS} steps; 4 to 8 are usual"
            )
        if self.job_type in ("sdxl_generation", "description") and self.output_size is not None:
            raise ValueError(f"output_size: a {self.job_type} job has no final image to resize; leave the field out")
        if self.result_of is not None:
            self._check_result()
        if self.identity == "match" and not self.reference_face:
            raise ValueError("identity: match compares with a reference_face; give the path of a photo of it")
        return self

    def _check_group(self) -> None:
        for name in ("source_image", "output_size", "after", "at"):
            if getattr(self, name) is not None:
                raise ValueError(f"{name}: a group has no work of its own; give the field to its jobs")

    def _check_result(self) -> None:
        try:
            _job_id(self.result_of or "")
        except ValueError as error:
            raise ValueError(f"source_image: {error}") from None
        if self.after not in (None, self.result_of):
            raise ValueError(f"after: the job works on the picture of {self.result_of} and waits for that one already")

    @property
    def result_of(self) -> str | None:
        """The id of the job whose picture is this one's `source_image`; None when that is a photo, or nothing."""
        source = self.source_image or ""
        return source.removeprefix(RESULT_OF) if source.startswith(RESULT_OF) else None

    @property
    def waits_for(self) -> str | None:
        """The id of the job that must be completed before this one starts."""
        return self.result_of or self.after

    def without_placing(self) -> JobRequest:
        """The same request without when it runs and whose it is: what is kept with the job."""
        return self.model_copy(update=dict.fromkeys(PLACING))

    def with_seed(self) -> JobRequest:
        """The same request with a seed: its own, or one drawn now."""
        return self if self.seed is not None else self.model_copy(update={"seed": secrets.randbelow(MAX_SEED + 1)})

    def rules(self) -> list[FaceRule]:
        """The rules of `face_rules`."""
        return [FaceRule.model_validate(text) for text in self.face_rules]

    @property
    def face_prompt(self) -> str:
        """The words for the face pass: `flux_prompt`, or `pony_prompt` when that is empty."""
        return self.flux_prompt or self.pony_prompt


def parse_request(fields: Mapping[str, Any] | str) -> JobRequest:
    """Read a request from its fields or from JSON text.

    Raises:
        RejectedError: names every field that is wrong, what is wrong with it, and the hint.
    """
    if isinstance(fields, str):
        try:
            fields = json.loads(fields)
        except (ValueError, RecursionError) as error:
            raise RejectedError(
                f"The request is not JSON: {error}.", "Give one JSON object with the fields of a request."
            ) from None
    if not isinstance(fields, Mapping):
        raise RejectedError(
            f"The request is a {type(fields).__name__}, not an object with fields.",
            "Give one object with the fields of a request.",
        )
    try:
        return JobRequest.model_validate(dict(fields))
    except ValidationError as error:
        problems = error.errors(include_url=False)
        more = len(problems) - _MOST_PROBLEMS
        shown = [*map(_one_problem, problems[:_MOST_PROBLEMS]), *([f"and {more} more"] if more > 0 else [])]
        raise RejectedError("; ".join(shown) + ".", "Correct these fields and submit again.") from None


_short = reprlib.Repr()  # ends even for a hostile value: bounded in depth and in width
_short.maxlevel, _short.maxlist, _short.maxdict = 2, 3, 3
_short.maxstring = _short.maxother = 60


def _one_problem(problem: Any) -> str:  # noqa: ANN401 - pydantic's ErrorDetails, a TypedDict of its core
    field = ".".join(reprlib.repr(part) if len(str(part)) > 60 else str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        return f"{field}: there is no such field; the fields are {', '.join(JobRequest.model_fields)}"
    text = str(problem["msg"]).removeprefix("Value error, ")
    if not field:
        return text
    return f"{field}: {text} (got {_short.repr(problem.get('input'))})"
