"""Both protocol eras on one pipe, in any order: what real clients do."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
import server_processes
from mcp.client import Client
from mcp.client.stdio import StdioServerParameters
from server_processes import HANDSHAKE, INITIALIZE, MODERN, TOY_SERVER, WAYS, BothEras, Child, client_of
from server_toys import TOYS

from model_trainer.server.app import INSTRUCTIONS, build_server
from model_trainer.services.app import App


def names(answer: dict[str, dict[str, list[dict[str, str]]]]) -> list[str]:
    return [tool["name"] for tool in answer["result"]["tools"]]


def test_initialize_after_discover_on_the_same_pipe_works() -> None:
    with Child() as child:
        discovered = child.ask("server/discover", modern=True)
        assert MODERN in discovered["result"]["supportedVersions"]
        initialized = child.handshake()
        assert initialized["result"]["protocolVersion"] == HANDSHAKE
        assert names(child.ask("tools/list")) == [toy.name for toy in TOYS]
        answer = child.ask("tools/call", {"name": "report", "arguments": {}})
        assert answer["result"]["structuredContent"]["told"] == "reported"


def test_stateless_requests_are_served_beside_a_handshake() -> None:
    with Child() as child:
        child.handshake()
        answer = child.ask("tools/call", {"name": "report", "arguments": {}}, modern=True)
        assert answer["result"]["resultType"] == "complete"
        assert "resultType" not in child.ask("tools/call", {"name": "report", "arguments": {}})["result"]


def test_a_client_may_send_its_first_requests_with_the_handshake() -> None:
    with Child() as child:
        first = child.request("initialize", INITIALIZE)
        second = child.request("tools/list")
        assert [child.receive()["id"], child.receive()["id"]] == [first, second]


def test_a_request_without_envelope_or_handshake_is_refused_not_hung() -> None:
    with Child() as child:
        assert "error" in child.ask("tools/list")
        assert "result" in child.ask("tools/list", modern=True)


def test_an_initialize_that_carries_the_stateless_envelope_is_still_a_handshake() -> None:
    with Child() as child:
        assert child.ask("initialize", INITIALIZE, modern=True)["result"]["protocolVersion"] == HANDSHAKE
        assert names(child.ask("tools/list"))


def test_an_unknown_version_is_refused_with_those_that_are_served() -> None:
    with Child() as child:
        meta = {"io.modelcontextprotocol/protocolVersion": "2031-01-01"}
        answer = child.ask("tools/list", {"_meta": {**meta, "io.modelcontextprotocol/clientCapabilities": {}}})
        assert answer["error"]["code"] == -32022
        assert MODERN in answer["error"]["data"]["supported"]


@pytest.mark.anyio
@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_the_sdk_s_client_works_over_stdio(mode: str) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(server_processes.__file__).parent)}
    server = StdioServerParameters(command=sys.executable, args=["-c", TOY_SERVER], env=environment)
    seen: list[tuple[float, float | None, str | None]] = []

    async def progress(progress: float, total: float | None, message: str | None) -> None:
        seen.append((progress, total, message))

    async with Client(server, mode=mode) as client:
        assert client.protocol_version == (MODERN if mode == "auto" else "2025-11-25")
        assert [tool.name for tool in (await client.list_tools()).tools] == [toy.name for toy in TOYS]
        result = await client.call_tool("report", {}, progress_callback=progress)
        assert not result.is_error
        assert (await client.read_resource("model-trainer://methods")).contents
        assert (await client.call_tool("echo", {"count": 2})).structured_content is not None
    assert (1.0, 2.0, "half") in seen


@pytest.mark.anyio
@pytest.mark.parametrize("way", WAYS)
async def test_every_way_of_connecting_offers_the_same(app: App, way: str) -> None:
    async with client_of(build_server(app, TOYS), way) as client:
        assert client.instructions == INSTRUCTIONS
        assert len((await client.list_tools()).tools) == len(TOYS)
        assert len((await client.list_prompts()).prompts) == 4
        assert len((await client.list_resource_templates()).resource_templates) == 3
        assert len((await client.list_resources()).resources) == 1


@pytest.mark.anyio
async def test_two_eras_of_one_server_object_do_not_disturb_each_other(app: App) -> None:
    server = build_server(app, TOYS)
    async with Client(BothEras(server), mode="auto") as modern, Client(BothEras(server), mode="legacy") as legacy:
        assert (await modern.call_tool("report")).structured_content == (
            await legacy.call_tool("report")
        ).structured_content


def test_the_instructions_teach_the_workflow_in_few_bytes() -> None:
    assert len(INSTRUCTIONS.encode()) < 1500
    order = ["check_environment", "inspect_dataset", "plan_training", "write_config", "launch_run", "get_run"]
    places = [INSTRUCTIONS.index(f". {name}") for name in order]
    assert places == sorted(places)
