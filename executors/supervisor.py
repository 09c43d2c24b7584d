"""One run's supervisor: detached, outlives every server, the only writer of the run's state while it lives.

`python -m trainer_snapshot.executors.supervisor RUN_FOLDER LOCKS_FOLDER LOCK_FD READY_FD`, standard library only, run
from the snapshot in the run's own `code/` with everything imported at start. It waits for the run that this one comes
after, then for its turn and its leases (`queueing`), then starts the trainer.

Crash contract. It inherits the open-file-description lock of the run and holds it for life, so readers can tell a
living run from a lost one without trusting a pid. Its child dies with it (PR_SET_PDEATHSIG), and whatever the child
leaves behind is adopted (PR_SET_CHILD_SUBREAPER) and killed before the terminal record is written. `exit.json` is
written once, last, atomically: with it the run is over, without it and with the lock free the run is lost.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..trainer import records
from . import host, processes, queueing, sweeping

#: Seconds that a stopped child has to save a checkpoint before it is killed, unless run.json says otherwise.
DEFAULT_GRACE = 120.0

#: Seconds between two looks at the queue; at a trainer nobody has to look where the kernel has pidfds.
_QUEUE_SECONDS = 0.2
_LOOK_SECONDS = 5.0 if hasattr(os, "pidfd_open") else 0.25

#: Seconds in which killed descendants must be gone; one in the kernel's hands may take for ever.
_SWEEP_SECONDS = 30.0


class _StoppedError(Exception):
    """A stop was asked for before the trainer ran."""


class Supervisor:
    """The life of one run."""

    def __init__(self, run: Path, locks: Path) -> None:
        self.run = run
        self.locks = locks
        self.asked: dict[str, Any] = records.read_json(run / "run.json") or {}
        self.attempt = 1
        self.stop_requested = False
        self.deadline_passed = False
        self._started = host.monotonic()
        self._place: queueing.Place | None = None
        self._reserve = _Reserve(run / "exit.json")
        # A signal writes a byte here, so that every wait ends at once.
        self._woken, wake = os.pipe()
        for end in (self._woken, wake):
            os.set_blocking(end, False)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)

    def event(self, kind: str, **details: Any) -> None:
        """Append to the run's history."""
        seconds = round(host.monotonic() - self._started, 3)
        records.append_line(self.run / "events.jsonl", {"at": host.now(), "t": seconds, "event": kind, **details})

    def announce(self) -> None:
        """Say who supervises: from here on the run can be stopped."""
        me = host.current()
        named = {"pid": me.pid, "start": me.start_ticks, "boot": me.boot}
        self.event("starting", attempt=self.attempt, supervisor=named)

    def supervise(self) -> None:
        """Wait for the turn, start the trainer, wait for it, clean up, write the terminal record."""
        try:
            outcome, code = self._live()
        except _StoppedError:
            outcome, code = {"cancelled": "request"}, None
        except OSError as error:
            self._sweep()
            reason = "disk_full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "unknown"
            outcome, code = {"failed": reason, "detail": f"the supervisor could not go on: {error}"}, None
        if self._place is not None:
            self._place.close()
        self._finish(outcome, code)

    def _live(self) -> tuple[dict[str, Any], int | None]:
        """The outcome, and the trainer's exit status if it ran."""
        if (failed := self._wait_for_predecessor()) is not None:
            return {"failed": "dependency", "detail": failed}, None
        self._wait_for_turn()
        folder = self.run / "attempts" / str(self.attempt)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        config = self.run / "config.yaml"
        if config.exists():
            shutil.copyfile(config, folder / "config.yaml")
        if self.stop_requested:
            raise _StoppedError
        try:
            child = self._start(folder)
        except OSError as error:
            return {"failed": "launch_failed", "detail": f"{self.asked['argv'][0]}: {error.strerror}"}, None
        self.event("running", attempt=self.attempt, pid=child.pid)
        code = self._wait(child)
        self._sweep()
        ended = {"code": code if code >= 0 else None, "signal": -code if code < 0 else None, "at": host.now()}
        records.write_json(folder / "exit.json", ended)
        return self._judge(folder, code), code

    def _wait_for_predecessor(self) -> str | None:
        """Wait for the success of the run that this one comes after; what to say if it didn't succeed."""
        after: str | None = self.asked.get("after")
        if after is None:
            return None
        told = False
        while (ended := queueing.predecessor(self.run.parent / after, self.locks)) is None:
            if not told:
                self.event("queued", position=0, why=f"waits for run {after} to succeed")
                told = True
            self._pause(_QUEUE_SECONDS)
        return None if ended == "succeeded" else f"run {after}, which it waited for, ended as {ended}"

    def _wait_for_turn(self) -> None:
        """Wait in the queue of the run's pool and take its leases; a run without a pool has nothing to wait for."""
        if (pool := self.asked.get("pool")) is None:
            return
        self._place = queueing.Place(self.locks, queueing.Pool.from_record(pool), self.run, self._pause)
        told = None
        while (turn := self._place.look()) is not None:
            if turn != told:
                self.event("queued", position=turn.position, why=turn.why)
                told = turn
            self._pause(_QUEUE_SECONDS)
        self.event("leased", slots=self._place.taken)

    def _pause(self, seconds: float) -> None:
        """Wait, unless a stop is asked for.

        Raises:
            _StoppedError: it was.
        """
        if not self.stop_requested:
            self._rest(seconds)
        if self.stop_requested:
            raise _StoppedError

    def _rest(self, seconds: float, *until: int) -> None:
        """Wait until a signal comes, one of the descriptors is ready, or the time is over."""
        ready, _, _ = select.select([self._woken, *until], [], [], seconds)
        if self._woken in ready:
            with contextlib.suppress(BlockingIOError):
                os.read(self._woken, 512)

    def _start(self, folder: Path) -> subprocess.Popen[bytes]:
        leased = {} if self._place is None else self._place.pool.environment(self._place.taken)
        work = self.run / "work"
        work.mkdir(mode=0o700, exist_ok=True)
        with open(folder / "train.log", "ab") as log:
            return subprocess.Popen(
                [*self.asked["argv"], str(folder)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=work,
                env={**os.environ, **leased, sweeping.MARK: self.run.name},
                start_new_session=True,
                preexec_fn=processes.tied_to_us(),  # noqa: PLW1509  this process has one thread
            )

    def _wait(self, child: subprocess.Popen[bytes]) -> int:
        """The child's exit status, after TERM on request or at the deadline, and KILL after the grace."""
        hours: float | None = self.asked.get("max_hours")
        # From now on: the time in the queue is not the run's.
        deadline = host.monotonic() + hours * 3600 if hours else None
        grace: float = self.asked.get("grace_seconds") or DEFAULT_GRACE
        kill_at: float | None = None
        exits = [os.pidfd_open(child.pid)] if hasattr(os, "pidfd_open") else []
        try:
            while (code := child.poll()) is None:
                now = host.monotonic()
                if kill_at is None and deadline is not None and now >= deadline:
                    self.deadline_passed = True
                if kill_at is None and (self.stop_requested or self.deadline_passed):
                    self.event("stopping", why="deadline" if self.deadline_passed else "request", grace_seconds=grace)
                    processes.send(child.pid, signal.SIGTERM)
                    kill_at = now + grace
                elif kill_at is not None and now >= kill_at:
                    self.event("killing")
                    processes.send(child.pid, signal.SIGKILL)
                    kill_at = now + grace
                next_look = min(at for at in (kill_at or deadline, now + _LOOK_SECONDS) if at is not None)
                self._rest(max(0.0, next_look - now), *exits)
        finally:
            for descriptor in exits:
                os.close(descriptor)
        return code

    def _sweep(self) -> None:
        """Kill every descendant that the child left behind."""
        if left := processes.end_descendants(_SWEEP_SECONDS):
            self.event("unkillable", pids=left[:20])

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
        with contextlib.suppress(OSError):
            self.event("ended", **outcome)
        self._reserve.write(record)


class _Reserve:
    """Room for the terminal record, taken while there is some: a full disk must not keep a run from ending."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._reserved = path.with_name(".exit.json.reserved")
        with contextlib.suppress(OSError):
            self._reserved.write_bytes(b" " * 4096)

    def write(self, record: dict[str, Any]) -> None:
        """Write the record, once: into the reserved room, then renamed."""
        data = json.dumps(record, ensure_ascii=False).encode()
        with open(self._reserved, "r+b" if self._reserved.exists() else "wb") as file:
            file.write(data)
            file.truncate()
            file.flush()
            os.fsync(file.fileno())
        os.replace(self._reserved, self._path)
        records.sync_folder(self._path.parent)


def _say(ready: int, message: dict[str, Any]) -> None:
    """Answer the launcher, which may be gone."""
    with contextlib.suppress(OSError):
        os.write(ready, json.dumps(message).encode())
    with contextlib.suppress(OSError):
        os.close(ready)


def main(arguments: list[str]) -> None:
    """Supervise one run to its end."""
    run, locks, lock, ready = Path(arguments[0]), Path(arguments[1]), int(arguments[2]), int(arguments[3])
    # Before anything else: a stop must never meet a supervisor that it simply ends.
    supervisor = Supervisor(run, locks)

    def request_stop(_number: int, _frame: object) -> None:
        supervisor.stop_requested = True

    on_stop: Callable[[int, object], None] = request_stop
    signal.signal(signal.SIGTERM, on_stop)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    processes.detach()
    # Ours for life, and not the child's: a lock that the trainer's orphans share would outlive us.
    os.set_inheritable(lock, False)
    os.set_inheritable(ready, False)
    supervisor.announce()
    _say(ready, {"pid": os.getpid()})
    supervisor.supervise()


if __name__ == "__main__":
    main(sys.argv[1:])
