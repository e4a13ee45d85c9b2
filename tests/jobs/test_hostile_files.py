"""Request files that are wrong on purpose: each is refused in our words and briefly, whatever kind of file it is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from imaging.errors import RejectedError
from jobs.model.request import JobRequest, parse_request
from jobs.model.times import next_time, read_moment
from jobs.requests.files import load_requests, parse_entries, read_entries
from resources.database import utc_now

NINES: Final = "9" * 5000
NUMBERS: Final = {
    "long": NINES,
    "long and negative": f"-{NINES}",
    "just too long": "9" * 19,
    "exponent": "1.23E+09",
    "short exponent": "1e3",
    "giant exponent": "1e" + NINES,
    "giant negative exponent": "1e-" + NINES,
    "many decimals": "1." + NINES,
    "rounded": "1." + "9" * 30,
}
NOT_JSON: Final = {  # numbers of YAML 1.1 and of spreadsheets alone
    "leading zero": "0123456",
    "octal": "010",
    "long octal": "0" + "7" * 9000,
    "new octal": "0o17",
    "hex": "0x1F",
    "long hex": "0x" + "f" * 5000,
    "binary": "0b101",
    "long binary": "0b" + "1" * 20_000,
    "sexagesimal": "1:30",
    "long sexagesimal": "1" + ":59" * 5000,
    "underscores": "1_000",
    "leading zero with a point": "07.5",
}
DATES: Final = ("2026-11-25", "2026-13-45", "0000-01-01", "9999-99-99 99:99:99", "2026-11-25T09:00:00Z")


def yaml_with(field: str, written: str) -> str:
    words = "" if field == "pony_prompt" else "pony_prompt: p\n"
    return f"{words}{field}: {written}\n"


def json_with(field: str, written: str) -> str:
    return f'{{"pony_prompt": "p", "{field}": {written}}}'


def csv_with(field: str, written: str) -> str:
    return f'pony_prompt,{field}\np,"{written}"\n'


DEEP: Final = ("[" * 3000, "{a: " * 3000, "- " * 3000, "? " * 3000, "[" * 900 + "]" * 900, "[[" * 400_000)
LAUGHS: Final = "- &a0 [x, x, x, x]\n" + "".join(f"- &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 30))
MERGES: Final = "".join(f"- &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 50)}], k{n}: 1}}\n" for n in range(1, 30))
WIDE_MERGE: Final = "- &a {" + ", ".join(f"k{n}: 1" for n in range(999)) + "}\n- <<: [" + "*a, " * 100_000 + "*a]\n"
LONG: Final = "x" * 100_000


Case = tuple[str, str, str, tuple[str, ...]]
"""What it is, the file's name, its text, and words that the error must have."""


def hostile_numbers() -> Iterator[Case]:
    for what, number in (NUMBERS | NOT_JSON).items():
        for field in ("seed", "steps"):
            yield f"{field} {what}", "a.yaml", yaml_with(field, number), ("entry 1", f"{field}:", number[:8])
            yield f"{field} {what}", "a.csv", csv_with(field, number), ("line 2", f"{field}:", number[:8])
        yield f"prompt {what}", "a.yml", yaml_with("pony_prompt", number), ("entry 1", "pony_prompt:", number[:8])
        yield f"tag {what}", "a.yaml", yaml_with("tags", f"{{a: {number}}}"), ("entry 1", "tags.a:")
    for what, number in NUMBERS.items():
        yield f"seed {what}", "a.json", json_with("seed", number), ("entry 1", "seed:", number[:8])
        yield f"seed {what}", "a.jsonl", json_with("seed", number), ("line 1", "seed:", number[:8])
        yield f"tag {what}", "a.json", json_with("tags", f'{{"a": {number}}}'), ("tags.a",)
        rules = json.dumps([f'{{"faces": "all", "seed_offset": {number}}}'])
        yield f"rule {what}", "a.json", json_with("face_rules", rules), ("face_rules",)


def hostile_dates() -> Iterator[Case]:
    for date in DATES:
        for field in ("job_id", "after", "parent", "pony_prompt", "seed"):
            yield f"{field} date", "a.yaml", yaml_with(field, date), ("entry 1", f"{field}:", date[:10])
    for date in DATES[1:4]:
        for name, text in (("a.yaml", yaml_with("at", date)), ("a.json", json_with("at", f'"{date}"'))):
            yield "at", name, text, ("entry 1", "at:")
    for written in ("0001-01-01 00:00:00+14:00", "9999-12-31T23:59:59-14:00", "+999999w", "-1", NINES):
        yield "at", "a.yaml", yaml_with("at", written), ("entry 1", "at:")
        yield "at", "a.csv", csv_with("at", written), ("line 2", "at:")


