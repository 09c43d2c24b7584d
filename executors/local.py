"""Start a run on this machine: its folder built hidden and renamed in, its supervisor detached and heard of.

Crash contract: until the rename nothing of the run is visible; after it the folder is complete. If the supervisor
doesn't say that it is ready, the run gets a terminal record here (`launch_failed`): no run is left half-born.
"""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..trainer import records
from ..trainer.contract import SNAPSHOT_PACKAGE
from . import history, host, locking, sweeping
from .errors import RunError
from .paths import Home, RunPaths
from .snapshot import for_run, snapshot

#: Seconds until a supervisor that says nothing counts as failed; it needs 0.1 on an idle machine.
READY_SECONDS = 20.0


@dataclass(frozen=True)
class Created:
    """A run whose folder stands and whose supervisor is yet to be started by who holds `lock`."""

    run: RunPaths
    lock: int


def launch(
    home: Home,
    run_id: str,
    *,
    asked: Mapping[str, Any],
    config: str | None,
    environment: Mapping[str, str],
) -> RunPaths:
    """Build the run's folder and start its supervisor; returns once it holds the run.

    Blocking for about 0.1 s: call it from a worker thread. `asked` becomes run.json; its `argv` is the trainer's
    command, to which the attempt's folder is appended.

    Raises:
        RunError: the supervisor didn't come up (`launch_failed`); the run's record says so too.
    """
    return start_supervisor(create(home, run_id, asked=asked, config=config), environment)


def create(home: Home, run_id: str, *, asked: Mapping[str, Any], config: str | None) -> Created:
    """Build the run's folder and make it visible; `start_supervisor` must follow at once.

    Dying in between leaves a run that reads as lost.

    Raises:
        RunError: the folder can't be written (`launch_failed`); nothing is left of it.
    """
    run = home.new_run(run_id)
    # Held before there is a folder: a run without a held lock and without a record reads as lost, and a hidden folder
    # without one is a dead launcher's, which the janitor may remove.
    lock = _hold(run.lock)
    hidden = home.runs / f".{run_id}"
    try:
        pool: dict[str, Any] = asked.get("pool") or {}
        gpus = pool.get("name") == "gpu"
        for_run(snapshot(home), hidden / "code", gpus=gpus)
        (hidden / "attempts").mkdir(mode=0o700)
        if config is not None:
            (hidden / "config.yaml").write_text(config, encoding="utf-8")
        records.write_json(hidden / "run.json", dict(asked))
        hidden.chmod(0o700)
        hidden.rename(run.root)
        records.sync_folder(home.runs)
    except BaseException as error:
        shutil.rmtree(hidden, ignore_errors=True)
        run.lock.unlink(missing_ok=True)
        os.close(lock)
        if isinstance(error, OSError):
            raise RunError(
                "launch_failed",
                f"The run's folder can't be made in {home.runs}: {_why(error)}. Nothing was started.",
                next_step="Free disk space (`model-trainer runs prune` shows what old runs hold), or have the human "
                "set runs_dir in settings.toml; then call this again.",
            ) from error
        raise
    return Created(run, lock)


def _why(error: OSError) -> str:
    """In a few words; shutil.Error names every file that it could not copy."""
    if isinstance(error, shutil.Error):
        failed: list[tuple[str, str, str]] = error.args[0]
        return str(failed[0][2])[:200]
    return error.strerror or str(error)[:200]


def start_supervisor(created: Created, environment: Mapping[str, str]) -> RunPaths:
    """Start the supervisor of a run that `create` made; returns once it holds the run.

    Raises:
        RunError: it didn't come up (`launch_failed`); the run's record says so too.
    """
    try:
        _start_supervisor(created.run, dict(environment), created.lock)
    finally:
        os.close(created.lock)
    return created.run


def restart(home: Home, run: RunPaths, environment: Mapping[str, str]) -> bool:
    """Give a run that waits for it after a restart of the machine its next supervisor; False if it waits for none.

    Of servers that start together one does it: the run's lock is taken under the sweepers' lock, and inherited.

    Raises:
        BlockingIOError: another process sweeps just now.
        RunError: the supervisor didn't come up (`launch_failed`); the run's record says so too.
    """
    with locking.holding(home.locks / "sweep.lock"):
        if run.exit_json.exists() or not run.lock.exists() or records.is_locked(run.lock):
            return False
        events, _ = records.read_lines(run.events)
        if history.waits_for_restart(run.root, events) is None or not sweeping.kill_marked(run.id):
            return False
        lock = _hold(run.lock)
    start_supervisor(Created(run, lock), environment)
    return True


