"""The servers that `soak` loads, and the clients that ask them: plain JSON lines, and every answer checked."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import threading
import time
from array import array
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .soak_runs import ROWS, World
from .startup import INITIALIZE, OURS

TOOLS = ("get_run", "tail_metrics", "list_runs")
#: How often each is called, of ten.
MIX = (6, 3, 1)
PAGE = 20

Answer = dict[str, Any]


class Server:
    """A server process and its pipe."""

    def __init__(self, home: Path, errors: Path) -> None:
        environment = {"PATH": os.environ["PATH"], "HOME": str(home), "MODEL_TRAINER_STATE": str(home)}
        with suppress(KeyError):
            environment["PYTHONPATH"] = os.environ["PYTHONPATH"]
        with open(errors, "ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", OURS],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=environment,
            )
        self._number = 0

    def ask(self, method: str, params: Answer) -> Answer:
        """The answer's message.

        Raises:
            EOFError: the server is gone.
            ValueError: its answer is another call's, or no JSON.
        """
        self._number += 1
        self._send({"jsonrpc": "2.0", "id": self._number, "method": method, "params": params})
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise EOFError(f"server {self.process.pid} is gone")
        message = json.loads(line)
        if message.get("id") != self._number:
            raise ValueError(f"an answer to another call: {line[:200]!r}")
        return message

    def handshake(self) -> None:
        self.ask("initialize", INITIALIZE)
        self._send({"jsonrpc": "2.0", "method": "notifications/initialized"})

    def memory(self) -> int:
        """KiB resident."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text(encoding="ascii").split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") // 1024

    def descriptors(self) -> int:
        return sum(1 for _ in Path(f"/proc/{self.process.pid}/fd").iterdir())

    def cpu(self) -> float:
        """Seconds of a processor used so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def close(self) -> None:
        """End its input, as a client does that leaves; killed if it doesn't go."""
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):
            self.process.stdin.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def _send(self, message: Answer) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(message).encode() + b"\n")
        self.process.stdin.flush()


def no_times() -> dict[str, array[float]]:
    """Room for the seconds of each call, by tool."""
    return {tool: array("d") for tool in TOOLS}


@dataclass
class Client:
    """Asks one server in a thread of its own, and compares the answers with what is true."""

    server: Server
    world: World
    random: random.Random
    times: dict[str, array[float]] = field(default_factory=no_times)
    """Seconds of each call, by tool."""
    wrong: list[str] = field(default_factory=list[str])
    _steps: dict[str, int] = field(default_factory=dict[str, int])
    """Of live runs: the greatest step that get_run told."""
    _cursors: dict[str, tuple[str, int]] = field(default_factory=dict[str, tuple[str, int]])
    """Of live runs: the cursor behind the rows told so far, and the last step of these."""
    _page: str | None = None

    def __post_init__(self) -> None:
        self._ended = list(self.world.ended)
        self._live = [run.id for run in self.world.live]
        self._all = self.world.newest_first

    def drive(self, over: threading.Event, every: float) -> None:
        """Call again and again, at most once `every` so many seconds; what was late is made up for."""
        next_at = time.monotonic() + every * self.random.random()
        while not over.wait(max(0.0, next_at - time.monotonic())):
            next_at += every
            tool = self.random.choices(TOOLS, MIX)[0]
            try:
                self._call(tool)
            except (OSError, EOFError) as error:
                self.wrong.append(f"{tool}: {error}")
                return
            except (AssertionError, ValueError, KeyError, TypeError) as error:
                self.wrong.append(f"{tool}: {type(error).__name__}: {error}"[:500])

    def _call(self, tool: str) -> None:
        run_id = self.random.choice(self._live if self.random.random() < 0.5 else self._ended)
        match tool:
            case "get_run":
                self._get_run(run_id)
            case "tail_metrics":
                self._tail_metrics(run_id)
            case _:
                self._list_runs()

    def _ask(self, tool: str, **arguments: Any) -> Answer:
        began = time.perf_counter()
        message = self.server.ask("tools/call", {"name": tool, "arguments": arguments})
        self.times[tool].append(time.perf_counter() - began)
        assert "error" not in message, message
        result = message["result"]
        assert not result.get("isError"), result
        return result["structuredContent"]

    def _get_run(self, run_id: str) -> None:
        answer = self._ask("get_run", run_id=run_id)
        status, step = answer["state"]["status"], answer["progress"]["step"] if answer["progress"] else 0
        if run_id in self.world.ended:
            _equal(run_id, (status, step), (self.world.ended[run_id][0], ROWS))
            assert answer["elapsed_seconds"] == 12.3, answer["elapsed_seconds"]
            return
        assert status in ("starting", "running"), status
        before = self._steps.get(run_id, 0)
        assert step >= before, f"{run_id}: step {step} after {before}"
        self._steps[run_id] = step

    def _tail_metrics(self, run_id: str) -> None:
        if run_id in self.world.ended:
            answer = self._ask("tail_metrics", run_id=run_id)
            told = (answer["status"], answer["rows"], answer["last_step"])
            _equal(run_id, told, (self.world.ended[run_id][0], ROWS, ROWS))
            return
        # Now and then a client that comes anew; else every row exactly once.
        cursor, before = self._cursors.get(run_id, (None, 0)) if self.random.random() < 0.8 else (None, 0)
        more = {} if cursor is None else {"cursor": cursor}
        answer = self._ask("tail_metrics", run_id=run_id, **more)
        last = answer["last_step"] or before
        _equal(run_id, answer["rows"], last - before)
        self._cursors[run_id] = (answer["cursor"], last)

    def _list_runs(self) -> None:
        """The first page, or the one after the last one seen."""
        cursor = self._page if self.random.random() < 0.5 else None
        more = {} if cursor is None else {"cursor": cursor}
        answer = self._ask("list_runs", limit=PAGE, **more)
        begin = 0 if cursor is None else self._all.index(cursor) + 1
        ids = self._all[begin : begin + PAGE]
        _equal("list_runs", [line["run_id"] for line in answer["runs"]], ids)
        _equal("list_runs", (answer["total"], answer["damaged"]), (len(self._all), []))
        for line in answer["runs"]:
            if line["run_id"] in self.world.ended:
                _equal(line["run_id"], (line["status"], line["disk_bytes"]), self.world.ended[line["run_id"]])
            else:
                assert line["status"] in ("starting", "running"), line
        self._page = answer["next_cursor"]


def _equal(what: str, told: object, true: object) -> None:
    assert told == true, f"{what}: {told} where {true} is true"
