"""Files that strangers look for: the texts' links lead somewhere, what they name is there, packages are typed.

`make docs` checks the links inside the site.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from resources.settings import PROJECT_ROOT

ROOT_TEXTS = [*sorted(PROJECT_ROOT.glob("*.md")), PROJECT_ROOT / "examples/README.md"]
TEXTS = [*ROOT_TEXTS, *sorted((PROJECT_ROOT / "docs").rglob("*.md"))]
LINK = re.compile(r"\]\((?!https?:)([^)#\s]*)#?([^)\s]*)\)")
ROOMS = "benchmarks|deploy|docs|examples|fc_assets|imaging|jobs|resources|sensors|sketch|tests"
NAMED = re.compile(rf"`((?:{ROOMS})/[\w./-]+)")


def named(text: Path) -> str:
    return str(text.relative_to(PROJECT_ROOT))


def anchors(text: Path) -> set[str]:
    """The anchors of a text's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", text.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("text", ROOT_TEXTS, ids=named)
def test_links_lead_somewhere(text: Path) -> None:
    for path, anchor in LINK.findall(text.read_text()):
        target = (text.parent / path).resolve() if path else text
        assert target.exists(), path
        assert not anchor or anchor in anchors(target), f"{path}#{anchor}"


@pytest.mark.parametrize("text", TEXTS, ids=named)
def test_files_that_are_named_are_there(text: Path) -> None:
    assert [path for path in NAMED.findall(text.read_text()) if not (PROJECT_ROOT / path).exists()] == []


def test_every_package_says_that_it_carries_types() -> None:
    packages = {file.parent for file in PROJECT_ROOT.glob("*/__init__.py")} - {PROJECT_ROOT / "tests"}
    assert len(packages) >= 6
    assert [folder.name for folder in packages if not (folder / "py.typed").exists()] == []


def test_data_files_of_the_packages_are_part_of_what_is_installed() -> None:
    """Data files stand in packages of `resources`, whose patterns are relative to it."""
    patterns = tomllib.loads((PROJECT_ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    shipped = {file for pattern in patterns["resources"] for file in (PROJECT_ROOT / "resources").glob(pattern)}
    there = {file for file in (PROJECT_ROOT / "resources").rglob("*") if file.suffix in (".toml", ".mako")}
    assert len(there) > 10
    assert there == shipped
