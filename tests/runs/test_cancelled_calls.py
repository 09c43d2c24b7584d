"""A client that gives up in the middle of a call: what was begun is whole or not there, and never there twice."""

from __future__ import annotations

import os
import random
import sys
from pathlib import Path
from typing import Any

import anyio
import pytest
from counts import times
from mcp.client import Client
from mcp.client.stdio import StdioServerParameters, stdio_client
from programs import SUCCEEDS, WAITS, until
from server_processes import Child

from model_trainer.executors import states
from model_trainer.services.app import App
from model_trainer.services.runs import launching
from model_trainer.services.runs import life as runs
from model_trainer.trainer import records

pytestmark = pytest.mark.anyio

SERVE = "from model_trainer.server.cli import main; raise SystemExit(main(['serve']))"


@pytest.fixture
def config(shell_config: Path, workspace: Path) -> Path:
    """A config whose training succeeds at once."""
    (workspace / "train.sh").write_text(SUCCEEDS, encoding="utf-8")
    return shell_config


def client() -> Client:
    """A client of a real server that is its child."""
    server = StdioServerParameters(command=sys.executable, args=["-c", SERVE], env=dict(os.environ))
    return Client(stdio_client(server))


async def content(client: Client, tool: str, **arguments: Any) -> dict[str, Any]:
    answer = await client.call_tool(tool, arguments)
    assert not answer.is_error, answer
    assert answer.structured_content is not None
    return answer.structured_content


def of_key(app: App, key: str) -> list[str]:
    return [run.id for run in runs.all_runs(app) if (records.read_json(run.run_json) or {}).get("key") == key]


def half_born(app: App) -> list[Path]:
    return list(app.home.runs.glob(".*"))


@pytest.mark.soak
async def test_a_launch_whose_client_gives_up_is_one_run_or_none_and_its_key_answers_with_it(app: App, config: Path):
    chance = random.Random(20261125)
    async with client() as agent:
        warm = await content(agent, "launch_run", config=str(config), again=True)
        launched = [warm["run_id"]]
        cut_short = 0
        for number in range(times(8, 100)):
            asked = {"config": str(config), "again": True, "key": f"key-{number}"}
            with anyio.move_on_after(chance.uniform(0.0, 0.25)) as given_up:
                await content(agent, "launch_run", **asked)
            cut_short += given_up.cancelled_caught
            again = await content(agent, "launch_run", **asked)
            assert of_key(app, f"key-{number}") == [again["run_id"]]
            assert given_up.cancelled_caught or again["already_running"]
            launched.append(again["run_id"])
        assert cut_short
        for run_id in launched:
            assert (await runs.wait(app, app.home.run(run_id), seconds=60)).status == "succeeded"
    assert sorted(run.id for run in runs.all_runs(app)) == sorted(launched)
    assert half_born(app) == []


async def test_waiting_that_is_given_up_leaves_the_run_and_the_server_as_they_were(
    app: App, config: Path, workspace: Path
):
    (workspace / "train.sh").write_text(WAITS % workspace, encoding="utf-8")
    async with client() as agent:
        run_id = (await content(agent, "launch_run", config=str(config)))["run_id"]
        run = app.home.run(run_id)
        await until(run, "running")
        for _ in range(5):
            with anyio.move_on_after(0.2) as given_up:
                await content(agent, "get_run", run_id=run_id, wait_seconds=45)
            assert given_up.cancelled_caught
        assert (await content(agent, "get_run", run_id=run_id))["state"] == {"status": "running"}
        (workspace / "go").touch()
        ended = await content(agent, "get_run", run_id=run_id, wait_seconds=45)
        assert ended["state"]["status"] == "succeeded"


@pytest.mark.soak
async def test_input_that_ends_in_the_middle_of_a_launch_leaves_one_run_or_none(app: App, config: Path):
    chance = random.Random(20261126)
    await launching.launch(app, str(config), again=True, key="warm")
    keys = ["warm"]
    for number in range(times(2, 40)):
        keys.append(f"key-{number}")
        with Child(SERVE) as server:
            server.handshake()
            arguments = {"config": str(config), "again": True, "key": keys[-1]}
            server.request("tools/call", {"name": "launch_run", "arguments": arguments})
            await anyio.sleep(chance.uniform(0.0, 0.4))
            server.end_of_input()
            await anyio.to_thread.run_sync(server.process.wait)
        begun = of_key(app, keys[-1])
        assert len(begun) <= 1
        again = await launching.launch(app, str(config), again=True, key=keys[-1])
        assert of_key(app, keys[-1]) == [again.run_id]
        assert not begun or begun == [again.run_id]
    assert half_born(app) == []
    for run in runs.all_runs(app):
        state = await runs.wait(app, run, seconds=60)
        # Lost is one whose server ended between its folder and its supervisor: told, never left hanging.
        assert state in (states.Succeeded(ended_by="planned_end"), states.Lost(reason="supervisor_killed"))
        assert run.exit_json.exists()
    assert len(list(runs.all_runs(app))) == len(keys)
