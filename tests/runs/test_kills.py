"""Who may be killed, and what is true afterwards. Everything here is a real process, killed for real."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

import anyio
import pytest
from counts import times
from programs import (
    SUCCEEDS,
    WAITS,
    edit_snapshot,
    events,
    program,
    start,
    supervisor_of,
    until,
    until_dead,
    until_file,
    until_status,
    worker,
)

from model_trainer.executors import host, local, states, sweeping
from model_trainer.executors.errors import RunError
from model_trainer.executors.paths import RunPaths
from model_trainer.executors.queueing import Pool
from model_trainer.services.app import App
from model_trainer.services.runs import life as runs
from model_trainer.services.runs import listing as run_list
from model_trainer.services.runs import stopping
from model_trainer.services.runs import view as run_view
from model_trainer.trainer import records

pytestmark = pytest.mark.anyio

ONE = Pool("cpu", ("cpu-0",), 1)
SERVE = "from model_trainer.server.cli import main; raise SystemExit(main(['serve']))"

#: Forks twice and takes a session of its own: nobody's child, and not of its group. $4 is the attempt's folder.
DAEMON = '(setsid sh -c \'echo $$ > "$1/daemon"; exec sleep 600\' daemon "$4" &)'


def children_of(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()]


def session_of(pid: int) -> list[int]:
    """Every process of the session that `pid` leads."""
    found: list[int] = []
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if os.getsid(int(entry.name)) == pid:
                found.append(int(entry.name))
    return found


class Chain:
    """A client, perhaps a launcher like `uv run`, and the server, after they launched a run."""

    def __init__(self, client: subprocess.Popen[bytes], run: RunPaths, *, launcher: bool) -> None:
        self.client = client
        self.run = run
        (self.top,) = children_of(client.pid)
        (self.server,) = children_of(self.top) if launcher else (self.top,)


@contextmanager
def launched_by_a_client(app: App, config: Path, launcher: Path | None) -> Generator[Chain]:
    """A client as a process, that has a server as its child, that has launched a run."""
    server = [sys.executable, "-c", SERVE]
    command = [sys.executable, str(Path(__file__).parent.parent / "client_driver.py"), str(config)]
    client = subprocess.Popen(
        [*command, *([str(launcher)] if launcher else []), *server],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    assert client.stdin is not None
    assert client.stdout is not None
    with client:
        try:
            run_id = client.stdout.readline().decode().strip()
            yield Chain(client, app.home.run(run_id), launcher=launcher is not None)
        finally:
            client.kill()


def kill(*pids: int) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize(
    "killed", ["server", "client and server", "group", "session", "launcher", "nobody: stdin ends"]
)
async def test_a_run_ends_normally_whoever_launched_it_is_killed(
    app: App, shell_config: Path, workspace: Path, killed: str
):
    (workspace / "train.sh").write_text(WAITS % workspace, encoding="utf-8")
    launcher = program(workspace, '"$@"; exit $?', "launcher") if killed == "launcher" else None
    with launched_by_a_client(app, shell_config, launcher) as chain:
        await until(chain.run, "running")
        match killed:
            case "server":
                kill(chain.server)
            case "client and server":
                kill(chain.client.pid, chain.server)
            case "group":
                for leader in (chain.server, chain.client.pid):
                    os.killpg(leader, signal.SIGKILL)
            case "session":
                kill(*session_of(chain.server), *session_of(chain.client.pid))
            case "launcher":
                kill(chain.top)
            case _:
                assert chain.client.stdin is not None
                chain.client.stdin.close()
        await until_dead(chain.server)
    assert states.read_state(chain.run) == states.Running()
    (workspace / "go").touch()
    assert await runs.wait(app, chain.run, seconds=60) == states.Succeeded(ended_by="planned_end")
    assert [row["event"] for row in events(chain.run)].count("ended") == 1
    assert not records.is_locked(app.home.locks / "leases" / "cpu-0")


async def test_after_the_supervisor_is_killed_nothing_runs_and_the_loss_is_recorded(app: App, workspace: Path):
    run = await start(app, program(workspace, f"{DAEMON}; exec sleep 600"), pool=ONE)
    daemon = int(await until_file(run.attempt(1).root / "daemon"))
    trainer = (await until(run, "running"))["pid"]
    kill(supervisor_of(run))
    await until_status(run, "lost")
    await until_dead(trainer)
    assert host.identify(daemon) is not None
    view = await run_view.get(app, run.id)
    assert view.state == states.Lost(reason="supervisor_killed")
    assert host.identify(daemon) is None
    record = records.read_json(run.exit_json)
    assert record is not None
    assert record["outcome"] == {"lost": "supervisor_killed"}
    again = await start(app, program(workspace, SUCCEEDS), pool=ONE)
    assert (await runs.wait(app, again, seconds=60)).status == "succeeded"


async def test_listing_runs_sweeps_lost_ones_too(app: App, workspace: Path):
    run = await start(app, program(workspace, f"{DAEMON}; exec sleep 600"))
    daemon = int(await until_file(run.attempt(1).root / "daemon"))
    await until(run, "running")
    kill(supervisor_of(run))
    await until_status(run, "lost")
    listed = await run_list.list_runs(app, status="lost", kind="all", limit=10, cursor=None)
    assert [line.run_id for line in listed.runs] == [run.id]
    assert run.exit_json.exists()
    assert host.identify(daemon) is None


async def test_a_run_whose_lock_is_not_here_is_unreachable_and_never_swept(app: App, workspace: Path):
    run = await start(app, program(workspace, WAITS % workspace))
    await until(run, "running")
    elsewhere = run.lock.with_suffix(".elsewhere")
    run.lock.rename(elsewhere)
    view = await run_view.get(app, run.id)
    assert view.state.status == "unreachable"
    assert not run.exit_json.exists()
    elsewhere.rename(run.lock)
    (workspace / "go").touch()
    assert (await runs.wait(app, run, seconds=60)).status == "succeeded"


async def test_a_run_of_before_a_reboot_is_lost_by_it(app: App, workspace: Path):
    run = await start(app, program(workspace, "exec sleep 600"))
    await until(run, "running")
    kill(supervisor_of(run))
    await until_status(run, "lost")
    text = run.events.read_text(encoding="utf-8")
    run.events.write_text(text.replace(host.boot_id(), "00000000-0000-0000-0000-000000000000"), encoding="utf-8")
    assert states.read_state(run) == states.Lost(reason="reboot")
    assert (await run_view.get(app, run.id)).state == states.Lost(reason="reboot")


async def test_a_killed_trainer_frees_its_slot_and_the_run_says_by_which_signal(app: App, workspace: Path):
    run = await start(app, program(workspace, "exec sleep 600"), pool=ONE)
    kill((await until(run, "running"))["pid"])
    state = await runs.wait(app, run, seconds=60)
    assert isinstance(state, states.Failed)
    assert "SIGKILL" in state.detail
    assert not records.is_locked(app.home.locks / "leases" / "cpu-0")


async def test_a_daemon_that_the_trainer_made_is_dead_before_the_run_is_over(app: App, workspace: Path):
    wait_for_it = 'while [ ! -s "$4/daemon" ]; do sleep 0.03; done'
    run = await start(app, program(workspace, f"{DAEMON}; {wait_for_it}; {SUCCEEDS}"))
    with anyio.fail_after(60):
        while not run.exit_json.exists():
            await anyio.sleep(0.005)
    assert host.identify(int(await until_file(run.attempt(1).root / "daemon"))) is None
    assert (await runs.wait(app, run, seconds=60)).status == "succeeded"


async def test_a_trainer_that_ignores_term_is_killed_after_the_grace(app: App, workspace: Path):
    body = "trap '' TERM; echo deaf > \"$4/ready\"; while :; do sleep 0.1; done"
    run = await start(app, program(workspace, body), grace_seconds=0.3)
    await until_file(run.attempt(1).root / "ready")
    answer = await stopping.stop(app, run.id, wait_seconds=45)
    assert answer.state == states.Cancelled()
    assert [row["event"] for row in events(run)] == ["starting", "running", "stopping", "killing", "ended"]


@pytest.mark.parametrize("seen", ["the very process", "another start", "another boot"])
async def test_only_the_very_process_that_a_run_names_is_ever_signalled(app: App, workspace: Path, seen: str):
    run = await start(app, program(workspace, WAITS % workspace))
    await until(run, "running")
    script = "trap 'echo signalled' TERM USR1; echo ready; read line; echo done"
    pipe = subprocess.PIPE
    with subprocess.Popen(["/bin/sh", "-c", script], stdin=pipe, stdout=pipe) as foreign:  # noqa: ASYNC220
        assert foreign.stdin is not None
        assert foreign.stdout is not None
        assert foreign.stdout.readline() == b"ready\n"
        identity = host.identify(foreign.pid)
        assert identity is not None
        named = {"pid": identity.pid, "start": identity.start_ticks, "boot": identity.boot}
        # As a pid is reused: the number is right, the rest is of the process that had it before.
        named |= {"another start": {"start": identity.start_ticks - 1}, "another boot": {"boot": "other"}}.get(seen, {})
        records.append_line(run.events, {"event": "starting", "attempt": 1, "supervisor": named, "stop_signal": 10})
        assert local.request_stop(run) == (seen == "the very process")
        foreign.stdin.write(b"\n")
        foreign.stdin.close()
        assert foreign.stdout.read() == (b"signalled\ndone\n" if seen == "the very process" else b"done\n")
    (workspace / "go").touch()
    assert (await runs.wait(app, run, seconds=60)).status == "succeeded"


@pytest.mark.parametrize("where", ["while it loads", "once it is detached"])
async def test_a_supervisor_that_hangs_before_it_is_ready_is_ended_and_the_launch_has_failed(
    app: App, workspace: Path, monkeypatch: pytest.MonkeyPatch, where: str
):
    monkeypatch.setattr(local, "READY_SECONDS", 1.0)
    module = "import os\n" if where == "while it loads" else "def current() -> ProcessIdentity:\n"
    hang = "import time\ntime.sleep(600)\n" if where == "while it loads" else "    import time\n    time.sleep(600)\n"
    edit_snapshot(app, "executors/host.py", module, module + hang)
    with pytest.raises(RunError) as caught:
        await start(app, program(workspace, SUCCEEDS), pool=ONE)
    assert caught.value.code == "launch_failed"
    (run,) = runs.all_runs(app)
    assert str(run.root) in caught.value.next_step
    state = states.read_state(run)
    assert isinstance(state, states.Failed)
    assert state.reason == "launch_failed"
    assert [entry for entry in Path("/proc").glob("[0-9]*/cmdline") if run.id.encode() in entry.read_bytes()] == []
    assert not records.is_locked(run.lock)
    assert (await run_view.get(app, run.id)).state == state


async def test_a_stop_before_the_trainer_is_ready_cancels_the_run(app: App, workspace: Path):
    for _ in range(10):
        run = await start(app, program(workspace, "exec sleep 600"))
        assert local.request_stop(run)
        assert await runs.wait(app, run, seconds=60) == states.Cancelled()


@pytest.mark.soak
async def test_a_stop_at_the_very_end_leaves_one_outcome_that_stays(app: App, workspace: Path):
    python = program(workspace, SUCCEEDS)
    chance = random.Random(20261123)
    outcomes: list[str] = []
    at_a_time = anyio.CapacityLimiter(4)

    async def one(delay: float) -> None:
        async with at_a_time:
            run = await start(app, python)
            await anyio.sleep(delay)
            local.request_stop(run)
            state = await runs.wait(app, run, seconds=60)
        record = run.exit_json.read_bytes()
        assert [row["event"] for row in events(run)].count("ended") == 1
        result = runs.read_result(run)
        if state.status == "cancelled":
            # Never cancelled by word while the trainer had reached its end with exit 0.
            code = records.read_json(run.attempt(1).exit_json) or {}
            assert result is None or code.get("code") != 0
        else:
            assert state == states.Succeeded(ended_by="planned_end")
            assert result is not None
        answer = await stopping.stop(app, run.id, wait_seconds=0)
        assert answer.was_over
        assert answer.state == state
        assert run.exit_json.read_bytes() == record
        outcomes.append(state.status)

    async with anyio.create_task_group() as group:
        for _ in range(times(40, 200)):
            group.start_soon(one, chance.uniform(0.0, 0.03))
    assert len(outcomes) == times(40, 200)
    assert set(outcomes) <= {"succeeded", "cancelled"}


@pytest.mark.soak
async def test_launchers_killed_at_random_moments_leave_no_run_half_born(app: App, workspace: Path):
    python = program(workspace, SUCCEEDS)
    done = await anyio.run_process(worker("doomed", str(python), str(times(25, 100)), "7"), check=True)
    spoken = set(done.stdout.decode().split())
    # The next launch is the janitor; it needs a slot that nobody may have kept.
    last = await start(app, python, pool=ONE)
    assert (await runs.wait(app, last, seconds=60)).status == "succeeded"
    assert [path.name for path in app.home.runs.iterdir() if path.name.startswith(".")] == []
    seen = list(runs.all_runs(app))
    assert spoken <= {run.id for run in seen}
    for run in seen:
        state = await runs.wait(app, run, seconds=60)
        assert states.is_over(state), run.id
        assert state.status in ("succeeded", "lost")
        assert run.exit_json.exists()
        # Who was told of a run has one that lives on.
        assert run.id not in spoken or state.status == "succeeded"
        assert list(sweeping.marked(run.id)) == []
    assert len(seen) > 5
    assert not any(records.is_locked(lease) for lease in (app.home.locks / "leases").iterdir())
