"""The tools' schemas as agents get them: rules over the real table, and one reviewed snapshot per tool.

`UPDATE_SNAPSHOTS=1 pytest tests/server/test_tool_schemas.py` rewrites the snapshots.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mcp.types import Tool
from server_processes import client_of
from server_toys import TOYS

from model_trainer.server.app import build_server
from model_trainer.services.app import App
from model_trainer.tools import TOOLS
from model_trainer.tools.spec import ToolSpec

pytestmark = pytest.mark.anyio

SNAPSHOTS = Path(__file__).with_name("snapshots")
UPDATE = os.environ.get("UPDATE_SNAPSHOTS") == "1"
BUDGET = 24_000
#: What one tool may take of it, so that the tools still to come have room.
DESCRIPTION = 500


async def listed(app: App, specs: tuple[ToolSpec, ...]) -> list[Tool]:
    async with client_of(build_server(app, specs), "ours-modern") as client:
        return (await client.list_tools()).tools


def objects(schema: Any, *, named: bool = False) -> Iterator[dict[str, Any]]:
    """Every schema inside a schema; a map of names to schemas is none itself."""
    if isinstance(schema, list):
        for item in schema:
            yield from objects(item)
    elif isinstance(schema, dict):
        if not named:
            yield schema
        for key, value in schema.items():
            if not named and key in ("default", "const", "enum", "required"):
                continue
            yield from objects(value, named=not named and key in ("properties", "$defs"))


def wire_bytes(tool: Tool) -> int:
    shown = {"name": tool.name, "description": tool.description, "inputSchema": tool.input_schema}
    return len(json.dumps(shown, separators=(",", ":"), ensure_ascii=False).encode())


@pytest.mark.parametrize("specs", [TOOLS, TOYS], ids=["tools", "toys"])
async def test_schemas_are_closed_described_and_without_titles(app: App, specs: tuple[ToolSpec, ...]) -> None:
    for tool in await listed(app, specs):
        assert tool.input_schema["additionalProperties"] is False
        for schema in objects(tool.input_schema):
            assert "title" not in schema, tool.name
            if "properties" in schema:
                assert schema["additionalProperties"] is False, (tool.name, schema)
                for name, one in schema["properties"].items():
                    assert one.get("description"), f"{tool.name}: {name} has no description"
        assert tool.output_schema is not None, tool.name
        assert all("title" not in schema for schema in objects(tool.output_schema)), tool.name


@pytest.mark.parametrize("specs", [TOOLS, TOYS], ids=["tools", "toys"])
async def test_title_and_all_four_hints_are_given(app: App, specs: tuple[ToolSpec, ...]) -> None:
    for tool in await listed(app, specs):
        assert tool.title
        assert tool.annotations is not None
        hints = tool.annotations.model_dump(exclude={"title"})
        assert len(hints) == 4
        assert all(isinstance(value, bool) for value in hints.values()), tool.name
        assert not (hints["read_only_hint"] and hints["destructive_hint"]), tool.name


async def test_descriptions_are_short_and_the_whole_list_fits_its_budget(app: App) -> None:
    tools = await listed(app, TOOLS)
    for tool in tools:
        assert tool.description, tool.name
        assert len(tool.description) <= DESCRIPTION, f"{tool.name}: {len(tool.description)} characters"
    assert sum(wire_bytes(tool) for tool in tools) <= BUDGET


async def test_tools_are_listed_in_the_table_s_order(app: App) -> None:
    assert [tool.name for tool in await listed(app, TOOLS)] == [spec.name for spec in TOOLS]


@pytest.mark.parametrize("specs", [TOOLS, TOYS], ids=["tools", "toys"])
async def test_bounds_of_numbers_stand_under_the_standard_s_names(app: App, specs: tuple[ToolSpec, ...]) -> None:
    bounded: list[dict[str, Any]] = []
    for tool in await listed(app, specs):
        for schema in (*objects(tool.input_schema), *objects(tool.output_schema)):
            assert not {"ge", "gt", "le", "lt"} & schema.keys(), (tool.name, schema)
            bounded += [schema] if {"minimum", "exclusiveMinimum"} & schema.keys() else []
    assert bounded or specs is TOYS


async def test_a_property_that_is_called_title_survives(app: App) -> None:
    echo = next(tool for tool in await listed(app, TOYS) if tool.name == "echo")
    assert set(echo.input_schema["$defs"]["Part"]["properties"]) == {"size", "title"}


async def test_each_tool_s_schema_is_the_reviewed_one(app: App) -> None:
    wrong: list[str] = []
    tools = await listed(app, TOOLS)
    for tool in tools:
        shown = json.dumps(
            tool.model_dump(mode="json", by_alias=True, exclude_none=True), indent=2, ensure_ascii=False, sort_keys=True
        )
        path = SNAPSHOTS / f"{tool.name}.json"
        if UPDATE:
            path.write_text(shown + "\n", encoding="utf-8")
        elif not path.is_file() or path.read_text(encoding="utf-8") != shown + "\n":
            wrong.append(tool.name)
    left = {path.stem for path in SNAPSHOTS.glob("*.json")} - {tool.name for tool in tools}
    assert not wrong, f"changed: {wrong}; review, then UPDATE_SNAPSHOTS=1 pytest {__file__}"
    assert not left, f"snapshots of tools that are gone: {left}"
