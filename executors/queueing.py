"""Whose turn it is, without a daemon: tickets decide the order, leases the use of GPUs or CPU slots.

    locks/queue/<pool>/counter           the last number given
    locks/queue/<pool>/<number>.<run>    a ticket: locked by the waiting supervisor, removed when its turn has come
    locks/leases/<slot>                  a lease: locked by the supervisor whose run uses the slot, holds the run's id

All are open-file-description locks on a local disk, so a process that dies lets go of its ticket and its leases.
Only the lowest living ticket of a pool may try leases: first come, first served, and a run that needs two GPUs isn't
overtaken for ever by those that need one. A lease that still names another run was not given back: what that run left
behind is swept before the slot is used. A GPU on which others compute (by the driver) is not taken. Standard library
only (supervisor snapshot).
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..trainer import records
from . import gpu_users, history, locking, sweeping

_TICKET = re.compile(r"^([0-9]{12})\.")
_UNSAFE = re.compile(r"[^A-Za-z0-9_.-]")


@dataclass(frozen=True)
class Pool:
    """Slots of one kind, and how many of them a run needs."""

    name: str
    """`gpu`: the slots are GPU UUIDs; `cpu`: they are numbered."""
    slots: tuple[str, ...]
    need: int
    shared: bool = False
    """Whether a GPU counts as free although processes that are no runs of ours compute on it."""

    def record(self) -> dict[str, Any]:
        """As run.json holds it."""
        return {"name": self.name, "slots": list(self.slots), "need": self.need, "shared": self.shared}

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> Pool:
        """As `record` wrote it."""
        shared = bool(record.get("shared", True))
        return cls(record.get("name", "cpu"), tuple(record["slots"]), int(record["need"]), shared)

    def environment(self, taken: list[str]) -> dict[str, str]:
        """What tells the trainer which slots are its own; on CPU slots it must not see any GPU."""
        return {"CUDA_VISIBLE_DEVICES": ",".join(taken) if self.name == "gpu" else ""}


@dataclass(frozen=True)
class Turn:
    """Where a run stands: its place in the queue, 1 being the next, and what it waits for."""

    position: int
    why: str


class Place:
    """One run's place in a pool's queue, and then its leases. Close it and both are given back."""

    def __init__(self, locks: Path, pool: Pool, run: Path, pause: Callable[[float], None]) -> None:
        """Take a ticket. `pause` waits that many seconds, and may raise to give up.

        Raises:
            OSError: the locks folder can't be written.
        """
        self.pool = pool
        self.taken: list[str] = []
        self._locks = locks
        self._run = run
        self._leases: list[int] = []
        self._queue = locks / "queue" / _file_name(pool.name)
        self._queue.mkdir(mode=0o700, parents=True, exist_ok=True)
        (locks / "leases").mkdir(mode=0o700, exist_ok=True)
        with locking.waiting_for(self._queue / "counter", pause) as counter:
            self._number = self._last_number(counter) + 1
            self._ticket = self._queue / f"{self._number:012d}.{run.name}"
            # Locked before the number is given out: whoever has a higher one sees this one locked, or dead.
            self._descriptor = os.open(self._ticket, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            records.try_lock(self._descriptor)
            os.pwrite(counter, b"%012d" % self._number, 0)

    def look(self) -> Turn | None:
        """None once the leases are ours; else where we stand."""
        before = self._living_before()
        if before:
            return Turn(before + 1, f"{before} {'run' if before == 1 else 'runs'} in front")
        users = self._take()
        if users is None:
            self._give_back_ticket()
            return None
        kind = "GPU" if self.pool.name == "gpu" else "CPU slot"
        total = len(self.pool.slots)
        needs = f"needs {self.pool.need} of {total} {kind}{'s' if total != 1 else ''}"
        return Turn(1, f"{needs}; in use by {', '.join(users[:4])}" + (" and others" if len(users) > 4 else ""))

    def close(self) -> None:
        """Give back leases and ticket."""
        for descriptor in self._leases:
            with contextlib.suppress(OSError):
                os.ftruncate(descriptor, 0)
            os.close(descriptor)
        self._leases, self.taken = [], []
        self._give_back_ticket()

    def _living_before(self) -> int:
        living = 0
        for ticket in self._queue.iterdir():
            match = _TICKET.match(ticket.name)
            if match is None or int(match[1]) >= self._number:
                continue
            if records.is_locked(ticket):
                living += 1
            else:
                with contextlib.suppress(OSError):
                    ticket.unlink()
        return living

    def _take(self) -> list[str] | None:
        """Take as many leases as are needed, or none and say which runs have them."""
        users: list[str] = []
        for slot in self.pool.slots:
            lease = self._locks / "leases" / _file_name(slot)
            descriptor = os.open(lease, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            former = os.pread(descriptor, 100, 0).decode(errors="replace")
            if not records.try_lock(descriptor) or not self._is_clean(descriptor):
                os.close(descriptor)
                users.append(former or slot)
                continue
            if others := self._others(slot):
                os.close(descriptor)
                users.append(f"{others[0]}, no run of this state folder, on {slot}")
                continue
            self._leases.append(descriptor)
            self.taken.append(slot)
            if len(self.taken) == self.pool.need:
                for taken in self._leases:
                    os.ftruncate(taken, 0)
                    os.pwrite(taken, self._run.name.encode(), 0)
                return None
        for descriptor in self._leases:
            os.close(descriptor)
        self._leases, self.taken = [], []
        return users

    def _others(self, slot: str) -> list[str]:
        """Who uses a free GPU all the same, unless that may be."""
        return [] if self.pool.name != "gpu" or self.pool.shared else gpu_users.users_of(slot)

    def _is_clean(self, descriptor: int) -> bool:
        """Whether nothing of the slot's former user runs any more."""
        former = os.pread(descriptor, 100, 0).decode(errors="replace")
        # What was left of a run itself is dead before it gets its next supervisor.
        if former in ("", self._run.name):
            return True
        if (self._locks / f"{_file_name(former)}.lock").exists():
            clean = sweeping.sweep(self._run.parent / _file_name(former), self._locks)
        else:
            clean = sweeping.kill_marked(former)
        if clean:
            os.ftruncate(descriptor, 0)
        return clean

    def _last_number(self, counter: int) -> int:
        """The last number given; from the tickets where a crash left a counter that is none."""
        tickets = [int(match[1]) for path in self._queue.iterdir() if (match := _TICKET.match(path.name))]
        said = os.pread(counter, 12, 0)
        return max([*tickets, int(said) if said.isdigit() else 0])

    def _give_back_ticket(self) -> None:
        if self._descriptor >= 0:
            with contextlib.suppress(OSError):
                self._ticket.unlink()
            os.close(self._descriptor)
            self._descriptor = -1


def predecessor(run: Path, locks: Path) -> str | None:
    """How the run that another waits for ended (`succeeded`, `failed: oom_gpu`, …); None while it lives."""
    lock = locks / f"{run.name}.lock"
    # In this order: the other way round a run that ends in between would seem lost.
    alive = records.is_locked(lock)
    try:
        record = records.read_json(run / "exit.json")
        if record is not None:
            kind, reason = next(iter(record["outcome"].items()), ("lost", "unknown"))
            return kind if kind in ("succeeded", "cancelled") else f"{kind}: {reason}"
    except (ValueError, KeyError, AttributeError):
        # Damaged: it is over, and how is lost; certainly no success to build on.
        return "lost"
    if alive or history.waits_for_restart(run, records.read_lines(run / "events.jsonl")[0]) is not None:
        return None
    return "lost"


def _file_name(text: str) -> str:
    return _UNSAFE.sub("_", text)[:100]
