"""Training on a model and data of the Hub: a real Hub on loopback, a real server, and trainers that begin fresh."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hub import Hub
from hub.fixtures import TOKEN
from hub.state import Kind
from mcp.client import Client
from mcp.client.stdio import StdioServerParameters, stdio_client
from programs import program

from model_trainer.executors.paths import RunPaths
from model_trainer.services.app import App
from model_trainer.services.runs import life as runs
from model_trainer.trainer import records

pytestmark = pytest.mark.anyio


@pytest.fixture
def fresh_python(fork_python: Path, workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The training environment's real Python, but for the question which keys TRL has: it has no use for a Hub, and
    whatever was forked imported the Hub's client in another environment."""
    body = f'case "$3" in probe) exec "{fork_python}" "$@";; *) exec "{sys.executable}" "$@";; esac'
    monkeypatch.setenv("MODEL_TRAINER_PYTHON", str(program(workspace, body, "fresh")))


async def call(client: Client, tool: str, **arguments: Any) -> dict[str, Any]:
    """What a tool answers, be it an error."""
    answer = await client.call_tool(tool, arguments)
    assert answer.structured_content is not None
    return answer.structured_content


async def ended(client: Client, run_id: str) -> dict[str, Any]:
    """The run, once it is over."""
    while True:
        view = await call(client, "get_run", run_id=run_id, wait_seconds=40)
        if view["state"]["status"] in ("succeeded", "failed", "cancelled", "lost"):
            return view


async def test_a_model_and_private_data_of_the_hub_are_trained_at_the_commits_that_were_planned(
    app: App,
    workspace: Path,
    clean_machine: Path,
    tiny_model: Path,
    pairs: Path,
    hub: Hub,
    online: str,
    fresh_python: None,
):
    model = hub.add_repo("model", "acme/tiny", {path.name: path for path in tiny_model.iterdir()})
    data = hub.add_repo("dataset", "acme/pairs", {"train.jsonl": pairs}, private=True)
    hub.add_repo("model", "acme/gated", {"config.json": b"{}"}, gated="manual", granted=("bob",))
    hub.add_user("eve", token="hf_eve")
    trained_on = (model.head.oid, data.head.oid)
    token = clean_machine / "hf" / "token"
    token.parent.mkdir()
    server = StdioServerParameters(
        command=sys.executable,
        args=["-m", "model_trainer.server.cli", "serve", "--workspace", str(workspace)],
        env=dict(os.environ),
    )
    async with Client(stdio_client(server)) as client:
        hidden = await call(client, "inspect_dataset", path="acme/pairs")
        assert hidden["code"] == "dataset_not_found"
        assert "hf auth login" in hidden["next_step"]
        token.write_text(TOKEN, encoding="utf-8")
        seen = await call(client, "inspect_dataset", path="acme/pairs", model="acme/tiny")
        assert (seen["rows"], seen["format"], seen["notes"]) == (600, "prompt_completion", [])
        assert seen["tokens"]["sample"] == 500
        plan = await call(client, "plan_training", dataset="acme/pairs", model="acme/tiny")
        changes = {
            "training": {"max_steps": 2, "packing": False},
        }
        written = await call(client, "write_config", path="config.yaml", plan=plan["plan_id"], overrides=changes)
        assert model.head.oid in (workspace / "config.yaml").read_text(encoding="utf-8")
        # Others go on meanwhile: what was looked at is trained, not what stands there now.
        model.commit({"config.json": b"{}"}, "Break it")
        data.commit({"train.jsonl": b'{"text": "other rows"}\n'}, "Replace it")
        launched = await call(client, "launch_run", config=written["path"])
        view = await ended(client, launched["run_id"])
        assert view["state"] == {"status": "succeeded", "ended_by": "planned_end"}, view["log_tail"]
        result = runs.read_result(app.home.run(view["run_id"]))
        assert result is not None
        assert result["base_commit"] == trained_on[0]
        check_data(app.home.run(view["run_id"]))
        assert {one.path for one in hub.requests.matching("GET", r"/resolve/.*\.(safetensors|jsonl)$")} == {
            f"/acme/tiny/resolve/{trained_on[0]}/model.safetensors",
            f"/datasets/acme/pairs/resolve/{trained_on[1]}/train.jsonl",
        }
        token.write_text("hf_eve", encoding="utf-8")
        refused = await call(client, "plan_training", dataset=str(pairs), model="acme/gated")
        assert refused["code"] == "model_gated"


