"""Errors: typed ones arrive whole, everything else becomes `internal` and leaks nothing."""

from __future__ import annotations

import re

import pytest
from mcp.shared.exceptions import MCPError
from mcp.types import TextContent
from server_processes import WAYS, client_of
from server_toys import SECRET, TOYS

from model_trainer.executors.errors import StateError, all_codes
from model_trainer.server.app import build_server
from model_trainer.services.app import App

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("way", WAYS)
async def test_every_kind_of_error_carries_code_message_and_next_step_in_text_and_structure(app: App, way: str) -> None:
    async with client_of(build_server(app, TOYS), way) as client:
        for code in sorted(all_codes()):
            result = await client.call_tool("fail", {"code": code})
            expected = {"code": code, "message": f"It is about {code}.", "next_step": f"fail(code={code!r})"}
            assert result.is_error
            assert result.structured_content == expected
            [content] = result.content
            assert isinstance(content, TextContent)
            assert content.text == f"{code}: It is about {code}.\nNext: fail(code={code!r})"


@pytest.mark.parametrize("way", WAYS)
async def test_a_defect_becomes_internal_with_a_reference_into_the_log(app: App, way: str) -> None:
    async with client_of(build_server(app, TOYS), way) as client:
        result = await client.call_tool("fail", {"code": "defect"})
    assert result.structured_content is not None
    assert result.structured_content["code"] == "internal"
    whole = result.model_dump_json()
    assert "private text" not in whole
    assert "RuntimeError" not in whole
    reference = re.search(r"reference ([0-9a-f]{8})", result.structured_content["message"])
    assert reference is not None
    log = app.home.root / "server.log"
    assert str(log) in result.structured_content["next_step"]
    text = log.read_text(encoding="utf-8")
    assert f" {reference[1]} tool fail\n" in text
    assert "RuntimeError: private text" in text
    assert SECRET not in text, "tokens never reach the log"
    assert log.stat().st_mode & 0o777 == 0o600


async def test_a_typed_error_from_a_task_group_arrives_as_itself(app: App) -> None:
    async with client_of(build_server(app, TOYS), "ours-modern") as client:
        result = await client.call_tool("fail", {"code": "grouped"})
    assert result.structured_content is not None
    assert result.structured_content["message"] == "From a task."


async def test_a_group_with_a_defect_in_it_is_a_defect(app: App) -> None:
    async with client_of(build_server(app, TOYS), "ours-modern") as client:
        result = await client.call_tool("fail", {"code": "mixed"})
    assert result.structured_content is not None
    assert result.structured_content["code"] == "internal"
    assert "private text" in (app.home.root / "server.log").read_text(encoding="utf-8")


async def test_the_log_is_bounded(app: App) -> None:
    log = app.home.root / "server.log"
    log.write_bytes(b"x" * 1_000_001)
    async with client_of(build_server(app, TOYS), "ours-modern") as client:
        await client.call_tool("fail", {"code": "defect"})
        await client.call_tool("fail", {"code": "defect"})
    assert log.stat().st_size < 100_000
    assert (log.parent / "server.log.1").stat().st_size < 1_100_000


@pytest.mark.parametrize("way", WAYS)
async def test_a_foreign_state_folder_is_told_by_every_tool_and_resource(way: str) -> None:
    broken = StateError("foreign_state", "It belongs to somebody else.", next_step="Set MODEL_TRAINER_STATE.")
    async with client_of(build_server(broken, TOYS), way) as client:
        for _ in range(2):
            result = await client.call_tool("where", {})
            assert result.structured_content == {
                "code": "foreign_state",
                "message": "It belongs to somebody else.",
                "next_step": "Set MODEL_TRAINER_STATE.",
            }
        with pytest.raises(MCPError) as raised:
            await client.read_resource("model-trainer://runs/some-run")
        assert raised.value.error.data["code"] == "foreign_state"


@pytest.mark.parametrize("way", WAYS)
async def test_errors_of_resources_and_prompts_are_typed_too(app: App, way: str) -> None:
    async with client_of(build_server(app, TOYS), way) as client:
        with pytest.raises(MCPError) as resource:
            await client.read_resource("model-trainer://runs/nothing-here")
        with pytest.raises(MCPError) as address:
            await client.read_resource("model-trainer://nowhere")
        with pytest.raises(MCPError) as prompt:
            await client.get_prompt("fine_tun")
    for raised, code in ((resource, "run_not_found"), (address, "invalid_arguments"), (prompt, "invalid_arguments")):
        data = raised.value.error.data
        assert data["code"] == code
        for part in ("code", "message", "next_step"):
            assert data[part] in raised.value.error.message
