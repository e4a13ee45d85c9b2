"""The Messages API of Claude: one request, sent again where that may help, and what its failures mean.

The key is held as a secret and reaches the SDK only. No error raised here is chained to the SDK's own: those carry
the request with its headers.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import tenacity
from pydantic import BaseModel, SecretStr

from imaging.errors import BackendError, SettingsError, TransientError
from resources.addresses import is_plain_url
from resources.retries import LONGEST_RETRY_AFTER, Failure, ask_again, retry_after
from resources.writers.base import Usage
from resources.writers.claude_prices import cost_usd

if TYPE_CHECKING:
    import anthropic

log = logging.getLogger(__name__)

_OFFICIAL_URL: Final = "https://api.anthropic.com"
_BACKOFF: Final = tenacity.wait_exponential(multiplier=0.5, max=8.0)  # seconds: 0.5, 1, 2, 4, 8
_RETRIED_STATUS: Final = (408, 409, 429)


class Tokens(BaseModel):
    """The token counts of an answer, as the API names them."""

    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None


@dataclass
class Call:
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
        """Keep the id by which the service knows a request."""
        request_id = headers.get("request-id")
        if request_id:
            self.request_ids.append(request_id)

    def add(self, model: str, tokens: Tokens) -> None:
        """Count an answer's tokens, at the price of the model that gave it."""
        read, written = tokens.cache_read_input_tokens or 0, tokens.cache_creation_input_tokens or 0
        self.model = model
        self.input_tokens += tokens.input_tokens + read + written
        self.output_tokens += tokens.output_tokens
        cost = cost_usd(model, tokens.input_tokens, tokens.output_tokens, read, written)
        self.cost_usd = None if cost is None or self.cost_usd is None else self.cost_usd + cost

    def usage(self) -> Usage:
        """The sums so far."""
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
        """For messages: how often was tried, when more than once."""
        return f" after {self.attempts} tries" if self.attempts > 1 else ""

    def ids(self) -> str:
        """For messages: the ids of the requests."""
        return f" (request {', '.join(self.request_ids)})" if self.request_ids else ""


class ClaudeApi:
    """One account at one address. One instance may be used by one thread at a time. Arguments as `ClaudeWriter`'s."""

    def __init__(
        self,
        api_key: SecretStr,
        model: str,
        base_url: str,
        *,
        timeout: float,
        max_retries: int,
        total_timeout: float,
        sleep: Callable[[float], None],
    ) -> None:
        self.base_url = _checked_url(base_url or _OFFICIAL_URL)
        self._api_key = _checked_key(api_key)
        self._model = model
        self._timeout = timeout
        self._max_retries = max_retries
        self._total_timeout = total_timeout
        self._sleep = sleep
        self._client: anthropic.Anthropic | None = None

    def call(self, what: str) -> Call:
        """A new call, whose time begins now. `what` says in messages what it is for."""
        return Call(what, self._model, deadline=time.monotonic() + self._total_timeout)

    def send(self, call: Call, request: Mapping[str, Any]) -> bytes:
        """Send a request, again where that may help, and return the body of the answer.

        The SDK's own retries are off: they would sleep for as long as a `retry-after` header says, even hours.

        Raises:
            TransientError: the service is busy, down or too slow.
            BackendError: it refuses the request, the key or the model.
        """
        return ask_again(
            lambda: self._attempt(call, request),
            tries=self._max_retries + 1,
            # Spread, so that many clients do not come back at once.
            wait=lambda state: _BACKOFF(state) * random.uniform(0.75, 1.0),  # noqa: S311 - not a secret
            notify=log.warning,
            deadline=call.deadline,
            sleep=self._sleep,
        )

    def _attempt(self, call: Call, request: Mapping[str, Any]) -> bytes | Failure:
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
                base_url=self.base_url,
                timeout=self._timeout,
                max_retries=0,
            )
        return self._client

    def _connection_failure(self, call: Call, problem: str) -> Failure:
        error = TransientError(
            f"{call.what}: {problem}, at {urlsplit(self.base_url).hostname}{call.tries()}.",
            "The job is tried again; if this lasts, check the network, ANTHROPIC_BASE_URL and FC_CLAUDE_TIMEOUT.",
        )
        return Failure(error, may_pass=True)

    def _status_failure(self, call: Call, error: anthropic.APIStatusError) -> Failure:
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
            if asked is not None and asked > LONGEST_RETRY_AFTER:
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
        return Failure(failure, may_pass=may_pass, retry_after=asked)


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
    if not is_plain_url(url):
        raise SettingsError(
            "ANTHROPIC_BASE_URL is not an address of the form https://host, without a user name or password.",
            "Correct it, or leave it out to use Anthropic's own service.",
        )
    return url
