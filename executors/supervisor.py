"""One run's supervisor: detached, outlives every server, the only writer of the run's state while it lives.

`python -m trainer_snapshot.executors.supervisor RUN_FOLDER LOCKS_FOLDER LOCK_FD READY_FD`, standard library only, run
from the snapshot in the run's own `code/` with everything imported at start. It waits for the run that this one comes
after, then for its turn and its leases (`queueing`), then starts the trainer and waits for it (`watching`), says why
it ended (`judging`), and where the policy has an answer to that (`recovering`) begins another attempt.

Crash contract. It inherits the open-file-description lock of the run and holds it for life, so readers can tell a
living run from a lost one without trusting a pid. Its child dies with it (PR_SET_PDEATHSIG), and whatever the child
leaves behind is adopted (PR_SET_CHILD_SUBREAPER) and killed before the next attempt or the terminal record.
`exit.json` is written once, last, atomically: with it the run is over, without it and with the lock free the run is
lost, or, after a restart of the machine, waits for a server to start its next supervisor.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
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
from . import history, host, judging, processes, queueing, recovering, sweeping
from .watching import Heartbeat, Limits, Watch

#: Seconds that a stopped child has to save a checkpoint before it is killed, unless run.json says otherwise.
DEFAULT_GRACE = 120.0

#: What asks this supervisor to stop the run for the user. SIGTERM is for everybody else: a machine that shuts down, a
#: scheduler that preempts, and that isn't the user's wish.
STOP_SIGNAL = signal.SIGUSR1

#: Seconds between two looks at the queue.
_QUEUE_SECONDS = 0.2

#: Seconds in which killed descendants must be gone; one in the kernel's hands may take for ever.
_SWEEP_SECONDS = 30.0


class _StoppedError(Exception):
    """A stop was asked for before the trainer ran."""


class _InterruptedError(Exception):
    """The supervisor was sent SIGTERM while nothing of the run ran."""


class Supervisor:
    """The life of one run, or what is left of it after a restart of the machine."""

    def __init__(self, run: Path, locks: Path) -> None:
        self.run = run
        self.locks = locks
        self.asked: dict[str, Any] = records.read_json(run / "run.json") or {}
        self.policy: dict[str, Any] | None = self.asked.get("recovery")
        events, _ = records.read_lines(run / "events.jsonl")
        self.history = [row for row in events if row.get("event") == "recovering"]
        self.former = history.read(run, events)
        self.attempt = max(1, self.former.attempt)
        self.stop_requested = False
        self.terminated = False
        self._used = self.former.seconds
        self._started = host.monotonic()
        self._place: queueing.Place | None = None
        self._reserve = _Reserve(run / "exit.json")
        # A signal writes a byte here, so that every wait ends at once.
        self._woken, wake = os.pipe()
        for end in (self._woken, wake):
            os.set_blocking(end, False)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)

    def event(self, kind: str, **details: Any) -> None:
        """Append to the run's history; on a full disk the history has a gap, and the run goes on."""
        with contextlib.suppress(OSError):
            self._append(kind, **details)

    def announce(self) -> None:
        """Say who supervises: from here on the run can be stopped.

        Raises:
            OSError: it can't be written, and nobody could ever stop the run.
        """
        me = host.current()
        named = {"pid": me.pid, "start": me.start_ticks, "boot": me.boot}
        self._append(
            "starting", attempt=self.attempt, supervisor=named, stop_signal=int(STOP_SIGNAL), clock=host.monotonic()
        )

    def supervise(self) -> None:
        """Wait for the turn, train, recover what can be recovered, clean up, write the terminal record."""
        try:
            outcome, code = self._live()
        except _StoppedError:
            outcome, code = {"cancelled": "request"}, None
        except _InterruptedError:
            if (self.policy or {}).get("interrupted") == "resume":
                # No record: a server that starts brings it back to the queue.
                self._close_place()
                self.event("interrupted", why="the supervisor was sent SIGTERM while the run waited")
                return
            outcome, code = {"failed": "preempted", "detail": "SIGTERM from outside while the run waited"}, None
        except (OSError, ValueError) as error:
            # ValueError: a config that somebody changed has no numbers that could be changed (`with_training`).
            self._sweep()
            full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
            reason = "disk_full" if full else "unknown"
            outcome, code = {"failed": reason, "detail": f"the supervisor could not go on: {error}"}, None
        self._close_place()
        self._finish(outcome, code)

    def _live(self) -> tuple[dict[str, Any], int | None]:
        """The outcome, and the trainer's exit status if it ran."""
        if (failed := self._wait_for_predecessor()) is not None:
            return {"failed": "dependency", "detail": failed}, None
        if self.former.began:
            # The machine restarted, or this supervisor's predecessor would have recorded an end.
            failure = recovering.Failure(history.REBOOT, self.former.step)
            outcome = {"failed": failure.reason, "detail": "the machine restarted while it ran"}
            if not self._recovers(failure, outcome):
                return outcome, None
        self._wait_for_turn()
        while True:
            outcome, code, failure = self._try()
            if failure is None or not self._recovers(failure, outcome):
                return outcome, code

    def _recovers(self, failure: recovering.Failure, outcome: dict[str, Any]) -> bool:
        """Whether another attempt follows: then it is the current one, told, and the pause before it is over."""
        step = recovering.decide(self.policy, failure, self.history)
        if isinstance(step, recovering.GiveUp):
            if step.why:
                outcome["detail"] = f"{outcome.get('detail', '')}; not recovered: {step.why}".removeprefix("; ")
            return False
        self.attempt += 1
        told = {
            "attempt": self.attempt,
            "reason": failure.reason,
            "detail": str(outcome.get("detail", ""))[:500],
            "step": failure.step,
            "does": step.does,
            "changes": {name: list(change) for name, change in step.changes.items()},
        }
        self.history.append(told)
        self.event("recovering", **told)
        # The SIGTERM that ended the attempt is answered by the next one.
        self.terminated = False
        self._pause(step.pause)
        return True

    def _try(self) -> tuple[dict[str, Any], int | None, recovering.Failure | None]:
        """One attempt: its outcome, exit status, and the failure where it is one that might be recovered from."""
        folder = self._prepare()
        if self.stop_requested:
            raise _StoppedError
        if self.terminated:
            raise _InterruptedError
        try:
            child = self._start(folder)
        except OSError as error:
            return {"failed": "launch_failed", "detail": f"{self.asked['argv'][0]}: {error.strerror}"}, None, None
        began = host.monotonic()
        self.event("running", attempt=self.attempt, pid=child.pid, clock=began)
        watch = Watch(
            child,
            folder,
            self._limits(began),
            asked_to_stop=lambda: "request" if self.stop_requested else "preempted" if self.terminated else None,
            event=self.event,
            rest=self._rest,
        )
        code = watch.wait()
        self._used += host.monotonic() - began
        self._sweep()
        outcome = judging.judge(folder, code, watch, max_hours=self.asked.get("max_hours"))
        ended = {"code": code if code >= 0 else None, "signal": -code if code < 0 else None, "at": host.now()}
        with contextlib.suppress(OSError):
            records.write_json(folder / "exit.json", {**ended, "outcome": outcome})
        if "failed" not in outcome:
            return outcome, code, None
        beat: Heartbeat = watch.heartbeat
        by_us = watch.stopped_for == "preempted"
        return outcome, code, recovering.Failure(outcome["failed"], beat.step, beat.phase, machine_ends=by_us)

    def _prepare(self) -> Path:
        """The attempt's folder, with its config and what is different about it."""
        folder = self.run / "attempts" / str(self.attempt)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        config = self.run / "config.yaml"
        changes: dict[str, list[Any]] = {}
        for row in self.history:
            for name, (old, new) in row.get("changes", {}).items():
                changes[name] = [changes[name][0] if name in changes else old, new]
        if config.exists() and changes:
            text = config.read_text(encoding="utf-8")
            changed = recovering.with_training(text, {name: new for name, (_, new) in changes.items()})
            (folder / "config.yaml").write_text(changed, encoding="utf-8")
        elif config.exists():
            shutil.copyfile(config, folder / "config.yaml")
        last = self.history[-1] if self.history else None
        why = None if last is None else {name: last.get(name) for name in ("reason", "detail", "step", "does")}
        record = {"number": self.attempt, "resume": self.attempt > 1, "changes": changes, "why": why}
        records.write_json(folder / "attempt.json", record)
        return folder

    def _limits(self, began: float) -> Limits:
        hours: float | None = self.asked.get("max_hours")
        stall: float | None = self.asked.get("stall_minutes")
        total = hours * 3600 if hours else float("inf")
        return Limits(
            # The time in the queue is not the run's; that of former attempts is.
            deadline=began + total - self._used if hours else None,
            total=total,
            grace=self.asked.get("grace_seconds") or DEFAULT_GRACE,
            stall=None if stall is None else stall * 60,
        )

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
            _InterruptedError: SIGTERM came.
        """
        give_up = host.monotonic() + seconds
        while not self.stop_requested and not self.terminated and (left := give_up - host.monotonic()) > 0:
            self._rest(left)
        if self.stop_requested:
            raise _StoppedError
        if self.terminated:
            raise _InterruptedError

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

    def _sweep(self) -> None:
        """Kill every descendant that the child left behind."""
        if left := processes.end_descendants(_SWEEP_SECONDS):
            self.event("unkillable", pids=left[:20])

    def _close_place(self) -> None:
        if self._place is not None:
            self._place.close()

    def _finish(self, outcome: dict[str, Any], code: int | None) -> None:
        record = {
            "outcome": outcome,
            "exit_code": code,
            "attempt": self.attempt,
            "at": host.now(),
            "seconds": round(self.former.seconds + host.monotonic() - self._started, 3),
        }
        self.event("ended", **outcome)
        self._reserve.write(record)

    def _append(self, kind: str, **details: Any) -> None:
        now = host.monotonic()
        row = {"at": host.now(), "t": round(now - self._started, 3), "event": kind, **details}
        records.append_line(self.run / "events.jsonl", row)


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


def _keep(locks: Path) -> None:
    """Keep whoever tidies up old files (systemd's tmpfiles, in /var/tmp after 30 days) out of the locks folder."""
    with contextlib.suppress(OSError):
        # Open, and locked, for as long as this process lives.
        fcntl.flock(os.open(locks, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC), fcntl.LOCK_SH | fcntl.LOCK_NB)


def main(arguments: list[str]) -> None:
    """Supervise one run to its end."""
    run, locks, lock, ready = Path(arguments[0]), Path(arguments[1]), int(arguments[2]), int(arguments[3])
    # Before anything else: a stop must never meet a supervisor that it simply ends.
    supervisor = Supervisor(run, locks)

    def request_stop(_number: int, _frame: object) -> None:
        supervisor.stop_requested = True

    def terminate(_number: int, _frame: object) -> None:
        supervisor.terminated = True

    on_stop: Callable[[int, object], None] = request_stop
    on_term: Callable[[int, object], None] = terminate
    signal.signal(STOP_SIGNAL, on_stop)
    signal.signal(signal.SIGTERM, on_term)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    processes.detach()
    _keep(locks)
    # Ours for life, and not the child's: a lock that the trainer's orphans share would outlive us.
    os.set_inheritable(lock, False)
    os.set_inheritable(ready, False)
    supervisor.announce()
    _say(ready, {"pid": os.getpid()})
    supervisor.supervise()


if __name__ == "__main__":
    main(sys.argv[1:])
