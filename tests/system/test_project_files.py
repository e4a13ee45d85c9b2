"""Files that strangers look for: the texts' links lead somewhere, what they name is there, packages are typed.

`make docs` checks the links inside the site.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from resources.settings import PROJECT_ROOT

ROOT_TEXTS = [*sorted(PROJECT_ROOT.glob("*.md")), PROJECT_ROOT / "examples/README.md"]
TEXTS = [*ROOT_TEXTS, *sorted((PROJECT_ROOT / "docs").rglob("*.md"))]
LINK = re.compile(r"\]\((?!https?:)([^)#\s]*)#?([^)\s]*)\)")
ROOMS = "benchmarks|deploy|docs|examples|fc_assets|imaging|jobs|resources|sensors|sketch|tests|web"
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


def test_what_is_left_out_for_lack_of_yunet_is_said_in_one_line(tmp_path: Path) -> None:
    environment = os.environ | {"FC_YUNET_MODEL": str(tmp_path / "none.onnx")}
    command = [sys.executable, "-m", "pytest", "-q", "-n0", "-k", "yunet_finds", "tests/resources/test_face_encoder.py"]
    found = subprocess.run(command, cwd=PROJECT_ROOT, env=environment, capture_output=True, text=True, check=True)
    lines = [line for line in found.stdout.splitlines() if line.startswith("Left out")]
    assert len(lines) == 1
    assert ": 1 tests." in lines[0]
    assert "fc models pull yunet" in lines[0]
    assert "1 skipped" in found.stdout.splitlines()[-1], "pytest's own line is the last"
