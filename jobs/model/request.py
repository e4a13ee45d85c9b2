"""What a job request may say."""

from __future__ import annotations

import difflib
import json
import reprlib
import secrets
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, get_args, get_origin

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    create_model,
    model_serializer,
    model_validator,
)
from pydantic.fields import FieldInfo

from imaging.errors import RejectedError, shortened
from jobs.model.ids import check_job_id
from jobs.model.job_types import JOB_TYPES, JobType
from jobs.model.times import read_moment
from jobs.recipes.sections import (
    SECTION_OF,
    FacePassFields,
    IdentityFields,
    OutputFields,
    Sampling,
    SceneFields,
)
from jobs.recipes.values import MAX_SEED, FileName, Label, PathMark, Text, Whole, as_request_value
from resources.sections import RecipeDefaults

_MOST_DISTILLED_STEPS: Final = 50  # LCM models were distilled over 50 steps and are run with some of them
_MOST_PROBLEMS: Final = 10
_MOST_TOLD: Final = 380  # characters of them together

ALIASES: Final = {"prompt": "pony_prompt", "face_prompt": "flux_prompt", "sampler": "scheduler"}
"""Other names by which people know a field."""


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


def _optional(info: FieldInfo) -> tuple[Any, Any]:
    """A field that the settings have a default for, as a request has it: with the same range, and empty by default."""
    extra = info.json_schema_extra if isinstance(info.json_schema_extra, dict) else None
    about = (info.description or "").replace(", or package.module:Class", "").rstrip(".")
    said = f"{about}. Empty: as the settings say."
    return as_request_value(info) | None, Field(None, description=said, json_schema_extra=extra)


SETTABLE: Final = tuple(name for name in SECTION_OF if name in RecipeDefaults.model_fields)
"""The fields of a request that the settings have defaults for."""

if TYPE_CHECKING:

    class _Settable(BaseModel):
        """Nobody reads these fields from a request: what holds is in the recipe."""
else:
    _Settable = create_model("_Settable", **{name: _optional(RecipeDefaults.model_fields[name]) for name in SETTABLE})


class _Asked(BaseModel):
    """What is asked for, in words and pictures."""

    model_config = ConfigDict(extra="forbid", frozen=True, str_strip_whitespace=True)

    job_type: JobType = Field(
        "pony_flux",
        description=(
            "pony_flux: scene, faces, description. sdxl_generation: scene only. face_processing: faces and "
            "description of source_image. description: only describe source_image. group: no work of its own; "
            "completed when all jobs are that name it as their parent."
        ),
        json_schema_extra={"flags": ["--type"], "metavar": "TYPE"},
    )
    pony_prompt: Text = Field(
        "",
        max_length=8000,
        description="What the scene shows. Needed for pony_flux and sdxl_generation.",
        json_schema_extra={"flags": ["--pony-prompt", "--prompt", "-p"]},
    )
    flux_prompt: Text = Field(
        "",
        max_length=8000,
        description="What the faces look like. Empty: taken from pony_prompt. [SEP] between several: one per face.",
        json_schema_extra={"flags": ["--flux-prompt", "--face-prompt"]},
    )
    negative_prompt: Text = Field("", max_length=8000, description="What must not be seen.")
    source_image: Annotated[Text | None, PathMark()] = Field(
        None,
        max_length=4096,
        description=(
            "Photo to work on: its path (or URL, if FC_SOURCE_URLS), or job:ID for the picture that job ID makes. "
            "Needed for face_processing, description."
        ),
        json_schema_extra={"flags": ["--source-image", "-s"], "metavar": "PATH"},
    )
    mask: FileName | None = Field(
        None,
        description=(
            "Your own mask in place of the automatic one: a grey image of the picture's size, white where it is made "
            "anew (only within the portraits of the faces)."
        ),
        json_schema_extra={"metavar": "PATH"},
    )


