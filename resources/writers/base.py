"""What every writer promises: better prompts, and a description of a finished image."""

from __future__ import annotations

from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from imaging.errors import RejectedError
from imaging.geometry.boxes import Face


class Usage(BaseModel):
    """What one call used. A writer without a model reports zeros.

    Attributes:
        model: the model's id as the service reported it, or the writer's own name.
        input_tokens: tokens read, cache reads and writes included.
        output_tokens: tokens written.
        cost_usd: price of the call in US dollars; None when the model's price is not known.
        seconds: wall time of the call, retries included.
        attempts: how many requests were sent, at least 1 for a service, 0 without one.
        request_ids: the service's own ids of the requests, for support.
    """

    model_config = ConfigDict(frozen=True)

    model: str
    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float | None = 0.0
    seconds: float = 0.0
    attempts: int = 0
    request_ids: list[str] = Field(default_factory=list)


class PromptDraft(BaseModel):
    """The user's words, as they stand in the request. Either prompt may be empty, not both."""

    model_config = ConfigDict(frozen=True)

    job_id: str
    pony_prompt: str = ""
    flux_prompt: str = ""
    negative_prompt: str = ""


class PromptAnswer(BaseModel):
    """The improved words. A prompt that was empty in the draft stays empty."""

    model_config = ConfigDict(frozen=True)

    pony_prompt: str
    flux_prompt: str
    negative_prompt: str
    notes: str = ""
    usage: Usage


class Picture(BaseModel):
    """A finished image to describe, with what is known about how it was made.

    Attributes:
        pixels: RGB, uint8, shape (height, width, 3).
        faces: the faces in it, largest first.
        prompt: the prompt it was made from, or empty for an imported photo.
        face_prompt: the prompt its faces were made anew from, or empty when they were not.
        origin: `photo` for an untouched import, `edited photo`, or `generated`.
        generator: the name of the generator that made its pixels, or empty for an untouched photo.
    """

    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True)

    job_id: str
    pixels: NDArray[np.uint8]
    faces: list[Face] = Field(default_factory=list)
    prompt: str = ""
    face_prompt: str = ""
    origin: str = "generated"
    generator: str = ""


class DescriptionAnswer(BaseModel):
    """A description as text and as data.

    Attributes:
        text: one paragraph for people.
        title: at most 80 characters.
        tags: lower-case keywords, no duplicates.
        people: how many people can be seen.
        data: further facts, JSON values: setting, expression, colours, measurements.
    """

    model_config = ConfigDict(frozen=True)

    text: str
    title: str
    tags: list[str]
    people: int = Field(ge=0)
    data: dict[str, Any] = Field(default_factory=dict)
    usage: Usage


Verdict = Literal["safe", "refuse"]


class Judged(BaseModel):
    """What every structured answer of a model begins with: whether it may go on, by the model's own reading.

    A subclass is the shape that is asked for. An answer without a verdict is no answer.
    """

    model_config = ConfigDict(extra="ignore")

    verdict: Verdict = Field(description="refuse when the rules of safety say so, else safe.")
    reason: str = Field(description="Why it is refused, in one sentence; empty when it is safe.")

    def obey(self, what: str) -> None:
        """End the job when the verdict says so.

        Args:
            what: what was judged, as the beginning of a sentence, with the job's id.

        Raises:
            RejectedError: the verdict is `refuse`; says the model's reason.
        """
        if self.verdict == "refuse":
            raise RejectedError(
                f"{what} was turned down as unsafe: {self.reason.strip() or 'no reason given'}",
                "Such a request is never run; submit another prompt or picture.",
            )


class Writer(Protocol):
    """A back end that writes prompts and descriptions.

    Errors: `TransientError` when the service is busy, down or too slow after its own retries; `NeedsReviewError`
    when the service refuses to answer; `RejectedError` when the words or the picture are unsafe by the model's verdict
    (`Judged`); `BackendError` for anything else (a wrong
    key, an answer that stays malformed).
    """

    name: str

    def describe(self) -> dict[str, Any]:
        """Everything that decides the words besides the draft: model, prompt version. JSON values, no secrets."""
        ...

    def enhance(self, draft: PromptDraft) -> PromptAnswer:
        """Improve the prompts of one job."""
        ...

    def describe_image(self, picture: Picture) -> DescriptionAnswer:
        """Describe one finished image."""
        ...
