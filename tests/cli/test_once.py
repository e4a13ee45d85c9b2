"""An option that takes one value and is given twice is refused by name, in every command."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from imaging.errors import RejectedError
from jobs.cli.main import app
from jobs.queue.job_queue import JobQueue
from tests.support.commands import Fc


def _single_options(command: Any, *words: str) -> Iterator[tuple[tuple[str, ...], list[str], str]]:
    """Every option of every command that takes one value: the words that call it, what it needs, and the option."""
    for name, below in getattr(command, "commands", {}).items():
        yield from _single_options(below, *words, name)
    for option in [] if hasattr(command, "commands") else command.params:
        if option.param_type_name == "option" and not option.is_flag and not option.multiple:
            needed = ["x" for one in command.params if one.param_type_name == "argument" and one.required]
            yield words, needed, max(option.opts, key=len)


def test_every_option_of_every_command(home: Path) -> None:
    fc = typer.main.get_command(app)
    options = list(_single_options(fc))
    assert len(options) > 80
    for words, needed, option in options:
        with pytest.raises(RejectedError, match=f"^{option} is given twice: 1 and 2."):
            fc.main([*words, *needed, option, "1", option, "2"], standalone_mode=False)


def test_the_short_and_the_long_name_and_both_ways_of_a_switch(fc: Fc, queue: JobQueue) -> None:
    code, _, said = fc("submit", "-p", "a knight", "--prompt", "a lady", "--pony-prompt", "x")
    assert (code, "--pony-prompt is given 3 times: a knight, a lady and x." in said) == (2, True)
    code, _, said = fc("submit", "-p", "a knight", "--seed=1", "--seed", "2")
    assert (code, "--seed is given twice: 1 and 2." in said) == (2, True)
    code, _, said = fc("submit", "-p", "x", "--mask-skin", "--no-mask-skin")
    assert (code, "--mask-skin and --no-mask-skin are both given." in said) == (2, True)
    assert queue.find() == []
    assert fc("submit", "-p", "a knight", "--json", "--json")[0] == 0, "it says the same again"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("submit", "-p", "x", "--tag", "client=a", "--tag", "client=b"), "--tag: client is given twice: a and b."),
        (("retry", "a", "--set", "seed=1", "--set", "seed=2"), "--set: seed is given twice: 1 and 2."),
        (("retry", "a", "--set", "prompt=x", "--set", "pony_prompt=y"), "--set: pony_prompt is given twice: x and y."),
        (("retry", "a", "--set", "seed=1", "--seed", "2"), "--seed: --set seed=1 says another one."),
    ],
)
def test_a_name_is_given_once(fc: Fc, arguments: tuple[str, ...], said: str) -> None:
    code, _, wrong = fc(*arguments)
    assert code == 2
    assert said in wrong
