"""After a restart of the machine. None is restarted: supervisors are killed, and the records name another boot."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from typing import Any

import anyio
import pytest
from programs import SUCCEEDS, events, program, start, supervisor_of, until, until_dead, until_file, until_status
from server_processes import Child

from model_trainer.executors import host, local, states
from model_trainer.executors.paths import RunPaths
from model_trainer.executors.queueing import Pool
from model_trainer.services.app import App
from model_trainer.services.runs import life as runs
from model_trainer.services.runs import listing, restarting, stopping
from model_trainer.services.runs import view as run_view
from model_trainer.trainer import records

pytestmark = pytest.mark.anyio

ONE = Pool("cpu", ("cpu-0",), 1)
POLICY: dict[str, Any] = {"interrupted": "resume"}
STOPS = {"interrupted": "stop"}
SERVE = "from model_trainer.server.cli import main; raise SystemExit(main(['serve']))"
OTHER_BOOT = "00000000-0000-0000-0000-000000000000"

#: Runs until it is killed in its first attempt, and succeeds in its next.
TWICE = f'if [ "$(basename "$4")" = 1 ]; then echo up > "$4/up"; exec sleep 600; fi; {SUCCEEDS}'


async def reboot(*interrupted: RunPaths) -> None:
    """Leave these runs as a restart of the machine would."""
    # All at once, and who waits first: it would take the place of one that is gone.
    supervisors = [supervisor_of(run) for run in reversed(interrupted)]
    for pid in supervisors:
        os.kill(pid, signal.SIGKILL)
    for pid in supervisors:
        await until_dead(pid)
    for run in interrupted:
        text = run.events.read_text(encoding="utf-8")
        run.events.write_text(text.replace(host.boot_id(), OTHER_BOOT), encoding="utf-8")


def settled(app: App, run: RunPaths) -> states.RunState:
    return runs.settled_state(app, run)


async def test_what_was_running_goes_on_and_what_was_queued_waits_again_in_the_same_order(app: App, workspace: Path):
    python = program(workspace, f'echo "$(basename "$(dirname "$(dirname "$4")")")" >> {workspace}/order; {TWICE}')
    training = await start(app, python, pool=ONE, recovery=POLICY)
    await until_file(training.attempt(1).root / "up")
    done = program(
        workspace, f'echo "$(basename "$(dirname "$(dirname "$4")")")" >> {workspace}/order; {SUCCEEDS}', "b"
    )
    queued = [await start(app, done, pool=ONE, recovery=POLICY) for _ in range(3)]
    for run in queued:
        await until_status(run, "queued")
    await reboot(training, *queued)
    # Until somebody starts them, they are neither lost nor running; looking changes nothing.
    for run in (training, *queued):
        state = settled(app, run)
        assert isinstance(state, states.Queued)
        assert state.position == 0
        assert "the machine restarted" in state.why
        assert not run.exit_json.exists()
    said = restarting.restart_interrupted(app)
    assert [line.split()[0] for line in said] == [run.id for run in (training, *queued)]
    assert "was running" in said[0]
    assert "was queued" in said[1]
    for run in (training, *queued):
        assert (await runs.wait(app, run, seconds=60)).status == "succeeded"
    assert (workspace / "order").read_text(encoding="utf-8").split() == [
        run.id for run in (training, training, *queued)
    ]
    view = await run_view.get(app, training.id)
    assert view.attempt == 2
    assert "after reboot" in view.recoveries[0]
    assert (await run_view.get(app, queued[0].id)).recoveries == []
    assert restarting.restart_interrupted(app) == []
    assert restarting.restarted_since_boot(app) == said
    listed = await listing.list_runs(app, status=None, kind="train", limit=10, cursor=None)
    assert all(line in listed.text() for line in said)


async def test_a_server_that_starts_brings_interrupted_runs_back(app: App, workspace: Path):
    run = await start(app, program(workspace, TWICE), pool=ONE, recovery=POLICY)
    await until_file(run.attempt(1).root / "up")
    await reboot(run)
    with Child(SERVE):
        assert (await until_status(run, "succeeded")) == states.Succeeded(ended_by="planned_end")
    assert run.latest_attempt().number == 2


@pytest.mark.parametrize("policy", [STOPS, None])
async def test_by_another_policy_an_interrupted_run_is_lost(app: App, workspace: Path, policy: dict[str, Any] | None):
    run = await start(app, program(workspace, TWICE), pool=ONE, recovery=policy)
    await until_file(run.attempt(1).root / "up")
    await reboot(run)
    assert restarting.restart_interrupted(app) == []
    assert settled(app, run) == states.Lost(reason="reboot")
    assert run.exit_json.exists()


async def test_a_run_that_was_being_stopped_is_not_started_again(app: App, workspace: Path):
    body = f"trap '' TERM; {TWICE}"
    run = await start(app, program(workspace, body), pool=ONE, recovery=POLICY)
    await until_file(run.attempt(1).root / "up")
    assert local.request_stop(run)
    await until(run, "stopping")
    await reboot(run)
    assert restarting.restart_interrupted(app) == []
    assert settled(app, run) == states.Lost(reason="reboot")


async def test_of_many_servers_that_start_together_one_starts_the_run(app: App, workspace: Path):
    run = await start(app, program(workspace, TWICE), pool=ONE, recovery=POLICY)
    await until_file(run.attempt(1).root / "up")
    await reboot(run)
    said: list[list[str]] = []
    threads = [threading.Thread(target=lambda: said.append(restarting.restart_interrupted(app))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        await anyio.to_thread.run_sync(thread.join)
    assert (await runs.wait(app, run, seconds=60)).status == "succeeded"
    assert sum(len(lines) for lines in said) == 1
    assert [row["event"] for row in events(run)].count("starting") == 2
    assert [row["event"] for row in events(run)].count("ended") == 1


async def test_who_waits_for_an_interrupted_run_goes_on_waiting(app: App, workspace: Path):
    first = await start(app, program(workspace, TWICE), pool=ONE, recovery=POLICY)
    await until_file(first.attempt(1).root / "up")
    second = await start(app, program(workspace, SUCCEEDS, "second"), after=first.id, pool=ONE, recovery=POLICY)
    await until_status(second, "queued")
    await reboot(first, second)
    restarting.restart_interrupted(app)
    assert (await runs.wait(app, second, seconds=60)).status == "succeeded"
    assert (await runs.wait(app, first, seconds=60)).status == "succeeded"


async def test_an_interrupted_run_does_not_keep_its_slot_from_others(app: App, workspace: Path):
    run = await start(app, program(workspace, TWICE), pool=ONE, recovery=POLICY)
    await until_file(run.attempt(1).root / "up")
    await reboot(run)
    other = await start(app, program(workspace, SUCCEEDS, "other"), pool=ONE)
    assert (await runs.wait(app, other, seconds=60)).status == "succeeded"
    assert not run.exit_json.exists()
    restarting.restart_interrupted(app)
    assert (await runs.wait(app, run, seconds=60)).status == "succeeded"


async def test_a_waiting_run_whose_supervisor_is_sent_term_keeps_its_claim(app: App, workspace: Path):
    busy = await start(app, program(workspace, "exec sleep 600", "busy"), pool=ONE)
    await until(busy, "running")
    run = await start(app, program(workspace, SUCCEEDS), pool=ONE, recovery=POLICY)
    await until_status(run, "queued")
    supervisor = supervisor_of(run)
    os.kill(supervisor, signal.SIGTERM)
    await until_dead(supervisor)
    state = settled(app, run)
    assert isinstance(state, states.Queued)
    assert "SIGTERM" in state.why
    await stopping.stop(app, busy.id, wait_seconds=45)
    (said,) = restarting.restart_interrupted(app)
    assert "was queued" in said
    assert (await runs.wait(app, run, seconds=60)).status == "succeeded"


async def test_the_hours_before_the_restart_count(app: App, workspace: Path):
    run = await start(app, program(workspace, 'echo up > "$4/up"; exec sleep 600'), recovery=POLICY, max_hours=1.0)
    await until_file(run.attempt(1).root / "up")
    began = next(row["clock"] for row in events(run) if row["event"] == "running")
    said = {"done": 7, "total": 9, "message": "", "phase": "train", "clock": began + 3599.0}
    records.write_json(run.attempt(1).progress, said)
    await reboot(run)
    restarting.restart_interrupted(app)
    state = await runs.wait(app, run, seconds=60)
    assert isinstance(state, states.Failed)
    assert state.reason == "timeout"
    assert "at step 7" in (await run_view.get(app, run.id)).recoveries[0]
