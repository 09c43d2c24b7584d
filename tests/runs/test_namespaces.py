"""Runs in a container, as far as a pid namespace is one: they end with it, and that is said beforehand."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest
from programs import SUCCEEDS, WAITS, program, until, until_dead, until_status, worker

from model_trainer.executors import host, local, states, sweeping
from model_trainer.services.app import App
from model_trainer.services.runs import launching
from model_trainer.services.runs import life as runs
from model_trainer.services.runs import view as run_view

pytestmark = pytest.mark.anyio

UNSHARE = ["unshare", *(() if os.getuid() == 0 else ("-Ur",)), "--pid", "--fork", "--mount-proc"]

WARNING = "this server runs in a container: a run ends when the container does"


@contextmanager
def namespace(*command: str) -> Generator[subprocess.Popen[bytes]]:
    """A command and then nothing, in a pid namespace of which a shell is the first process; `unshare` is outside."""
    allowed = subprocess.run([*UNSHARE, "true"], capture_output=True, text=True, check=False)
    if allowed.returncode != 0:
        pytest.skip(f"no pid namespace here: {allowed.stderr.strip()}")
    script = ["sh", "-c", '"$@"; exec sleep 600', "sh", *command]
    with subprocess.Popen([*UNSHARE, *script], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as outside:
        try:
            yield outside
        finally:
            kill_first(outside)


def kill_first(outside: subprocess.Popen[bytes]) -> None:
    """Kill the first process of the namespace, as stopping a container does: the kernel kills all others."""
    if outside.poll() is None:
        children = Path(f"/proc/{outside.pid}/task/{outside.pid}/children").read_text(encoding="ascii").split()
        for child in children:
            os.kill(int(child), signal.SIGKILL)
        outside.wait()


def line_of(outside: subprocess.Popen[bytes]) -> str:
    assert outside.stdout is not None
    return outside.stdout.readline().decode().strip()


async def test_a_run_ends_with_its_container_and_reads_as_lost_from_outside(app: App, workspace: Path):
    python = program(workspace, WAITS % workspace)
    with namespace(*worker("many", str(python), "1")) as outside:
        run = app.home.run(line_of(outside))
        await until(run, "running")
        assert states.read_state(run) == states.Running()
        seen = [pid for pid, _ in sweeping.marked(run.id)]
        assert seen
        # Its history names the supervisor by the container's numbers: nobody out here is meant by them.
        assert not local.request_stop(run)
        kill_first(outside)
        for pid in seen:
            await until_dead(pid)
    assert await until_status(run, "lost") == states.Lost(reason="supervisor_killed")
    assert (await run_view.get(app, run.id)).state == states.Lost(reason="supervisor_killed")
    assert run.exit_json.exists()


async def test_a_launch_in_a_container_warns_that_the_run_ends_with_it(app: App, shell_config: Path, workspace: Path):
    (workspace / "train.sh").write_text(SUCCEEDS, encoding="utf-8")
    with namespace(*worker("warned", str(shell_config))) as outside:
        run_id, _, warning = line_of(outside).partition(" ")
        assert warning.startswith(WARNING)
        assert (await runs.wait(app, app.home.run(run_id), seconds=60)).status == "succeeded"
    if host.in_container():
        pytest.skip("these tests run in a container themselves")
    outside_of_it = await launching.launch(app, str(shell_config), again=True, key=None)
    assert outside_of_it.warnings == []
    assert (await runs.wait(app, app.home.run(outside_of_it.run_id), seconds=60)).status == "succeeded"
