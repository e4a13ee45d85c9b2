"""The options of a request on the command line: one for each field, made from the request's own fields."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Annotated, Any, Final, Literal, get_args, get_origin

import typer
from pydantic.fields import FieldInfo

from jobs.model.request import JobRequest, field_kinds
from jobs.recipes.sections import SECTION_OF

REPEATED: Final = frozenset({"source_image"})
"""Fields with one value each, whose option may be given several times: each value is for a job of its own."""

_PANELS = {
    "scene": "The picture",
    "sampling": "The model and its sampling",
    "faces": "Which faces",
    "mask": "Masks",
    "face_pass": "The face pass",
    "checks": "Checks",
    "words": "Words",
    "output": "The file",
}


def with_request_options(command: Callable[..., None]) -> Callable[..., None]:
    """A command with an option for every field of a request, which it gets as `fields`: those that were given."""
    own = [one for one in inspect.signature(command, eval_str=True).parameters.values() if one.name != "fields"]
    options = [_option(name, info) for name, info in JobRequest.model_fields.items()]

    @functools.wraps(command)
    def run(**values: Any) -> None:  # noqa: ANN401 - of any type
        fields = {name: values.pop(name) for name in JobRequest.model_fields}
        command(fields={name: value for name, value in fields.items() if value not in (None, [])}, **values)

    parameters = [*options, *own]
    vars(run)["__signature__"] = inspect.Signature(parameters)
    run.__annotations__ = {one.name: one.annotation for one in parameters} | {"return": None}
    return run


def _option(name: str, info: FieldInfo) -> inspect.Parameter:
    extra = info.json_schema_extra if isinstance(info.json_schema_extra, dict) else {}
    flag = f"--{name.replace('_', '-')}"
    flags = extra.get("flags", [flag])
    kinds = field_kinds(name)
    if kinds == {bool}:
        flags = [f"{flag}/--no-{name.replace('_', '-')}"]
    default = info.get_default(call_default_factory=True)
    shown = f" Default: {default}." if default not in ("", None, {}, []) else ""
    choices = _choices(info.annotation)
    one_of = f" One of {', '.join(choices)}." if choices and not _names_all(info, choices) else ""
    option = typer.Option(
        *flags,  # type: ignore[misc]
        help=f"{info.description}{one_of}{shown}",
        metavar=str(extra["metavar"]) if "metavar" in extra else None,
        rich_help_panel=_PANELS.get(SECTION_OF.get(name, ""), "The request"),
    )
    kind = list[str] if name in REPEATED else _type(kinds)
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind | None, option]
    )


def _type(kinds: set[type]) -> Any:  # noqa: ANN401 - a type
    """What typer reads; ranges and choices are checked by the request, with one message for every way in."""
    if kinds & {list, dict}:
        return list[str]
    return next((kind for kind in (bool, int, float) if kind in kinds), str)


def _choices(annotation: Any) -> tuple[str, ...]:  # noqa: ANN401 - a type
    if get_origin(annotation) is Literal:
        return tuple(map(str, get_args(annotation)))
    return next(filter(None, (_choices(part) for part in get_args(annotation))), ())


def _names_all(info: FieldInfo, choices: tuple[str, ...]) -> bool:
    return all(choice in (info.description or "") for choice in choices)
