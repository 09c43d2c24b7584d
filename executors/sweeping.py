"""Clean up behind a supervisor that was killed: its processes end, and `lost` is recorded. Standard library only.

A supervisor's own child dies with it, but what that child started may live on, holding a GPU. Every process of a run
carries `MODEL_TRAINER_RUN=<id>` in the environment that it was started with, which the kernel keeps; one that
wiped it is out of our reach. A run is swept only when its lock file is here and free: then its supervisor is dead for
good, because the lock is only ever inherited, never taken again. Sweepers keep out of each other's way by a lock of
their own; the run's lock they only probe, so that a lost run never looks alive.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import time
from pathlib import Path
from typing import Any

from ..trainer import records
from . import host, locking

#: Names the run in the environment of each of its processes.
MARK = "MODEL_TRAINER_RUN"

#: Seconds for killed processes to be gone; one in the kernel's hands (a hanging disk) may take for ever.
KILL_SECONDS = 10.0


def sweep(run: Path, locks: Path) -> bool:
    """End what a dead supervisor left of `run`, and record it as lost; True if nothing of it is left running.

    A living run is left alone (False), so is one whose lock is not of this machine. The folder may be gone.
    """
    lock = locks / f"{run.name}.lock"
    if not lock.exists() or records.is_locked(lock):
        return False
    with contextlib.suppress(BlockingIOError), locking.holding(locks / "sweep.lock"):
        clean = kill_marked(run.name)
        if clean and run.is_dir() and not (run / "exit.json").exists():
            _record(run)
        return clean
    return False


def kill_marked(run_id: str, seconds: float = KILL_SECONDS) -> bool:
    """Kill every process of a run until none is found; False if some are still there after `seconds`."""
    mark = f"{MARK}={run_id}".encode()
    give_up = host.monotonic() + seconds
    while _kill_once(mark):
        if host.monotonic() > give_up:
            return False
        time.sleep(0.02)
    return True


def lost_reason(events: list[dict[str, Any]]) -> str:
    """Why a run without a terminal record and without a supervisor ended: the machine restarted, or only that died."""
    boots = [row["supervisor"]["boot"] for row in events if "supervisor" in row]
    return "reboot" if boots and boots[-1] != host.boot_id() else "supervisor_killed"


def tidy(runs: Path, locks: Path) -> None:
    """Remove the hidden folders of launchers that died while they built a run."""
    for hidden in runs.glob(".*"):
        lock = locks / f"{hidden.name[1:]}.lock"
        # The launcher holds the run's lock before the folder exists: free means that it is dead.
        if lock.exists() and not records.is_locked(lock):
            shutil.rmtree(hidden, ignore_errors=True)


def _record(run: Path) -> None:
    events, _ = records.read_lines(run / "events.jsonl")
    attempts = [row["attempt"] for row in events if "attempt" in row]
    record = {
        "outcome": {"lost": lost_reason(events)},
        "exit_code": None,
        "attempt": attempts[-1] if attempts else 0,
        "at": host.now(),
        # When it died is not known; this is how long it certainly lived.
        "seconds": events[-1].get("t", 0.0) if events else 0.0,
    }
    # On a full disk it stays what it is without a record: lost, derived anew by each reader.
    with contextlib.suppress(OSError):
        records.write_json(run / "exit.json", record)


def _kill_once(mark: bytes) -> bool:
    """Kill the processes that carry `mark`; whether there were any."""
    found = False
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
                signal.pidfd_send_signal(process, signal.SIGKILL)
                found = True
        except OSError:
            # Somebody else's, or gone meanwhile.
            continue
        finally:
            os.close(process)
    return found
