"""The writer that asks Claude over the Messages API."""

from __future__ import annotations

import base64
import io
import logging
import time
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import BaseModel, Field, SecretStr, ValidationError

from imaging.errors import BackendError, NeedsReviewError
from resources.settings import Settings
from resources.writers.base import DescriptionAnswer, Picture, PromptAnswer, PromptDraft, Usage
from resources.writers.claude_api import Call, ClaudeApi, Tokens
from resources.writers.claude_prompts import (
    ENHANCE_SYSTEM,
    PROMPT_VERSION,
    EnhancedPrompts,
    ImageDescription,
    describe_system,
    draft_message,
    picture_message,
)
from resources.writers.face_tags import tags_in

log = logging.getLogger(__name__)

# The API scales an image down to this longest side before a standard-resolution model sees it: sending more costs
# upload time and, on high-resolution models, tokens, and a description needs no more.
# https://platform.claude.com/docs/en/build-with-claude/vision
MAX_IMAGE_SIDE = 1568
_JPEG_QUALITY = 90

# Both tasks are short. Low effort keeps the thinking that comes with every answer of current models short too.
# https://platform.claude.com/docs/en/build-with-claude/effort
_EFFORT = "low"
_MODELS_WITHOUT_EFFORT = ("claude-haiku-4", "claude-sonnet-4-5", "claude-opus-4-1")
_MAX_TOKENS = 8192  # thinking included; doubled for the second try of an answer that was cut

_TITLE_CHARACTERS = 80

Answer = TypeVar("Answer", EnhancedPrompts, ImageDescription)


