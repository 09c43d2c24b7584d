"""A training of several processes, by the real torchrun, whose workers have sessions of their own."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import anyio
import pytest
from programs import SUCCEEDS, program, start, supervisor_of, until, until_file, until_status

from model_trainer.executors import host, states, sweeping
from model_trainer.executors.paths import RunPaths
from model_trainer.executors.queueing import Pool
from model_trainer.services.app import App
from model_trainer.services.runs import life as runs
from model_trainer.trainer import records

pytestmark = pytest.mark.anyio

ONE = Pool("cpu", ("cpu-0",), 1)

WORKER = """import os, sys, time
from pathlib import Path
name = Path(sys.argv[1]) / f"worker-{os.environ['RANK']}"
name.write_text(f"{os.getpid()}\\n", encoding="utf-8")
time.sleep(600)
"""


async def torchrun_of(app: App, workspace: Path) -> tuple[RunPaths, int, list[int]]:
    """A run of two workers, the pid of torchrun and theirs."""
    (workspace / "worker.py").write_text(WORKER, encoding="utf-8")
    command = f'"{sys.executable}" -m torch.distributed.run --nproc_per_node 2 --standalone "{workspace}/worker.py"'
    run = await start(app, program(workspace, f'exec {command} "$4"', "torchrun"), pool=ONE)
    workers = [int(await until_file(run.attempt(1).root / f"worker-{rank}")) for rank in (0, 1)]
    torchrun = (await until(run, "running"))["pid"]
    # What makes them hard to find: neither in torchrun's group nor in its session.
    assert not {os.getsid(worker) for worker in workers} & {os.getsid(torchrun)}
    return run, torchrun, workers


async def test_after_torchrun_is_killed_no_worker_is_left_when_the_run_has_failed(app: App, workspace: Path):
    run, torchrun, workers = await torchrun_of(app, workspace)
    os.kill(torchrun, signal.SIGKILL)
    with anyio.fail_after(60):
        while not run.exit_json.exists():
            await anyio.sleep(0.005)
    assert [host.identify(worker) for worker in workers] == [None, None]
    state = await runs.wait(app, run, seconds=60)
    assert isinstance(state, states.Failed)
    assert "SIGKILL" in state.detail
    assert not records.is_locked(app.home.locks / "leases" / "cpu-0")


async def test_no_slot_of_a_killed_supervisor_is_given_on_before_every_worker_is_dead(app: App, workspace: Path):
    run, torchrun, workers = await torchrun_of(app, workspace)
    alive = " || ".join(f"grep -q worker.py /proc/{pid}/cmdline" for pid in (torchrun, *workers))
    queued = await start(app, program(workspace, f"if {alive}; then exit 1; fi; {SUCCEEDS}", "next"), pool=ONE)
    await until_status(queued, "queued")
    os.kill(supervisor_of(run), signal.SIGKILL)
    assert (await runs.wait(app, queued, seconds=60)).status == "succeeded"
    assert [host.identify(pid) for pid in (torchrun, *workers)] == [None, None, None]
    assert list(sweeping.marked(run.id)) == []
    assert await until_status(run, "lost") == states.Lost(reason="supervisor_killed")
