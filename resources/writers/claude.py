"""The writer that asks Claude over the Messages API.

The key is held as a secret and reaches the SDK only. No error raised here is chained to the SDK's own: those carry
the request with its headers.
"""

from __future__ import annotations

import base64
import io
import logging
import random
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import BaseModel, Field, SecretStr, ValidationError

from imaging.errors import (
    BackendError,
    FaceChangerError,
    NeedsReviewError,
    RejectedError,
    SettingsError,
    TransientError,
)
from resources.retry_after import retry_after
from resources.settings import Settings
from resources.writers.base import DescriptionAnswer, Picture, PromptAnswer, PromptDraft, Usage
from resources.writers.claude_prices import cost_usd
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

if TYPE_CHECKING:
    import anthropic

log = logging.getLogger(__name__)

_OFFICIAL_URL = "https://api.anthropic.com"

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

_FIRST_WAIT = 0.5  # seconds before the second try; doubles with every further one
_LONGEST_BACKOFF = 8.0
_LONGEST_RETRY_AFTER = 60.0  # a service that asks for more patience than this gets the job again later, by the queue
_RETRIED_STATUS = (408, 409, 429)
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
        self._api_key = _checked_key(api_key)
        self._model = model
        self._base_url = _checked_url(base_url or _OFFICIAL_URL)
        self._timeout = timeout
        self._max_retries = max_retries
        self._total_timeout = total_timeout
        self._sleep = sleep
        self._client: anthropic.Anthropic | None = None

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
        return f"ClaudeWriter(model={self._model!r}, base_url={self._base_url!r})"

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
            if answer.refused:
                return ""
            lost = [
                name
                for name in ("pony_prompt", "flux_prompt")
                if getattr(draft, name).strip() and not getattr(answer, name).strip()
            ]
            if lost:
                return f"{' and '.join(lost)} came back empty"
            tags, kept = tags_in(draft.flux_prompt), tags_in(answer.flux_prompt)
            return f"flux_prompt has the tags {kept}, not {tags}" if kept != tags else ""

        what = f"Enhancing the prompts of job {draft.job_id}"
        answer, usage = self._ask(what, ENHANCE_SYSTEM, draft_message(draft), EnhancedPrompts, missing)
        if answer.refused:
            raise RejectedError(
                f"The prompt of job {draft.job_id} was turned down as unsafe: {answer.reason or 'no reason given'}",
                "Such a request is never run; submit another prompt.",
            )
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
            NeedsReviewError: the model declined to answer or to describe the image.
            TransientError: the service is busy, down or too slow.
            BackendError: a wrong key or model, or an answer that stays malformed.
        """
        content = [_image_block(picture.pixels), {"type": "text", "text": picture_message(picture)}]

        def missing(answer: ImageDescription) -> str:
            return "" if answer.refused or (answer.text.strip() and answer.title.strip()) else "it is empty"

        what = f"Describing the image of job {picture.job_id}"
        answer, usage = self._ask(what, describe_system(), content, ImageDescription, missing)
        if answer.refused:
            raise NeedsReviewError(
                f"{what}: Claude declined: {answer.reason or 'no reason given'}",
                "Look at the image; approve it without a description, or retry from an earlier stage.",
            )
        height, width = picture.pixels.shape[:2]
        return DescriptionAnswer(
            text=" ".join(answer.text.split()),
            title=_shortened(" ".join(answer.title.split())),
            tags=list(dict.fromkeys(tag.strip().lower() for tag in answer.tags if tag.strip())),
            people=answer.people,
            data={
                **answer.model_dump(exclude={"refused", "reason", "text", "title", "tags", "people"}),
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
        call = _Call(what, self._model, deadline=time.monotonic() + self._total_timeout)
        problem = ""
        for max_tokens in (_MAX_TOKENS, 2 * _MAX_TOKENS):
            body = self._send(call, self._request(system, content, shape, max_tokens))
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

    def _send(self, call: _Call, request: Mapping[str, Any]) -> bytes:
        """Send a request, again where that may help, and return the body of the answer.

        The SDK's own retries are off: they would sleep for as long as a `retry-after` header says, even hours.
        """
        retries = 0
        while True:
            outcome = self._attempt(call, request)
            if isinstance(outcome, bytes):
                return outcome
            wait = self._wait_before(call, outcome, retries)
            if wait is None:
                raise outcome.error
            retries += 1
            log.warning("%s Trying again in %.1f s.", outcome.error.what, wait)
            self._sleep(wait)

    def _wait_before(self, call: _Call, failure: _Failure, retries: int) -> float | None:
        """Seconds to wait before the next try; None when there is none."""
        if not failure.may_pass or retries >= self._max_retries:
            return None
        wait = failure.retry_after
        if wait is None:
            backoff = min(_FIRST_WAIT * 2**retries, _LONGEST_BACKOFF)
            wait = backoff * random.uniform(0.75, 1.0)  # noqa: S311 - spreads clients out; not a secret
        if wait > _LONGEST_RETRY_AFTER or time.monotonic() + wait >= call.deadline:
            return None
        return wait

    def _attempt(self, call: _Call, request: Mapping[str, Any]) -> bytes | _Failure:
        """Send one request: the body of its answer, or why there is none."""
        import anthropic
        import httpx2

        limit = min(self._timeout, call.deadline - time.monotonic())
        if limit <= 0:
            return self._connection_failure(call, f"there was no answer within {self._total_timeout:g} s in all")
        ends = time.monotonic() + limit
        call.attempts += 1
        try:
            create = self._sdk().messages.with_streaming_response.create
            with create(**request, timeout=limit) as response:
                call.note_id(response.headers)
                return _read_body(response.iter_bytes(), ends)
        except anthropic.APIStatusError as error:
            call.note_id(error.response.headers)
            return self._status_failure(call, error)
        except (anthropic.APITimeoutError, httpx2.TimeoutException, TimeoutError):
            return self._connection_failure(call, f"there was no answer within {limit:.3g} s")
        except (anthropic.APIConnectionError, httpx2.RequestError) as error:
            reason = type(error.__cause__ or error).__name__
            return self._connection_failure(call, f"the connection failed ({reason})")

    def _sdk(self) -> anthropic.Anthropic:
        if self._client is None:
            import anthropic

            self._client = anthropic.Anthropic(
                api_key=self._api_key.get_secret_value(),
                base_url=self._base_url,
                timeout=self._timeout,
                max_retries=0,
            )
        return self._client

    def _connection_failure(self, call: _Call, problem: str) -> _Failure:
        error = TransientError(
            f"{call.what}: {problem}, at {urlsplit(self._base_url).hostname}{call.tries()}.",
            "The job is tried again; if this lasts, check the network, ANTHROPIC_BASE_URL and FC_CLAUDE_TIMEOUT.",
        )
        return _Failure(error, may_pass=True)

    def _status_failure(self, call: _Call, error: anthropic.APIStatusError) -> _Failure:
        """What an HTTP error means, as the documentation of the API has it.

        https://platform.claude.com/docs/en/api/errors
        """
        status = error.status_code
        said = (error.api_message if isinstance(error.api_message, str) else error.response.text).strip()
        said = said.replace(self._api_key.get_secret_value(), "***")[:300] or "no message"
        context = f"(HTTP {status}: {said}){call.tries()}{call.ids()}."
        passes = status in _RETRIED_STATUS or status >= 500
        asked = retry_after(error.response.headers)
        advice = error.response.headers.get("x-should-retry")
        may_pass = advice == "true" if advice in ("true", "false") else passes
        if passes:
            if asked is not None and asked > _LONGEST_RETRY_AFTER:
                context += f" It asks to wait {asked:.0f} s."
            failure: BackendError = TransientError(
                f"{call.what}: the service is busy or failing {context}",
                "The job is tried again later; if this lasts, lower FC_BATCH_SIZE or see the service's status page.",
                retry_after=asked,
            )
        elif status in (401, 403):
            failure = BackendError(
                f"{call.what}: the service did not accept the key {context}",
                f"Set ANTHROPIC_API_KEY to a valid key that may use {self._model}.",
            )
        elif status == 404:
            failure = BackendError(
                f"{call.what}: the service does not know the model {self._model!r} {context}",
                "Set FC_CLAUDE_MODEL to a model that the key may use, and check ANTHROPIC_BASE_URL if it is set.",
            )
        else:
            failure = BackendError(
                f"{call.what}: the service refused the request {context}",
                "Repair what the message names: billing, FC_CLAUDE_MODEL, or the size of the request.",
            )
        return _Failure(failure, may_pass=may_pass, retry_after=asked)


@dataclass(frozen=True)
class _Failure:
    """A request without an answer.

    Attributes:
        error: what to raise when it is not tried again.
        may_pass: whether another try may help.
        retry_after: seconds that the service asks to wait, at least 0; None when it does not say.
    """

    error: FaceChangerError
    may_pass: bool
    retry_after: float | None = None


@dataclass
class _Call:
    """What one call of the writer has sent and used so far."""

    what: str
    model: str
    deadline: float
    started: float = field(default_factory=time.monotonic)
    attempts: int = 0
    request_ids: list[str] = field(default_factory=list)
    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float | None = 0.0

    def note_id(self, headers: Mapping[str, str]) -> None:
        request_id = headers.get("request-id")
        if request_id:
            self.request_ids.append(request_id)

    def add(self, reply: _Reply) -> None:
        tokens = reply.usage
        read, written = tokens.cache_read_input_tokens or 0, tokens.cache_creation_input_tokens or 0
        self.model = reply.model
        self.input_tokens += tokens.input_tokens + read + written
        self.output_tokens += tokens.output_tokens
        cost = cost_usd(reply.model, tokens.input_tokens, tokens.output_tokens, read, written)
        self.cost_usd = None if cost is None or self.cost_usd is None else self.cost_usd + cost

    def usage(self) -> Usage:
        return Usage(
            model=self.model,
            input_tokens=self.input_tokens,
            output_tokens=self.output_tokens,
            cost_usd=self.cost_usd,
            seconds=round(time.monotonic() - self.started, 3),
            attempts=self.attempts,
            request_ids=self.request_ids,
        )

    def tries(self) -> str:
        return f" after {self.attempts} tries" if self.attempts > 1 else ""

    def ids(self) -> str:
        return f" (request {', '.join(self.request_ids)})" if self.request_ids else ""


class _Tokens(BaseModel):
    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None


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
    usage: _Tokens = Field(default_factory=_Tokens)


class _UnusableAnswerError(Exception):
    """An answer that arrived but cannot be used; the text says why."""


def _read_body(chunks: Iterator[bytes], ends: float) -> bytes:
    """The whole body; the SDK's own limit counts from byte to byte, so a slow drip would never end.

    Raises:
        TimeoutError: when `ends`, a time of the monotonic clock, is past.
    """
    body = bytearray()
    for chunk in chunks:
        body += chunk
        if time.monotonic() > ends:
            raise TimeoutError
    return bytes(body)


def _read_answer(call: _Call, body: bytes, shape: type[Answer]) -> Answer:
    """The structured answer in a body; its tokens are counted whether it can be used or not.

    Raises:
        NeedsReviewError: the model declined.
        _UnusableAnswerError: it was cut, or is not of the shape that was asked for.
    """
    try:
        reply = _Reply.model_validate_json(body)
    except ValidationError:
        raise _UnusableAnswerError("the body is no Messages API answer") from None
    call.add(reply)
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


def _checked_key(key: SecretStr) -> SecretStr:
    """The key without blanks around it.

    A key that HTTP cannot carry is refused here: the HTTP library would quote it in its error message.
    """
    text = key.get_secret_value().strip()
    if not text:
        raise SettingsError("ANTHROPIC_API_KEY is empty.", "Set it to your key, or set FC_WRITER to offline.")
    if not all("!" <= character <= "~" for character in text):
        raise SettingsError(
            "ANTHROPIC_API_KEY holds a character that no key has (a blank, a line break, or not ASCII).",
            "Copy the key again, without quotes around it.",
        )
    return SecretStr(text)


def _checked_url(url: str) -> str:
    """The address, if it is a plain http or https one; user names and passwords in it would end up in logs."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and "@" not in parts.netloc
    except ValueError:
        usable = False
    if not usable:
        raise SettingsError(
            "ANTHROPIC_BASE_URL is not an address of the form https://host, without a user name or password.",
            "Correct it, or leave it out to use Anthropic's own service.",
        )
    return url
