"""Base and tuned answer the same prompts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from training_runs import Train, result_of, write_rows

from model_trainer.executors.errors import EnvironmentFault, LimitError, RunError
from model_trainer.executors.paths import RunPaths
from model_trainer.services.app import App
from model_trainer.services.result import TEXT_LIMIT
from model_trainer.services.runs import sampling
from model_trainer.services.runs.sampling import SampleRequest
from model_trainer.trainer import records

pytestmark = pytest.mark.anyio

#: Enough for the tiny model to learn one answer by heart.
BY_HEART: dict[str, Any] = {"max_steps": 60, "learning_rate": 2e-2}


def one_answer(workspace: Path) -> str:
    rows = [{"prompt": f"def f{i}(x):", "completion": " return the return the"} for i in range(64)]
    return write_rows(workspace / "one.jsonl", rows)


async def test_an_adapter_answers_as_trained_and_the_base_without_it(app: App, workspace: Path, train: Train):
    data = one_answer(workspace)
    lora = await train(datasets=[{"path": data}], eval_dataset=None, training=BY_HEART)
    whole = await train(datasets=[{"path": data}], eval_dataset=None, peft=None, training=BY_HEART)
    await result_of(app, lora)
    await result_of(app, whole)
    request = SampleRequest(["def f3(x):", "def f5(x):"], max_new_tokens=12)
    first = await sampling.sample(app, lora.id, request)
    assert first.rendering == "plain"
    assert all("return the" in one.tuned.text for one in first.samples)
    assert all("return the" not in one.base.text for one in first.samples)
    assert first.samples[0].tuned.ended
    assert not first.samples[0].base.ended
    # With the adapter off, the base says what the same base says that never had one.
    second = await sampling.sample(app, whole.id, request)
    assert [one.base for one in second.samples] == [one.base for one in first.samples]
    assert all("return the" in one.tuned.text for one in second.samples)
    assert "untrusted" in first.text()
    assert len(first.text()) < TEXT_LIMIT


async def test_chats_are_sampled_through_the_template_and_seeds_repeat(app: App, workspace: Path, train: Train):
    chats = [
        {"messages": [{"role": "user", "content": f"Say {i}"}, {"role": "assistant", "content": f"{i}!"}]}
        for i in range(20)
    ]
    run = await train(
        datasets=[{"path": write_rows(workspace / "chats.jsonl", chats)}], eval_dataset=None, training={"max_steps": 1}
    )
    await result_of(app, run)
    drawn = SampleRequest(["Say 3"], max_new_tokens=8, temperature=1.0, seed=7)
    one = await sampling.sample(app, run.id, drawn)
    assert one.rendering == "chat"
    assert "messages" in one.why_rendering
    assert (await sampling.sample(app, run.id, drawn)).samples == one.samples
    plain = await sampling.sample(app, run.id, SampleRequest(["Say 3"], max_new_tokens=8, rendering="plain"))
    assert plain.rendering == "plain"
    assert plain.samples[0].prompt_tokens < one.samples[0].prompt_tokens
    assert plain.text() == (await sampling.sample(app, run.id, SampleRequest(["Say 3"], 8, rendering="plain"))).text()


def made_run(app: App, name: str, outcome: dict[str, Any] | None, python: Path | None = None) -> RunPaths:
    run = app.home.new_run(name)
    run.attempt(1).root.mkdir(parents=True)
    run.output.mkdir()
    argv = [str(python)] if python else []
    records.write_json(run.run_json, {"schema": 1, "id": run.id, "kind": "train", "request": {}, "argv": argv})
    if outcome is not None:
        records.write_json(run.exit_json, {"outcome": outcome, "exit_code": 0, "seconds": 1.0})
    if outcome and "succeeded" in outcome:
        result = {"outcome": "succeeded", "output": {"kind": "adapter", "path": str(run.output)}, "data": []}
        records.write_json(run.attempt(1).result, result)
    return run


async def test_a_run_that_did_not_succeed_has_nothing_to_sample(app: App):
    run = made_run(app, "20260101-000000-sft-aaaaa", {"failed": "diverged"})
    with pytest.raises(RunError) as caught:
        await sampling.sample(app, run.id, SampleRequest(["a"]))
    assert caught.value.code == "no_output"
    assert run.id in caught.value.next_step


def program(folder: Path, body: str) -> Path:
    path = folder / "python"
    path.write_text(f"#!/bin/sh\n{body}\n", encoding="utf-8")
    path.chmod(0o755)
    return path


async def test_no_answer_in_time_names_smaller_settings(app: App, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sampling, "SECONDS", 0.2)
    run = made_run(app, "20260101-000000-sft-aaaaa", {"succeeded": "planned_end"}, program(tmp_path, "exec sleep 60"))
    with pytest.raises(LimitError) as caught:
        await sampling.sample(app, run.id, SampleRequest(["a"], max_new_tokens=256))
    assert caught.value.code == "timed_out"
    assert "max_new_tokens=64" in caught.value.next_step
    assert run.id in caught.value.next_step


@pytest.mark.parametrize(
    ("problem", "error", "code"),
    [("oom_gpu", LimitError, "too_large"), ("unknown", EnvironmentFault, "environment_incomplete")],
)
async def test_what_stops_the_models_is_said_without_secrets(
    app: App, tmp_path: Path, problem: str, error: type[LimitError | EnvironmentFault], code: str
):
    secret = "hf_" + "aB3" * 10
    answer = f'{{"problem": "{problem}", "detail": "failed with {secret}"}}'
    python = program(tmp_path, f"cat >/dev/null; echo '{answer}'")
    run = made_run(app, "20260101-000000-sft-aaaaa", {"succeeded": "planned_end"}, python)
    with pytest.raises(error) as caught:
        await sampling.sample(app, run.id, SampleRequest(["a"]))
    assert caught.value.code == code
    assert secret not in caught.value.message