class ClaudeWriter:
    """Prompts and descriptions by Claude. One instance may be used by one thread at a time.

    Args:
        api_key: the key for the service.
        model: the model's id.
        base_url: another address of the Messages API; empty for Anthropic's own.
        timeout: seconds that one request may take.
        max_retries: further tries after a 408, 409, 429, 5xx, a lost connection or a time limit.
        total_timeout: seconds that one call of `enhance` or `describe_image` may take, waits included. No request
            or wait starts that could not end within it.
        sleep: how to wait, in seconds.

    Raises:
        SettingsError: a key or an address that cannot be one.
    """

    name = "claude"

    def __init__(
        self,
        api_key: SecretStr,
        model: str,
        base_url: str = "",
        timeout: float = 60.0,
        max_retries: int = 4,
        *,
        total_timeout: float = 300.0,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._model = model
        self._api = ClaudeApi(
            api_key,
            model,
            base_url,
            timeout=timeout,
            max_retries=max_retries,
            total_timeout=total_timeout,
            sleep=sleep,
        )

    @classmethod
    def from_settings(cls, settings: Settings) -> ClaudeWriter:
        """The writer that the settings describe. No request is sent."""
        return cls(
            settings.anthropic_api_key,
            settings.claude_model,
            settings.anthropic_base_url,
            settings.claude_timeout,
            settings.claude_max_retries,
            total_timeout=settings.stage_timeout,
        )

    def __repr__(self) -> str:
        return f"ClaudeWriter(model={self._model!r}, base_url={self._api.base_url!r})"

    def __reduce__(self) -> NoReturn:
        """Refuse to be pickled or copied: the key would go along."""
        raise TypeError("A ClaudeWriter is not pickled, as it holds a key; make one from the settings instead.")

    def describe(self) -> dict[str, Any]:
        """Model, prompt version and what else decides the words."""
        return {
            "writer": self.name,
            "model": self._model,
            "prompt_version": PROMPT_VERSION,
            "effort": self._effort,
            "max_image_side": MAX_IMAGE_SIDE,
        }

    def enhance(self, draft: PromptDraft) -> PromptAnswer:
        """Improve the prompts of one job.

        Raises:
            RejectedError: the request is unsafe, by Claude's reading.
            NeedsReviewError: the model declined to answer.
            TransientError: the service is busy, down or too slow.
            BackendError: a wrong key or model, or an answer that stays malformed.
        """

        def missing(answer: EnhancedPrompts) -> str:
            if answer.verdict == "refuse":
                return ""
            lost = [
                name
                for name in ("pony_prompt", "flux_prompt")
                if getattr(draft, name).strip() and not getattr(answer, name).strip()
            ]
            if lost:
                return f"{' and '.join(lost)} came back empty"
            asked, came = tags_in(draft.flux_prompt), tags_in(answer.flux_prompt)
            return f"flux_prompt has the tags {came}, not {asked}" if came != asked else ""

        what = f"Enhancing the prompts of job {draft.job_id}"
        answer, usage = self._ask(what, ENHANCE_SYSTEM, draft_message(draft), EnhancedPrompts, missing)
        answer.obey(f"The prompt of job {draft.job_id}")
        return PromptAnswer(
            pony_prompt=answer.pony_prompt.strip() if draft.pony_prompt.strip() else "",
            flux_prompt=answer.flux_prompt.strip() if draft.flux_prompt.strip() else "",
            negative_prompt=answer.negative_prompt.strip(),
            notes=answer.notes.strip(),
            usage=usage,
        )

    def describe_image(self, picture: Picture) -> DescriptionAnswer:
        """Describe one finished image.

        Raises:
            RejectedError: the image is unsafe, by Claude's reading.
            NeedsReviewError: the model declined to answer.
            TransientError: the service is busy, down or too slow.
            BackendError: a wrong key or model, or an answer that stays malformed.
        """
        content = [_image_block(picture.pixels), {"type": "text", "text": picture_message(picture)}]

        def missing(answer: ImageDescription) -> str:
            written = answer.text.strip() and answer.title.strip()
            return "" if answer.verdict == "refuse" or written else "it is empty"

        what = f"Describing the image of job {picture.job_id}"
        answer, usage = self._ask(what, describe_system(), content, ImageDescription, missing)
        answer.obey(f"The image of job {picture.job_id}")
        height, width = picture.pixels.shape[:2]
        return DescriptionAnswer(
            text=" ".join(answer.text.split()),
            title=_shortened(" ".join(answer.title.split())),
            tags=list(dict.fromkeys(tag.strip().lower() for tag in answer.tags if tag.strip())),
            people=answer.people,
            data={
                **answer.model_dump(exclude={"verdict", "reason", "text", "title", "tags", "people"}),
                "width": width,
                "height": height,
                "origin": picture.origin,
                "generator": picture.generator,
            },
            usage=usage,
        )

    @property
    def _effort(self) -> str | None:
        return None if self._model.startswith(_MODELS_WITHOUT_EFFORT) else _EFFORT

    def _ask(
        self,
        what: str,
        system: str,
        content: str | list[dict[str, Any]],
        shape: type[Answer],
        missing: Callable[[Answer], str],
    ) -> tuple[Answer, Usage]:
        """One question, asked again once when the answer cannot be used. `missing` says what a valid answer lacks."""
        call = self._api.call(what)
        problem = ""
        for max_tokens in (_MAX_TOKENS, 2 * _MAX_TOKENS):
            body = self._api.send(call, self._request(system, content, shape, max_tokens))
            try:
                answer = _read_answer(call, body, shape)
                problem = missing(answer)
            except _UnusableAnswerError as error:
                problem = str(error)
            else:
                if not problem:
                    return answer, call.usage()
            log.warning("%s: an answer could not be used: %s", what, problem)
        raise BackendError(
            f"{what}: Claude's answer could not be used, twice: {problem}{call.ids()}.",
            "Retry the job; if it happens again, set FC_CLAUDE_MODEL to another model.",
        )

    def _request(
        self, system: str, content: str | list[dict[str, Any]], shape: type[Answer], max_tokens: int
    ) -> dict[str, Any]:
        """The body of a request. The system prompt is marked for the cache: each job of a batch sends the same one.

        The SDK's `messages.parse` is not used: it validates before its caller can see the stop reason and the token
        counts, so that a refusal would look like a malformed answer. The schema is the one that it would send.
        """
        import anthropic

        schema = anthropic.transform_schema(shape)
        output: dict[str, Any] = {"format": {"type": "json_schema", "schema": schema}}
        if self._effort is not None:
            output["effort"] = self._effort
        return {
            "model": self._model,
            "max_tokens": max_tokens,
            "system": [{"type": "text", "text": system, "cache_control": {"type": "ephemeral"}}],
            "messages": [{"role": "user", "content": content}],
            "output_config": output,
        }


class _Block(BaseModel):
    type: str
    text: str | None = None


class _StopDetails(BaseModel):
    category: str | None = None
    explanation: str | None = None


class _Reply(BaseModel):
    """The parts of a Messages API answer that are used here; others are ignored, as new ones may come."""

    model: str
    content: list[_Block]
    stop_reason: str | None = None
    stop_details: _StopDetails | None = None
    usage: Tokens = Field(default_factory=Tokens)


class _UnusableAnswerError(Exception):
    """An answer that arrived but cannot be used; the text says why."""


def _read_answer(call: Call, body: bytes, shape: type[Answer]) -> Answer:
    """The structured answer in a body; its tokens are counted whether it can be used or not.

    Raises:
        NeedsReviewError: the model declined.
        _UnusableAnswerError: it was cut, or is not of the shape that was asked for.
    """
    try:
        reply = _Reply.model_validate_json(body)
    except ValidationError:
        raise _UnusableAnswerError("the body is no Messages API answer") from None
    call.add(reply.model, reply.usage)
    if reply.stop_reason == "refusal":
        details = reply.stop_details or _StopDetails()
        reason = details.explanation or details.category or "the service gave no reason"
        raise NeedsReviewError(
            f"{call.what}: the model declined to answer: {reason}{call.ids()}.",
            "Read the prompt and the image: reword or reject the job, or retry it with another FC_CLAUDE_MODEL.",
        )
    if reply.stop_reason in ("max_tokens", "model_context_window_exceeded"):
        raise _UnusableAnswerError("it was cut at the token limit")
    text = "".join(block.text or "" for block in reply.content if block.type == "text")
    try:
        return shape.model_validate_json(text)
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, problem["loc"]))
        raise _UnusableAnswerError(f"{where + ': ' if where else ''}{problem['msg']}") from None


def _image_block(pixels: NDArray[np.uint8]) -> dict[str, Any]:
    """An RGB uint8 image as a content block: JPEG, longest side at most `MAX_IMAGE_SIDE`."""
    image = Image.fromarray(pixels)
    image.thumbnail((MAX_IMAGE_SIDE, MAX_IMAGE_SIDE), Image.Resampling.LANCZOS)
    encoded = io.BytesIO()
    image.save(encoded, "JPEG", quality=_JPEG_QUALITY)
    data = base64.b64encode(encoded.getvalue()).decode("ascii")
    return {"type": "image", "source": {"type": "base64", "media_type": "image/jpeg", "data": data}}


def _shortened(title: str) -> str:
    """A title of at most 80 characters; the model may count wrongly."""
    if len(title) <= _TITLE_CHARACTERS:
        return title
    return title[: _TITLE_CHARACTERS - 1].rstrip(" ,;:") + "…"
