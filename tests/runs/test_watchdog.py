"""Runs that stand still, run out of time, or die without a word: what is done, and what is said with which evidence."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from programs import SUCCEEDS, events, program, start, until_file

from model_trainer.executors import host, judging, states, watching
from model_trainer.executors.paths import RunPaths
from model_trainer.executors.snapshot import snapshot
from model_trainer.services.app import App
from model_trainer.services.runs import life as runs
from model_trainer.services.runs import view as run_view
from model_trainer.trainer import records
from model_trainer.trainer.contract import SNAPSHOT_PACKAGE

pytestmark = pytest.mark.anyio

#: Two ranks, each in a session of its own, that train a step and then hang; $4 is the attempt's folder.
RANK = """import faulthandler, os, signal, sys, time
folder, rank = sys.argv[1:]
faulthandler.register(signal.SIGUSR1, file=open(f"{folder}/stacks-{os.getpid()}.txt", "w"), all_threads=True)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
def stands_here():
    open(f"{folder}/ready-{rank}", "w").write("ready\\n")
    time.sleep(600)
stands_here()
"""


def hangs(folder: Path, *, phase: str = "train") -> Path:
    """A trainer of two ranks, beside them a process that SIGUSR1 would end."""
    (folder / "rank.py").write_text(RANK, encoding="utf-8")
    rank = f'setsid "{sys.executable}" -S "{folder}/rank.py" "$4"'
    ready = 'while [ ! -s "$4/ready-0" ] || [ ! -s "$4/ready-1" ]; do sleep 0.02; done'
    beat = f"""printf '{{"done": 3, "total": 9, "message": "", "phase": "{phase}"}}' > "$4/progress.json" """
    return program(folder, f'sleep 600 & {rank} 0 & {rank} 1 & {ready}; {beat}; echo up > "$4/up"; wait')


async def test_a_hung_run_is_ended_with_the_stacks_of_every_rank(app: App, workspace: Path):
    run = await start(app, hangs(workspace), stall_minutes=2 / 60, grace_seconds=1.0)
    state = await runs.wait(app, run, seconds=60)
    assert isinstance(state, states.Failed)
    assert state.reason == "hung"
    assert "after step 3" in state.detail
    hung = next(row for row in events(run) if row["event"] == "hung")
    assert len(hung["stacks"]) == 2
    for name in hung["stacks"]:
        assert "stands_here" in (run.attempt(1).root / name).read_text(encoding="utf-8")
    assert [row["event"] for row in events(run)][-3:] == ["hung", "stopping", "ended"]
    assert "stacks-*.txt" in (await run_view.get(app, run.id)).next_step


async def test_only_training_steps_can_hang(app: App, workspace: Path):
    run = await start(app, hangs(workspace, phase="evaluate"), stall_minutes=1 / 60, max_hours=6 / 3600)
    state = await runs.wait(app, run, seconds=60)
    assert isinstance(state, states.Failed)
    assert state.reason == "timeout"
    assert "hung" not in [row["event"] for row in events(run)]


def test_how_long_is_too_long_follows_the_usual_step():
    beat = watching.Heartbeat(step=1, phase="train", step_seconds=None)
    limits = watching.Limits(deadline=None, total=float("inf"), grace=1.0, stall=None)
    assert watching.hang_limit(beat, limits) == watching.FIRST_STEP_SECONDS
    beat.step_seconds = 2.0
    assert watching.hang_limit(beat, limits) == 600.0
    beat.step_seconds = 120.0
    assert watching.hang_limit(beat, limits) == 2400.0
    beat.phase = "save"
    assert watching.hang_limit(beat, limits) is None


def test_the_time_before_the_deadline_is_that_of_two_steps_and_two_saves():
    beat = watching.Heartbeat()
    assert watching.lead(beat, total=7200.0) == 60.0
    assert watching.lead(beat, total=40.0) == 10.0
    beat.step_seconds, beat.save_seconds = 4.0, 30.0
    assert watching.lead(beat, total=7200.0) == 8.0 + 60.0 + 5.0


async def test_a_checkpoint_is_asked_for_before_the_deadline(app: App, workspace: Path):
    body = """trap 'printf "{\\"outcome\\": \\"stopped\\", \\"steps\\": 4}" > "$4/result.json"; exit 0' TERM
