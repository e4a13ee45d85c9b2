"""Reading YAML from anyone: plain values of YAML 1.2, shallow, small when written out, and nothing that may mislead."""

from __future__ import annotations

import re
from typing import Any, ClassVar, Final

import yaml
from yaml.composer import Composer
from yaml.constructor import SafeConstructor
from yaml.cyaml import CParser  # type: ignore[attr-defined]
from yaml.events import AliasEvent, CollectionStartEvent, ScalarEvent
from yaml.resolver import BaseResolver

from imaging.errors import shortened
from jobs.requests.unclear import DATE_LIKE, DEEPEST, NUMBER_LIKE, Unclear, read_number

MOST_VALUES: Final = 100_000
"""Values in a file, those that aliases stand for included."""
MOST_KEYS: Final = 1000
"""Keys of one mapping, with those that it merges (`<<`)."""

_CORE: Final = "tag:yaml.org,2002:"
_PLAIN_TAGS: Final = ("!", *(_CORE + name for name in ("str", "seq", "map")))
_FAULTS: Final = (yaml.YAMLError, ValueError, OverflowError)  # the last two: numbers in directives and escapes


class FaultyYamlError(ValueError):
    """Text that is no YAML, or YAML that is not taken; says where."""


def read_yaml(text: str) -> Any:  # noqa: ANN401 - any YAML value
    """The one document in `text`: objects, lists, text, numbers, booleans, None, and `Unclear` values.

    Raises:
        FaultyYamlError: it is no YAML, or has what is not taken: tags, anchors before single values, too much depth.
    """
    loader = _Loader(text)
    try:
        return loader.get_single_data()
    except _FAULTS as error:
        raise FaultyYamlError(_reason(error)) from None
    finally:
        loader.dispose()


def _reason(error: Exception) -> str:
    if not isinstance(error, yaml.MarkedYAMLError):
        return " ".join(str(error).split())
    mark = error.problem_mark or error.context_mark
    where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
    return where + shortened(" ".join(filter(None, (error.context, error.problem))), 300)


class _Loader(Composer, CParser, SafeConstructor, BaseResolver):
    """PyYAML's safe loader with libyaml's parser, which is many times faster, and limits where nodes are made.

    Not libyaml's own composer: deep nesting crashes it.
    """

    yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {}  # type: ignore[misc]

    def __init__(self, text: str) -> None:
        CParser.__init__(self, text)
        Composer.__init__(self)
        SafeConstructor.__init__(self)
        BaseResolver.__init__(self)
        self._values = 0
        self._path: list[str] = []  # the names of the fields on the way to the node that is being made
        self._sizes: dict[yaml.Node, int] = {}  # how many values a node is when it is written out

    def compose_node(self, parent: Any, index: Any) -> Any:  # noqa: ANN401 - as PyYAML declares it
        event: Any = self.peek_event()
        self._path.append(index.value if isinstance(index, yaml.ScalarNode) else "")
        self._check(event)
        before = self._values
        self._values += 1
        node: Any = super().compose_node(parent, index)
        self._path.pop()
        if isinstance(event, AliasEvent):
            self._values += self._sizes.get(node, 1)
        else:
            self._sizes[node] = self._values - before
        if self._values > MOST_VALUES:
            raise _fault(
                event,
                f"there are more than {MOST_VALUES:,} values, with what aliases stand for; JSON Lines may hold more",
            )
        return node

    def compose_mapping_node(self, anchor: Any) -> Any:  # noqa: ANN401 - as PyYAML declares it
        start: Any = self.peek_event()
        node = super().compose_mapping_node(anchor)
        self.flatten_mapping(node)
        if len(node.value) > MOST_KEYS:
            raise _fault(start, f"a mapping has more than {MOST_KEYS} keys")
        return node

    def _check(self, event: Any) -> None:  # noqa: ANN401 - an event of either parser
        path = ".".join(filter(None, self._path))
        field = f"{shortened(path, 60)}: " if path else ""
        if isinstance(event, CollectionStartEvent) and len(self._path) > DEEPEST:
            raise _fault(event, f"{field}lists or mappings stand in each other, over {DEEPEST} levels deep")
        if event.anchor and isinstance(event, ScalarEvent):
            raise _fault(
                event,
                f"{field}&{event.anchor:.60} is an anchor before a single value; write the value without it, or, if & "
                "belongs to the text, put it in quotes",
            )
        tag = getattr(event, "tag", None)
        if tag is not None and tag not in _PLAIN_TAGS:
            shown = f"!!{tag.removeprefix(_CORE)}" if tag.startswith(_CORE) else tag
            raise _fault(event, f"{field}the tag {shown:.60} is not taken; write plain text or a plain number")


def _fault(event: Any, problem: str) -> yaml.MarkedYAMLError:  # noqa: ANN401 - an event of either parser
    return yaml.MarkedYAMLError(problem=problem, problem_mark=event.start_mark)


def _number(_loader: object, node: yaml.ScalarNode) -> object:
    return read_number(node.value)


def _date(_loader: object, node: yaml.ScalarNode) -> Unclear:
    return Unclear(node.value)


_NUMBERS: Final = list("+-.0123456789")
for _tag, _form, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("merge", r"<<", ["<"]),
    ("number", NUMBER_LIKE, _NUMBERS),
    ("date", DATE_LIKE, _NUMBERS),
):
    _Loader.add_implicit_resolver(_CORE + _tag, re.compile(rf"(?:{_form})\Z", re.ASCII), _first)
_Loader.add_constructor(_CORE + "number", _number)  # type: ignore[type-var]
_Loader.add_constructor(_CORE + "date", _date)  # type: ignore[type-var]
