"""Resources and completion of run ids, over the protocol."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from mcp.client import Client
from mcp.shared.exceptions import MCPError
from mcp.types import ResourceTemplateReference, TextResourceContents
from server_processes import WAYS, client_of

from model_trainer.executors.paths import RunPaths
from model_trainer.server.app import build_server
from model_trainer.services.app import App
from model_trainer.trainer import records
from model_trainer.trainer.contract import METHODS

pytestmark = pytest.mark.anyio

RUN = "model-trainer://runs/{run_id}"


def make_run(app: App, run_id: str, *, rows: int = 0, age: int = 0) -> RunPaths:
    """A run's folder as one leaves it behind whose supervisor died."""
    run = app.home.new_run(run_id)
    attempt = run.attempt(1)
    attempt.root.mkdir(parents=True)
    records.write_json(run.run_json, {"kind": "train"})
    run.lock.touch()
    attempt.config.write_text("version: 1\n", encoding="utf-8")
    with attempt.metrics.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps({"step": step, "loss": 1.0}) + "\n" for step in range(1, rows + 1))
    os.utime(run.root, (1_000_000 - age, 1_000_000 - age))
    return run


async def text(client: Client, uri: str) -> str:
    [content] = (await client.read_resource(uri)).contents
    assert isinstance(content, TextResourceContents)
    return content.text


@pytest.mark.parametrize("way", WAYS)
async def test_a_run_s_state_paths_config_and_metrics_can_be_read(app: App, way: str) -> None:
    run = make_run(app, "sft-1", rows=3)
    async with client_of(build_server(app), way) as client:
        shown = json.loads(await text(client, "model-trainer://runs/sft-1"))
        config = await text(client, "model-trainer://runs/sft-1/config")
        metrics = json.loads(await text(client, "model-trainer://runs/sft-1/metrics"))
    assert shown["kind"] == "train"
    assert shown["state"] == {"status": "lost", "reason": "supervisor_killed"}
    assert Path(shown["metrics"]) == run.attempt(1).metrics
    assert config == "version: 1\n"
    assert [row["step"] for row in metrics["rows"]] == [1, 2, 3]
    assert "all 3 rows" in metrics["note"]


async def test_long_curves_are_shown_from_their_end_and_say_so(app: App) -> None:
    make_run(app, "long", rows=50_000)
    async with client_of(build_server(app), "ours-modern") as client:
        whole = await text(client, "model-trainer://runs/long/metrics")
    metrics = json.loads(whole)
    assert [metrics["rows"][0]["step"], metrics["rows"][-1]["step"]] == [49_901, 50_000]
    assert "the last 100 rows" in metrics["note"]
    assert len(whole) < 20_000


@pytest.mark.parametrize("run_id", ["..%2F..%2Fetc", "..", "%2Fetc%2Fpasswd", "a%0A", "a%00b", "a%2Fb", "%2e%2e"])
@pytest.mark.parametrize("part", ["", "/config", "/metrics"])
async def test_ids_that_are_none_of_ours_reach_no_file(app: App, run_id: str, part: str) -> None:
    make_run(app, "a")
    async with client_of(build_server(app), "ours-handshake") as client:
        with pytest.raises(MCPError) as raised:
            await client.read_resource(f"model-trainer://runs/{run_id}{part}")
    assert raised.value.error.data["code"] in ("run_not_found", "invalid_arguments")


@pytest.mark.parametrize("way", WAYS)
async def test_run_ids_are_completed_the_newest_first(app: App, way: str) -> None:
    for age, name in enumerate(("sft-new", "sft-old", "inspect-1")):
        make_run(app, name, age=age)
    (app.home.runs / ".hidden").mkdir()
    async with client_of(build_server(app), way) as client:
        for uri in (RUN, f"{RUN}/config", f"{RUN}/metrics"):
            reference = ResourceTemplateReference(type="ref/resource", uri=uri)
            found = await client.complete(reference, {"name": "run_id", "value": "sft"})
            assert found.completion.values == ["sft-new", "sft-old"]
        everything = await client.complete(reference, {"name": "run_id", "value": ""})
        assert everything.completion.values == ["sft-new", "sft-old", "inspect-1"]


async def test_completion_of_many_runs_is_capped_and_says_so(app: App) -> None:
    for number in range(130):
        make_run(app, f"run-{number}")
    async with client_of(build_server(app), "ours-modern") as client:
        reference = ResourceTemplateReference(type="ref/resource", uri=RUN)
        found = (await client.complete(reference, {"name": "run_id", "value": "run"})).completion
    assert (len(found.values), found.total, found.has_more) == (100, 130, True)


async def test_the_method_guide_tells_of_each_method_and_whether_it_trains(app: App) -> None:
    async with client_of(build_server(app), "ours-modern") as client:
        guide = await text(client, "model-trainer://methods")
    for method in METHODS.values():
        state = "trains in this version" if method.module else "not in this version yet"
        assert f"## {method.name}: {method.title} ({state})" in guide
    assert len(guide) < 6000
