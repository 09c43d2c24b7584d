"""The guided workflows: their arguments, and that they name only tools that exist."""

from __future__ import annotations

import re

import pytest
from mcp.client import Client
from mcp.shared.exceptions import MCPError
from mcp.types import PromptReference, TextContent
from server_processes import WAYS, client_of

from model_trainer.server.app import INSTRUCTIONS, build_server
from model_trainer.server.prompts import WORKFLOWS, text_of
from model_trainer.services.app import App
from model_trainer.tools import TOOLS
from model_trainer.trainer.contract import METHODS, available_methods

pytestmark = pytest.mark.anyio

FULL = {
    "fine_tune": {"data": "rows.jsonl", "model": "org/model", "goal": "terse answers", "method": "sft"},
    "align": {"data": "rows.jsonl", "model": "org/model", "method": "dpo"},
    "diagnose_run": {"run_id": "sft-1", "symptom": "it is slow"},
    "publish": {"run_id": "sft-1", "target": "me/model"},
}


async def text(client: Client, name: str, arguments: dict[str, str]) -> str:
    [message] = (await client.get_prompt(name, arguments)).messages
    assert message.role == "user"
    assert isinstance(message.content, TextContent)
    return message.content.text


@pytest.mark.parametrize("way", WAYS)
async def test_prompts_name_only_tools_that_exist(app: App, way: str) -> None:
    async with client_of(build_server(app), way) as client:
        tools = {tool.name for tool in (await client.list_tools()).tools}
        for name, arguments in FULL.items():
            named = set(re.findall(r"`([a-z]+(?:_[a-z]+)+)", await text(client, name, arguments)))
            assert named, name
            assert named <= tools, f"{name} names {sorted(named - tools)}"


def test_the_instructions_name_only_tools_that_exist() -> None:
    named = set(re.findall(r"\b((?:check|inspect|plan|write|launch|list|get|tail|push)_[a-z]+)", INSTRUCTIONS))
    assert named == {spec.name for spec in TOOLS} & named
    assert len(named) == 9


@pytest.mark.parametrize("way", WAYS)
async def test_prompts_are_listed_with_their_arguments_and_rendered_with_them(app: App, way: str) -> None:
    async with client_of(build_server(app), way) as client:
        listed = {prompt.name: prompt for prompt in (await client.list_prompts()).prompts}
        assert list(listed) == list(FULL)
        for name, arguments in FULL.items():
            assert listed[name].title
            assert listed[name].description
            assert {one.name for one in listed[name].arguments or []} == set(arguments)
            assert all(one.description for one in listed[name].arguments or [])
            whole = await text(client, name, arguments)
            assert all(value in whole for value in arguments.values())
            assert "{{" not in whole
            assert len(whole) < 6000


async def test_arguments_that_are_not_given_are_said_to_be_open(app: App) -> None:
    async with client_of(build_server(app), "ours-modern") as client:
        assert "Model: none named yet" in await text(client, "fine_tune", {"data": "x"})


async def test_what_stands_in_an_argument_is_never_replaced_itself(app: App) -> None:
    async with client_of(build_server(app), "ours-modern") as client:
        whole = await text(client, "fine_tune", {"data": "{{model}}", "model": "org/secret"})
    assert whole.count("org/secret") == 1
    assert "Data: {{model}}" in whole


@pytest.mark.parametrize(
    ("name", "arguments", "code", "words"),
    [
        ("fine_tun", {}, "invalid_arguments", "did you mean 'fine_tune'?"),
        ("fine_tune", {}, "invalid_arguments", "'data' is required"),
        ("fine_tune", {"data": "x", "modle": "y"}, "invalid_arguments", "did you mean 'model'?"),
        ("fine_tune", {"data": "x" * 2001}, "invalid_arguments", "longer than 2000"),
        ("align", {"data": "x", "method": "dpoo"}, "unknown_method", "did you mean 'dpo'?"),
    ],
)
@pytest.mark.parametrize("way", WAYS)
async def test_what_does_not_fit_is_refused_with_the_nearest(
    app: App, way: str, name: str, arguments: dict[str, str], code: str, words: str
) -> None:
    async with client_of(build_server(app), way) as client:
        with pytest.raises(MCPError) as raised:
            await client.get_prompt(name, arguments)
    assert raised.value.error.data["code"] == code
    assert words in raised.value.error.message


@pytest.mark.parametrize("way", WAYS)
async def test_methods_are_completed(app: App, way: str) -> None:
    async with client_of(build_server(app), way) as client:
        fitting = PromptReference(type="ref/prompt", name="fine_tune")
        aligning = PromptReference(type="ref/prompt", name="align")
        assert (
            await client.complete(fitting, {"name": "method", "value": ""})
        ).completion.values == available_methods()
        found = (await client.complete(aligning, {"name": "method", "value": "r"})).completion.values
        assert found == ["reward", "rloo"]
        assert (await client.complete(aligning, {"name": "data", "value": ""})).completion.values == []


@pytest.mark.parametrize("name", list(WORKFLOWS))
def test_each_text_uses_exactly_its_arguments(name: str) -> None:
    used = set(re.findall(r"\{\{(\w+)\}\}", text_of(name)))
    assert used == {one.name for one in WORKFLOWS[name].arguments}


def test_what_this_version_can_not_do_is_said() -> None:
    untrained = [one for one in WORKFLOWS["align"].arguments[-1].choices if METHODS[one].module is None]
    assert all(f" {method}" in text_of("align") for method in untrained)
    assert "What this version can't do yet" in text_of("align")
