"""What the server refuses in arguments, and how it says so; the same in both eras and over both loops."""

from __future__ import annotations

from typing import Any

import pytest
from mcp.types import CallToolResult, TextContent
from server_processes import WAYS, Child, client_of
from server_toys import TOYS

from model_trainer.server.app import build_server
from model_trainer.services.app import App

pytestmark = pytest.mark.anyio


async def call(app: App, way: str, name: str, arguments: dict[str, Any]) -> CallToolResult:
    async with client_of(build_server(app, TOYS), way) as client:
        return await client.call_tool(name, arguments)


def refusal(result: CallToolResult, code: str = "invalid_arguments") -> str:
    """The message of an error result that is complete in text and structure."""
    assert result.is_error
    structure = result.structured_content
    assert structure is not None
    assert set(structure) == {"code", "message", "next_step"}
    [content] = result.content
    assert isinstance(content, TextContent)
    for value in structure.values():
        assert value in content.text
    assert structure["code"] == code
    return structure["message"]


@pytest.mark.parametrize("way", WAYS)
async def test_an_unknown_argument_is_refused_naming_the_nearest(app: App, way: str) -> None:
    result = await call(app, way, "echo", {"learning_rat": 1.0})
    assert "'learning_rat' is unknown (did you mean 'learning_rate'?)" in refusal(result)
    assert result.structured_content is not None
    assert "learning_rate" in result.structured_content["next_step"]


@pytest.mark.parametrize("way", WAYS)
async def test_an_unknown_tool_is_refused_naming_the_nearest(app: App, way: str) -> None:
    result = await call(app, way, "ecco", {})
    assert "'ecco'" in refusal(result, "unknown_tool")
    assert result.structured_content is not None
    assert "Did you mean echo?" in result.structured_content["next_step"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"part": {"sise": 1}}, "'part.sise' is unknown (did you mean 'size'?)"),
        ({"parts": [{}, {"sise": 1}]}, "'parts[1].sise' is unknown (did you mean 'size'?)"),
        ({"count": True}, "'count' is a boolean where a number belongs"),
        ({"steps": False}, "'steps' is a boolean where a number belongs"),
        ({"learning_rate": True}, "'learning_rate' is a boolean where a number belongs"),
        ({"part": {"size": True}}, "'part.size' is a boolean where a number belongs"),
        ({"parts": [{"size": False}]}, "'parts[0].size' is a boolean where a number belongs"),
        ({"parts": '[{"size": true}]'}, "'parts[0].size' is a boolean where a number belongs"),
        ({"learning_rate": "nan"}, "'learning_rate' is no finite number"),
        ({"learning_rate": "-Infinity"}, "'learning_rate' is no finite number"),
        ({"part": {"size": "inf"}}, "'part.size' is no finite number"),
        ({"count": 1.5}, "'count' is wrong"),
        ({"count": "many"}, "(given: 'many')"),
        ({"steps": "sometimes"}, "'steps' is wrong"),
        ({"part": 3}, "'part' is wrong"),
        ({"text": 5}, "'text' is wrong"),
        ({"again": 7}, "'again' is wrong"),
    ],
)
async def test_what_does_not_fit_is_named_with_its_place(app: App, arguments: dict[str, Any], words: str) -> None:
    assert words in refusal(await call(app, "ours-handshake", "echo", arguments))


async def test_a_missing_argument_is_named(app: App) -> None:
    assert "'code' is required" in refusal(await call(app, "ours-modern", "fail", {}))


async def test_all_problems_of_a_call_are_told_at_once_within_bounds(app: App) -> None:
    message = refusal(await call(app, "ours-modern", "echo", {f"wrong{n}": n for n in range(30)}))
    assert "and 25 more" in message
    assert len(message) < 2000


async def test_control_characters_and_long_values_of_the_caller_are_not_echoed(app: App) -> None:
    message = refusal(await call(app, "ours-modern", "echo", {"count": "\x1b[31m" + "x" * 5000}))
    assert "\x1b" not in message
    assert len(message) < 400


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"count": 3, "learning_rate": 2e-4}, "[3, 0.0002, 'auto', None, None, None, None, False]"),
        ({"learning_rate": "2e-4"}, "[1, 0.0002, 'auto', None, None, None, None, False]"),
        (
            {"training": {"bf16": True, "x": None}},
            "[1, None, 'auto', None, None, {'bf16': True, 'x': None}, None, False]",
        ),
        ({"training": '{"bf16": true}'}, "[1, None, 'auto', None, None, {'bf16': True}, None, False]"),
        ({"text": '{"a": 1}'}, "[1, None, 'auto', None, None, None, '{\"a\": 1}', False]"),
        ({"text": "null"}, "[1, None, 'auto', None, None, None, 'null', False]"),
        ({"text": "nan", "again": True}, "[1, None, 'auto', None, None, None, 'nan', True]"),
    ],
)
async def test_what_fits_arrives_as_it_was_meant(app: App, arguments: dict[str, Any], told: str) -> None:
    result = await call(app, "ours-modern", "echo", arguments)
    assert not result.is_error, result
    assert result.structured_content == {"told": told, "next_step": "echo()"}
    [content] = result.content
    assert isinstance(content, TextContent)
    assert content.text == f"{told}\nNext: echo()"


@pytest.mark.parametrize("modern", [False, True])
def test_numbers_that_json_does_not_have_are_refused_on_the_wire(modern: bool) -> None:
    with Child() as child:
        if not modern:
            child.handshake()
        for number in (float("nan"), float("inf"), float("-inf")):
            arguments = {"training": {"deep": [number]}, "part": {"size": number}}
            answer = child.ask("tools/call", {"name": "echo", "arguments": arguments}, modern=modern)
            message = answer["result"]["structuredContent"]["message"]
            assert "'training.deep[0]' is no finite number" in message
            assert "'part.size' is no finite number" in message


@pytest.mark.parametrize("modern", [False, True])
def test_a_malformed_request_is_refused_with_a_typed_error(modern: bool) -> None:
    with Child() as child:
        if not modern:
            child.handshake()
        answer = child.ask("tools/call", {"name": "echo", "arguments": "a text"}, modern=modern)
        structure = answer["result"]["structuredContent"]
        assert answer["result"]["isError"]
        assert structure["code"] == "invalid_arguments"
        assert "arguments" in structure["message"]
        assert structure["next_step"]
        child.write(b"this is no JSON\n")
        assert child.receive()["error"]["code"] == -32700
        assert child.ask("tools/call", {"name": "report", "arguments": {}}, modern=modern)["result"]
