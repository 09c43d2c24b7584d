"""Driving a real server: as a child over stdio with raw JSON, and in memory over the loop that serves both eras."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import anyio
from mcp.client import Client
from mcp.client._transport import TransportStreams
from mcp.shared.memory import create_client_server_memory_streams

from model_trainer.server.app import ModelTrainerServer
from model_trainer.server.eras import serve_both_eras

MODERN = "2026-07-28"
HANDSHAKE = "2025-06-18"

#: A server with toy tools, as `model-trainer serve` starts one.
TOY_SERVER = (
    "from model_trainer.server.stdio import serve\nfrom server_toys import TOYS\nraise SystemExit(serve(None, TOYS))\n"
)

#: Generous: a loaded machine may need long to start Python, and that is not what the tests are about.
START_SECONDS = 60.0
#: What is promised: from the event to the end of the process.
EXIT_SECONDS = 1.0


class Child:
    """A server process, its messages read by a thread so that every wait has a deadline."""

    def __init__(
        self, code: str = TOY_SERVER, *, environment: dict[str, str] | None = None, stdout: int = subprocess.PIPE
    ) -> None:
        tests = str(Path(__file__).parent)
        self.process = subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.PIPE,
            stdout=stdout,
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": tests, **(environment or {})},
            start_new_session=True,
        )
        self._lines: queue.Queue[bytes | None] = queue.Queue()
        self.errors = bytearray()
        if self.process.stdout is not None:
            threading.Thread(target=self._read, daemon=True).start()
        self._errors_read = threading.Thread(target=self._read_errors, daemon=True)
        self._errors_read.start()
        self._id = 0

    def __enter__(self) -> Child:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(START_SECONDS)
        self._errors_read.join(START_SECONDS)
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            if stream is not None:
                with suppress(BrokenPipeError):
                    stream.close()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line)
        self._lines.put(None)

    def _read_errors(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.errors += line

    def write(self, data: bytes) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(data)
        self.process.stdin.flush()

    def request(self, method: str, params: dict[str, Any] | None = None, *, modern: bool = False) -> int:
        """Send a request; its id."""
        self._id += 1
        message: dict[str, Any] = {"jsonrpc": "2.0", "id": self._id, "method": method, "params": params or {}}
        if modern:
            message["params"] = {**message["params"], "_meta": ENVELOPE}
        self.write(json.dumps(message).encode() + b"\n")
        return self._id

    def notify(self, method: str) -> None:
        self.write(json.dumps({"jsonrpc": "2.0", "method": method}).encode() + b"\n")

    def receive(self) -> dict[str, Any]:
        """The next message; every line on the wire must be one."""
        line = self._lines.get(timeout=START_SECONDS)
        assert line is not None, self.errors.decode()
        return json.loads(line)

    def ask(self, method: str, params: dict[str, Any] | None = None, *, modern: bool = False) -> dict[str, Any]:
        """The answer to a request."""
        number = self.request(method, params, modern=modern)
        answer = self.receive()
        assert answer["id"] == number, answer
        return answer

    def handshake(self) -> dict[str, Any]:
        answer = self.ask("initialize", INITIALIZE)
        self.notify("notifications/initialized")
        return answer

    def end_of_input(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()

    def exits(self) -> int:
        """The exit code; the process must end within what is promised from now on."""
        return self.process.wait(EXIT_SECONDS)


ENVELOPE = {
    "io.modelcontextprotocol/protocolVersion": MODERN,
    "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "0"},
    "io.modelcontextprotocol/clientCapabilities": {},
}
INITIALIZE = {
    "protocolVersion": HANDSHAKE,
    "capabilities": {},
    "clientInfo": {"name": "test", "version": "0"},
}


class BothEras:
    """A client transport over our own connection loop, in memory."""

    def __init__(self, server: ModelTrainerServer) -> None:
        self._open = self._connect(server)

    @asynccontextmanager
    async def _connect(self, server: ModelTrainerServer) -> AsyncGenerator[TransportStreams]:
        async with create_client_server_memory_streams() as (client, ours), anyio.create_task_group() as group:
            group.start_soon(serve_both_eras, server.protocol, *ours)
            yield client
            await client[1].aclose()

    async def __aenter__(self) -> TransportStreams:
        return await self._open.__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        return await self._open.__aexit__(kind, error, trace)


#: Every way in which a client can reach the server in memory: the SDK's own loops and ours, each in both eras.
WAYS = ("sdk-modern", "sdk-handshake", "ours-modern", "ours-handshake")


def client_of(server: ModelTrainerServer, way: str, **options: Any) -> Client:
    """A client of `server` in one of the `WAYS`."""
    loop, _, era = way.partition("-")
    mode = "auto" if era == "modern" else "legacy"
    return Client(server if loop == "sdk" else BothEras(server), mode=mode, **options)
