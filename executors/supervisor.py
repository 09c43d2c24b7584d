"""One run's supervisor: detached, outlives every server, the only writer of the run's state while it lives.

`python -m trainer_snapshot.executors.supervisor RUN_FOLDER LOCK_FD READY_FD`, standard library only, run from the
snapshot in the run's own `code/` with everything imported at start.

Crash contract. It inherits the open-file-description lock of the run and holds it for life, so readers can tell a
living run from a lost one without trusting a pid. Its child dies with it (PR_SET_PDEATHSIG), and whatever the child
leaves behind is adopted (PR_SET_CHILD_SUBREAPER) and killed before the terminal record is written. `exit.json` is
written once, last, atomically: with it the run is over, without it and with the lock free the run is lost.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..trainer import records
from . import host

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36

#: Seconds that a stopped child has to save a checkpoint before it is killed, unless run.json says otherwise.
DEFAULT_GRACE = 120.0


def _prctl(option: int, value: int) -> None:
    """Linux process control; elsewhere nothing happens and the guarantees are weaker."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


class Supervisor:
    """The life of one run."""

    def __init__(self, run: Path) -> None:
        self.run = run
        self.asked: dict[str, Any] = records.read_json(run / "run.json") or {}
        self.attempt = 1
        self.stop_requested = False
        self.deadline_passed = False
        self._started = host.monotonic()

    def event(self, kind: str, **details: Any) -> None:
        """Append to the run's history."""
        seconds = round(host.monotonic() - self._started, 3)
        records.append_line(self.run / "events.jsonl", {"at": host.now(), "t": seconds, "event": kind, **details})

    def supervise(self) -> None:
        """Start the trainer, wait for it, clean up, write the terminal record."""
        folder = self.run / "attempts" / str(self.attempt)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        config = self.run / "config.yaml"
        if config.exists():
            shutil.copyfile(config, folder / "config.yaml")
        me = host.current()
        self.event(
            "starting", attempt=self.attempt, supervisor={"pid": me.pid, "start": me.start_ticks, "boot": me.boot}
        )
        try:
            child = self._start(folder)
        except OSError as error:
            self._finish({"failed": "launch_failed", "detail": f"{self.asked['argv'][0]}: {error.strerror}"}, None)
            return
        self.event("running", attempt=self.attempt, pid=child.pid)
        code = self._wait(child)
        self._sweep()
        ended = {"code": code if code >= 0 else None, "signal": -code if code < 0 else None, "at": host.now()}
        records.write_json(folder / "exit.json", ended)
        self._finish(self._judge(folder, code), code)

    def _start(self, folder: Path) -> subprocess.Popen[bytes]:
        work = self.run / "work"
        work.mkdir(mode=0o700, exist_ok=True)
        parent = os.getpid()
        # Looked up here: between fork and exec only what is already loaded is safe.
        libc = ctypes.CDLL(None, use_errno=True)

        def tie_to_parent() -> None:
            with contextlib.suppress(AttributeError):
                libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
            if os.getppid() != parent:
                os._exit(1)

        with open(folder / "train.log", "ab") as log:
            return subprocess.Popen(
                [*self.asked["argv"], str(folder)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=work,
                env={**os.environ, "MODEL_TRAINER_RUN": self.run.name},
                start_new_session=True,
                preexec_fn=tie_to_parent,  # noqa: PLW1509  this process has one thread
            )

    def _wait(self, child: subprocess.Popen[bytes]) -> int:
        """The child's exit status, after TERM on request or at the deadline, and KILL after the grace."""
        hours = self.asked.get("max_hours")
        deadline = self._started + hours * 3600 if hours else None
        grace: float = self.asked.get("grace_seconds", DEFAULT_GRACE)
        kill_at: float | None = None
        while True:
            now = host.monotonic()
            if kill_at is None and deadline is not None and now >= deadline:
                self.deadline_passed = True
            if kill_at is None and (self.stop_requested or self.deadline_passed):
                self.event("stopping", why="deadline" if self.deadline_passed else "request", grace_seconds=grace)
                _signal(child.pid, signal.SIGTERM)
                kill_at = now + grace
            if kill_at is not None and now >= kill_at:
                self.event("killing")
                _signal(child.pid, signal.SIGKILL)
                kill_at = now + grace
            with contextlib.suppress(subprocess.TimeoutExpired, InterruptedError):
                # Short waits: a signal handler can't end a wait in Python, it restarts it.
                return child.wait(timeout=0.25)

    def _sweep(self) -> None:
        """Kill every descendant that the child left behind, and reap them."""
        while True:
            orphans = _children_of(os.getpid())
            if not orphans:
                return
            for pid in orphans:
                _signal(pid, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
            time.sleep(0.01)

    def _judge(self, folder: Path, code: int) -> dict[str, Any]:
        """The outcome: success needs exit 0, the trainer's own word, and a validated output."""
        try:
            result = records.read_json(folder / "result.json") or {}
        except ValueError:
            result = {}
        said = result.get("outcome")
        if code == 0 and said == "succeeded":
            return {"succeeded": result.get("ended_by", "planned_end")}
        if self.deadline_passed:
            return {"failed": "timeout", "detail": f"max_hours {self.asked.get('max_hours')} passed"}
        if self.stop_requested:
            return {"cancelled": "request"}
        if said == "failed":
            return {"failed": result.get("reason", "unknown"), "detail": result.get("detail", "")}
        if code == 0:
            return {"failed": "incomplete", "detail": "the trainer exited 0 without saying that it reached the end"}
        what = f"signal {-code} ({signal.Signals(-code).name})" if code < 0 else f"exit status {code}"
        return {"failed": "unknown", "detail": f"the trainer ended with {what} and left no result"}

    def _finish(self, outcome: dict[str, Any], code: int | None) -> None:
        record = {
            "outcome": outcome,
            "exit_code": code,
            "attempt": self.attempt,
            "at": host.now(),
            "seconds": round(host.monotonic() - self._started, 3),
        }
        self.event("ended", **outcome)
        records.write_json(self.run / "exit.json", record)


def _signal(pid: int, number: int) -> None:
    """Signal a child of ours that hasn't been reaped (its pid can't have been reused)."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _children_of(pid: int) -> list[int]:
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        return [int(word) for task in tasks for word in (task / "children").read_text(encoding="ascii").split()]
    except OSError:
        return []


def _detach() -> None:
    """Leave the launcher: a second fork, so that nobody waits for us and no terminal is ours."""
    if os.fork():
        os._exit(0)
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def _say(ready: int, message: dict[str, Any]) -> None:
    """Answer the launcher, which may be gone."""
    with contextlib.suppress(OSError):
        os.write(ready, json.dumps(message).encode())
    with contextlib.suppress(OSError):
        os.close(ready)


def main(arguments: list[str]) -> None:
    """Supervise one run to its end."""
    run, lock, ready = Path(arguments[0]), int(arguments[1]), int(arguments[2])
    _detach()
    # Ours for life, and not the child's: a lock that the trainer's orphans share would outlive us.
    os.set_inheritable(lock, False)
    os.set_inheritable(ready, False)
    supervisor = Supervisor(run)

    def request_stop(_number: int, _frame: object) -> None:
        supervisor.stop_requested = True

    on_stop: Callable[[int, object], None] = request_stop
    signal.signal(signal.SIGTERM, on_stop)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    _say(ready, {"pid": os.getpid()})
    supervisor.supervise()


if __name__ == "__main__":
    main(sys.argv[1:])
