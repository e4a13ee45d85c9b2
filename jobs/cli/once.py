"""Options that take one value are given once: what a command line says twice is refused by name, never half taken."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import typer
from typer.core import TyperCommand

from imaging.errors import RejectedError

_KEEPING_ALL: Final = {"store": "append", "store_const": "append_const"}


class OnceCommand(TyperCommand):
    """A command of which no option that takes one value is given twice. A switch may be, if it says the same again."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: ANN401 - typer's own Context
        """Read the command line.

        Raises:
            RejectedError: an option is given twice; names it and both values.
        """
        if not ctx.resilient_parsing:  # as while a shell completes a word
            self._refuse_twice(ctx, list(args))
        return super().parse_args(ctx, args)

    def _refuse_twice(self, ctx: Any, given: list[str]) -> None:  # noqa: ANN401
        every = _KeepsAll(type(self.make_parser(ctx))(ctx))
        for option in self.get_params(ctx):
            option.add_to_parser(every, ctx)  # type: ignore[arg-type]
        found, _, _ = every.parser.parse_args(args=given)
        for name, option in every.single.items():
            values = found.get(name) or []
            if len(values if not option.is_flag else set(values)) > 1:
                raise _twice(option, values)


class _KeepsAll:
    """Stands between options and a parser, so that it keeps every value of those that would keep the last one."""

    def __init__(self, parser: Any) -> None:  # noqa: ANN401 - typer keeps the class to itself
        self.parser = parser
        self.single: dict[str, Any] = {}

    def add_option(self, *, obj: Any, dest: str, action: str, **rest: Any) -> None:  # noqa: ANN401
        if action in _KEEPING_ALL:
            self.single[dest] = obj
        self.parser.add_option(obj=obj, dest=dest, action=_KEEPING_ALL.get(action, action), **rest)

    def add_argument(self, **argument: Any) -> None:  # noqa: ANN401
        self.parser.add_argument(**argument)


def _twice(option: Any, values: Sequence[Any]) -> RejectedError:  # noqa: ANN401
    name = max(option.opts, key=len)
    if option.is_flag:
        return RejectedError(f"{name} and {max(option.secondary_opts, key=len)} are both given.", "Give one of them.")
    times = "twice" if len(values) == 2 else f"{len(values)} times"
    said = f"{', '.join(map(str, values[:-1]))} and {values[-1]}"
    return RejectedError(f"{name} is given {times}: {said}.", "Give it once; for several jobs, use --file.")


def give_once(app: typer.Typer) -> None:
    """Make every command of an app, and of those below it, refuse options that are given twice."""
    for command in app.registered_commands:
        command.cls = OnceCommand
    for group in app.registered_groups:
        if group.typer_instance is not None:
            give_once(group.typer_instance)