def check_data(run: RunPaths) -> None:
    """The run's record of its data: the rows, and a hash of each file that they were read from."""
    result = runs.read_result(run)
    assert result is not None
    (summary,) = result["data"]
    assert (summary["path"], summary["rows"]) == ("acme/pairs", 600)
    stored = records.read_json(run.latest_attempt().root / "data.json")
    assert stored is not None
    (entry,) = stored["datasets"]
    assert entry["sha256"] == summary["sha256"]
    assert all(len(file["sha256"]) == 64 and file["size"] > 0 for file in entry["files"])


#: How it is asked, for what, as whom (None: nobody), at which revision, and what it comes to: codes of ours before a
#: run, reasons of a run in it.
ASKED = [
    ("plan", "acme/gated", None, None, "model_gated"),
    ("plan", "acme/gated", "hf_eve", None, "model_gated"),
    ("plan", "acme/hidden", None, None, "model_not_found"),
    ("plan", "acme/open", "hf_expired", None, "model_gated"),
    ("plan", "acme/open", None, "v9", "model_not_found"),
    ("plan", "acme/cut", None, None, "unreachable"),
    ("plan", "acme/open", None, None, None),
    ("scan", "acme/gated", "hf_eve", None, "dataset_gated"),
    ("scan", "acme/hidden", "hf_eve", None, "dataset_not_found"),
    ("scan", "acme/open", "hf_expired", None, "dataset_gated"),
    ("scan", "acme/open", None, "v9", "dataset_not_found"),
    ("scan", "acme/cut", None, None, "unreachable"),
    ("scan", "acme/open", None, None, None),
    ("model", "acme/gated", None, None, "auth"),
    ("model", "acme/gated", "hf_eve", None, "auth"),
    ("model", "acme/hidden", None, None, "auth"),
    ("model", "acme/hidden", "hf_eve", None, "auth"),
    ("model", "acme/open", "hf_expired", None, "auth"),
    ("model", "acme/open", None, "v9", "bad_config"),
    ("model", "acme/cut", None, None, "communication"),
    ("model", "acme/hidden", TOKEN, None, None),
    ("data", "acme/gated", None, None, "auth"),
    ("data", "acme/hidden", "hf_eve", None, "auth"),
    ("data", "acme/open", "hf_expired", None, "auth"),
    ("data", "acme/open", None, "v9", "bad_config"),
    ("data", "acme/cut", None, None, "communication"),
    ("data", "acme/hidden", TOKEN, None, None),
]


def test_what_the_hub_refuses_is_named_the_same_before_and_in_a_run(
    hub: Hub, online: str, tiny_model: Path, pairs: Path
):
    seeds: list[tuple[Kind, dict[str, Path]]] = [
        ("model", {path.name: path for path in tiny_model.iterdir()}),
        ("dataset", {"train.jsonl": pairs}),
    ]
    for kind, files in seeds:
        hub.add_repo(kind, "acme/gated", files, gated="manual")
        hub.add_repo(kind, "acme/hidden", files, private=True)
        hub.add_repo(kind, "acme/open", files)
    hub.add_user("eve", token="hf_eve")
    for method in ("GET", "HEAD"):
        hub.faults.add(method, "/acme/cut", cut="before", times=1000)
    asked = [{"how": how, "name": name, "token": who, "revision": at} for how, name, who, at, _ in ASKED]
    done = subprocess.run(
        [sys.executable, str(Path(__file__).parent.parent / "hub_loading.py")],
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        check=True,
    )
    assert list(zip(ASKED, json.loads(done.stdout), strict=True)) == [(one, one[-1]) for one in ASKED]
