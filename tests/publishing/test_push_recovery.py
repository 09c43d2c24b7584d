"""A push that is refused, cut, throttled or killed: nothing half-published, nothing sent twice, and it can go on."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import anyio
import pytest
from hub.contents import File
from hub.fixtures import TOKEN
from hub.state import Commit, Hub, Repo
from programs import supervisor_of
from pushes import Trained, agreed, ended, push, there, until_happened

from model_trainer.executors import states
from model_trainer.executors.errors import PublishError
from model_trainer.executors.paths import RunPaths
from model_trainer.services.app import App
from model_trainer.services.runs import life as runs
from model_trainer.services.runs import stopping, view

pytestmark = pytest.mark.anyio

NOW = {"Retry-After": "0"}


@pytest.fixture(autouse=True)
def logged_in(online: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)


def sent(hub: Hub) -> int:
    """Bytes of blobs that arrived."""
    return sum(request.bytes_received for request in hub.requests.matching("PUT", "^/lfs/"))


async def goes_on(app: App, run: RunPaths, confirm: str) -> RunPaths:
    """The run that goes on with a push, by the very call that began it."""
    again = await push(app, run, confirm=confirm)
    assert again.status == "started"
    assert again.push_run_id is not None
    return app.home.run(again.push_run_id)


PASSING: list[tuple[str, str, dict[str, Any]]] = [
    ("POST", "/api/repos/create", {"status": 503}),
    ("POST", "/api/repos/create", {"cut": "answer"}),
    ("POST", "/commit/", {"status": 429, "headers": NOW, "times": 2}),
    ("POST", "/commit/", {"status": 503}),
    ("POST", "/commit/", {"cut": "before"}),
    ("POST", "/commit/", {"cut": "answer"}),
    ("PUT", "^/lfs/", {"cut": "upload", "after_bytes": 4000}),
    ("PUT", "^/lfs/", {"status": 503}),
    ("GET", "/tree/", {"cut": "download", "after_bytes": 20}),
]


@pytest.mark.parametrize(("method", "path", "fault"), PASSING, ids=lambda value: str(value)[:40])
async def test_passing_trouble_is_waited_out_and_leaves_one_commit(
    app: App, hub: Hub, trained: Trained, method: str, path: str, fault: dict[str, Any]
) -> None:
    run = await trained("adapter")
    preview = await push(app, run, dry_run=True)
    hub.faults.add(method, path, **fault)
    started = await push(app, run, confirm=preview.confirm)
    assert started.push_run_id is not None
    state = await ended(app, app.home.run(started.push_run_id))
    assert state == states.Succeeded(ended_by="planned_end")
    assert not hub.faults.pending, "the fault never happened"
    assert there(hub) == {file.path: file.sha256 for file in preview.files}
    # The first commit is the Hub's own.
    assert len(hub.repo("model", "ada/tiny").head.history()) == 2


FINAL: list[tuple[str, str, int, str, str]] = [
    ("POST", "/api/repos/create", 403, "auth", "hf auth login"),
    ("POST", "/commit/", 403, "auth", "hf auth login"),
    ("POST", "/commit/", 401, "auth", "hf auth login"),
    ("POST", "/commit/", 402, "budget", "billing"),
    ("POST", "/commit/", 400, "bad_data", "dry_run=True"),
]


@pytest.mark.parametrize(("method", "path", "status", "reason", "next_step"), FINAL)
async def test_a_refusal_ends_the_push_with_its_reason_and_the_same_call_goes_on(
    app: App, hub: Hub, trained: Trained, method: str, path: str, status: int, reason: str, next_step: str
) -> None:
    run = await trained("adapter")
    hub.faults.add(method, path, status=status, message="You are over your quota")
    preview = await push(app, run, dry_run=True)
    first = await agreed(app, run)
    state = await ended(app, first)
    assert isinstance(state, states.Failed)
    assert state.reason == reason
    assert "You are over your quota" in state.detail
    seen = await view.get(app, first.id)
    assert next_step in seen.next_step
    assert "push_adapter(" in seen.next_step
    # What was agreed on has not changed, so the yes still counts.
    second = await goes_on(app, run, preview.confirm)
    assert (await ended(app, second)).status == "succeeded"
    assert there(hub) == {file.path: file.sha256 for file in preview.files}


async def test_a_killed_push_goes_on_without_sending_again_what_is_there(app: App, hub: Hub, trained: Trained) -> None:
    run = await trained("adapter")
    preview = await push(app, run, dry_run=True)
    # Kept waiting at the commit: the weights are there, nothing is visible yet.
    hub.faults.add("POST", "/commit/", status=503, headers={"Retry-After": "30"})
    first = await agreed(app, run)
    await until_happened(hub, first)
    os.kill(supervisor_of(first), signal.SIGKILL)
    state = await ended(app, first)
    assert state.status == "lost"
    assert there(hub) == {}
    before = sent(hub)
    assert before > (run.output / "adapter_model.safetensors").stat().st_size
    second = await goes_on(app, run, preview.confirm)
    assert (await ended(app, second)).status == "succeeded"
    assert there(hub) == {file.path: file.sha256 for file in preview.files}
    assert sent(hub) == before
    told = (await view.get(app, second.id)).parent
    assert told == first.id


async def test_a_commit_that_nobody_heard_of_counts(app: App, hub: Hub, trained: Trained) -> None:
    run = await trained("adapter")
    empty = hub.add_repo("model", "ada/tiny", private=True)
    preview = await push(app, run, dry_run=True)
    # The commit is made, its answer is lost, and so is the look at it.
    hub.faults.add("POST", "/commit/", cut="answer")
    hub.faults.add("GET", rf"/tree/(?!{empty.head.oid})", status=503, headers={"Retry-After": "30"})
    first = await agreed(app, run)
    await until_happened(hub, first)
    os.kill(supervisor_of(first), signal.SIGKILL)
    assert (await ended(app, first)).status == "lost"
    made = empty.head.oid
    second = await goes_on(app, run, preview.confirm)
    assert (await ended(app, second)).status == "succeeded"
    assert empty.head.oid == made
    assert len(hub.requests.matching("POST", "/commit/")) == 1


async def test_a_push_whose_files_changed_since_needs_a_new_yes(app: App, hub: Hub, trained: Trained) -> None:
    run = await trained("adapter")
    hub.faults.add("POST", "/api/repos/create", status=403)
    preview = await push(app, run, dry_run=True)
    await ended(app, await agreed(app, run))
    (run.output / "chat_template.jinja").write_text("changed", encoding="utf-8")
    with pytest.raises(PublishError) as raised:
        await push(app, run, confirm=preview.confirm)
    assert raised.value.code == "not_confirmed"
    assert not hub.repos


async def test_what_was_written_for_a_push_and_is_gone_is_written_anew(app: App, hub: Hub, trained: Trained) -> None:
    run = await trained("adapter")
    hub.faults.add("POST", "/api/repos/create", status=403)
    preview = await push(app, run, dry_run=True)
    await ended(app, await agreed(app, run))
    shutil.rmtree(run.publish / preview.confirm)
    second = await goes_on(app, run, preview.confirm)
    assert (await ended(app, second)).status == "succeeded"


async def test_a_push_survives_the_end_of_the_server_that_started_it(
    app: App, hub: Hub, trained: Trained, workspace: Path
) -> None:
    run = await trained("adapter")
    preview = await push(app, run, dry_run=True)
    hub.faults.add("POST", "/commit/", status=503, headers={"Retry-After": "1"})
    asked = f'{{"run_id": "{run.id}", "destination": "ada/tiny", "confirm": "{preview.confirm}"}}'
    command = [sys.executable, "-m", "model_trainer.server.cli", "call", "push_adapter", "--json", asked]
    done = await anyio.run_process([*command, "--workspace", str(workspace)], check=True, stderr=subprocess.DEVNULL)
    assert b'"started"' in done.stdout
    [pushed] = [one for one in runs.all_runs(app) if runs.asked(one)["kind"] == "push"]
    assert (await ended(app, pushed)).status == "succeeded"
    assert there(hub) == {file.path: file.sha256 for file in preview.files}


async def test_a_stopped_push_publishes_nothing_and_uses_its_yes_up(app: App, hub: Hub, trained: Trained) -> None:
    run = await trained("adapter")
    preview = await push(app, run, dry_run=True)
    hub.faults.add("POST", "/api/repos/create", status=503, headers={"Retry-After": "30"})
    pushed = await agreed(app, run)
    await until_happened(hub, pushed)
    result = await stopping.stop(app, pushed.id, wait_seconds=30)
    assert result.state.status == "cancelled"
    assert not hub.repos
    assert "dry_run=True" in (await view.get(app, pushed.id)).next_step
    with pytest.raises(PublishError) as raised:
        await push(app, run, confirm=preview.confirm)
    assert raised.value.code == "not_confirmed"


async def test_a_stop_while_the_commit_is_made_says_what_came_of_it(app: App, hub: Hub, trained: Trained) -> None:
    run = await trained("adapter")
    empty = hub.add_repo("model", "ada/tiny", private=True)
    # The commit is made and its answer is lost; the stop comes while the push waits to look again.
    hub.faults.add("POST", "/commit/", cut="answer")
    hub.faults.add("GET", rf"/tree/(?!{empty.head.oid})", status=503, headers={"Retry-After": "3"})
    pushed = await agreed(app, run)
    await until_happened(hub, pushed)
    await stopping.stop(app, pushed.id, wait_seconds=30)
    assert (await ended(app, pushed)).status == "succeeded"
    assert "adapter_model.safetensors" in there(hub)


async def test_a_hub_that_holds_something_else_than_was_sent_is_not_called_a_success(
    app: App, hub: Hub, trained: Trained
) -> None:
    class Forgetful(Repo):
        def move_on(self, branch: str, files: Mapping[str, File], **more: Any) -> Commit:
            return super().move_on(branch, {name: files[name] for name in files if name != "tokenizer.json"}, **more)

    repo = Forgetful("model", "ada/tiny", hub.blobs, private=True)
    repo.commit({".gitattributes": b""})
    hub.repos["model", "ada/tiny"] = repo
    run = await trained("adapter")
    state = await ended(app, await agreed(app, run))
    assert isinstance(state, states.Failed)
    assert state.reason == "incomplete"
    assert "tokenizer.json is missing" in state.detail
