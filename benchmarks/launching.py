"""What detaching and supervising costs: a launch against a bare Popen, and a supervised trivial run against a bare one.

The trainer is a shell script that ends at once: all time is ours.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import anyio

from model_trainer.executors import states
from model_trainer.executors.paths import Home
from model_trainer.services.app import App
from model_trainer.services.runs import life as runs
from model_trainer.services.settings import Settings

LAUNCHES = 20
PROGRAM = """#!/bin/sh
[ -n "$4" ] && printf '{"outcome": "succeeded", "ended_by": "planned_end"}' > "$4/result.json"
exit 0
"""


async def launch(app: App, program: Path) -> tuple[float, float]:
    """Milliseconds to the run's id, and to its recorded end."""
    began = time.perf_counter()
    run = await runs.start(app, runs.Launch(kind="train", python=program, label="bench", request={}))
    launched = time.perf_counter()
    while not run.exit_json.exists():
        await anyio.sleep(0.001)
    ended = time.perf_counter()
    assert states.read_state(run).status == "succeeded"
    return (launched - began) * 1000, (ended - began) * 1000


def bare(command: list[str]) -> float:
    """Milliseconds of the program alone."""
    began = time.perf_counter()
    subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True).wait()
    return (time.perf_counter() - began) * 1000


def median(values: list[float]) -> float:
    return round(statistics.median(values), 1)


def run() -> dict[str, Any]:
    """Medians of launches, in milliseconds."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["MODEL_TRAINER_STATE"] = folder
        program = Path(folder) / "program"
        program.write_text(PROGRAM, encoding="utf-8")
        program.chmod(0o755)
        app = App(home=Home.open(), settings=Settings(), workspace=None)
        anyio.run(launch, app, program)  # the snapshot, and the page cache
        launches: list[float] = []
        lives: list[float] = []
        programs: list[float] = []
        pythons: list[float] = []
        for _ in range(LAUNCHES):
            programs.append(bare([str(program)]))
            pythons.append(bare([sys.executable, "-S", "-c", ""]))
            launched, lived = anyio.run(launch, app, program)
            launches.append(launched)
            lives.append(lived)
    return {
        "launches": LAUNCHES,
        "launch_ms": median(launches),
        "launch_max_ms": round(max(launches), 1),
        "bare_popen_ms": median(programs),
        "bare_python_ms": median(pythons),
        "launch_to_bare_python_ratio": round(statistics.median(launches) / statistics.median(pythons), 2),
        "launch_to_bare_popen_ratio": round(statistics.median(launches) / statistics.median(programs), 2),
        "supervised_trivial_run_ms": median(lives),
        "supervision_adds_ms": round(statistics.median(lives) - statistics.median(programs), 1),
    }