def request_stop(run: RunPaths) -> bool:
    """Ask a living run's supervisor to stop it; False if there is none to ask.

    The signal goes through a pidfd and only to the very process that the run's history names: a pid is reused, the
    pair of pid and start time within one boot is not. Supervisors of version 0.1 are asked by SIGTERM.
    """
    events, _ = records.read_lines(run.events)
    announced = next((row for row in reversed(events) if "supervisor" in row), None)
    if announced is None or not records.is_locked(run.lock):
        return False
    named, number = announced["supervisor"], announced.get("stop_signal", int(signal.SIGTERM))
    identity = host.ProcessIdentity(pid=named["pid"], start_ticks=named["start"], boot=named["boot"])
    try:
        descriptor = os.pidfd_open(identity.pid)
    except ProcessLookupError:
        return False
    try:
        # Checked after the pidfd is open: from here on it can't mean another process.
        if not host.is_alive(identity):
            return False
        signal.pidfd_send_signal(descriptor, number)
    except ProcessLookupError:
        return False
    finally:
        os.close(descriptor)
    return True


def _hold(path: Path) -> int:
    """Open and lock the run's lock file; the descriptor is passed on to the supervisor, which keeps the lock."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    records.try_lock(descriptor)
    return descriptor


def _start_supervisor(run: RunPaths, environment: dict[str, str], lock: int) -> None:
    ready, answer = os.pipe()
    environment["PYTHONPATH"] = str(run.code)
    # -S: the supervisor is standard library only, and must not depend on what else is installed, or vanishes.
    module = f"{SNAPSHOT_PACKAGE}.executors.supervisor"
    command = [sys.executable, "-S", "-P", "-m", module, str(run.root), str(run.lock.parent), str(lock), str(answer)]
    starter: subprocess.Popen[bytes] | None = None
    try:
        try:
            with open(run.root / "supervisor.log", "ab") as log:
                starter = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    cwd=run.root,
                    env=environment,
                    pass_fds=(answer, lock),
                    start_new_session=True,
                )
        finally:
            os.close(answer)
        said = _hear(ready)
        starter.wait(timeout=READY_SECONDS)
    except subprocess.TimeoutExpired:
        said = {"error": f"no answer within {READY_SECONDS:.0f} s"}
    except (OSError, subprocess.SubprocessError) as error:
        said = {"error": str(error)}
    finally:
        os.close(ready)
    if "pid" not in said:
        if starter is not None:
            # One that is only slow must not begin a run that we are about to call failed.
            with suppress(ProcessLookupError):
                os.killpg(starter.pid, signal.SIGKILL)
            starter.wait()
        detail = f"the supervisor did not start: {said.get('error') or _last_words(run)}"
        outcome = {"failed": "launch_failed", "detail": detail}
        records.write_json(
            run.exit_json, {"outcome": outcome, "exit_code": None, "attempt": 0, "at": host.now(), "seconds": 0.0}
        )
        step = f"`model-trainer doctor` checks this machine; {run.root}/supervisor.log has all that it said."
        raise RunError("launch_failed", f"Run {run.id}: {detail}.", next_step=step)


def _last_words(run: RunPaths) -> str:
    """The last line that a supervisor wrote which gave no answer."""
    try:
        lines = (run.root / "supervisor.log").read_text(encoding="utf-8", errors="replace").split("\n")
    except OSError:
        lines = []
    return next((line.strip()[:200] for line in reversed(lines) if line.strip()), "no answer")


def _hear(ready: int) -> dict[str, Any]:
    """The supervisor's first words; empty if it dies or stays silent."""
    readable, _, _ = select.select([ready], [], [], READY_SECONDS)
    data = os.read(ready, 4096) if readable else b""
    try:
        return json.loads(data) if data else {}
    except ValueError:
        return {}
