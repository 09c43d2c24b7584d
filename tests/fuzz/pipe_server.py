"""The real server on its real wire, a socket in place of the process's own pipes: thousands of cases in one loop."""

from __future__ import annotations

import io
import json
import os
import socket
import threading
from typing import Any

import anyio
from server_processes import ENVELOPE, INITIALIZE

from model_trainer.server.app import ModelTrainerServer
from model_trainer.server.eras import serve_both_eras
from model_trainer.server.wire import Wire, streams

#: Generous: no case may take as long, and a server that hangs must not hang the tests.
SECONDS = 90.0


class PipeServer:
    """A server that reads and writes whole lines, served by a thread with a loop of its own."""

    def __init__(self, server: ModelTrainerServer) -> None:
        self._ours, theirs = socket.socketpair()
        self._ours.settimeout(SECONDS)
        self._lines = self._ours.makefile("rb")
        reader = os.fdopen(os.dup(theirs.fileno()), "rb")
        writer = io.FileIO(theirs.detach(), "wb")
        self._thread = threading.Thread(target=anyio.run, args=(_serve, server, Wire(reader, writer)))  # pyright: ignore[reportArgumentType]
        self._thread.start()
        self._id = 0
        self.ask("initialize", INITIALIZE)
        self.write(b'{"jsonrpc": "2.0", "method": "notifications/initialized"}\n')

    def close(self) -> None:
        """Close our side; the server must end by itself."""
        self._ours.shutdown(socket.SHUT_WR)
        self._thread.join(SECONDS)
        assert not self._thread.is_alive(), "the server did not end with its input"
        self._lines.close()
        self._ours.close()

    def write(self, data: bytes) -> None:
        self._ours.sendall(data)

    def read(self) -> dict[str, Any]:
        """The next message that isn't a notification; notifications are a server's right at any time."""
        while True:
            line = self._lines.readline()
            assert line.endswith(b"\n"), "the server is gone"
            message = json.loads(line)
            if "id" in message:
                return message

    def ask(self, method: str, params: object, *, modern: bool = False) -> dict[str, Any]:
        """The answer to a request with these params, whatever they are."""
        self._id += 1
        if modern and isinstance(params, dict):
            params = {**params, "_meta": ENVELOPE}
        message = {"jsonrpc": "2.0", "id": self._id, "method": method, "params": params}
        self.write(json.dumps(message).encode() + b"\n")
        answer = self.read()
        assert answer["id"] == self._id, answer
        return answer


async def _serve(server: ModelTrainerServer, wire: Wire) -> None:
    with wire.reader, wire.writer:
        async with streams(wire, lambda: None) as (incoming, outgoing):
            await serve_both_eras(server.protocol, incoming, outgoing)
