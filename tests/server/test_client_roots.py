"""Where the server has no workspace, the client's first folder stands in; asking for it never costs a call."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp.client import ClientRequestContext
from mcp.types import ErrorData, ListRootsResult, Root
from pydantic import FileUrl
from server_processes import WAYS, client_of
from server_toys import TOYS

from model_trainer.server.app import ModelTrainerServer, build_server
from model_trainer.services.app import App

pytestmark = pytest.mark.anyio

HANDSHAKE = [way for way in WAYS if way.endswith("handshake")]


@pytest.fixture
def server(app: App) -> ModelTrainerServer:
    return build_server(replace(app, workspace=None), TOYS)


def roots(*uris: str) -> Any:
    async def answer(context: ClientRequestContext) -> ListRootsResult:
        return ListRootsResult(roots=[Root(uri=FileUrl(uri)) for uri in uris])

    return answer


@pytest.mark.parametrize("way", WAYS)
async def test_a_relative_path_resolves_against_the_client_s_first_folder(
    server: ModelTrainerServer, way: str, tmp_path: Path
) -> None:
    folder = tmp_path / "with space"
    answer = roots(folder.as_uri(), "file:///elsewhere")
    async with client_of(server, way, list_roots_callback=answer) as client:
        result = await client.call_tool("where", {"path": "data.jsonl"})
    assert result.structured_content is not None
    assert result.structured_content["told"] == str(folder / "data.jsonl")


@pytest.mark.parametrize("way", WAYS)
async def test_without_roots_a_relative_path_is_refused_and_an_absolute_one_works(
    server: ModelTrainerServer, way: str
) -> None:
    async with client_of(server, way) as client:
        refused = await client.call_tool("where", {"path": "data.jsonl"})
        works = await client.call_tool("where", {"path": "/data.jsonl"})
    assert refused.structured_content is not None
    assert refused.structured_content["code"] == "no_workspace"
    assert not works.is_error


@pytest.mark.parametrize("way", WAYS)
async def test_a_client_without_any_local_folder_is_told_that_there_is_no_workspace(
    server: ModelTrainerServer, way: str
) -> None:
    answer = roots("file://otherhost/x")
    async with client_of(server, way, list_roots_callback=answer) as client:
        result = await client.call_tool("where", {"path": "data.jsonl"})
    assert result.structured_content is not None
    assert result.structured_content["code"] == "no_workspace"


@pytest.mark.parametrize("way", HANDSHAKE)
async def test_a_client_that_never_names_its_roots_or_fails_to_costs_no_call(
    server: ModelTrainerServer, way: str
) -> None:
    async def silent(context: ClientRequestContext) -> ListRootsResult:
        await anyio.sleep_forever()
        raise AssertionError

    async def failing(context: ClientRequestContext) -> ErrorData:
        return ErrorData(code=-32603, message="no")

    for callback in (silent, failing):
        async with client_of(server, way, list_roots_callback=callback) as client:
            with anyio.fail_after(20):
                result = await client.call_tool("where", {"path": "/data.jsonl"})
        assert not result.is_error


@pytest.mark.parametrize("way", WAYS)
async def test_the_server_s_own_workspace_counts_first(app: App, way: str) -> None:
    async with client_of(build_server(app, TOYS), way, list_roots_callback=roots("file:///elsewhere")) as client:
        result = await client.call_tool("where", {})
    assert result.structured_content is not None
    assert result.structured_content["told"] == str(app.workspace)
