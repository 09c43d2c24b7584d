"""How long an agent waits: spawn → tools/list against a bare server of the same SDK, and a call over stdio.

Both servers are started in turn in the same run, so that a slow machine slows both.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any

STARTS = 15
CALLS = 300
#: Our start may take this much of a bare server's.
GOAL = 1.3

BARE = """
from mcp.server import MCPServer
server = MCPServer("bare")
@server.tool()
async def add(a: int, b: int) -> int:
    return a + b
server.run()
"""
OURS = "from model_trainer.server.cli import main; main(['serve'])"

INITIALIZE = {
    "protocolVersion": "2025-06-18",
    "capabilities": {},
    "clientInfo": {"name": "benchmark", "version": "0"},
}


class Server:
    """A server process and its pipe."""

    def __init__(self, code: str, state: str) -> None:
        self.began = time.perf_counter()
        self._process = subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={"PATH": os.environ["PATH"], "HOME": state, "MODEL_TRAINER_STATE": state},
        )

    def ask(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        self._send({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
        assert self._process.stdout is not None
        return json.loads(self._process.stdout.readline())

    def _send(self, message: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(message).encode() + b"\n")
        self._process.stdin.flush()

    def handshake(self) -> None:
        self.ask("initialize", INITIALIZE)
        self._send({"jsonrpc": "2.0", "method": "notifications/initialized"})

    def close(self) -> float:
        """Seconds from the end of its input to its own."""
        ended = time.perf_counter()
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()
        return time.perf_counter() - ended


def start(code: str, state: str) -> tuple[float, float, int]:
    """Seconds from spawn to the list of tools, seconds to leave, bytes of the list."""
    server = Server(code, state)
    server.handshake()
    listed = server.ask("tools/list", {})
    seconds = time.perf_counter() - server.began
    return seconds, server.close(), len(json.dumps(listed["result"]["tools"], separators=(",", ":")))


def latency(state: str) -> list[float]:
    """Seconds per call of our cheapest tool that reads the disk, over stdio, sorted."""
    server = Server(OURS, state)
    server.handshake()
    seconds: list[float] = []
    for _ in range(CALLS + 20):
        began = time.perf_counter()
        answer = server.ask("tools/call", {"name": "list_runs", "arguments": {}})
        seconds.append(time.perf_counter() - began)
        assert not answer["result"].get("isError"), answer
    server.close()
    return sorted(seconds[20:])


def run() -> dict[str, Any]:
    """Medians in milliseconds, and our start as a multiple of the bare one."""
    with tempfile.TemporaryDirectory() as state:
        for code in (BARE, OURS):  # bytecode and page cache
            start(code, state)
        bare: list[float] = []
        ours: list[float] = []
        leaving: list[float] = []
        size = 0
        for _ in range(STARTS):
            bare.append(start(BARE, state)[0])
            seconds, leave, size = start(OURS, state)
            ours.append(seconds)
            leaving.append(leave)
        calls = latency(state)
    # The median of each pair's ratio: neighbours in time saw the same load.
    ratio = statistics.median(one / other for one, other in zip(ours, bare, strict=True))
    return {
        "starts": STARTS,
        "bare_start_ms": round(statistics.median(bare) * 1000),
        "start_ms": round(statistics.median(ours) * 1000),
        "ratio": round(ratio, 3),
        "goal": GOAL,
        "goal_met": ratio <= GOAL,
        "leave_ms": round(statistics.median(leaving) * 1000, 1),
        "tools_list_bytes": size,
        "calls": CALLS,
        "call_p50_ms": round(statistics.median(calls) * 1000, 2),
        "call_p99_ms": round(calls[int(len(calls) * 0.99)] * 1000, 2),
    }
