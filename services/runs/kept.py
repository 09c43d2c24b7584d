"""What was read from files, kept in this process for as long as each is the same file.

Records of runs are written once; a server that lists a thousand runs shouldn't read each of them every time. Every
answer still asks the file system: a file that was replaced, changed, damaged or removed is another one by its inode,
its times or its size, and is read again. Nothing here needs to survive the process.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from threading import Lock
from typing import Generic, TypeVar

T = TypeVar("T")

#: Files that are remembered, each in some hundred bytes; of more, those that were read first are forgotten.
MOST = 10_000

Identity = tuple[int, ...]


def of_file(path: str) -> Identity | None:
    """What is another for another file, or for the same one when it has changed; None where there is none."""
    try:
        found = os.stat(path)  # noqa: PTH116  a Path takes longer to make than the file to look at
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


class Kept(Generic[T]):
    """Values by the file, or whatever `identity` looks at, that they were read from; bounded, for several threads."""

    def __init__(self, most: int = MOST, *, identity: Callable[[str], Identity | None] = of_file) -> None:
        self._most = most
        self._identity = identity
        self._values: dict[str, tuple[Identity, T]] = {}
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._values)

    def get(self, path: str, read: Callable[[], T]) -> T:
        """What `read` makes of the file at `path`, called only if the file is not the one it was called for before.

        Where no file is, nothing is kept and `read` says what that means. What `read` raises is not kept either.
        """
        # Before it is read: what is written in between is then read again the next time.
        identity = self._identity(path)
        kept = self._values.get(path)
        if kept is not None and kept[0] == identity:
            return kept[1]
        value = read()
        with self._lock:
            self._values.pop(path, None)
            if identity is not None:
                self._values[path] = identity, value
                if len(self._values) > self._most:
                    del self._values[next(iter(self._values))]
        return value
