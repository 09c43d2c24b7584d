"""The Hub on a port of loopback, in a thread of this process with its own event loop."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Generator
from contextlib import contextmanager

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from .routes import application
from .state import Hub


class _Protocol(H11Protocol):
    """Puts the transport where faults find it: ASGI itself has no way to cut a connection."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        super().connection_made(transport)
        self.app_state = {**self.app_state, "transport": transport}


class _Server(uvicorn.Server):
    """Says when it is ready."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = threading.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready.set()


@contextmanager
def serving(hub: Hub) -> Generator[str]:
    """The endpoint of the Hub while it serves.

    Raises:
        ExceptionGroup: at the end, what made handlers fail that should have answered.
    """
    config = uvicorn.Config(
        application(hub),
        http=_Protocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        # Longer than any test: a connection that the server closes while the client reuses it would be a flaky test.
        timeout_keep_alive=600,
        timeout_graceful_shutdown=2,
    )
    server = _Server(config)
    # Named TCP: asyncio turns off Nagle's algorithm (40 ms for each answer) only where the protocol is said.
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(128)
        thread = threading.Thread(target=lambda: asyncio.run(server.serve([listener])), name="hub", daemon=True)
        thread.start()
        try:
            assert server.ready.wait(30), "the Hub did not start"
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()
    if crashes := [one.crash for one in hub.requests if one.crash is not None]:
        raise ExceptionGroup("the Hub failed to answer", crashes)