class JobRequest(_Settable, OutputFields, IdentityFields, FacePassFields, Sampling, SceneFields, _Asked):
    """One request, as the user wrote it, and a seed that was drawn when there was none.

    Unknown fields are refused. `pony_flux` and `sdxl_generation` start from `pony_prompt`; `face_processing` and
    `description` start from `source_image`. What a request does not say is in its job's recipe.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, str_strip_whitespace=True)

    priority: Whole = Field(
        5, ge=1, le=10, description="1 is most urgent, 10 least; equal priorities run oldest first."
    )
    tags: dict[Label, Label] = Field(
        default_factory=dict,
        max_length=32,
        description="Your own labels, such as project or client.",
        json_schema_extra={"flags": ["--tag"], "metavar": "KEY=VALUE"},
    )

    parent: JobId | None = Field(
        None,
        exclude=True,
        description="The group that this job belongs to, by its id.",
        json_schema_extra={"metavar": "JOB"},
    )
    after: JobId | None = Field(
        None,
        exclude=True,
        description="The job that must be completed before this one starts, by its id.",
        json_schema_extra={"metavar": "JOB"},
    )
    at: Annotated[datetime | None, BeforeValidator(_moment)] = Field(
        None,
        exclude=True,
        description=(
            "Not before this time: 2026-11-30T09:00 (local, or with a zone), 09:00 (today or tomorrow), or +2h. "
            "Empty: at once."
        ),
        json_schema_extra={"metavar": "TIME"},
    )

    @model_serializer(mode="wrap")
    def _without_what_is_not_said(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """As stored since the first version: later fields are there only where they say something."""
        return {name: value for name, value in handler(self).items() if value is not None or name not in _LATER}

    @classmethod
    def stored(cls, fields: Mapping[str, Any]) -> JobRequest:
        """A request from what `as_given` gave; it was checked when it was accepted, so it is not checked again."""
        # All defaults are handed over: pydantic would work each of them out anew, which takes longer than all else.
        whole = {**_DEFAULTS, "tags": {}, "face_rules": [], **fields}
        return cls.model_construct(_fields_set=set(fields), **whole)

    def as_given(self) -> dict[str, Any]:
        """What it says, as JSON and without defaults: as it is stored, so that what was not said stays open."""
        return self.model_dump(mode="json", exclude_unset=True)

    def given(self) -> dict[str, Any]:
        """What the request itself says of its recipe, by flat name."""
        said = {name: getattr(self, name) for name in SECTION_OF if name in self.model_fields_set}
        return {name: value for name, value in said.items() if value is not None}

    @model_validator(mode="after")
    def _check_inputs(self) -> JobRequest:
        kind = JOB_TYPES[self.job_type]
        if not kind.stages:
            self._check_group()
        elif kind.starts_from == "prompt":
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
        if kind.delivers != "final_image" and self.output_size is not None:
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
        placed = any(getattr(self, name) is not None for name in PLACING)
        return self.model_copy(update=dict.fromkeys(PLACING)) if placed else self

    def with_seed(self) -> JobRequest:
        """The same request with a seed: its own, or one drawn now."""
        return self if self.seed is not None else self.model_copy(update={"seed": secrets.randbelow(MAX_SEED + 1)})

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
        return JobRequest.model_validate(by_field_names(fields))
    except ValidationError as error:
        raise RejectedError(_told(error.errors(include_url=False)), "Correct these fields and submit again.") from None


def by_field_names(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Fields by their own names, where they are given by other ones that people know (`ALIASES`).

    Raises:
        RejectedError: one field is given under two names.
    """
    named: dict[str, Any] = {}
    for name, value in fields.items():
        own = ALIASES.get(name, name)
        if own in named:
            other = next(alias for alias in (own, *ALIASES) if alias in fields and alias != name)
            raise RejectedError(f"{name}: {other} names the same field.", "Give it once.")
        named[own] = value
    return named


def field_kinds(field: str) -> set[type]:
    """The plain types that a field takes, such as `{int}` or `{float}`, `{list}`, `{dict}`; None and marks left out."""
    found: set[type] = set()
    pending: list[Any] = [JobRequest.model_fields[field].annotation]
    while pending:
        kind = pending.pop()
        origin = get_origin(kind)
        if origin is Annotated:
            pending.append(kind.__origin__)
        elif origin is Literal:
            found.add(str)
        elif origin in (list, dict):
            found.add(origin)
        elif origin is not None:
            pending += get_args(kind)
        elif isinstance(kind, type) and kind is not type(None):
            found.add(kind)
    return found


_DEFAULTS: Final = {name: info.get_default(call_default_factory=True) for name, info in JobRequest.model_fields.items()}

_FIRST_EMPTY: Final = {"source_image", "seed", "large_face_strength", "identity", "reference_face", "output_size"}
_LATER: Final = frozenset(name for name, default in _DEFAULTS.items() if default is None) - _FIRST_EMPTY
"""Fields that the first version did not have: those that are empty by default, but for the ones that were so then."""


class _Short(reprlib.Repr):
    """Ends even for a hostile value: bounded in depth and in width; Python refuses to write very long numbers."""

    def repr_int(self, x: int, level: int) -> str:
        bits = x.bit_length()
        return super().repr_int(x, level) if bits < 200 else f"a whole number of {int(bits * 0.30103) + 1} digits"


_short = _Short()
_short.maxlevel, _short.maxlist, _short.maxdict = 2, 3, 3
_short.maxstring = _short.maxother = 60


def _told(problems: Sequence[Any]) -> str:
    """The first problems, as many as can be read at a glance, and how many more there are."""
    shown: list[str] = []
    for problem in problems[:_MOST_PROBLEMS]:
        text = _one_problem(problem)
        if shown and sum(map(len, shown)) + len(text) > _MOST_TOLD:
            break
        shown.append(text)
    more = len(problems) - len(shown)
    return "; ".join([*shown, *([f"and {more} more"] if more else [])]) + "."


def _one_problem(problem: Any) -> str:  # noqa: ANN401 - pydantic's ErrorDetails, a TypedDict of its core
    field = ".".join(
        part if isinstance(part, str) and len(part) <= 60 else _short.repr(part) for part in problem["loc"]
    )
    if problem["type"] == "extra_forbidden":
        near = difflib.get_close_matches(field, JobRequest.model_fields, n=1, cutoff=0.75)
        return f"{field}: there is no such field" + (f"; near it: {near[0]}" if near else "")
    text = shortened(str(problem["msg"]).removeprefix("Value error, "), 260)
    if not field:
        return text
    return f"{field}: {text} (got {_short.repr(problem.get('input'))})"