while :; do sleep 0.05; done"""
    run = await start(app, program(workspace, body), max_hours=8 / 3600)
    state = await runs.wait(app, run, seconds=60)
    assert isinstance(state, states.Failed)
    assert state.reason == "timeout"
    assert "with a checkpoint at step 4" in state.detail
    stopping = next(row for row in events(run) if row["event"] == "stopping")
    assert stopping["why"] == "deadline"
    # On the supervisor's own clock, which doesn't jump.
    running = next(row for row in events(run) if row["event"] == "running")
    assert stopping["t"] - running["t"] < 8.0
    assert "resume_run" in (await run_view.get(app, run.id)).next_step


@pytest.mark.parametrize(
    ("body", "reason", "says"),
    [
        (
            "echo 'torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB.'; kill -ABRT $$",
            "oom_gpu",
            "2 GiB",
        ),
        ("echo 'RuntimeError: NCCL error in: x.cpp:1, ncclSystemError'; exit 1", "communication", "ncclSystemError"),
        ("echo 'OSError: [Errno 28] No space left on device'; exit 1", "disk_full", "No space left"),
        ('echo "DefaultCPUAllocator: can\'t allocate memory"; exit 1', "oom_host", "DefaultCPUAllocator"),
        ("echo 'CUDA out of memory'; echo 'ncclSystemError'; exit 1", "communication", "ncclSystemError"),
        ("echo fine; exit 3", "unknown", "exit status 3"),
        ("kill -SEGV $$", "unknown", "SIGSEGV"),
        ("kill -9 $$", "unknown", "somebody sent it"),
        ("sh -c 'kill -9 $$'; exit $?", "unknown", "SIGKILL"),
    ],
)
async def test_a_trainer_that_dies_without_a_word_is_judged_by_what_it_left(
    app: App, workspace: Path, body: str, reason: str, says: str
):
    run = await start(app, program(workspace, body))
    state = await runs.wait(app, run, seconds=60)
    assert isinstance(state, states.Failed)
    assert (state.reason, says in state.detail) == (reason, True), state.detail


@pytest.mark.parametrize("reason", ["bad_data", "unknown"])
async def test_words_of_the_log_mean_nothing_where_the_trainer_said_why(app: App, workspace: Path, reason: str):
    body = f"""echo 'CUDA out of memory'
printf '{{"outcome": "failed", "reason": "{reason}", "detail": "row 3"}}' > "$4/result.json"; exit 1"""
    run = await start(app, program(workspace, body))
    assert await runs.wait(app, run, seconds=60) == states.Failed(reason=reason, detail="row 3")  # pyright: ignore[reportArgumentType]


def edit_host(app: App, more: str) -> None:
    """Add to `executors/host.py`, the one seam to the machine, of the copy that supervisors run from."""
    path = snapshot(app.home) / SNAPSHOT_PACKAGE / "executors" / "host.py"
    path.write_text(path.read_text(encoding="utf-8") + more, encoding="utf-8")


async def test_a_kill_that_the_kernel_counts_as_one_for_memory_is_called_so(app: App, workspace: Path):
    edit_host(app, f"\n\ndef _cgroup_kills():\n    return int(Path({str(workspace / 'killed')!r}).exists())\n")
    run = await start(app, program(workspace, f'touch "{workspace}/killed"; kill -9 $$'))
    state = await runs.wait(app, run, seconds=60)
    assert isinstance(state, states.Failed)
    assert state.reason == "oom_host"
    assert "rose from 0 to 1 (memory cgroup)" in state.detail


def test_the_kernels_counters_read_as_numbers(tmp_path: Path):
    before = host.memory_kills()
    assert before.machine is None or before.machine >= 0
    assert host.say_memory_kills(before, before) is None
    told = host.say_memory_kills(host.MemoryKills(None, 4), host.MemoryKills(None, 6))
    assert told is not None
    assert "from 4 to 6 (machine)" in told


async def test_a_disk_without_room_is_told_by_its_free_bytes(
    app: App, workspace: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    run = await start(app, program(workspace, "exit 3"))
    await runs.wait(app, run, seconds=60)
    monkeypatch.setattr(judging, "_FULL", float("inf"))
    outcome = judging.judge(run.attempt(1).root, 3, quiet_watch(run), max_hours=None)
    assert outcome["failed"] == "disk_full"


def quiet_watch(run: RunPaths) -> watching.Watch:
    """A watch that did nothing."""
    limits = watching.Limits(deadline=None, total=float("inf"), grace=1.0, stall=None)
    return watching.Watch(
        None,  # pyright: ignore[reportArgumentType]
        run.attempt(1).root,
        limits,
        asked_to_stop=lambda: None,
        event=lambda *_, **__: None,
        rest=lambda *_: None,
    )


async def test_a_supervisor_that_stood_still_calls_nothing_hung(app: App, workspace: Path):
    # The machine slept for an hour between two looks: the clock went on, the trainer couldn't.
    sleeps = f"""

_slept = None


def monotonic():
    global _slept
    if _slept is None and Path({str(workspace / "sleep")!r}).exists():
        _slept = 3600.0
        Path({str(workspace / "slept")!r}).write_text("yes\\n")
    return records.clock() + (_slept or 0.0)
"""
    edit_host(app, sleeps)
    beat = """printf '{"done": 3, "total": 9, "message": "", "phase": "train"}' > "$4/progress.json" """
    body = f'{beat}; echo up > "$4/up"; while [ ! -e "{workspace}/go" ]; do sleep 0.05; done; {SUCCEEDS}'
    run = await start(app, program(workspace, body), stall_minutes=30.0)
    await until_file(run.attempt(1).root / "up")
    (workspace / "sleep").touch()
    await until_file(workspace / "slept")
    (workspace / "go").touch()
    assert (await runs.wait(app, run, seconds=60)).status == "succeeded"
    assert records.read_json(run.exit_json) is not None
