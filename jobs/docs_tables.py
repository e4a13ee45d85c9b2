"""Writes what settings, recipes and back ends say of themselves into `.env.example`, the README and docs/recipes.md.

`python -m jobs.docs_tables`, or `make docs-tables`; a test compares the files with what it would write.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from pydantic import SecretStr

from jobs.recipes.sections import DEFAULTS, SECTION_OF, SECTIONS
from resources.backends import BackEnd, Place, entries
from resources.plugins import KINDS, choices, in_words, own
from resources.sections import RecipeDefaults, Section
from resources.settings import PROJECT_ROOT, Settings

WIDTH: Final = 120
BACK_ENDS: Final = ("<!-- back ends: written by `make docs-tables` -->", "<!-- end of the back ends -->")
RECIPE: Final = ("<!-- recipe: written by `make docs-tables` -->", "<!-- end of the recipe -->")
PLACES: Final[dict[Place, str]] = {"gpu": "this machine's GPU", "network": "a server", "cpu": "this machine"}

HEAD: Final = """\
# Written by `make docs-tables` from the settings' own descriptions.
# Copy to .env and uncomment what you need. Paths are absolute. A variable of the environment wins over this file,
# except in Dagster's own commands (dagster, dagster-daemon): there, a .env of the folder they run in wins.
# `fc doctor` shows what is in force, what is missing, and how to fix it.
"""
HOME: Final = """\
# Dagster's home: the folder that holds dagster.yaml; default: this clone. Dagster's own commands need it.
#DAGSTER_HOME=/srv/face-changer
"""
PLACED: Final = ("data_dir", "database_url", "inbox", "inbox_template", "source_roots", "source_urls")
CHOOSING: Final = ("generator", "writer", "detector")


def env_example() -> str:
    """The whole `.env.example`: every setting once, with its description and its default or an example."""
    back_ends = _own_back_ends()
    sections = [
        (section.__doc__ or "", [name for name in section.model_fields if name not in CHOOSING])
        for section in RecipeDefaults.__bases__
        if issubclass(section, Section)
    ]
    of_recipes = {name for _about, names in sections for name in names}
    of_back_ends = {name for one in back_ends for name in one.settings}
    others = [name for name in Settings.model_fields if name not in {*of_recipes, *of_back_ends, *PLACED, *CHOOSING}]
    parts = [
        HEAD,
        _heading("Where things lie"),
        HOME + _fields(PLACED),
        _heading("Back ends"),
        "# auto picks the best that is configured; a back end that is configured but does not work is an error.\n"
        + _fields(CHOOSING),
        *(_group(f"{one.name}: {one.about}.", one.settings) for one in back_ends if one.settings),
        _heading("Defaults for jobs, each of which may say otherwise"),
        *(_group(about, names) for about, names in sections if names),
        _heading("Runs"),
        _fields(others),
    ]
    return "\n".join(parts)


def back_end_table() -> str:
    """The back ends of this package as a Markdown table."""
    rows = [
        f"| {one.kind} | `{one.name}` | {one.about} | {PLACES[one.place]} | {_taken(one)} |" for one in _own_back_ends()
    ]
    return "\n".join(["| | name | what it is | works on | `auto` takes it |", "|---|---|---|---|---|", *rows])


def recipe_table() -> str:
    """Every field of a recipe as a Markdown table."""
    rows = [
        f"| {section} | `{field}` | {_said(DEFAULTS[field])} | {_variable(field)} | {_about(field)} |"
        for field, section in SECTION_OF.items()
    ]
    return "\n".join(["| section | field | default | setting | meaning |", "|---|---|---|---|---|", *rows])


def _said(value: object) -> str:
    return "" if value in (None, "", []) else f"`{value}`"


def _variable(field: str) -> str:
    return f"`{Settings.named(field)}`" if field in RecipeDefaults.model_fields else ""


def _about(field: str) -> str:
    text = SECTIONS[SECTION_OF[field]].model_fields[field].description or ""
    return text.replace("|", "\\|").replace("<", "&lt;")


def documents() -> dict[Path, str]:
    """Each file that is written, and what it must hold."""
    readme, recipes = PROJECT_ROOT / "README.md", PROJECT_ROOT / "docs/recipes.md"
    return {
        PROJECT_ROOT / ".env.example": env_example(),
        readme: _with_block(readme, BACK_ENDS, back_end_table()),
        recipes: _with_block(recipes, RECIPE, recipe_table()),
    }


def _with_block(file: Path, marks: tuple[str, str], block: str) -> str:
    """The file with another block between two marks."""
    before, begin, rest = file.read_text(encoding="utf-8").partition(marks[0])
    _old, end, after = rest.partition(marks[1])
    if not (begin and end):
        raise ValueError(f"{file} lacks the lines {marks[0]} and {marks[1]}")
    return f"{before}{begin}\n\n{block}\n\n{end}{after}"


def _own_back_ends() -> list[BackEnd[object]]:
    """Those that this package declares, whatever else is installed."""
    return [one for kind in KINDS for one in entries(kind) if one.name in own(kind)]


def _taken(one: BackEnd[object]) -> str:
    if one.last_resort is not None:
        return "when no other is set up"
    return f"when `{one.variable}` is set" if one.rank is not None else "never"


def _heading(text: str) -> str:
    return f"# --- {text} ".ljust(WIDTH - 6, "-") + "\n"


def _group(text: str, names: Iterable[str]) -> str:
    return "".join(f"{line}\n" for line in [*_comment(text), "#"]) + _fields(names)


def _fields(names: Iterable[str]) -> str:
    return "".join(f"{line}\n" for name in names for line in _lines(name))


def _lines(name: str) -> Iterator[str]:
    """A setting as it may be uncommented: its description behind it where there is room, else above."""
    description = Settings.model_fields[name].description or ""
    if name in CHOOSING:
        kind = next(kind for kind in KINDS if kind == name)
        description = description.replace(choices(kind), in_words(tuple(sorted(own(kind)))))
    line = f"#{Settings.named(name)}={_value(name)}"
    beside = f"{line:<32}  # {description}"
    if len(beside) <= WIDTH:
        yield beside
    else:
        yield from _comment(description)
        yield line


def _comment(text: str) -> list[str]:
    return textwrap.wrap(
        " ".join(text.split()), WIDTH, initial_indent="# ", subsequent_indent="# ", break_on_hyphens=False
    )


def _value(name: str) -> str:
    """An example where there is one, else the default, as it is written into `.env`."""
    info = Settings.model_fields[name]
    value = info.examples[0] if info.examples else info.get_default(call_default_factory=True)
    if value is None or isinstance(value, list | SecretStr):
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def main() -> None:
    """Write the files."""
    for path, text in documents().items():
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
