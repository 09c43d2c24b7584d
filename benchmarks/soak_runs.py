"""What `soak` loads its servers with: a state folder of runs that have ended and runs that really live.

Live runs are the real thing, each with a supervisor of its own; their trainer is a small program that writes a row of
metrics and its progress every half second, for as long as the benchmark holds the lifeline: a benchmark that dies, even
by SIGKILL, lets go of it, and they end by themselves.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import anyio

from model_trainer.executors import local, states, sweeping
from model_trainer.executors.locking import holding
from model_trainer.executors.paths import Home, RunPaths
from model_trainer.executors.snapshot import snapshot
from model_trainer.services.app import App
from model_trainer.services.runs import life
from model_trainer.services.settings import Settings
from model_trainer.trainer import pyramid, records

from .watching import make_run, write_rows

#: Rows of metrics of a run that has ended.
ROWS = 300
#: Seconds for all live runs to end once the lifeline is let go.
END_SECONDS = 60.0

_LIVE = """
import sys, time
from pathlib import Path
from trainer_snapshot.trainer import pyramid, records

attempt, lifeline = Path(sys.argv[1]), Path(sys.argv[2])
writer = pyramid.MetricsWriter(attempt / "metrics.jsonl")
step, total = 0, 1_000_000
while records.is_locked(lifeline):
    step += 1
    loss = round(1.5 + 2 / step, 4)
    row = {"step": step, "epoch": step / total, "at": "2026-01-01T00:00:00.000Z", "loss": loss, "grad_norm": 1.25}
    writer.append({**row, "learning_rate": 2e-4, "num_tokens": step * 512.0, "mean_token_accuracy": 0.71})
    said = {"done": step, "total": total, "eta_seconds": 60.0, "message": f"step {step} of {total}", "phase": "train"}
    told = {**said, "clock": time.clock_gettime(time.CLOCK_BOOTTIME), "step_seconds": 0.5, "save_seconds": None}
    records.write_json(attempt / "progress.json", told)
    time.sleep(0.5)
records.write_json(attempt / "result.json", {"outcome": "succeeded", "ended_by": "planned_end"})
"""


@dataclass(frozen=True)
class World:
    """The runs, and what is true of them."""

    app: App
    ended: Mapping[str, tuple[str, int]]
    """By id, the newest last: status, and bytes on the disk."""
    live: tuple[RunPaths, ...]

    @property
    def newest_first(self) -> list[str]:
        return sorted([*self.ended, *(run.id for run in self.live)], reverse=True)


@contextmanager
def made_world(root: Path, ended: int, live: int) -> Generator[World]:
    """That many runs in a new state folder; the live ones are over, and nothing of them is left, after the block.

    Raises:
        AssertionError: something of a live run was left, or one didn't end well.
    """
    state = root / "state"
    home = Home(root=state, runs=state / "runs")
    for folder in (state, home.runs, home.plans, home.envs, home.code, home.cache, home.locks):
        folder.mkdir(mode=0o700)
    app = App(home=home, settings=Settings(), workspace=None)
    print(f"making {ended:,} ended runs", flush=True)
    made = dict(_ended_run(app, number) for number in range(ended))
    lifeline = root / "lifeline"
    print(f"starting {live} live runs", flush=True)
    try:
        with holding(lifeline):
            program = _program(root, lifeline)
            started = tuple(anyio.run(_start, app, program) for _ in range(live))
            assert min(run.id for run in started) > max(made, default="")
            yield World(app, made, started)
    finally:
        print("ending the live runs", flush=True)
        # By what is there: a launch that was interrupted may have made one more.
        _end([app.home.run(run_id) for run_id in life.run_ids(app) if run_id not in made])
    for run in started:
        state_now = states.read_state(run)
        assert state_now.status == "succeeded", f"{run.id}: {state_now}"


async def _start(app: App, program: Path) -> RunPaths:
    request = {"model": "org/model-0.6B", "method": "sft"}
    launch = life.Launch(
        kind="train", python=program, label="sft", request=request, environment={"HOME": str(app.home.root)}
    )
    return await life.start(app, launch)


def _program(root: Path, lifeline: Path) -> Path:
    """A training environment's Python that runs `_LIVE` whatever it is asked."""
    script, program = root / "live.py", root / "program"
    script.write_text(_LIVE, encoding="utf-8")
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -S -P {script} "$4" {lifeline}\n', encoding="utf-8")
    program.chmod(0o755)
    return program


def _end(live: list[RunPaths]) -> None:
    """Wait for the live runs' ends; those that don't come are forced. Nothing is left behind."""
    give_up = time.monotonic() + END_SECONDS
    while time.monotonic() < give_up and any(records.is_locked(run.lock) for run in live):
        time.sleep(0.1)
    for run in live:
        if records.is_locked(run.lock):
            # A supervisor carries no mark, but it ends once it may stop and its trainer is dead.
            local.request_stop(run)
            sweeping.kill_marked(run.id)
    for run in live:
        # A supervisor holds its lock until it has ended.
        while time.monotonic() < give_up + END_SECONDS and records.is_locked(run.lock):
            time.sleep(0.1)
        left = [pid for pid, _ in sweeping.marked(run.id)]
        assert not left, f"{run.id}: processes {left} are left"
        assert not records.is_locked(run.lock), f"{run.id}: its supervisor is left"


def _ended_run(app: App, number: int) -> tuple[str, tuple[str, int]]:
    """A run's folder as it is left at the end: code, history, 300 rows with their summaries, checkpoints, output."""
    run = make_run(app, number, checkpoints=3)
    # Linked, not copied: readers see the same.
    shutil.copytree(snapshot(app.home), run.code, copy_function=os.link)
    attempt = run.attempt(1)
    for file in (run.config, attempt.config):
        file.write_text("method: sft\nmodel: {name: org/model-0.6B}\n", encoding="utf-8")
    supervisor = {"pid": 1, "start": 1, "boot": "0"}
    for event in ({"event": "starting", "supervisor": supervisor}, {"event": "running"}, {"event": "ended"}):
        records.append_line(run.events, {"at": "2026-01-01T00:00:00.000Z", "t": 0.0, "attempt": 1, **event})
    write_rows(attempt.metrics, ROWS)
    pyramid.rebuild(attempt.metrics)
    attempt.log.write_text("a line of the log\n" * 50, encoding="utf-8")
    run.output.mkdir()
    (run.output / "adapter_model.safetensors").write_bytes(b"x" * 1000)
    said = {"done": ROWS, "total": ROWS, "eta_seconds": 0.0, "message": f"step {ROWS} of {ROWS}"}
    made = {"kind": "adapter", "path": str(run.output), "tensors": 4, "bytes": 1000}
    result = {"outcome": "succeeded", "ended_by": "planned_end", "output": made, "metrics": {"train_loss": 1.5}}
    # Without the fsync of a real writer, which costs minutes for thousands of files.
    for path, record in ((attempt.progress, said), (attempt.result, result), (attempt.exit_json, {"code": 0})):
        path.write_text(json.dumps(record, indent=1), encoding="utf-8")
    return run.id, (states.read_state(run).status, _bytes(run.root))


def _bytes(folder: Path) -> int:
    """By another way than the service's."""
    total = 0
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError):
            total += 0 if path.is_dir() else path.lstat().st_size
    return total
