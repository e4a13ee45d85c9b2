"""What the image servers' clients share: when a request is sent again, time limits, and what a failure is told as."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import SecretStr

from imaging.errors import BackendError, TransientError
from resources.generators.servers import http_api
from resources.generators.servers.http_api import (
    ConnectionLostError,
    HttpApi,
    HttpStatusError,
    Remembered,
    UnreachableError,
)
from tests.support.clock import LeapingClock
from tests.support.http_server import PlainHandler, PlainState, closed_port, serving


@pytest.fixture(autouse=True)
def _no_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(HttpApi, "waits", (0.0, 0.0))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def script() -> list[Any]:
    return []


@pytest.fixture
def state(script: list[Any]) -> PlainState:
    return PlainState(script)


@pytest.fixture
def api(state: PlainState) -> Iterator[HttpApi]:
    with serving(PlainHandler, state) as url:
        yield HttpApi(url, variable="FC_X_URL", server="X", auth=SecretStr("me:pw"), auth_variable="FC_X_AUTH")


def test_a_question_whose_answer_was_lost_is_asked_again(script: list[Any], api: HttpApi) -> None:
    script += ["reset", "reset", "answer"]
    assert api.get_json("/it") == {"detail": "told"}
    script += ["reset", "reset", "reset", "answer"]
    with pytest.raises(ConnectionLostError, match="/it"):
        api.get("/it")


def test_what_may_have_started_work_is_sent_once(script: list[Any], api: HttpApi) -> None:
    script += ["reset", "answer"]
    with pytest.raises(ConnectionLostError):
        api.send("GET", "/it", seconds=60)
    assert script == ["answer"]


def test_a_refusal_is_not_sent_again(script: list[Any], api: HttpApi) -> None:
    script += [500, 404, "answer"]
    for status in (500, 404):
        with pytest.raises(HttpStatusError, match=f"HTTP {status}: told") as found:
            api.get("/it")
        assert (found.value.status, found.value.body) == (status, {"detail": "told"})
    assert script == ["answer"]


def test_a_slow_drip_ends_at_the_limit(script: list[Any], api: HttpApi, monkeypatch: pytest.MonkeyPatch) -> None:
    script += ["drip", "answer"]
    monkeypatch.setattr(http_api, "time", LeapingClock(lambda: len(script) == 1))
    with pytest.raises(ConnectionLostError, match="within 60 s"):
        api.get("/it", seconds=60)
    assert script == ["answer"]


def test_every_request_has_a_connection_of_its_own(script: list[Any], state: PlainState, api: HttpApi) -> None:
    script += ["answer", "answer", "answer"]
    for _ in range(3):
        api.get("/it")
    assert state.connections == 3


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_a_busy_server_may_pass(status: int, script: list[Any], api: HttpApi) -> None:
    script += [status]
    with pytest.raises(UnreachableError, match=f"HTTP {status}") as found:
        api.get("/it")
    assert isinstance(found.value, TransientError)


def test_a_redirect_is_told_and_not_followed_with_the_password(script: list[Any], api: HttpApi) -> None:
    script += [302]
    with pytest.raises(HttpStatusError, match="HTTP 302"):
        api.get("/it")


def test_an_error_carries_no_request(script: list[Any], api: HttpApi) -> None:
    script += [500]
    for path, ask in (("/it", api), ("/it", HttpApi(f"http://127.0.0.1:{closed_port()}", variable="V", server="X"))):
        with pytest.raises(BackendError) as found:
            ask.get(path)
        assert found.value.__cause__ is None
        assert found.value.__suppress_context__ or found.value.__context__ is None
    assert "pw" not in repr(api)


def test_silence_is_remembered_and_other_failures_are_not() -> None:
    failures: list[BackendError] = [UnreachableError("down", "start it"), BackendError("no model", "install it")]
    asked: list[str] = []

    def ask() -> str:
        asked.append("asked")
        if failures:
            raise failures[0]
        return "well"

    remembered = Remembered(ask, 60)
    for _ in range(2):
        with pytest.raises(UnreachableError, match="down"):
            remembered.get()
    assert len(asked) == 1
    del failures[0]
    remembered = Remembered(ask, 60)
    with pytest.raises(BackendError, match="no model"):
        remembered.get()
    failures.clear()
    assert (remembered.get(), remembered.get(), len(asked)) == ("well", "well", 3)