def hostile_marks() -> Iterator[Case]:
    for field in ("after", "pony_prompt", "job_id", "tags"):
        for tag in ("!!binary aGVsbG8=", "!!timestamp 2026-11-25", "!!int '5'", "!mine x", "!!python/name:os.system x"):
            yield f"{field} tag", "a.yaml", yaml_with(field, tag), (f"{field}:", tag.split()[0])
        yield f"{field} anchor", "a.yaml", yaml_with(field, "&first a"), (f"{field}:", "&first")
    yield "alias", "a.yaml", "- &x {pony_prompt: p}\n- {pony_prompt: p, after: *x}", ("entry 2", "after:")
    yield "alias", "a.yaml", yaml_with("after", "*gone"), ("gone",)
    yield "own alias", "a.yaml", yaml_with("after", "&a [*a, *a]"), ("entry 1", "after:")


def hostile_depths() -> Iterator[Case]:
    for text in DEEP:
        yield "deep", "a.yaml", text, ("a.yaml", "not YAML")
        yield "deep", "a.yaml", yaml_with("tags", text), ("a.yaml", "tags" if text[0] in "[{" else "not YAML")
    for text in ("[" * 900 + "]" * 900, '{"a":' * 900 + "1" + "}" * 900):
        for field in ("pony_prompt", "tags", "face_rules"):
            yield "deep", "a.json", json_with(field, text), (f"{field}", "32 levels")
    for text in ("[" * 100_000, '{"a":' * 100_000):
        yield "deep", "a.json", text, ("a.json", "not JSON")
        yield "deep", "a.jsonl", text, ("a.jsonl, line 1", "not JSON")
        yield "deep rule", "a.json", json_with("face_rules", json.dumps(['{"faces":' + text[:90_000]])), ("face_rules",)


def hostile_sizes() -> Iterator[Case]:
    for what, text in (("laughs", LAUGHS), ("merges", f"- &a0 {{x: 1}}\n{MERGES}"), ("wide merge", WIDE_MERGE)):
        yield what, "a.yaml", text, ("a.yaml", "not YAML")
    for text in ("%YAML 9999999999999999999.1\n---\na: b", 'a: "\\U99999999"', "a: |99999999999\n  b", f"a: *{LONG}"):
        yield "syntax", "a.yaml", text, ("a.yaml", "line 1")
    for field in ("scheduler", "job_type", "gate_face", "at", "job_id", "seed", "face_rules", LONG):
        yield "long text", "a.json", json_with(field, f'"{LONG}"'), ("entry 1", field[:8])
        yield "long text", "a.yaml", yaml_with(field if field != LONG else "y" * 900, LONG), ("a.yaml",)
        yield "long text", "a.csv", csv_with(field, LONG), ("a.csv",)
    yield "long label", "a.csv", csv_with("tags", LONG), ("tags",)
    yield "many fields", "a.json", json.dumps({f"k{n}": n for n in range(100_000)}), ("100,000 fields",)
    yield "many labels", "a.json", json.dumps({"tags": {f"k{n}": n for n in range(100_000)}}), ("tags", "100,000")
    yield "many keys", "a.yaml", "".join(f"k{n}: 1\n" for n in range(40_000)), ("1000 keys",)


HOSTILE: Final = [
    *hostile_numbers(), *hostile_dates(), *hostile_marks(), *hostile_depths(), *hostile_sizes(),
]  # fmt: skip


def refusal(name: str, text: str) -> str:
    with pytest.raises(RejectedError) as caught:
        parse_entries(name, read_entries(name, text.encode()))
    said = str(caught.value)
    assert caught.value.hint
    assert len(said) < 600
    assert "Traceback" not in said
    return said


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [pytest.param(*one[1:], id=f"{one[1]}-{one[0]}-{number}") for number, one in enumerate(HOSTILE)],
)
def test_a_hostile_file_is_refused_by_name(name: str, text: str, words: tuple[str, ...]) -> None:
    said = refusal(name, text)
    assert [word for word in words if word not in said] == []


