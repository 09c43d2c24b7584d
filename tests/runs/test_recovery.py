"""A run that fails goes on by itself where that changes nothing that the user asked for; small programs train."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
from programs import SUCCEEDS, events, program, start, supervisor_of, until, until_file

from model_trainer.executors import host, local, states
from model_trainer.executors.paths import RunPaths
from model_trainer.executors.queueing import Pool
from model_trainer.executors.recovering import with_training
from model_trainer.services.app import App
from model_trainer.services.configs import loading as configs
from model_trainer.services.configs.schema import Config
from model_trainer.services.runs import life as runs
from model_trainer.services.runs import view as run_view
from model_trainer.trainer import records, yaml12

pytestmark = pytest.mark.anyio

POLICY: dict[str, Any] = {"interrupted": "resume", "oom_gpu": "shrink_batch", "communication_retries": 2}
ONE = Pool("cpu", ("cpu-0",), 1)

#: $4 is the attempt's folder; its name is the attempt's number.
FAILS = """printf '{"outcome": "failed", "reason": "%s", "detail": "as told"}' > "$4/result.json"; exit 1"""
STEP = """printf '{"done": %s, "total": 9, "message": "", "phase": "train"}' > "$4/progress.json"; """


def fails_until(folder: Path, attempt: int, reason: str) -> Path:
    """A trainer whose first attempts fail for `reason` at step 7, and then succeed."""
    fails = f'if [ "$(basename "$4")" -lt {attempt} ]; then {FAILS % reason}; fi'
    return program(folder, f"{STEP % 7}{fails}; {SUCCEEDS}")


def recoveries(run: RunPaths) -> list[dict[str, Any]]:
    return [row for row in events(run) if row["event"] == "recovering"]


def config_text(**training: Any) -> str:
    return configs.dump_config(
        Config.model_validate({"model": {"name": "/m"}, "datasets": [{"path": "/d"}], "training": training})
    )


def told(run: RunPaths, attempt: int) -> dict[str, Any]:
    record = records.read_json(run.attempt(attempt).root / "attempt.json")
    assert record is not None
    return record


async def test_out_of_gpu_memory_goes_on_with_half_the_batch_and_twice_the_accumulation(app: App, workspace: Path):
    training = {"per_device_train_batch_size": 8, "gradient_accumulation_steps": 1, "learning_rate": 1e-4}
    run = await start(
        app,
        fails_until(workspace, 3, "oom_gpu"),
        recovery={**POLICY, "training": training},
        config_text=config_text(**training),
        pool=ONE,
    )
    assert (await runs.wait(app, run, seconds=60)).status == "succeeded"
    assert [row["changes"] for row in recoveries(run)] == [
        {"per_device_train_batch_size": [8, 4], "gradient_accumulation_steps": [1, 2]},
        {"per_device_train_batch_size": [4, 2], "gradient_accumulation_steps": [2, 4]},
    ]
    third = configs.load_config(run.attempt(3).config).config
    first = configs.load_config(run.attempt(1).config).config
    assert third.training == {**training, "per_device_train_batch_size": 2, "gradient_accumulation_steps": 4}
    assert first.training == training
    # The whole way from what was asked, for who reads only this record.
    assert told(run, 3)["changes"] == {"per_device_train_batch_size": [8, 2], "gradient_accumulation_steps": [1, 4]}
    assert told(run, 3)["resume"] is True
    assert (told(run, 1)["resume"], told(run, 1)["why"]) == (False, None)
    view = await run_view.get(app, run.id)
    assert view.attempt == 3
    assert "per_device_train_batch_size 8 → 4, gradient_accumulation_steps 1 → 2" in view.recoveries[0]
    assert "after oom_gpu at step 7" in view.text()
    # Its slot was its own all the time.
    assert [row["event"] for row in events(run)].count("leased") == 1


async def test_when_nothing_is_left_to_try_the_run_says_what_was_tried_and_proposes(app: App, workspace: Path):
    training = {"per_device_train_batch_size": 2, "gradient_checkpointing": False}
    python = fails_until(workspace, 99, "oom_gpu")
    run = await start(
        app, python, recovery={**POLICY, "training": training}, config_text=config_text(**training), pool=ONE
    )
    state = await runs.wait(app, run, seconds=60)
    assert isinstance(state, states.Failed)
    assert state.reason == "oom_gpu"
    assert "as told; not recovered: after 1 smaller batches; what is left changes the training" in state.detail
    assert run.latest_attempt().number == 3
    assert configs.load_config(run.attempt(3).config).config.training["gradient_checkpointing"] is True
    assert "max_length" in (await run_view.get(app, run.id)).next_step


@pytest.mark.parametrize("reason", ["diverged", "bad_data", "user_code", "hung"])
async def test_what_would_happen_again_is_not_tried_again(app: App, workspace: Path, reason: str):
    run = await start(app, fails_until(workspace, 2, reason), recovery=POLICY)
    state = await runs.wait(app, run, seconds=60)
    assert state == states.Failed(reason=reason, detail="as told")  # pyright: ignore[reportArgumentType]
    assert recoveries(run) == []


async def test_a_config_whose_numbers_cannot_be_changed_ends_the_run_and_says_so(app: App, workspace: Path):
    run = await start(app, fails_until(workspace, 2, "oom_gpu"), recovery=POLICY, config_text="version: 1\n")
    state = await runs.wait(app, run, seconds=60)
    assert isinstance(state, states.Failed)
    assert "no plain training section" in state.detail


async def test_two_failures_at_the_same_step_end_it(app: App, workspace: Path):
    run = await start(app, fails_until(workspace, 9, "communication"), recovery=POLICY)
    state = await runs.wait(app, run, seconds=60)
    assert isinstance(state, states.Failed)
    assert state.reason == "communication"
    assert "not recovered: it failed twice at step 7" in state.detail
    assert len(recoveries(run)) == 1


async def test_a_stop_counts_also_between_two_attempts(app: App, workspace: Path):
    run = await start(app, fails_until(workspace, 9, "communication"), recovery=POLICY)
    await until(run, "recovering")
    assert local.request_stop(run)
    assert await runs.wait(app, run, seconds=60) == states.Cancelled()
    assert not run.attempt(2).result.exists()


#: Waits for SIGTERM in its first attempt, says that it stopped, and succeeds in its second.
SAVES_AT_TERM = f"""if [ "$(basename "$4")" = 1 ]; then
trap 'printf "{{\\"outcome\\": \\"stopped\\", \\"steps\\": 4}}" > "$4/result.json"; exit 0' TERM
{STEP % 4} echo ready > "$4/ready"; while :; do sleep 0.05; done; fi; {SUCCEEDS}"""


async def test_a_trainer_that_is_sent_term_from_outside_was_preempted_and_is_gone_on_with(app: App, workspace: Path):
    run = await start(app, program(workspace, SAVES_AT_TERM), recovery=POLICY)
    await until_file(run.attempt(1).root / "ready")
    os.kill((await until(run, "running"))["pid"], signal.SIGTERM)
    assert (await runs.wait(app, run, seconds=60)).status == "succeeded"
    (recovery,) = recoveries(run)
    assert (recovery["reason"], recovery["step"]) == ("preempted", 4)
    assert "SIGTERM from outside" in recovery["detail"]
    ended = records.read_json(run.attempt(1).exit_json)
    assert ended is not None
    assert ended["outcome"]["failed"] == "preempted"


async def test_term_to_the_supervisor_is_a_preemption_and_no_wish_of_the_user(app: App, workspace: Path):
    run = await start(app, program(workspace, SAVES_AT_TERM), recovery={**POLICY, "interrupted": "stop"})
    await until_file(run.attempt(1).root / "ready")
    os.kill(supervisor_of(run), signal.SIGTERM)
    state = await runs.wait(app, run, seconds=60)
    assert isinstance(state, states.Failed)
    assert state.reason == "preempted"
    assert "with a checkpoint at step 4" in state.detail
    assert "recovery.interrupted is stop" in state.detail
    assert "resume_run" in (await run_view.get(app, run.id)).next_step


async def test_a_request_to_stop_stays_one_where_term_comes_too(app: App, workspace: Path):
    run = await start(app, program(workspace, SAVES_AT_TERM), recovery=POLICY)
    await until_file(run.attempt(1).root / "ready")
    assert local.request_stop(run)
    os.kill(supervisor_of(run), signal.SIGTERM)
    assert await runs.wait(app, run, seconds=60) == states.Cancelled()
    assert recoveries(run) == []


async def test_what_an_attempt_left_is_dead_before_the_next_one_begins(app: App, workspace: Path):
    orphan = '(setsid sh -c \'echo $$ > "$1/orphan"; exec sleep 600\' orphan "$4" &)'
    waits = 'while [ ! -s "$4/orphan" ]; do sleep 0.02; done'
    body = f"""if [ "$(basename "$4")" = 1 ]; then {orphan}; {waits}; {FAILS % "oom_gpu"}; fi
