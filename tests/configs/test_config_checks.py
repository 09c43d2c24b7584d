"""Bad configs, each refused with a code, the key, its line, and what to write."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from config_samples import MINIMAL, WriteFile

from model_trainer.executors.errors import ConfigError, DataError, ModelError, ModelTrainerError
from model_trainer.services.configs import emit as config_emit
from model_trainer.services.configs import loading as configs
from model_trainer.services.configs import text as config_text
from model_trainer.services.configs.checks import validate
from model_trainer.services.configs.schema import Config
from model_trainer.trainer import yaml12
from model_trainer.trainer.contract import METHODS, STALE_ARGUMENTS

BASE: dict[str, Any] = config_text.parse(MINIMAL, "c").data


def changed(path: str, value: object) -> dict[str, Any]:
    """The minimal config with one value changed; `...` takes the key out."""
    data = copy.deepcopy(BASE)
    *parents, last = path.split(".")
    place: Any = data
    for part in parents:
        place = place[int(part)] if isinstance(place, list) else place.setdefault(part, {})
    if value is ...:
        del place[last]
    else:
        place[last] = value
    return data


def refusal(data: dict[str, Any]) -> ConfigError:
    """How a config with this data is refused."""
    document = config_text.parse(config_emit.dump(data), "/w/config.yaml")
    with pytest.raises(ConfigError) as refused:
        validate(document)
    return refused.value


def warnings_of(data: dict[str, Any]) -> list[str]:
    return validate(config_text.parse(config_emit.dump(data), "/w/config.yaml"))[1]


def test_the_minimal_config_is_fine() -> None:
    assert warnings_of(BASE) == []


BAD: list[tuple[str, object, str, str, str]] = [
    # key, value, code, part of the message, part of the next step
    ("method", "sfft", "unknown_method", "nearest: sft", '"method": "sft"'),
    ("method", "zzz", "unknown_method", "classify, seq2seq, mlm", "method"),
    ("method", True, "unknown_method", "true is no training method", "method"),
    ("method", None, "unknown_method", "null is no", "method"),
    ("method", ["sft"], "unknown_method", "a list is no", "method"),
    ("method", "dpo", "method_unavailable", "trains sft", '"method": "sft"'),
    ("modle", {"name": "a/b"}, "unknown_key", "nearest: model", '"model": {"name": "a/b"}, "modle": null'),
    ("model.nmae", "x", "unknown_key", "nearest: name", '"model.name"'),
    ("datasets.0.weigth", 2, "unknown_key", "nearest: weight", '"datasets.0.weight"'),
    ("learning_rate", 1e-4, "unknown_key", "belongs under training", '"training.learning_rate": 0.0001'),
    ("lora_alpha", 16, "unknown_key", "belongs under peft", '"peft.lora_alpha": 16'),
    (
        "training.max_seq_length",
        512,
        "stale_key",
        "write max_length: 512",
        '"training.max_length": 512, "training.max_seq_length": null',
    ),
    ("training.evaluation_strategy", "steps", "stale_key", "eval_strategy", '"training.eval_strategy": "steps"'),
    ("training.overwrite_output_dir", True, "stale_key", "Take the key out", '"training.overwrite_output_dir": null'),
    ("training.output_dir", "/tmp/x", "invalid_config", "own folder", "training.output_dir"),
    ("training.push_to_hub", True, "invalid_config", "step of its own", "training.push_to_hub"),
    ("training.report_to", "wandb", "invalid_config", "under tracking", "training.report_to"),
    ("peft.task_type", "CAUSAL_LM", "invalid_config", "follows from method", "peft.task_type"),
    ("peft.type", ..., "invalid_config", "write type: lora", '"peft.type": "lora"'),
    ("peft.type", "ia3", "invalid_config", "not in this version", '"peft.type": "lora"'),
    ("peft.r", 0, "invalid_config", "out of range", "peft.r"),
    ("peft.r", 8.5, "invalid_config", "a whole number", "peft.r"),
    ("peft.lora_dropout", 1, "invalid_config", "below 1", "peft.lora_dropout"),
    ("peft.lora_alpha", -16, "invalid_config", "out of range", "peft.lora_alpha"),
    ("training.learning_rate", 0, "invalid_config", "above 0", "training.learning_rate"),
    ("training.learning_rate", -2e-4, "invalid_config", "out of range", "training.learning_rate"),
    ("training.learning_rate", 2, "invalid_config", "to 1", "training.learning_rate"),
    ("training.learning_rate", True, "invalid_config", "true is not a number", "training.learning_rate"),
    ("training.learning_rate", "2e-4", "invalid_config", "without quotes", '"training.learning_rate": 0.0002'),
    ("training.learning_rate", None, "invalid_config", "null is not", "training.learning_rate"),
    ("training.num_train_epochs", -1, "invalid_config", "out of range", "training.num_train_epochs"),
    ("training.max_steps", 0, "invalid_config", "or -1", "training.max_steps"),
    ("training.per_device_train_batch_size", 0, "invalid_config", "from 1", "batch_size"),
    (
        "training.per_device_train_batch_size",
        8.0,
        "invalid_config",
        "write 8",
        '"training.per_device_train_batch_size": 8',
    ),
    ("training.gradient_accumulation_steps", -4, "invalid_config", "out of range", "accumulation"),
    ("training.max_length", 4, "invalid_config", "from 8", "training.max_length"),
    ("training.max_grad_norm", -1, "invalid_config", "out of range", "training.max_grad_norm"),
    ("training.weight_decay", 10**18, "invalid_config", "out of range", "training.weight_decay"),
    ("training", "fast", "invalid_config", "'fast'", "training"),
    ("model", ..., "invalid_config", "missing", "model"),
    ("model.name", ..., "invalid_config", "model.name", "model.name"),
    ("model.name", "", "invalid_config", "model.name", "model.name"),
    ("model.dtype", "bf16", "invalid_config", "bfloat16", "model.dtype"),
    ("datasets", [], "invalid_config", "datasets", "datasets"),
    ("datasets", "data.jsonl", "invalid_config", "list", "datasets"),
    ("datasets.0.weight", True, "invalid_config", "not a number", "datasets.0.weight"),
    ("datasets.0.weight", "2", "invalid_config", "number", "datasets.0.weight"),
    ("datasets.0.columns", {"text": "t", "tools": "u", "prompt": "p"}, "fine", "", ""),
    ("datasets.0.columns", {"question": "q"}, "invalid_config", "sft needs prompt, completion", "datasets.0.columns"),
    ("datasets.0.columns", {}, "invalid_config", "no columns", "datasets.0.columns"),
    ("eval_dataset", {"fraction": 0.1, "path": "x"}, "invalid_config", "either fraction", "eval_dataset"),
    ("eval_dataset", {}, "invalid_config", "null for no evaluation", "eval_dataset"),
    ("eval_dataset.fraction", 1.5, "invalid_config", "less than 1", "eval_dataset.fraction"),
    ("resources.gpus", True, "invalid_config", "not a number", "resources.gpus"),
    ("resources.gpus", "1", "invalid_config", "integer", "resources.gpus"),
    ("resources.where", "moon", "invalid_config", "local", "resources.where"),
    ("resources.max_hours", -1, "invalid_config", "greater than 0", "resources.max_hours"),
    ("guards.stall_minutes", 0, "invalid_config", "above 0", "guards"),
    ("guards.stall_minutes", "soon", "invalid_config", "auto", "guards.stall_minutes"),
    ("version", 2, "invalid_config", "version", "version"),
    ("version", "1", "invalid_config", "version", "version"),
    ("environment", "../x", "invalid_config", "environment", "environment"),
]


@pytest.mark.parametrize(("key", "value", "code", "says", "next_step"), BAD, ids=lambda v: str(v)[:40])
def test_a_bad_value_is_named_and_the_right_one_shown(
    key: str, value: object, code: str, says: str, next_step: str
) -> None:
    data = changed(key, value)
    if code == "fine":
        warnings_of(data)
        return
    error = refusal(data)
    assert error.code == code
    assert says in error.message
    assert next_step in error.next_step
    assert len(error.message) < 800
    assert len(error.next_step) < 800


def test_the_line_of_the_wrong_key_is_named(write_file: WriteFile) -> None:
    path = write_file(MINIMAL.replace("max_length: 256", "max_seq_length: 256"))
    with pytest.raises(ConfigError) as refused:
        configs.load_config(path)
    assert f"training.max_seq_length (line 15 of {path})" in refused.value.message
    assert "line 15" in refused.value.next_step
    assert f"base={str(path)!r}" in refused.value.next_step


def test_a_token_is_refused_and_never_quoted() -> None:
    secret = "hf_" + "aBcD1234" * 4
    for key in ("training.hub_tokn", "training.hub_token", "tokn", "model.token", "datasets.0.path"):
        error = refusal(changed(key, secret))
        assert "access token" in error.message
        assert secret not in error.message + error.next_step


def test_every_further_problem_is_named_too() -> None:
    data = changed("model.dtype", "bf16")
    data["resources"] = {"gpus": -1, "where": "moon"}
    message = refusal(data).message
    assert all(key in message for key in ("model.dtype", "resources.where", "resources.gpus"))


@pytest.mark.parametrize("name", sorted(STALE_ARGUMENTS))
def test_every_stale_argument_is_refused_with_what_to_do(name: str) -> None:
    error = refusal(changed(f"training.{name}", 1))
    assert error.code == "stale_key"
    now = STALE_ARGUMENTS[name][0]
    assert f"training.{now or name}" in error.next_step


@pytest.mark.parametrize("name", sorted(name for name, method in METHODS.items() if method.module is None))
def test_a_method_of_a_later_version_is_called_unavailable(name: str) -> None:
    assert refusal(changed("method", name)).code == "method_unavailable"


RULES: list[tuple[dict[str, object], str, str]] = [
    ({"quantization": "nf4", "peft": None}, "The config", "quantization needs peft"),
    ({"training.packing": True, "training.max_length": None}, "training.max_length", "packing"),
    ({"training.padding_free": True}, "training.padding_free", "TRL refuses"),
    ({"training.eval_strategy": "steps", "eval_dataset": None}, "training.eval_strategy", "no eval_dataset"),
    ({"training.load_best_model_at_end": True}, "training.load_best_model_at_end", "no and steps"),
    (
        {"training.load_best_model_at_end": True, "training.eval_strategy": "epoch"},
        "training.load_best_model_at_end",
        "epoch and steps",
    ),
    (
        {
            "training.load_best_model_at_end": True,
            "training.eval_strategy": "steps",
            "training.eval_steps": 30,
            "training.save_steps": 100,
        },
        "training.save_steps",
        "multiple of eval_steps (30)",
    ),
    ({"training.save_strategy": "best"}, "training.save_strategy", "eval_strategy"),
    ({"training.save_steps": 1.5}, "training.save_steps", "whole"),
    ({"training.bf16": True, "training.fp16": True}, "training.fp16", "exclude"),
    ({"training.fp16": True}, "training.fp16", "exclude"),
    ({"model.dtype": "float16", "resources.gpus": 1, "peft": None}, "model.dtype", "fp16 scaling"),
    ({"training.tf32": True}, "training.tf32", "GPU"),
    ({"training.dataloader_prefetch_factor": 2}, "training.dataloader_prefetch_factor", "workers"),
    (
        {"training.completion_only_loss": True, "datasets.0.columns": {"messages": "chat"}},
        "training.completion_only_loss",
        "silently",
    ),
    (
        {"training.assistant_only_loss": True, "datasets.0.columns": {"text": "body"}},
        "training.assistant_only_loss",
        "no assistant turns",
    ),
    ({"eval_dataset": {"path": "e.jsonl", "columns": {"q": "q"}}}, "eval_dataset.columns", "sft needs"),
]


def merged(changes: dict[str, object]) -> dict[str, Any]:
    data = copy.deepcopy(BASE)
    for path, value in changes.items():
        *parents, last = path.split(".")
        place: Any = data
        for part in parents:
            place = place[int(part)] if isinstance(place, list) else place.setdefault(part, {})
        place[last] = value
    return data


@pytest.mark.parametrize(("changes", "key", "says"), RULES, ids=lambda v: str(v)[:50])
def test_a_combination_that_cannot_train_is_refused(changes: dict[str, object], key: str, says: str) -> None:
    error = refusal(merged(changes))
    assert error.code == "invalid_config"
    assert error.message.startswith(f"{key} ")
    assert says in error.message


WARNED: list[tuple[dict[str, object], str]] = [
    ({"evaluation": {"metrics": ["loss"]}}, "evaluation.metrics: it has no effect"),
    ({"tracking": {"project": "mine"}}, "tracking.project: it has no effect"),
    ({"training.fp16": True, "training.bf16": False}, "on the CPU"),
    ({"model.dtype": "float16"}, "on the CPU"),
    ({"training.save_only_model": True}, "optimizer and schedule anew"),
    ({"training.save_strategy": "no"}, "no checkpoint"),
    ({"training.max_steps": 10, "training.num_train_epochs": 2}, "max_steps"),
    ({"peft.target_modules": ["q_proj", "lm_head"]}, "lm_head"),
    ({"training.learning_rate": 2e-6}, "low for LoRA"),
    ({"training.learning_rate": 0.02}, "high for LoRA"),
    ({"training.learning_rate": 1e-3, "peft": None}, "high for full fine-tuning"),
    ({"training.optim": "paged_adamw_8bit"}, "paging needs a GPU"),
    ({"quantization": "nf4"}, "on the CPU"),
]


@pytest.mark.parametrize(("changes", "says"), WARNED, ids=lambda v: str(v)[:50])
def test_a_combination_that_may_not_be_meant_is_warned_of(changes: dict[str, object], says: str) -> None:
    (warning,) = warnings_of(merged(changes))
    assert says in warning


def test_good_combinations_pass() -> None:
    good: tuple[dict[str, object], ...] = (
        {"training.packing": True},
        {"training.eval_strategy": "no"},
        {"training.load_best_model_at_end": True, "training.eval_strategy": "steps", "training.eval_steps": 250},
        {"training.load_best_model_at_end": True, "training.eval_strategy": "epoch", "training.save_strategy": "epoch"},
        {"training.optim": "adamw_8bit"},
        {"training.max_length": None},
        {"model.dtype": "float32", "training.fp16": True, "resources.gpus": 1},
        {"model.dtype": "float16", "resources.gpus": 1},
        {"datasets.0.columns": {"messages": "chat"}, "training.assistant_only_loss": True},
    )
    for changes in good:
        assert warnings_of(merged(changes)) == [], changes


def test_a_written_config_loads_to_the_same_config_and_the_trainer_reads_it(workspace: Path) -> None:
    config, _ = validate(config_text.parse(MINIMAL, "c"))
    text = configs.dump_config(config)
    again, _ = validate(config_text.parse(text, "c"))
    assert again == config
    assert list(yaml12.load(text)) == list(Config.model_fields)
    assert Config.model_validate(yaml12.load(text)) == config


def test_the_digest_is_of_the_meaning_alone(write_file: WriteFile, workspace: Path) -> None:
    first = configs.load_config(write_file(MINIMAL)).digest
    assert len(first) == 16
    data = copy.deepcopy(BASE)
    reordered = dict(reversed(data.items()))
    reordered["training"] = {"max_length": 256.0 and 256, "learning_rate": 0.0002}
    reordered["resources"] = {"gpus": 0}
    assert configs.load_config(write_file("# other words\n" + config_emit.dump(reordered))).digest == first
    reordered["datasets"][0]["path"] = str(workspace / "data.jsonl")
    assert configs.load_config(write_file(config_emit.dump(reordered))).digest == first
    reordered["training"]["learning_rate"] = 0.0003
    assert configs.load_config(write_file(config_emit.dump(reordered))).digest != first


def test_relative_paths_count_from_the_configs_folder_and_hub_ids_stay(workspace: Path) -> None:
    (workspace / "models").mkdir()
    (workspace / "models" / "tiny").mkdir()
    (workspace / "t.jinja").write_text("x", encoding="utf-8")
    (workspace / "part-1.jsonl").write_text("{}\n", encoding="utf-8")
    data = copy.deepcopy(BASE)
    data["model"] = {"name": "models/tiny", "chat_template": "t.jinja"}
    data["datasets"] = [{"path": "part-*.jsonl"}, {"path": "org/dataset"}]
    data["eval_dataset"] = {"path": "./part-1.jsonl"}
    config, _ = validate(config_text.parse(json.dumps(data), "c"))
    resolved = configs.resolve_config(config, workspace)
    assert resolved.model.name == str(workspace / "models" / "tiny")
    assert resolved.model.chat_template == str(workspace / "t.jinja")
    assert [entry.path for entry in resolved.datasets] == [str(workspace / "part-*.jsonl"), "org/dataset"]
    assert resolved.eval_dataset is not None
    assert resolved.eval_dataset.path == str(workspace / "part-1.jsonl")
    assert configs.resolve_config(resolved, Path("/")) == resolved


@pytest.mark.parametrize(
    ("key", "value", "kind", "code"),
    [
        ("datasets.0.path", "missing.jsonl", DataError, "file_not_found"),
        ("datasets.0.path", "data/missing.jsonl", DataError, "file_not_found"),
        ("datasets.0.path", "none-*.jsonl", DataError, "file_not_found"),
        ("datasets.0.path", "none/**/*.jsonl", DataError, "file_not_found"),
        ("eval_dataset", {"path": "missing.csv"}, DataError, "file_not_found"),
        ("model.chat_template", "missing.jinja", DataError, "file_not_found"),
        ("model.name", "./missing", ModelError, "model_not_found"),
        ("model.name", "missing", ModelError, "model_not_found"),
        ("model.name", "~nobody-of-that-name/x", ModelError, "model_not_found"),
    ],
)
def test_what_is_not_there_is_named_with_its_key(
    write_file: WriteFile, workspace: Path, key: str, value: object, kind: type[ModelTrainerError], code: str
) -> None:
    path = write_file(config_emit.dump(changed(key, value)))
    with pytest.raises(kind) as refused:
        configs.resolve_config(configs.load_config(path).config, workspace)
    assert refused.value.code == code
    assert key.split(".")[0] in refused.value.message
    assert refused.value.next_step
