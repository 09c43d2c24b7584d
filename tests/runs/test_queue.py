"""Whose turn it is: tickets and leases across processes, without a daemon."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import anyio
import pytest
from counts import times
from programs import (
    SUCCEEDS,
    events,
    program,
    server_process,
    start,
    supervisor_of,
    until,
    until_dead,
    until_file,
    until_status,
    waiting,
)

from model_trainer.executors import host, states
from model_trainer.executors.errors import RunError
from model_trainer.executors.queueing import Pool
from model_trainer.services.app import App
from model_trainer.services.runs import launching, stopping
from model_trainer.services.runs import life as runs
from model_trainer.trainer import records

pytestmark = pytest.mark.anyio

ONE = Pool("cpu", ("cpu-0",), 1)
TWO = Pool("cpu", ("cpu-0", "cpu-1"), 1)


async def test_a_run_waits_for_the_slot_and_says_who_has_it(app: App, workspace: Path):
    first = await start(app, waiting(workspace), pool=ONE)
    await until(first, "running")
    second = await start(app, program(workspace, SUCCEEDS), pool=ONE)
    state = await until_status(second, "queued")
    assert isinstance(state, states.Queued)
    assert state.position == 1
    assert first.id in state.why
    (workspace / "go").touch()
    assert (await runs.wait(app, second, seconds=60)).status == "succeeded"
    assert (await runs.wait(app, first, seconds=60)).status == "succeeded"
    assert [row["event"] for row in events(second)] == ["starting", "queued", "leased", "running", "ended"]


async def test_who_waits_for_a_queued_run_is_told_what_it_waits_for(app: App, workspace: Path):
    first = await start(app, waiting(workspace), pool=ONE)
    await until(first, "running")
    second = await start(app, program(workspace, SUCCEEDS), pool=ONE)
    told: list[str] = []

    async def progress(done: float, total: float | None, message: str) -> None:
        told.append(message)
        (workspace / "go").touch()

    assert (await runs.wait(app, second, seconds=60, progress=progress)).status == "succeeded"
    assert first.id in told[0]
    assert "position 1" in told[0]


async def test_the_queue_is_served_in_the_order_of_launching(app: App, workspace: Path):
    log = workspace / "order"
    python = program(workspace, f'echo "$(basename "$(dirname "$(dirname "$4")")")" >> {log}; {SUCCEEDS}')
    blocker = await start(app, waiting(workspace), pool=ONE)
    await until(blocker, "running")
    waiters = []
    for place in range(1, 5):
        run = await start(app, python, pool=ONE)
        state = await until_status(run, "queued")
        assert isinstance(state, states.Queued)
        assert state.position == place
        waiters.append(run)
    (workspace / "go").touch()
    for run in waiters:
        await runs.wait(app, run, seconds=60)
    assert log.read_text(encoding="utf-8").split() == [run.id for run in waiters]


async def test_a_run_that_needs_both_slots_is_not_overtaken(app: App, workspace: Path):
    one = await start(app, waiting(workspace), pool=TWO)
    await until(one, "running")
    both = await start(app, program(workspace, SUCCEEDS), pool=Pool("cpu", TWO.slots, 2))
    await until_status(both, "queued")
    small = await start(app, program(workspace, SUCCEEDS), pool=TWO)
    state = await until_status(small, "queued")
    assert isinstance(state, states.Queued)
    assert (state.position, state.why) == (2, "1 run in front")
    (workspace / "go").touch()
    await runs.wait(app, small, seconds=60)
    began = {run.id: next(row["at"] for row in events(run) if row["event"] == "leased") for run in (both, small)}
    assert began[both.id] < began[small.id]


async def test_stopping_a_queued_run_cancels_it_at_once_and_moves_the_next_up(app: App, workspace: Path):
    first = await start(app, waiting(workspace), pool=ONE)
    await until(first, "running")
    second = await start(app, program(workspace, SUCCEEDS), pool=ONE)
    await until_status(second, "queued")
    third = await start(app, program(workspace, SUCCEEDS), pool=ONE)
    await until_status(third, "queued")
    answer = await stopping.stop(app, second.id, wait_seconds=45)
    assert answer.state == states.Cancelled()
    assert "running" not in [row["event"] for row in events(second)]
    with anyio.fail_after(60):
        while getattr(states.read_state(third), "position", 0) != 1:
            await anyio.sleep(0.02)
    (workspace / "go").touch()
    assert (await runs.wait(app, third, seconds=60)).status == "succeeded"


async def test_the_ticket_of_a_dead_supervisor_is_skipped(app: App, workspace: Path):
    first = await start(app, waiting(workspace), pool=ONE)
    await until(first, "running")
    dead = await start(app, program(workspace, SUCCEEDS), pool=ONE)
    await until_status(dead, "queued")
    last = await start(app, program(workspace, SUCCEEDS), pool=ONE)
    await until_status(last, "queued")
    os.kill(supervisor_of(dead), signal.SIGKILL)
    (workspace / "go").touch()
    assert (await runs.wait(app, last, seconds=60)).status == "succeeded"
    assert await until_status(dead, "lost") == states.Lost(reason="supervisor_killed")


async def test_a_slot_is_used_again_only_after_what_a_dead_supervisor_left_is_gone(app: App, workspace: Path):
    orphan = '(setsid sh -c \'echo $$ > "$1/orphan"; exec sleep 600\' orphan "$4" &) ; exec sleep 600'
    first = await start(app, program(workspace, orphan, "orphan"), pool=ONE)
    pid = int(await until_file(first.attempt(1).root / "orphan"))
    python = program(workspace, f"if grep -q sleep /proc/{pid}/cmdline; then exit 1; fi; {SUCCEEDS}")
    second = await start(app, python, pool=ONE)
    await until_status(second, "queued")
    os.kill(supervisor_of(first), signal.SIGKILL)
    assert (await runs.wait(app, second, seconds=60)).status == "succeeded"
    record = records.read_json(first.exit_json)
    assert record is not None
    assert record["outcome"] == {"lost": "supervisor_killed"}
    assert host.identify(pid) is None


async def test_a_trainer_is_told_the_gpus_it_leased_and_no_others(app: App, workspace: Path):
    python = program(workspace, f'echo "$CUDA_VISIBLE_DEVICES" > "$4/devices"; {SUCCEEDS}')
    pool = Pool("gpu", ("GPU-aaaa", "GPU-bbbb", "GPU-cccc"), 2)
    run = await start(app, python, pool=pool)
    await runs.wait(app, run, seconds=60)
    assert await until_file(run.attempt(1).root / "devices") == "GPU-aaaa,GPU-bbbb"
    on_cpu = await start(app, python, pool=ONE)
    await runs.wait(app, on_cpu, seconds=60)
    assert await until_file(on_cpu.attempt(1).root / "devices") == ""


async def test_a_run_that_needs_no_slot_does_not_queue(app: App, workspace: Path):
    busy = await start(app, waiting(workspace), pool=ONE)
    await until(busy, "running")
    scan = runs.Launch(kind="inspect", python=program(workspace, SUCCEEDS), label="inspect", request={})
    assert (await runs.wait(app, await runs.start(app, scan), seconds=60)).status == "succeeded"
    (workspace / "go").touch()
    await runs.wait(app, busy, seconds=60)


@pytest.mark.parametrize(
    ("body", "ended"),
    [(SUCCEEDS, None), ("exit 0", "failed: incomplete"), ("exec sleep 600", "cancelled"), ("exec sleep 601", "lost")],
)
async def test_a_run_after_another_starts_only_on_its_success(app: App, workspace: Path, body: str, ended: str | None):
    gate = f'while [ ! -e "{workspace}/go" ]; do sleep 0.03; done; {body}'
    first = await start(app, program(workspace, gate, "first"))
    second = await start(app, program(workspace, SUCCEEDS), after=first.id, pool=ONE)
    state = await until_status(second, "queued")
    assert isinstance(state, states.Queued)
    assert first.id in state.why
    # Who waits for another run holds no place in the queue: others pass.
    other = await start(app, program(workspace, SUCCEEDS), pool=ONE)
    assert (await runs.wait(app, other, seconds=60)).status == "succeeded"
    (workspace / "go").touch()
    if ended == "cancelled":
        await stopping.stop(app, first.id, wait_seconds=45)
    elif ended == "lost":
        await until(first, "running")
        os.kill(supervisor_of(first), signal.SIGKILL)
    state = await runs.wait(app, second, seconds=60)
    if ended is None:
        assert state.status == "succeeded"
    else:
        assert isinstance(state, states.Failed)
        assert state.reason == "dependency"
        assert first.id in state.detail
        assert ended in state.detail


async def test_a_waiting_run_can_be_stopped_before_the_other_ends(app: App, workspace: Path):
    first = await start(app, waiting(workspace))
    second = await start(app, program(workspace, SUCCEEDS), after=first.id)
    await until_status(second, "queued")
    assert (await stopping.stop(app, second.id, wait_seconds=45)).state == states.Cancelled()
    (workspace / "go").touch()
    assert (await runs.wait(app, first, seconds=60)).status == "succeeded"


@pytest.mark.soak
async def test_launches_of_many_processes_never_train_more_than_two_at_a_time_whoever_looks(app: App, workspace: Path):
    processes, each = times(4, 8), 5
    stamps = workspace / "stamps"
    stamps.mkdir()
    body = f'date +"%s%N b" > {stamps}/$$.begin; sleep 0.05; date +"%s%N e" > {stamps}/$$.end; {SUCCEEDS}'
    python = program(workspace, body)
    servers = [server_process("many", str(python), str(each)) for _ in range(processes)]
    started: list[str] = []
    everything_over = anyio.Event()

    async def look() -> None:
        """Ask how it all stands as readers do: no probe may make a lock look taken."""
        looks = 0
        while not everything_over.is_set() or looks < 1000:
            for lock in await anyio.to_thread.run_sync(sorted, app.home.locks.rglob("*")):
                records.is_locked(lock) if lock.is_file() else None
            for run in runs.all_runs(app):
                states.read_state(run)
            looks += 1

    async with anyio.create_task_group() as group:
        group.start_soon(look)
        for server in servers:
            output, _ = await anyio.to_thread.run_sync(server.communicate)
            assert server.returncode == 0
            started += output.decode().split()
        assert len(set(started)) == processes * each
        for run_id in started:
            assert (await runs.wait(app, app.home.run(run_id), seconds=60)).status == "succeeded"
        everything_over.set()
    moments = sorted(path.read_text(encoding="utf-8").split()[:2] for path in stamps.iterdir())
    assert len(moments) == 2 * processes * each
    training = most = 0
    for _, what in moments:
        training += 1 if what == "b" else -1
        most = max(most, training)
    assert most == 2
    leased = [next(row for row in events(app.home.run(run_id)) if row["event"] == "leased") for run_id in started]
    assert {tuple(row["slots"]) for row in leased} == {("cpu-0",), ("cpu-1",)}


@pytest.fixture
def config(shell_config: Path, workspace: Path) -> Path:
    """A config whose training succeeds at once."""
    (workspace / "train.sh").write_text(SUCCEEDS, encoding="utf-8")
    return shell_config


def said_together(*arguments: str, count: int = 4) -> list[str]:
    """The lines of `count` servers that begin at the same moment."""
    servers = [server_process(*arguments) for _ in range(count)]
    for server in servers:
        assert server.stdin is not None
        server.stdin.close()
    said: list[str] = []
    for server in servers:
        assert server.stdout is not None
        with server, server.stdout as output:
            said += output.read().decode().splitlines()
        assert server.returncode == 0
    return said


@pytest.mark.soak
async def test_a_key_is_one_run_however_many_processes_use_it_at_the_same_moment(app: App, workspace: Path):
    servers = times(4, 20)
    said = said_together("keys", str(program(workspace, SUCCEEDS)), "12", count=servers)
    assert len(said) == 12 * servers
    assert len(set(said)) == 12
    assert len(list(runs.all_runs(app))) == 12
    for run in runs.all_runs(app):
        assert (await runs.wait(app, run, seconds=60)).status == "succeeded"


@pytest.mark.parametrize("key", ["mine", None])
async def test_many_processes_that_launch_the_same_at_once_start_one_run(app: App, config: Path, key: str | None):
    said = said_together("config", str(config), *([key] if key else []))
    assert len([line for line in said if line.endswith(" new")]) == 1
    (run,) = runs.all_runs(app)
    if key is not None:
        assert sorted(said) == sorted([f"{run.id} new", *[f"{run.id} already"] * 3])
    else:
        assert sorted(said) == sorted([f"{run.id} new", *["error duplicate_run"] * 3])
    await runs.wait(app, run, seconds=60)


async def test_after_an_unknown_run_is_refused(app: App, config: Path):
    with pytest.raises(RunError) as caught:
        await launching.launch(app, str(config), again=False, key=None, after="20260101-000000-sft-abcde")
    assert caught.value.code == "run_not_found"
    assert list(runs.all_runs(app)) == []


async def test_a_launched_training_queues_for_the_cpu(app: App, config: Path, workspace: Path):
    busy = await start(app, waiting(workspace), pool=ONE)
    await until(busy, "running")
    launched = await launching.launch(app, str(config), again=False, key=None)
    run = app.home.run(launched.run_id)
    await until_status(run, "queued")
    (workspace / "go").touch()
    assert (await runs.wait(app, run, seconds=60)).status == "succeeded"
    await until_dead(supervisor_of(run))
