"""Files that survive a crash: whole JSON records, append-only JSON lines, and open-file-description locks.

A record is either the old or the new one, never half. A line file may end torn after SIGKILL; the next writer
closes the torn line, readers skip what isn't a complete JSON object. Standard library only (supervisor snapshot).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Record = dict[str, Any]

# struct flock on 64-bit Linux: short l_type, short l_whence, off_t l_start, off_t l_len, pid_t l_pid.
_FLOCK = "hhqqi4x"
_OFD_GETLK = getattr(fcntl, "F_OFD_GETLK", 36)
_OFD_SETLK = getattr(fcntl, "F_OFD_SETLK", 37)


def clock() -> float:
    """Seconds on a clock that never jumps and is the same in all processes of a boot, also across suspends."""
    boot_time = getattr(time, "CLOCK_BOOTTIME", None)
    return time.clock_gettime(boot_time) if boot_time is not None else time.monotonic()


def write_json(path: Path, record: Record) -> None:
    """Replace `path` by `record`: temporary name, fsync, rename, fsync of the folder.

    Raises:
        OSError: the disk is full or the folder is gone; the old record stands.
        ValueError: the record holds NaN or infinity, which JSON can't say.
    """
    data = json.dumps(record, ensure_ascii=False, allow_nan=False, indent=1).encode()
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make renames in `folder` durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_json(path: Path) -> Record | None:
    """The record, or None where there is none.

    Raises:
        ValueError: the file isn't a JSON object: somebody else wrote it.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    record = json.loads(text)
    if not isinstance(record, dict):
        raise ValueError(f"{path} holds no JSON object")
    return record


def append_line(path: Path, record: Record) -> None:
    """Append one JSON object as one line, closing a torn line first.

    Raises:
        OSError: there was no room for all of it; readers skip what is there of it.
    """
    line = json.dumps(record, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode() + b"\n"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        size = os.fstat(descriptor).st_size
        if size and os.pread(descriptor, 1, size - 1) != b"\n":
            line = b"\n" + line
        if os.write(descriptor, line) < len(line):
            # The next writer closes what is torn now.
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
    finally:
        os.close(descriptor)


@dataclass(frozen=True)
class Cursor:
    """A place in an append-only file: stays true while the file lives, and shows when it was replaced."""

    inode: int
    offset: int

    def encode(self) -> str:
        """The form callers hand back to us."""
        return f"{self.inode:x}-{self.offset:x}"

    @classmethod
    def decode(cls, text: str) -> Cursor | None:
        """The cursor, or None for text that is none."""
        inode, _, offset = text.partition("-")
        try:
            return cls(int(inode, 16), int(offset, 16))
        except ValueError:
            return None


def read_lines(path: Path, after: Cursor | None = None) -> tuple[list[Record], Cursor]:
    """Complete JSON objects behind `after`, and the cursor behind the last complete line.

    A cursor of a replaced or truncated file starts again from the beginning; a missing file reads as empty.
    """
    try:
        with open(path, "rb") as file:
            stat = os.fstat(file.fileno())
            start = 0
            if after is not None and after.inode == stat.st_ino and after.offset <= stat.st_size:
                start = after.offset
            file.seek(start)
            data = file.read()
    except FileNotFoundError:
        return [], Cursor(0, 0)
    complete = data[: data.rfind(b"\n") + 1]
    return list(parse_lines(complete)), Cursor(stat.st_ino, start + len(complete))


def parse_lines(data: bytes) -> Iterator[Record]:
    """JSON objects of complete lines; torn and foreign lines are skipped."""
    for line in data.split(b"\n"):
        if line.strip():
            try:
                # As text: of bytes it would guess the encoding, for each line.
                record = json.loads(line.decode())
            except ValueError:
                continue
            if isinstance(record, dict):
                yield record


def try_lock(descriptor: int) -> bool:
    """Take the open-file-description write lock of an open file; False if somebody holds it.

    It is held until every copy of the descriptor is closed: a process that dies lets go.
    """
    request = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
    try:
        fcntl.fcntl(descriptor, _OFD_SETLK, request)
    except (BlockingIOError, PermissionError):
        return False
    return True


def is_locked(path: Path) -> bool:
    """Whether a living process holds the lock of `path`; a probe that never takes it."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        request = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        answer = fcntl.fcntl(descriptor, _OFD_GETLK, request)
        return struct.unpack(_FLOCK, answer)[0] != fcntl.F_UNLCK
    finally:
        os.close(descriptor)
