"""Eight real servers on one state folder, with 1,000 ended and 20 live runs, asked for half an hour.

`python -m benchmarks soak [--minutes N]`. Each server has one client, which calls it 26 times a second, or when the
last answer is there if that is later: 60 % get_run, 30 % tail_metrics, 10 % list_runs(limit=20). The minute before that
is the warm-up: the same calls without a pause, which says how much more there is room for.

The client is plain JSON lines: the SDK's own would be measured too. Every answer is compared with what is true; one
wrong answer fails the benchmark. Each server's memory and open descriptors are read every five seconds, and, as what
counts, when nothing is asked: after the warm-up and at the end.

SIGTERM, SIGINT, an error: servers, supervisors and the state folder are gone before the process ends.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .soak_clients import TOOLS, Client, Server, no_times
from .soak_runs import made_world

SERVERS = 8
ENDED = 1_000
LIVE = 20

#: Calls per second of all servers together, milliseconds, and what one server's memory may grow by.
CALLS_GOAL = 200.0
P99_GOAL = 150.0
GROWTH_GOAL_KIB = 2048

#: Calls per second that are tried.
RATE = 208.0

#: Seconds of calls without a pause before anything counts, at most a quarter of the time that counts.
WARM_UP = 60.0
#: Seconds between two looks at the servers.
LOOK = 5.0
#: Wrong answers that are shown.
SHOWN = 20


@dataclass(frozen=True)
class Look:
    """What the servers hold at one moment, and what they and the whole machine have used until then."""

    minutes: float
    memory: list[int]
    """KiB, a number for each server."""
    descriptors: list[int]
    servers_cpu: float
    """Seconds of a processor."""
    machine_cpu: float
    """The same of everything that runs here, from /proc/stat."""


def run(minutes: float = 30.0) -> dict[str, Any]:
    """Calls per second, milliseconds, and what the servers hold; goals."""
    with ended_by_signals(), tempfile.TemporaryDirectory(prefix="soak-") as folder, ExitStack() as stack:
        world = stack.enter_context(made_world(Path(folder), ENDED, LIVE))
        clients: list[Client] = []
        errors = Path(folder) / "servers.log"
        for number in range(SERVERS):
            server = Server(world.app.home.root, errors)
            stack.callback(server.close)
            server.handshake()
            clients.append(Client(server, world, random.Random(number)))
        print(
            f"{SERVERS} servers are asked without a pause, then {RATE:.0f} times a second for {minutes:g} minutes",
            flush=True,
        )
        warm_up = min(WARM_UP, minutes * 15)
        load(clients, warm_up, every=0.0)
        at_once = _sorted_times(clients)
        unpaced = {
            "unpaced_calls_per_second": round(len(at_once) / warm_up, 1),
            "unpaced_p99_ms": _percentile(at_once, 0.99),
        }
        for client in clients:
            client.times = no_times()
        before = look(clients, 0.0)
        looks = load(clients, minutes * 60, every=SERVERS / RATE)
        looks = [before, *looks, look(clients, minutes)]
        said = errors.read_text(encoding="utf-8", errors="replace")
    return report(clients, looks, said) | unpaced


def load(clients: list[Client], seconds: float, *, every: float) -> list[Look]:
    """All clients at work for that long, a call `every` so many seconds each; a line per minute for who waits.

    Answers what the servers held meanwhile.
    """
    over = threading.Event()
    threads = [threading.Thread(target=client.drive, args=(over, every), daemon=True) for client in clients]
    looks: list[Look] = []
    began = told_at = time.monotonic()
    told = 0
    for thread in threads:
        thread.start()
    try:
        while (now := time.monotonic()) < began + seconds and all(thread.is_alive() for thread in threads):
            looks.append(look(clients, (now - began) / 60))
            if now - told_at >= 60:
                calls = sum(len(times) for client in clients for times in client.times.values())
                print(_line(looks[-1], (calls - told) / (now - told_at), clients), flush=True)
                told_at, told = now, calls
            time.sleep(max(0.0, min(LOOK, began + seconds - now)))
    finally:
        over.set()
        for thread, client in zip(threads, clients, strict=True):
            thread.join(30)
            if thread.is_alive():
                client.wrong.append("no answer for 30 s")
    return looks


def look(clients: list[Client], minutes: float) -> Look:
    """What the servers hold now; of those that are gone nothing."""
    servers = [client.server for client in clients if client.server.process.poll() is None]
    memory, descriptors = [server.memory() for server in servers], [server.descriptors() for server in servers]
    ticks = [int(field) for field in Path("/proc/stat").read_text(encoding="ascii").split("\n", 1)[0].split()[1:]]
    # user, nice, system, irq, softirq, steal: idle and waiting are left out, guests are in user.
    machine = (sum(ticks[:3]) + sum(ticks[5:8])) / os.sysconf("SC_CLK_TCK")
    return Look(minutes, memory, descriptors, sum(server.cpu() for server in servers), machine)


def report(clients: list[Client], looks: list[Look], said: str) -> dict[str, Any]:
    """The result: numbers, and whether the goals are met. The first and the last look are at servers at rest."""
    wrong = [told for client in clients for told in client.wrong]
    for told in wrong[:SHOWN]:
        print(f"wrong: {told}", file=sys.stderr)
    print(said[-2000:], end="", file=sys.stderr)
    by_tool = {tool: _sorted_times(clients, tool) for tool in TOOLS}
    every = _sorted_times(clients)
    first, last = looks[0], looks[-1]
    rate, p99 = len(every) / (last.minutes * 60), _percentile(every, 0.99)
    growth = [after - before for before, after in zip(first.memory, last.memory, strict=False)]
    cpu, machine = last.servers_cpu - first.servers_cpu, last.machine_cpu - first.machine_cpu
    met = {
        "calls": rate >= CALLS_GOAL,
        "p99": p99 < P99_GOAL,
        "answers": not wrong,
        "memory": max(growth, default=0) < GROWTH_GOAL_KIB,
        "descriptors": last.descriptors == first.descriptors,
        "servers_said_nothing": not said,
    }
    tools = {
        f"{tool}_{name}_ms": _percentile(times, part)
        for tool, times in by_tool.items()
        for name, part in (("p50", 0.5), ("p99", 0.99), ("max", 1.0))
    }
    return {
        "minutes": last.minutes,
        "servers": len(clients),
        "ended_runs": ENDED,
        "live_runs": LIVE,
        "calls": len(every),
        "calls_per_second": round(rate, 1),
        "p50_ms": _percentile(every, 0.5),
        "p99_ms": p99,
        **tools,
        "wrong_answers": len(wrong),
        "servers_cpu_ms_per_call": round(cpu * 1000 / max(1, len(every)), 2),
        "servers_share_of_the_machines_work": round(cpu / max(machine, 0.01), 2),
        "memory_kib_after_warm_up": first.memory,
        "memory_kib_at_the_end": last.memory,
        "memory_growth_kib": growth,
        "memory_slope_kib_per_minute": [round(_slope(looks, number), 1) for number in range(len(last.memory))],
        "descriptors_after_warm_up": first.descriptors,
        "descriptors_at_the_end": last.descriptors,
        "each_minute_memory_kib": [sum(one.memory) for one in _minutely(looks)],
        "each_minute_descriptors": [sum(one.descriptors) for one in _minutely(looks)],
        "goals": {"calls_per_second": CALLS_GOAL, "p99_ms": P99_GOAL, "memory_growth_kib": GROWTH_GOAL_KIB},
        "met": met,
        "goal_met": all(met.values()),
    }


@contextmanager
def ended_by_signals() -> Generator[None]:
    """SIGTERM and SIGINT end what is done inside as an exception does, once; what cleans up isn't disturbed."""

    def end(number: int, _frame: object) -> None:
        for one in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(one, signal.SIG_IGN)
        raise SystemExit(128 + number)

    handler: Callable[[int, object], None] = end
    before = {one: signal.signal(one, handler) for one in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, former in before.items():
            signal.signal(number, former)


def _sorted_times(clients: list[Client], *tools: str) -> list[float]:
    """Seconds of all calls, or of those of some tools."""
    return sorted(seconds for client in clients for tool in tools or TOOLS for seconds in client.times[tool])


def _line(now: Look, rate: float, clients: list[Client]) -> str:
    held = f"{sum(now.memory) / 1024:.1f} MiB, {sum(now.descriptors)} descriptors"
    wrong = sum(len(client.wrong) for client in clients)
    lately = sorted(time for client in clients for times in client.times.values() for time in times[-500:])
    p99 = _percentile(lately, 0.99)
    return f"{now.minutes:5.1f} min  {rate:6.1f} calls/s  p99 {p99} ms lately  {held}  {wrong} wrong"


def _percentile(ordered: list[float], part: float) -> float:
    """Milliseconds, of sorted seconds."""
    return round(ordered[min(len(ordered) - 1, int(len(ordered) * part))] * 1000, 1) if ordered else 0.0


def _slope(looks: list[Look], server: int) -> float:
    """KiB per minute, by least squares."""
    if len(looks) < 2:
        return 0.0
    xs, ys = [one.minutes for one in looks], [one.memory[server] for one in looks]
    mean_x, mean_y = sum(xs) / len(xs), sum(ys) / len(ys)
    above = sum((x - mean_x) * (y - mean_y) for x, y in zip(xs, ys, strict=True))
    return above / (sum((x - mean_x) ** 2 for x in xs) or 1.0)


def _minutely(looks: list[Look]) -> list[Look]:
    """The first look of each minute."""
    seen: dict[int, Look] = {}
    for one in looks:
        seen.setdefault(int(one.minutes), one)
    return list(seen.values())
