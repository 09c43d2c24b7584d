"""Keep a growing log from filling the disk: its middle is given back to the disk, and every place in it stays true.

A hole is punched from the end of the kept head to half the cap before the end. The file's size doesn't change, so a
cursor (a byte offset) from before still means the same place; readers jump over the hole (`services/runs/logs.py`).
Whoever writes must append (O_APPEND), as a trainer's stdout does.

Between two looks the log grows by whatever is written meanwhile; after each it holds at most head and half the cap.
Standard library only (supervisor snapshot).
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path

#: Allocated bytes above which a log gets a hole, and the bytes of its beginning that are always kept.
CAP_BYTES = 64 << 20
HEAD_BYTES = 1 << 20

_KEEP_SIZE = 0x01
_PUNCH_HOLE = 0x02

#: Where nothing is wrong with the file system, only this moment is a bad one: tried again at the next look.
_LATER = frozenset({errno.EINTR, errno.EAGAIN, errno.ENOSPC, errno.EDQUOT})


class LogCap:
    """Looks at one log now and then, and caps it; whatever goes wrong, the run goes on."""

    def __init__(self, log: Path, *, cap: int | None = None, head: int | None = None) -> None:
        """`cap` and `head` in bytes; by default `CAP_BYTES` and `HEAD_BYTES`."""
        self._log = log
        self._cap = CAP_BYTES if cap is None else cap
        self._head = HEAD_BYTES if head is None else head
        self._punch = _punch_call()
        self._off = False
        self._told = False

    def look(self) -> str | None:
        """Punch a hole if the log is too big.

        Returns what there is to tell, once each: that the log has a hole from now on, or that it can't get one here.
        """
        if self._off:
            return None
        try:
            # The trainer may have put anything in the log's place: no link is followed, no pipe waited for.
            descriptor = os.open(self._log, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError:
            return None
        try:
            return self._cap_file(descriptor)
        except OSError as error:
            if error.errno in _LATER:
                return None
            self._off = True
            return f"the log grows without a limit: no part of it can be dropped here ({error.strerror})"
        finally:
            os.close(descriptor)

    def _cap_file(self, descriptor: int) -> str | None:
        entry = os.fstat(descriptor)
        # A second name could be somebody's file elsewhere.
        if not stat.S_ISREG(entry.st_mode) or entry.st_nlink > 1 or entry.st_blocks * 512 <= self._cap:
            return None
        # Whole blocks only: parts of a block would be zeros, and read as text.
        block = max(512, entry.st_blksize)
        start = -(-self._head // block) * block
        end = (entry.st_size - self._cap // 2) // block * block
        if end <= start:
            return None
        self._punch(descriptor, start, end - start)
        if self._told:
            return None
        self._told = True
        return (
            f"the log is capped at {self._cap / 1e6:.0f} MB: its first {start / 1e6:.1f} MB and its newest part are "
            "kept, what lies between is dropped"
        )


def _punch_call() -> Callable[[int, int, int], None]:
    """`punch(descriptor, offset, length)`, which raises OSError."""
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        # glibc's plain `fallocate` has 32-bit offsets on a 32-bit machine; musl has only the plain one, with 64.
        call = getattr(libc, "fallocate64", None) or libc.fallocate
    except (OSError, AttributeError):
        return _no_call
    call.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
    call.restype = ctypes.c_int

    def punch(descriptor: int, offset: int, length: int) -> None:
        if call(descriptor, _PUNCH_HOLE | _KEEP_SIZE, offset, length) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))

    return punch


def _no_call(_descriptor: int, _offset: int, _length: int) -> None:
    raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
