"""What the pages say is what the code does: generated tables, tool names, calls, named tests, the skill's form.

`UPDATE_SNAPSHOTS=1 pytest tests/test_docs.py` rewrites the tables.
"""

from __future__ import annotations

import inspect
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator
from mcp.types import Tool
from server_processes import client_of
from tool_reference import HINTS, example_calls, hint_table, parameter_table, sections, with_tables, words

from model_trainer.server.app import build_server
from model_trainer.services.app import App
from model_trainer.tools import TOOLS

ROOT = Path(__file__).parent.parent
TOOLS_PAGE = ROOT / "docs" / "tools.md"
RELIABILITY = ROOT / "docs" / "reliability.md"
PAGES = [ROOT / name for name in ("README.md", "SKILL.md", "CONTRIBUTING.md")] + sorted((ROOT / "docs").glob("*.md"))
UPDATE = bool(os.environ.get("UPDATE_SNAPSHOTS"))


def between(text: str, mark: str) -> str:
    found = re.search(rf"<!-- {mark} -->\n(.*?)<!-- /{mark} -->", text, re.DOTALL)
    assert found is not None
    return found.group(1)


def tool_table() -> str:
    lines = ["| tool | what it does |", "|---|---|"]
    for tool in TOOLS:
        first = re.split(r"(?<=\.)\s", " ".join((inspect.getdoc(tool.function) or "").split()))[0]
        lines.append(f"| `{tool.name}` | {first} |")
    return "\n".join(lines) + "\n"


def test_the_readmes_tool_table_is_generated_from_the_tools():
    path = ROOT / "README.md"
    text = path.read_text(encoding="utf-8")
    if UPDATE:
        head, _, tail = text.partition("<!-- tools -->\n")
        text = f"{head}<!-- tools -->\n{tool_table()}<!-- /tools -->{tail.partition('<!-- /tools -->')[2]}"
        path.write_text(text, encoding="utf-8")
    assert between(text, "tools") == tool_table()


def test_the_skill_is_valid_in_a_folder_of_its_name(tmp_path: Path):
    folder = tmp_path / "model-trainer"
    folder.mkdir()
    shutil.copy(ROOT / "SKILL.md", folder)
    validator = Path(sys.executable).with_name("agentskills")
    done = subprocess.run([str(validator), "validate", str(folder)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len((ROOT / "SKILL.md").read_text(encoding="utf-8").splitlines()) < 500


@pytest.fixture
async def listed(app: App) -> list[Tool]:
    """The tools as clients see them."""
    async with client_of(build_server(app), "ours-modern") as client:
        return (await client.list_tools()).tools


@pytest.mark.anyio
async def test_the_tables_of_the_tools_page_are_the_schemas(listed: list[Tool]):
    if UPDATE:
        TOOLS_PAGE.write_text(with_tables(TOOLS_PAGE.read_text(encoding="utf-8"), listed), encoding="utf-8")
    page = TOOLS_PAGE.read_text(encoding="utf-8")
    names = {tool.name for tool in listed}
    told = [heading for heading in sections(page) if heading in names or re.fullmatch(r"[a-z]+(_[a-z]+)+", heading)]
    assert told == [tool.name for tool in listed], "docs/tools.md: a section for each tool, in their order"
    assert between(page, HINTS) == hint_table(listed)
    for tool in listed:
        assert between(page, tool.name) == parameter_table(tool), tool.name


@pytest.mark.anyio
async def test_each_tool_is_told_in_words_and_by_calls_that_it_takes(listed: list[Tool]):
    schemas = {tool.name: tool.input_schema for tool in listed}
    for name, section in sections(TOOLS_PAGE.read_text(encoding="utf-8")).items():
        if name not in schemas:
            continue
        assert len(words(section, name)) > 100, f"docs/tools.md says nothing about {name}"
        calls = example_calls(section)
        assert name in [called for called, _ in calls], f"docs/tools.md has no example of {name}"
        for called, arguments in calls:
            Draft202012Validator(schemas[called]).validate(arguments)


@pytest.mark.anyio
async def test_every_call_from_a_shell_that_a_page_shows_is_one_that_the_tool_takes(listed: list[Tool]):
    schemas = {tool.name: tool.input_schema for tool in listed}
    shown = there = 0
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        there += len(re.findall(r"^model-trainer call ", text, re.MULTILINE))
        for name, arguments in re.findall(
            r"^model-trainer call (\w+)[^\n']*?(?:--json '([^']*)')?$", text, re.MULTILINE
        ):
            shown += 1
            assert name in schemas, f"{page.name}: {name}"
            Draft202012Validator(schemas[name]).validate(json.loads(arguments or "{}"))
    assert shown == there >= 8


def test_every_tool_that_a_page_calls_is_there_with_those_arguments():
    known = {tool.name: set(inspect.signature(tool.function).parameters) - {"ctx"} for tool in TOOLS}
    calls = 0
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for name, arguments in re.findall(r"`(\w+_\w+)\(([^`]*)\)`", text):
            calls += 1
            assert name in known, f"{page.name}: {name}"
            assert set(re.findall(r"(\w+)=", arguments)) <= known[name], f"{page.name}: {name}({arguments})"
    assert calls >= 6


def test_the_projects_pages_link_to_files_that_exist():
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
            if not target.startswith(("http://", "https://")):
                assert (page.parent / target).exists(), f"{page.name}: {target}"


def is_a_test(name: str) -> bool:
    """Whether `tests/file.py::function` is there."""
    file, _, function = name.partition("::")
    path = ROOT / file
    found = re.search(
        rf"^(async )?def {function}\(", path.read_text(encoding="utf-8") if path.is_file() else "", re.MULTILINE
    )
    return found is not None


def test_every_promise_about_runs_is_numbered_and_names_tests_that_exist():
    text = RELIABILITY.read_text(encoding="utf-8")
    promises = re.split(r"^\*\*R(\d+)\.\*\*", text, flags=re.MULTILINE)
    numbers, bodies = promises[1::2], promises[2::2]
    assert [int(number) for number in numbers] == list(range(1, len(numbers) + 1))
    assert len(numbers) >= 20
    for number, body in zip(numbers, bodies, strict=True):
        promise = body.partition("\n## ")[0]
        named = re.findall(r"`(tests/[\w/]+\.py::\w+)`", promise)
        assert named, f"R{number} names no test"
        assert [name for name in named if not is_a_test(name)] == [], f"R{number}"