read pid < "$4/../1/orphan"; if grep -q sleep /proc/$pid/cmdline; then exit 9; fi; {SUCCEEDS}"""
    training = {"per_device_train_batch_size": 2}
    run = await start(
        app,
        program(workspace, body),
        recovery={**POLICY, "training": training},
        config_text=config_text(**training),
    )
    assert (await runs.wait(app, run, seconds=60)).status == "succeeded"
    assert host.identify(int(await until_file(run.attempt(1).root / "orphan"))) is None


async def test_the_hours_of_a_run_are_those_of_all_its_attempts(app: App, workspace: Path):
    training = {"per_device_train_batch_size": 64}
    body = f"sleep 0.5; {FAILS % 'oom_gpu'}"
    run = await start(
        app,
        program(workspace, body),
        recovery={**POLICY, "training": training},
        config_text=config_text(**training),
        max_hours=1.2 / 3600,
    )
    state = await runs.wait(app, run, seconds=60)
    assert isinstance(state, states.Failed)
    assert state.reason == "timeout"
    assert run.latest_attempt().number in (2, 3)


def test_the_config_of_a_recovered_attempt_is_one_that_the_trainer_reads():
    text = with_training(config_text(learning_rate=2e-4), {"per_device_train_batch_size": 4})
    assert yaml12.load(text)["training"] == {"per_device_train_batch_size": 4, "learning_rate": 2e-4}
    assert yaml12.load(text)["model"]["name"] == "/m"
