"""Clean up behind a supervisor that was killed: its processes end, and `lost` is recorded. Standard library only.

A supervisor's own child dies with it, but what that child started may live on, holding a GPU. Every process of a run
carries `MODEL_TRAINER_RUN=<id>` in the environment that it was started with, which the kernel keeps; one that
wiped it is out of our reach. A run is swept only when its lock file is here and free: then its supervisor is dead.
The lock is only ever inherited, and taken again only for a run that waits for its next supervisor, under the sweepers'
lock (`local.restart`). The run's own lock sweepers only probe, so that a lost run never looks alive.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..trainer import records
from . import history, host, locking

#: Names the run in the environment of each of its processes.
MARK = "MODEL_TRAINER_RUN"

#: Seconds for killed processes to be gone; one in the kernel's hands (a hanging disk) may take for ever.
KILL_SECONDS = 10.0


def sweep(run: Path, locks: Path) -> bool:
    """End what a dead supervisor left of `run`, and record it as lost; True if nothing of it is left running.

    A living run is left alone (False), so is one whose lock is not of this machine. One that waits for its next
    supervisor after a restart of the machine is not lost: only what is left of it ends. The folder may be gone.
    """
    lock = locks / f"{run.name}.lock"
    if not lock.exists():
        return False
    with contextlib.suppress(BlockingIOError), locking.holding(locks / "sweep.lock"):
        # Asked under the lock: meanwhile the run may have got its next supervisor.
        if records.is_locked(lock):
            return False
        clean = kill_marked(run.name)
        if clean and run.is_dir() and not (run / "exit.json").exists():
            events, _ = records.read_lines(run / "events.jsonl")
            if history.waits_for_restart(run, events) is None and not _is_newer(run):
                _record(run, events)
        return clean
    return False


def kill_marked(run_id: str, seconds: float = KILL_SECONDS) -> bool:
    """Kill every process of a run until none is found; False if some are still there after `seconds`."""
    give_up = host.monotonic() + seconds
    while True:
        found = False
        for _, process in marked(run_id):
            found = True
            with contextlib.suppress(OSError):
                signal.pidfd_send_signal(process, signal.SIGKILL)
        if not found:
            return True
        if host.monotonic() > give_up:
            return False
        time.sleep(0.02)


def _is_newer(run: Path) -> bool:
    try:
        return history.is_newer(records.read_json(run / "run.json") or {})
    except ValueError:
        return False


def tidy(runs: Path, locks: Path) -> None:
    """Remove the hidden folders of launchers that died while they built a run."""
    for hidden in runs.glob(".*"):
        lock = locks / f"{hidden.name[1:]}.lock"
        # The launcher holds the run's lock before the folder exists: free means that it is dead.
        if lock.exists() and not records.is_locked(lock):
            shutil.rmtree(hidden, ignore_errors=True)
            if not hidden.exists():
                lock.unlink(missing_ok=True)


def _record(run: Path, events: list[dict[str, Any]]) -> None:
    attempts = [row["attempt"] for row in events if "attempt" in row]
    record = {
        "outcome": {"lost": history.lost_reason(events)},
        "exit_code": None,
        "attempt": attempts[-1] if attempts else 0,
        "at": host.now(),
        # When it died is not known; this is how long it certainly lived.
        "seconds": events[-1].get("t", 0.0) if events else 0.0,
    }
    # On a full disk it stays what it is without a record: lost, derived anew by each reader.
    with contextlib.suppress(OSError):
        records.write_json(run / "exit.json", record)


def marked(run_id: str) -> Iterator[tuple[int, int]]:
    """Every other process of a run: its pid, and a pidfd that is open until the next one is asked for."""
    mark = f"{MARK}={run_id}".encode()
    for entry in Path("/proc").glob("[0-9]*"):
        pid = int(entry.name)
        if pid == os.getpid():
            continue
        try:
            # The descriptor first: once the mark is seen it can't mean another process of the same number.
            process = os.pidfd_open(pid)
        except OSError:
            continue
        try:
            if mark in (entry / "environ").read_bytes().split(b"\0"):
                yield pid, process
        except OSError:
            # Somebody else's, or gone meanwhile.
            continue
        finally:
            os.close(process)