def test_the_command_refuses_all_of_them_and_hangs_at_none(tmp_path: Path) -> None:
    """In a process of its own, which a hang or a crash of the interpreter would not survive."""
    for number, (_, name, text, _) in enumerate(HOSTILE):
        (tmp_path / f"{number:03}{Path(name).suffix}").write_text(text, encoding="utf-8")
    program = (
        "import sys\nfrom pathlib import Path\nfrom imaging.errors import RejectedError\n"
        "from jobs.requests.files import load_requests\n"
        "for path in sorted(Path(sys.argv[1]).iterdir()):\n"
        "    print(path.name, flush=True)\n"
        "    try:\n        load_requests(path)\n    except RejectedError:\n        continue\n"
        "    sys.exit(f'{path.name} was taken')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)],
        capture_output=True, text=True, timeout=300, check=False, env={**os.environ, "PYTHONPATH": os.getcwd()},  # noqa: PTH109
    )  # fmt: skip
    assert (done.returncode, done.stderr, len(done.stdout.split())) == (0, "", len(HOSTILE))


PLAIN: Final[list[tuple[str, dict[str, Any]]]] = [
    ("seed: 1234567890", {"seed": 1234567890}),
    ("seed: 0", {"seed": 0}),
    ("steps: +30", {"steps": 30}),
    ("steps: 30.0", {"steps": 30}),
    ("cfg_scale: 6.5", {"cfg_scale": 6.5}),
    ("cfg_scale: .5e1", {"cfg_scale": 5.0}),
    ("face_rules: [{faces: all, strength: 2.5e-1}]", {"face_rules": ["all: strength=0.25"]}),
    ('tags: {a: "0123", b: no, c: "2026-11-25", d: "&x", e: 1girl, f: 3-1}', {}),
    ("at: 2026-11-30 09:00", {"at": read_moment("2026-11-30 09:00")}),
    ("at: 2026-11-30T09:00:00Z", {"at": read_moment("2026-11-30T09:00:00Z")}),
    ("at: 2026-11-30", {"at": read_moment("2026-11-30")}),
    ("seed: null", {"seed": None}),
    ("seed: ~", {"seed": None}),
    ("negative_prompt: >-\n  a\n  b", {"negative_prompt": "a b"}),
    ("negative_prompt: !!str a", {"negative_prompt": "a"}),
]


@pytest.mark.parametrize(("line", "fields"), PLAIN)
def test_what_is_plain_in_yaml_is_taken(tmp_path: Path, line: str, fields: dict[str, Any]) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(f"pony_prompt: p\n{line}\n", encoding="utf-8")
    ((_, request),) = load_requests(path)
    assert {name: getattr(request, name) for name in fields} == fields
    if line.startswith("tags"):
        assert request.tags == {"a": "0123", "b": "no", "c": "2026-11-25", "d": "&x", "e": "1girl", "f": "3-1"}


def test_fields_that_entries_share_are_still_written_once() -> None:
    text = "- &one {pony_prompt: a, steps: 20}\n- {<<: *one, pony_prompt: b}\n- {<<: [*one, {seed: 3}]}\n"
    found = parse_entries("a.yaml", read_entries("a.yaml", text.encode()))
    assert [(one.pony_prompt, one.steps, one.seed) for _, one in found] == [
        ("a", 20, None),
        ("b", 20, None),
        ("a", 20, 3),
    ]


@pytest.mark.parametrize(
    "every", ["999999w", "*/" + NINES + " * * * *", NINES + " * * * *", "0 0 30 2 *", LONG], ids=list("abcde")
)
def test_an_interval_that_never_comes(every: str) -> None:
    with pytest.raises(RejectedError, match="--every") as caught:
        next_time(every, utc_now())
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize("field", ["seed", "steps", "cfg_scale", "pony_prompt", "tags", "face_rules", "at", "no_field"])
@pytest.mark.parametrize(
    "value", [10**5000, -(16**9000), [10**5000], {"a": 10**5000}, {10**5000: 1}, 1e308], ids=list("abcdef")
)
def test_a_request_of_values_that_python_will_not_write(field: str, value: object) -> None:
    with pytest.raises(RejectedError) as caught:
        parse_request({"pony_prompt": "p"} | {field: value})
    assert field in caught.value.what
    assert len(str(caught.value)) < 600


def test_every_unknown_field_is_named_with_the_one_that_is_near() -> None:
    with pytest.raises(RejectedError) as caught:
        parse_request({f"{name}x": 1 for name in list(JobRequest.model_fields)[:10]} | {"pony_prompt": "p"})
    assert "job_typex: there is no such field; near it: job_type" in caught.value.what
    assert len(str(caught.value)) < 600
