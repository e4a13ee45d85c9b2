"""The shape of the code: short classes, no circles of imports, and every import in one direction."""

from __future__ import annotations

import ast
import graphlib
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import pytest

from resources.settings import PROJECT_ROOT

TOP = ("fc_assets", "sensors", "jobs", "resources", "imaging", "sketch", "web")
LONGEST_CLASS = 250  # lines
FLOORS = {  # a package imports from its own floor and from those below
    "fc_assets": 9, "sensors": 9, "web": 9, "jobs.cli": 8, "jobs.requests": 7, "jobs.runs": 7, "jobs.queue": 6,
    "jobs.model": 5, "jobs.recipes": 4, "resources": 2, "imaging": 1,
}  # fmt: skip

Graph = Mapping[str, set[str]]


@cache
def modules() -> dict[str, tuple[Path, ast.Module]]:
    found = {}
    for file in (file for top in TOP for file in (PROJECT_ROOT / top).rglob("*.py")):
        parts = file.relative_to(PROJECT_ROOT).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found[name] = (file, ast.parse(file.read_text(encoding="utf-8")))
    return found


@cache
def imports() -> Graph:
    """What each module imports of ours, anywhere in it."""
    return {name: set(_imported(tree)) - {name} for name, (_, tree) in modules().items()}


def _imported(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in modules())
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert not node.level, "imports are absolute"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield from (name for name in (inner if inner in modules() else node.module,) if name in modules())


def package(module: str) -> str:
    """The folder of a module; one that lies directly in a top-level folder stands for itself."""
    parts = module.split(".")
    return module if len(parts) == 2 or modules()[module][0].name == "__init__.py" else ".".join(parts[:-1])


def circles(graph: Graph) -> list[set[str]]:
    """The groups of nodes that reach each other."""
    reached = {node: _reached(graph, node) for node in graph}
    groups = {frozenset(other for other in reached[node] if node in reached.get(other, ())) for node in graph}
    return [set(group) for group in groups if group]


def _reached(graph: Graph, start: str) -> set[str]:
    found: set[str] = set()
    left = [start]
    while left:
        new = graph.get(left.pop(), set()) - found
        found |= new
        left += new
    return found


def floor(module: str) -> int:
    """0: of no floor."""
    parts = module.split(".")
    return FLOORS.get(".".join(parts[:2]), FLOORS.get(parts[0], 0))


@pytest.mark.parametrize("top", TOP)
def test_no_class_is_long_but_tables(top: str) -> None:
    """A table is a class of fields alone, without any method."""
    long = {
        f"{name}.{node.name}"
        for name, (_, tree) in modules().items()
        for node in ast.walk(tree)
        if name.split(".")[0] == top
        and isinstance(node, ast.ClassDef)
        and any(isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef) for part in node.body)
        and node.end_lineno - node.lineno >= LONGEST_CLASS
    }
    assert long == set()


def test_no_circle_of_modules() -> None:
    graphlib.TopologicalSorter(imports()).prepare()


def test_no_circle_of_packages() -> None:
    graph: dict[str, set[str]] = {}
    for module, imported in imports().items():
        graph.setdefault(package(module), set()).update({package(name) for name in imported} - {package(module)})
    assert circles(graph) == []


def test_no_import_points_up() -> None:
    up = [f"{module} imports {name}" for module, found in imports().items() for name in found
          if floor(module) and floor(name) > floor(module)]  # fmt: skip
    assert up == []


def test_the_painter_is_a_back_end_like_any_other() -> None:
    users = {module for module, found in imports().items() for name in found
             if name.startswith("sketch") and not module.startswith("sketch")}  # fmt: skip
    used = {name.split(".")[0] for module, found in imports().items() if module.startswith("sketch") for name in found}
    assert users == set()
    assert used <= {"sketch", "resources", "imaging"}


def test_circles_are_found() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a"}}) == [{"b", "c"}]
    assert circles({"a": {"b"}, "b": {"c"}}) == []
