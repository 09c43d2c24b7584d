"""The whole tool: real data, a real tokenizer, the hardware that is here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from planning_toys import LLAMA, model_folder

from model_trainer.executors import states
from model_trainer.executors.errors import (
    ArgumentError,
    ConfigError,
    DataError,
    ModelError,
    ModelTrainerError,
    PlanError,
)
from model_trainer.services.app import App, no_progress
from model_trainer.services.configs import loading as configs
from model_trainer.services.configs.schema import Turns
from model_trainer.services.planning.planning import PlanRequest, plan
from model_trainer.services.planning.results import PlanResult
from model_trainer.services.planning.store import load_plan
from model_trainer.services.result import TEXT_LIMIT
from model_trainer.services.runs import launching
from model_trainer.services.runs import life as runs

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def forked(fork_python: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODEL_TRAINER_PYTHON", str(fork_python))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")


def write(folder: Path, name: str, rows: list[dict[str, Any]]) -> str:
    (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return name


async def ask(app: App, dataset: str, **more: Any) -> PlanResult:
    return await plan(app, PlanRequest(dataset=dataset, **more))


async def refused(app: App, dataset: str, **more: Any) -> ModelTrainerError:
    with pytest.raises(ModelTrainerError) as caught:
        await ask(app, dataset, **more)
    assert caught.value.next_step
    return caught.value


async def test_pairs_and_a_tiny_model_become_a_plan_that_trl_accepts(app: App, pairs: Path, tiny_model: Path) -> None:
    answer = await ask(app, str(pairs), model=str(tiny_model))
    assert answer.plan_id is not None
    assert answer.recommended is not None
    kept = load_plan(app.home, answer.plan_id)
    assert kept.config == answer.recommended.config
    assert kept.config.datasets[0].path == str(pairs)
    assert kept.config.model.name == str(tiny_model.resolve())
    assert answer.recommended.label == "full"
    assert "rows measured" in answer.data
    for option in (answer.recommended, *answer.alternatives):
        assert await configs.check_keys(app, option.config) == []
        configs.resolve_config(option.config, Path("/"))
    text = answer.text()
    assert answer.plan_id in text
    assert "full (recommended)" in text
    assert f"write_config(path='config.yaml', plan='{answer.plan_id}')" in text
    assert len(text) < TEXT_LIMIT


async def test_a_plan_is_written_and_read_as_yaml_unchanged(app: App, pairs: Path, tiny_model: Path) -> None:
    answer = await ask(app, str(pairs), model=str(tiny_model))
    assert answer.recommended is not None
    for option in (answer.recommended, *answer.alternatives):
        path = app.home.root / f"{option.label}.yaml"
        path.write_text(configs.dump_config(option.config), encoding="utf-8")
        assert configs.load_config(path).config == option.config


async def test_without_a_model_three_are_proposed_and_no_plan_is_kept(app: App, pairs: Path) -> None:
    answer = await ask(app, str(pairs))
    assert answer.plan_id is None
    assert len(answer.models) == 3
    assert list(app.home.plans.iterdir()) == []
    assert any("guessed" in warning for warning in answer.warnings)
    assert answer.models[0].revision in answer.next_step


async def test_a_relative_path_is_of_the_workspace_and_refused_without_one(app: App, workspace: Path) -> None:
    model = model_folder(workspace / "m")
    name = write(workspace, "data.jsonl", [{"text": f"some text {n}"} for n in range(60)])
    answer = await ask(app, name, model="m")
    assert answer.recommended is not None
    assert answer.recommended.config.datasets[0].path == str(workspace / name)
    # Its tokenizer is no tokenizer: lengths are guessed, and that is said.
    assert any("guessed" in warning for warning in answer.warnings)
    lost = App(home=app.home, settings=app.settings, workspace=None)
    for path in ("data.jsonl", "data/train.jsonl", "./data"):
        with pytest.raises(ArgumentError) as caught:
            await ask(lost, path, model=str(model))
        assert caught.value.code == "no_workspace"


async def test_columns_that_need_a_mapping_are_refused_with_the_call_that_has_it(app: App, workspace: Path) -> None:
    rows = [{"question": f"what is {n}?", "answer": f"it is {n}"} for n in range(60)]
    name = write(workspace, "qa.jsonl", rows)
    error = await refused(app, name)
    assert isinstance(error, DataError)
    assert error.code == "wrong_columns"
    assert 'columns={"prompt": "question", "completion": "answer"}' in error.next_step
    model_folder(workspace / "m")
    answer = await ask(app, name, model="m", columns={"prompt": "question", "completion": "answer"})
    assert answer.recommended is not None
    assert answer.recommended.config.datasets[0].columns == {"prompt": "question", "completion": "answer"}


async def test_a_foreign_chat_is_refused_with_its_turns(app: App, workspace: Path) -> None:
    turns = [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "hello"}]
    name = write(workspace, "sharegpt.jsonl", [{"conversations": turns, "n": n} for n in range(60)])
    error = await refused(app, name)
    assert error.code == "wrong_columns"
    quoted = error.next_step.partition("turns=")[2].rpartition(")")[0]
    given = Turns.model_validate_json(quoted)
    assert given.roles == {"human": "user", "gpt": "assistant"}
    model_folder(workspace / "m")
    answer = await ask(app, name, model="m", columns={"messages": "conversations"}, turns=given)
    assert answer.recommended is not None
    assert answer.recommended.config.datasets[0].turns == given


async def test_preference_data_are_for_methods_to_come(app: App, workspace: Path) -> None:
    rows = [{"prompt": f"p{n}", "chosen": f"good {n}", "rejected": f"bad {n}"} for n in range(60)]
    name = write(workspace, "pref.jsonl", rows)
    error = await refused(app, name)
    assert isinstance(error, ConfigError)
    assert error.code == "method_unavailable"
    assert "dpo" in error.message
    assert '"completion": "chosen"' in error.next_step


@pytest.mark.parametrize(
    ("method", "code"), [("dpo", "method_unavailable"), ("grpo", "method_unavailable"), ("sfft", "unknown_method")]
)
async def test_a_method_that_is_not_there_is_refused(app: App, pairs: Path, method: str, code: str) -> None:
    error = await refused(app, str(pairs), method=method)
    assert error.code == code
    assert "sft" in error.message


async def test_a_missing_file_and_an_empty_one_are_refused(app: App, workspace: Path) -> None:
    assert (await refused(app, "nothing.jsonl")).code == "file_not_found"
    (workspace / "empty.jsonl").write_text("", encoding="utf-8")
    assert (await refused(app, "empty.jsonl")).code == "empty_dataset"


async def test_a_broken_line_is_named(app: App, workspace: Path) -> None:
    lines = [json.dumps({"text": f"text {n}"}) for n in range(2000)]
    lines[1536] = '{"text": "cut'
    (workspace / "broken.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    error = await refused(app, "broken.jsonl")
    assert error.code == "bad_format"
    assert "broken.jsonl:1537" in error.message


async def test_a_model_that_does_not_fit_is_refused_before_anything_is_kept(
    app: App, pairs: Path, workspace: Path
) -> None:
    huge = {**LLAMA, "hidden_size": 65536, "intermediate_size": 262144, "num_hidden_layers": 200}
    model_folder(workspace / "huge", huge)
    error = await refused(app, str(pairs), model="huge")
    assert isinstance(error, PlanError)
    assert error.code == "nothing_fits"
    assert list(app.home.plans.iterdir()) == []


async def test_an_encoder_is_refused_for_what_generates(app: App, pairs: Path, workspace: Path) -> None:
    config = {
        "model_type": "bert",
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "vocab_size": 100,
    }
    model_folder(workspace / "bert", config)
    error = await refused(app, str(pairs), model="bert")
    assert isinstance(error, ModelError)
    assert error.code == "model_unsupported"


async def test_an_evaluation_set_is_looked_at_too(app: App, workspace: Path) -> None:
    model_folder(workspace / "m")
    train = write(workspace, "train.jsonl", [{"text": f"some text {n}"} for n in range(200)])
    good = write(workspace, "eval.jsonl", [{"text": f"other text {n}"} for n in range(20)])
    bad = write(workspace, "bad.jsonl", [{"number": n} for n in range(20)])
    answer = await ask(app, train, model="m", eval_dataset=good)
    assert answer.recommended is not None
    held_out = answer.recommended.config.eval_dataset
    assert held_out is not None
    assert held_out.path == str(workspace / good)
    assert (await refused(app, train, model="m", eval_dataset=bad)).code == "wrong_columns"


async def test_a_plan_trains_as_it_was_planned(app: App, pairs: Path, tiny_model: Path) -> None:
    answer = await ask(app, str(pairs), model=str(tiny_model))
    assert answer.recommended is not None
    path = app.home.root / "planned.yaml"
    path.write_text(configs.dump_config(answer.recommended.config), encoding="utf-8")
    launched = await launching.launch(app, str(path), again=False, key=None)
    run = app.home.run(launched.run_id)
    state = await runs.wait(app, run, seconds=120, progress=no_progress)
    assert states.is_over(state)
    result = runs.read_result(run)
    assert result is not None
    assert result["outcome"] == "succeeded", result
    # Packed rows have gaps that are only known once they are packed.
    assert result["steps"] == pytest.approx(answer.recommended.steps, rel=0.05)
    assert result["metrics"]["eval_loss"] < result["metrics"]["eval_loss_before"]
