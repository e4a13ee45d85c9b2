"""What `fc` answers by itself: its version, and the completion that shells ask it for."""

from __future__ import annotations

from importlib.metadata import version

import pytest

from tests.support.commands import Fc


def test_the_version(fc: Fc) -> None:
    assert fc("--version") == (0, f"face-changer {version('face-changer')}\n", "")


@pytest.mark.parametrize(("called", "name"), [("/usr/bin/face-changer", "face-changer"), ("/usr/bin/fc", "fc")])
def test_a_shell_is_given_the_completion_of_the_name_that_was_typed(
    fc: Fc, monkeypatch: pytest.MonkeyPatch, called: str, name: str
) -> None:
    monkeypatch.setenv("_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION", "1")
    monkeypatch.setattr("sys.argv", [called])
    code, out, _ = fc("--show-completion", "bash")
    assert code == 0
    assert out.rstrip().endswith(f" {name}")
    assert f"_{name.upper().replace('-', '_')}_COMPLETE=complete_bash" in out


@pytest.mark.parametrize(
    ("words", "offered"),
    [("fc sub", {"submit"}), ("fc schedule ", {"list", "show", "stop"}), ("fc submit --varia", {"--variants"})],
)
def test_what_is_offered(fc: Fc, monkeypatch: pytest.MonkeyPatch, words: str, offered: set[str]) -> None:
    monkeypatch.setenv("_FC_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", words)
    monkeypatch.setenv("COMP_CWORD", str(len(words.split(" ")) - 1))
    code, out, _ = fc()
    assert (code, set(out.split())) == (0, offered)
