"""What a trainer says of itself while it lives, and where it stands when it doesn't go on."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import anyio
import pytest
from programs import edit_snapshot, events, until, until_file
from training_runs import Train, failure_of, injected, result_of

from model_trainer.executors.paths import RunPaths
from model_trainer.services.app import App
from model_trainer.services.runs import view as run_view
from model_trainer.trainer import records

pytestmark = pytest.mark.anyio

#: Every record that a trainer writes, kept beside the one that replaces it.
KEEPS_RECORDS = """
from pathlib import Path
from trainer_snapshot.trainer.heartbeat import Heartbeat
write = Heartbeat.write
def kept(self):
    write(self)
    with open({said!r}, "a", encoding="utf-8") as file:
        file.write(" ".join(Path(self._path).read_text(encoding="utf-8").split("\\n")) + "\\n")
Heartbeat.write = kept
"""

#: A training step that doesn't come back before `go` is there.
WAITS = """
import time
from pathlib import Path
from transformers import Trainer
step = Trainer.training_step
def waits_for_the_word():
    Path({folder!r}, "up").write_text("up\\n", encoding="utf-8")
    while not Path({folder!r}, "go").exists():
        time.sleep(0.01)
def training_step(self, *args, **kwargs):
    if self.state.global_step == 2:
        waits_for_the_word()
    return step(self, *args, **kwargs)
Trainer.training_step = training_step
"""

#: A fifth training step that never ends.
HANGS = """
import ctypes, threading
from transformers import Trainer
step = Trainer.training_step
def stands_still():
    %s
def training_step(self, *args, **kwargs):
    if self.state.global_step == 4:
        stands_still()
    return step(self, *args, **kwargs)
Trainer.training_step = training_step
"""

#: What it stands still in: a wait in which Python handles signals, and one in C that holds the interpreter's lock, so
#: that no line of Python runs in any thread.
STANDS_IN = {
    "an event that never comes": "threading.Event().wait()",
    "a lock of C": "c = ctypes.PyDLL(None); m = ctypes.create_string_buffer(64); "
    "c.pthread_mutex_lock(m); c.pthread_mutex_lock(m)",
}


def stacks(run: RunPaths) -> list[Path]:
    return sorted(run.latest_attempt().root.glob("stacks-*.txt"))


async def test_a_trainer_tells_each_phase_and_the_times_that_it_takes(
    app: App, train: Train, workspace: Path, fork_python: Path, monkeypatch: pytest.MonkeyPatch
):
    said_to = workspace / "said.jsonl"
    code = KEEPS_RECORDS.format(said=str(said_to))
    monkeypatch.setenv("MODEL_TRAINER_PYTHON", str(injected(workspace, fork_python, code)))
    run = await train(training={"max_steps": 8, "save_steps": 4, "eval_strategy": "steps", "eval_steps": 4})
    before = records.clock()
    await result_of(app, run)
    said = [json.loads(line) for line in said_to.read_text(encoding="utf-8").splitlines()]
    steps = ["train", "evaluate", "save", "between"]
    assert changes(said) == ["load", "evaluate", *steps, *steps, "evaluate", "finish"]
    clocks = [one["clock"] for one in said]
    assert clocks == sorted(clocks)
    assert clocks[-1] <= records.clock()
    assert clocks[-1] > before
    assert [one["done"] for one in said] == sorted(one["done"] for one in said)
    # Nothing is told that isn't known yet: the first step says nothing of the others, nor does no save of a save.
    assert all(one["step_seconds"] is None for one in said if one["done"] == 0)
    first_save = next(number for number, one in enumerate(said) if one["phase"] == "between")
    assert all(one["save_seconds"] is None for one in said[:first_save])
    assert all(one["save_seconds"] > 0 for one in said[first_save:])
    last = said[-1]
    assert (last["done"], last["total"], last["eta_seconds"]) == (8, 8, 0.0)
    assert 0 < last["step_seconds"] < clocks[-1] - clocks[0]
    # What is left takes as long as what was done, at the pace seen so far: 4 of 8 steps.
    half = next(one for one in said if one["phase"] == "save")
    assert half["done"] == 4
    assert 0 <= half["eta_seconds"] <= 2 * (half["clock"] - clocks[0])
    # The record that is left is the last one said.
    assert records.read_json(run.attempt(1).progress) == last
    # Nobody asked for stacks: there is no empty file of them.
    assert stacks(run) == []


def changes(said: list[dict[str, Any]]) -> list[str]:
    """The phases in their order, each as often as it was entered."""
    phases = [one["phase"] for one in said]
    return [phase for number, phase in enumerate(phases) if number == 0 or phase != phases[number - 1]]


async def test_a_trainer_says_where_it_stands_when_asked_and_goes_on(
    app: App, train: Train, workspace: Path, fork_python: Path, monkeypatch: pytest.MonkeyPatch
):
    code = WAITS.format(folder=str(workspace))
    monkeypatch.setenv("MODEL_TRAINER_PYTHON", str(injected(workspace, fork_python, code)))
    run = await train(training={"max_steps": 4}, eval_dataset=None)
    await until_file(workspace / "up")
    (told,) = stacks(run)
    assert told.stat().st_size == 0
    os.kill((await until(run, "running"))["pid"], signal.SIGUSR1)
    with anyio.fail_after(60):
        while "training_step" not in told.read_text(encoding="utf-8"):
            await anyio.sleep(0.01)
    (workspace / "go").touch()
    result = await result_of(app, run)
    assert result["steps"] == 4
    text = told.read_text(encoding="utf-8")
    assert "waits_for_the_word" in text
    assert "most recent call first" in text


async def test_a_trainer_that_fails_leaves_no_empty_stacks(app: App, train: Train, workspace: Path):
    rows = workspace / "odd.jsonl"
    rows.write_text('{"question": "a", "answer": "b"}\n' * 4, encoding="utf-8")
    run = await train(datasets=[{"path": str(rows)}])
    assert (await failure_of(app, run)).reason == "bad_data"
    assert stacks(run) == []


@pytest.mark.parametrize("where", STANDS_IN.values(), ids=STANDS_IN)
async def test_a_training_that_stands_still_is_ended_as_hung_and_says_where(
    app: App, train: Train, workspace: Path, fork_python: Path, monkeypatch: pytest.MonkeyPatch, where: str
):
    # It needn't be given half a minute to end by itself: it can't.
    edit_snapshot(app, "executors/watching.py", "_HUNG_GRACE = 30.0", "_HUNG_GRACE = 0.5")
    monkeypatch.setenv("MODEL_TRAINER_PYTHON", str(injected(workspace, fork_python, HANGS % where)))
    run = await train(training={"max_steps": 9}, eval_dataset=None, guards={"stall_minutes": 0.05})
    failed = await failure_of(app, run)
    assert failed.reason == "hung"
    assert "limit 3 s" in failed.detail
    (told,) = stacks(run)
    assert "stands_still" in told.read_text(encoding="utf-8")
    hung = next(row for row in events(run) if row["event"] == "hung")
    assert hung["stacks"] == [told.name]
    # A hang is not tried again: it may be the config's, and would cost the same hours once more.
    assert [row for row in events(run) if row["event"] == "recovering"] == []
    next_step = (await run_view.get(app, run.id)).next_step
    assert f"{told.parent}/stacks-*.txt" in next_step
    assert f"resume_run(run_id={run.id!r})" in next_step
