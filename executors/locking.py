"""Short critical sections across processes, by open-file-description locks. Standard library only."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

from ..trainer import records

#: Seconds between two tries; sections are milliseconds long.
TRY_SECONDS = 0.01


@contextmanager
def holding(path: Path) -> Generator[int]:
    """Hold the lock of `path` inside the block; yields the open file. A holder that dies lets go.

    Raises:
        BlockingIOError: somebody else holds it now.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        if not records.try_lock(descriptor):
            raise BlockingIOError(f"{path} is locked")
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def waiting_for(path: Path, pause: Callable[[float], None]) -> Generator[int]:
    """As `holding`, once it is free. `pause` waits that many seconds, and may raise to give up."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        while not records.try_lock(descriptor):
            pause(TRY_SECONDS)
        yield descriptor
    finally:
        os.close(descriptor)
