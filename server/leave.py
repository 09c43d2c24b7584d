"""Leaving in time: on the end of input, on signals, and when the parent is gone, whatever the tools are doing.

A thread of its own waits for the reasons, so that neither a blocked event loop nor a call that can't be cancelled
holds the process: it asks the loop to clean up, gives it `GRACE_SECONDS`, and ends the process.
"""

from __future__ import annotations

import os
import select
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import NoReturn

#: Seconds for cancelled calls to clean up (they kill their children); hosts are promised an exit within 1 s.
GRACE_SECONDS = 0.5
#: Seconds between looks at the parent where the kernel can't tell of its end.
_LOOK_SECONDS = 0.2
_END = b"\0"
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Leaving:
    """Watches for the reasons to leave; made in the main thread, before the event loop."""

    def __init__(self) -> None:
        self._parent = os.getppid()
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._writer, False)
        self._cancel: Callable[[], object] | None = None
        for number in _SIGNALS:
            signal.signal(number, _noted)
        # Written by the C handler at once, also while the main thread is stuck in a call.
        signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        threading.Thread(target=self._watch, name="leaving", daemon=True).start()

    def on_leave(self, cancel: Callable[[], object]) -> None:
        """What asks the event loop to end; called from the watching thread."""
        self._cancel = cancel

    def input_ended(self) -> None:
        """The client closed its side: the connection's own loop ends by itself, but not for ever."""
        with suppress(BlockingIOError):
            os.write(self._writer, _END)

    def now(self) -> NoReturn:
        """End the process. Threads of calls in flight would hold a normal exit."""
        os._exit(0)

    def _watch(self) -> None:
        reason = self._wait()
        if reason != _END and self._cancel is not None:
            # On a thread of its own: a blocked event loop never answers, and this one must not wait for it.
            threading.Thread(target=self._cancel, daemon=True).start()
        threading.Event().wait(GRACE_SECONDS)
        self.now()

    def _wait(self) -> bytes:
        """What came first: `_END`, a signal's number as a byte, or nothing for a parent that is gone."""
        watched = [self._reader]
        patience: float | None = _LOOK_SECONDS
        with suppress(AttributeError, OSError):  # not Linux, an old kernel, or a parent in another namespace
            watched.append(os.pidfd_open(self._parent))
            patience = None
        while True:
            # The parent may have ended before it was watched.
            if os.getppid() != self._parent:
                return b""
            ready = select.select(watched, [], [], patience)[0]
            if self._reader in ready:
                reason = os.read(self._reader, 1)
                # A library's handler of another signal writes here too.
                if reason == _END or reason[0] in _SIGNALS:
                    return reason
            elif ready:
                return b""


def _noted(number: int, frame: object) -> None:
    """Keep the default from ending the process before it has cleaned up."""
