"""A whole life through the real server over stdio, with a token in its environment that must be found nowhere."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hub.state import Hub
from mcp.client import Client
from mcp.client.stdio import StdioServerParameters, stdio_client
from programs import program
from training_runs import LORA

pytestmark = pytest.mark.anyio

CANARY = "hf_CanaryInTheCoalMine0123456789"
OTHER = "wandb-canary-key-0123456789abcdef"


@pytest.fixture
def starts(fork_python: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Makes a training environment that writes down each command of ours that it starts, with `+` if a token came
    along; what publishes is a fresh Python. The file it writes to."""
    log = tmp_path / "starts.log"
    body = (
        f'if [ "$1" = -m ]; then printf "%s%s\\n" "$3" "${{HF_TOKEN:++}}" >> "{log}"; fi; '
        f'case "$3" in push) exec "{sys.executable}" "$@";; *) exec "{fork_python}" "$@";; esac'
    )
    monkeypatch.setenv("MODEL_TRAINER_PYTHON", str(program(tmp_path, body, "python")))
    return log


class Agent:
    """Calls tools and keeps everything that it was told."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.told: list[str] = []

    async def call(self, tool: str, **arguments: Any) -> dict[str, Any]:
        result = await self.client.call_tool(tool, arguments, progress_callback=self._hear)
        self.told.append(result.model_dump_json())
        assert result.structured_content is not None
        return result.structured_content

    async def _hear(self, progress: float, total: float | None, message: str | None) -> None:
        self.told.append(message or "")

    async def ended(self, run_id: str) -> dict[str, Any]:
        while True:
            seen = await self.call("get_run", run_id=run_id, wait_seconds=40)
            if seen["state"]["status"] in ("succeeded", "failed", "cancelled", "lost"):
                return seen


async def test_trained_failed_and_pushed_the_token_is_in_no_file_reply_argv_or_upload(
    hub: Hub, online: str, tiny_model: Path, pairs: Path, workspace: Path, starts: Path, tmp_path: Path
) -> None:
    hub.add_user("ada", token=CANARY)
    errors = tmp_path / "stderr.log"
    server = StdioServerParameters(
        command=sys.executable,
        args=["-m", "model_trainer.server.cli", "serve", "--workspace", str(workspace)],
        env={**os.environ, "HF_TOKEN": CANARY, "WANDB_API_KEY": OTHER},
    )
    with errors.open("w", encoding="utf-8") as log:
        async with Client(stdio_client(server, errlog=log)) as client:
            agent = Agent(client)
            argv = await live(agent, hub, tiny_model, pairs)
            resources = await client.list_resources()
            agent.told.append(resources.model_dump_json())
    for secret in (CANARY, OTHER):
        assert not [text[:200] for text in agent.told if secret in text]
        assert secret not in "\n".join(argv)
        assert secret not in errors.read_text(encoding="utf-8")
        assert not hub.received(secret)
        assert not [path for path in files_below(tmp_path) if secret.encode() in path.read_bytes()]
    # The token did its work: every request of the pushes carried it, in the one place where it belongs.
    writes = [request for request in hub.requests if request.method == "POST" and request.path.startswith("/api/repos")]
    assert {request.authorization for request in writes} == {f"Bearer {CANARY}"}
    # Only what publishes was given it: trainers, scans and probes were not.
    assert set(starts.read_text(encoding="utf-8").split()) == {
        "inspect",
        "preview",
        "probe",
        "train",
        "sample",
        "push+",
    }


async def live(agent: Agent, hub: Hub, model: Path, pairs: Path) -> list[str]:
    """Everything an agent does with a model; the command lines of all processes seen meanwhile."""
    argv: list[str] = []
    await agent.call("check_environment")
    await agent.call("inspect_dataset", path=str(pairs), model=str(model))
    plan = await agent.call("plan_training", dataset=str(pairs), model=str(model))
    few = {"training": {"max_steps": 3, "logging_steps": 1}, "peft": LORA}
    await agent.call("write_config", path="good.yaml", plan=plan["plan_id"], overrides=few)
    wrong = {"peft": {"target_modules": ["no_such_layer"]}}
    await agent.call("write_config", path="bad.yaml", base="good.yaml", overrides=wrong)
    good = await agent.call("launch_run", config="good.yaml")
    bad = await agent.call("launch_run", config="bad.yaml")
    assert "run_id" in bad, bad
    argv += command_lines()
    trained = await agent.ended(good["run_id"])
    assert trained["state"]["status"] == "succeeded", trained
    failed = await agent.ended(bad["run_id"])
    assert failed["state"]["reason"] == "bad_config", failed
    for run_id in (good["run_id"], bad["run_id"]):
        await agent.call("tail_logs", run_id=run_id)
        await agent.call("tail_metrics", run_id=run_id)
    await agent.call("plot_metrics", run_ids=[good["run_id"]])
    await agent.call("sample_model", run_id=good["run_id"], prompts=["def f(x):"], max_new_tokens=4)
    asked = {"run_id": good["run_id"], "destination": "ada/tiny"}
    await agent.call("push_adapter", **asked)
    preview = await agent.call("push_adapter", **asked, dry_run=True)
    hub.faults.add("POST", "/commit/", status=403)
    for outcome in ("failed", "succeeded"):
        started = await agent.call("push_adapter", **asked, confirm=preview["confirm"])
        argv += command_lines()
        pushed = await agent.ended(started["push_run_id"])
        assert pushed["state"]["status"] == outcome, pushed
        await agent.call("tail_logs", run_id=started["push_run_id"])
    await agent.call("list_runs", kind="all")
    there = hub.repo("model", "ada/tiny").files
    assert {file["path"] for file in preview["files"]} == there.keys() - {".gitattributes"}
    assert hub.repo("model", "ada/tiny").private
    return argv


def command_lines() -> list[str]:
    """Of every process of this machine."""
    found: list[str] = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append(entry.read_text(encoding="utf-8", errors="replace").replace("\0", " "))
        except OSError:
            continue
    return found


def files_below(folder: Path) -> Iterator[Path]:
    """Every file that this test's machine now holds, but for the Hub's own."""
    for path in folder.rglob("*"):
        # The Hub keeps what it was sent: `hub.received` looks there, at bodies and targets.
        if path.is_file() and not path.is_relative_to(folder / "hub"):
            yield path
