"""write_config: from a former config or run, with overrides, to a checked file."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest
from config_samples import MINIMAL, WriteFile

from model_trainer.executors.errors import ArgumentError, ConfigError, DataError, EnvironmentFault, RunError
from model_trainer.services.app import App
from model_trainer.services.configs import emit as config_emit
from model_trainer.services.configs import files as config_files
from model_trainer.services.configs import loading as configs
from model_trainer.services.configs import text as config_text
from model_trainer.services.configs.keys import InstalledKeys, installed_keys
from model_trainer.services.configs.results import WriteConfigResult
from model_trainer.services.configs.writing import WriteRequest, write_config
from model_trainer.services.environment.environments import find_environment
from model_trainer.services.result import TEXT_LIMIT
from model_trainer.trainer import records

pytestmark = pytest.mark.anyio


async def rewrite(app: App, overrides: dict[str, Any] | None = None, **given: Any) -> WriteConfigResult:
    """write_config from the workspace's config.yaml."""
    request: dict[str, Any] = {"path": "new.yaml", "base": "config.yaml", "overrides": overrides} | given
    return await write_config(app, WriteRequest(**request))


async def test_the_probe_reads_what_is_really_installed(probed: tuple[Path, InstalledKeys]) -> None:
    cache, keys = probed
    sft, lora = keys.training["trl.SFTConfig"], keys.peft["lora"]
    assert sft["learning_rate"].types == ("float",)
    assert sft["learning_rate"].default == 2e-5
    assert sft["packing"].types == ("bool",)
    assert "int" in sft["max_length"].types
    assert "none" in sft["max_length"].types
    assert set(sft["eval_strategy"].choices or ()) == {"no", "steps", "epoch"}
    assert "max_seq_length" not in sft
    assert lora["bias"].choices == ("none", "all", "lora_only")
    assert lora["r"].help
    assert keys.versions["trl"]
    assert len(list(cache.glob("keys-*.json"))) == 1


async def test_known_keys_are_not_read_a_second_time(ready: App, probed: tuple[Path, InstalledKeys]) -> None:
    # Nothing can answer here: the snapshot folder that children import from is a file.
    (ready.home.code).rmdir()
    ready.home.code.write_text("", encoding="utf-8")
    environment = await anyio.to_thread.run_sync(find_environment, ready)
    assert await installed_keys(ready, environment) == probed[1]


async def test_a_former_config_with_overrides_keeps_its_comments(ready: App, write_file: WriteFile) -> None:
    write_file(MINIMAL)
    result = await rewrite(ready, {"training.learning_rate": 1e-4, "peft": {"r": 16}, "training": {"packing": True}})
    text = Path(result.path).read_text(encoding="utf-8")
    assert "# What we train, and why." in text
    assert "r: 16 # small on purpose" in text.replace("  #", " #")
    assert "learning_rate: 1e-4" in text
    assert result.warnings == []
    assert "-  learning_rate: 2e-4" in result.diff
    assert "+  learning_rate: 1e-4" in result.diff
    assert "+  packing: true" in result.diff
    assert result.next_step == f"launch_run(config={result.path!r})"
    assert result.digest == configs.load_config(Path(result.path)).digest
    for part in (result.path, result.digest, "+  packing: true", "Next: launch_run"):
        assert part in result.text()


async def test_null_takes_a_key_out_or_means_itself(ready: App, write_file: WriteFile) -> None:
    write_file(MINIMAL)
    overrides = {"peft": None, "training.learning_rate": None, "training.max_length": None, "eval_dataset": None}
    result = await rewrite(ready, overrides)
    config = configs.load_config(Path(result.path)).config
    assert config.peft is None
    assert config.eval_dataset is None
    assert config.training == {"max_length": None}


async def test_the_next_step_of_a_refusal_corrects_it(ready: App, write_file: WriteFile) -> None:
    write_file(MINIMAL.replace("max_length: 256", "max_seq_length: 256"))
    with pytest.raises(ConfigError) as refused:
        await rewrite(ready)
    assert refused.value.code == "stale_key"
    assert 'overrides={"training.max_length": 256, "training.max_seq_length": null}' in refused.value.next_step
    result = await rewrite(ready, {"training.max_length": 256, "training.max_seq_length": None})
    assert configs.load_config(Path(result.path)).config.training["max_length"] == 256


INSTALLED: list[tuple[dict[str, Any], str, str, str]] = [
    ({"training.learning_rat": 1e-4}, "unknown_key", "nearest: learning_rate", '"training.learning_rate": 0.0001'),
    ({"training.zzzzzz": 1}, "unknown_key", "config --schema", '"training.zzzzzz": null'),
    ({"training.target_modules": "all-linear"}, "unknown_key", "under peft", '"peft.target_modules": "all-linear"'),
    ({"peft.learning_rate": 1e-4}, "unknown_key", "under training", '"training.learning_rate"'),
    ({"peft.lora_alfa": 16}, "unknown_key", "nearest: lora_alpha", '"peft.lora_alpha": 16'),
    ({"training.packing": "true"}, "invalid_config", "write true", '"training.packing": true'),
    ({"training.packing": 1}, "invalid_config", "true or false", "training.packing"),
    ({"training.eval_strategy": "step"}, "invalid_config", "nearest: steps", '"training.eval_strategy": "steps"'),
    ({"training.eval_strategy": False}, "invalid_config", "is not text", "training.eval_strategy"),
    ({"training.optim": "adamw"}, "invalid_config", "none of", "training.optim"),
    ({"training.eval_on_start": "on"}, "invalid_config", "write true", "training.eval_on_start"),
    ({"training.torch_empty_cache_steps": "5"}, "invalid_config", "without quotes", "training.torch_empty"),
    ({"training.optim_args": 5}, "invalid_config", "text or null", "training.optim_args"),
    ({"peft.bias": "some"}, "invalid_config", "none of none, all, lora_only", "peft.bias"),
    ({"peft.target_modules": 7}, "invalid_config", "text or a list or null", "peft.target_modules"),
]


@pytest.mark.parametrize(("overrides", "code", "says", "next_step"), INSTALLED, ids=lambda v: str(v)[:40])
async def test_keys_and_values_are_checked_against_what_is_installed(
    ready: App, write_file: WriteFile, overrides: dict[str, Any], code: str, says: str, next_step: str
) -> None:
    write_file(MINIMAL)
    with pytest.raises(ConfigError) as refused:
        await rewrite(ready, overrides)
    assert refused.value.code == code
    assert says in refused.value.message
    assert next_step in refused.value.next_step
    assert not (ready.workspace or Path()).joinpath("new.yaml").exists()


async def test_values_that_look_odd_but_are_valid_pass(ready: App, write_file: WriteFile) -> None:
    write_file(MINIMAL)
    overrides = {
        "training.num_train_epochs": 1,
        "training.warmup_steps": 0.1,
        "training.lr_scheduler_kwargs": {"num_cycles": 2},
        "training.pad_to_multiple_of": 8,
        "peft.init_lora_weights": "pissa_niter_16",
        "peft.target_modules": ["q_proj", "v_proj"],
        "peft.lora_alpha": 16,
    }
    assert (await rewrite(ready, overrides)).warnings == []


async def test_without_a_training_environment_keys_are_called_unchecked(
    app: App, write_file: WriteFile, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MODEL_TRAINER_PYTHON", str(tmp_path / "none"))
    write_file(MINIMAL)
    (warning,) = (await rewrite(app, {"training.anything": 1})).warnings
    assert "unchecked" in warning
    assert "model-trainer setup" in warning
    with pytest.raises(ConfigError, match="renamed"):
        await rewrite(app, {"training.evaluation_strategy": "steps"}, path="other.yaml")


async def test_an_environment_that_lacks_a_package_is_named(
    ready: App, write_file: WriteFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_file(MINIMAL)
    if "wandb" in find_environment(ready).versions:
        pytest.skip("wandb is installed here")
    with pytest.raises(EnvironmentFault) as refused:
        await rewrite(ready, {"tracking.report_to": "wandb"})
    assert refused.value.code == "package_missing"
    assert "uv pip install" in refused.value.next_step


async def test_another_file_is_never_overwritten_unasked(ready: App, write_file: WriteFile, workspace: Path) -> None:
    write_file(MINIMAL)
    target = workspace / "new.yaml"
    target.write_text("mine: true\n", encoding="utf-8")
    with pytest.raises(ConfigError) as refused:
        await rewrite(ready)
    assert refused.value.code == "config_exists"
    assert "overwrite=true" in refused.value.next_step
    assert target.read_text(encoding="utf-8") == "mine: true\n"
    result = await rewrite(ready, overwrite=True)
    assert result.backup == str(workspace / "new.yaml.bak")
    assert (workspace / "new.yaml.bak").read_text(encoding="utf-8") == "mine: true\n"
    again = await rewrite(ready)
    assert not again.written
    assert sorted(path.name for path in workspace.iterdir()) == [
        "config.yaml",
        "data.jsonl",
        "new.yaml",
        "new.yaml.bak",
    ]


async def test_of_two_servers_that_write_at_once_one_wins_and_the_other_is_told(workspace: Path) -> None:
    path = workspace / "c.yaml"
    filling = "# filling\n" * 20_000
    texts = [f"version: 1\n# {number}\n{filling}" for number in range(8)]
    outcomes: list[str] = []

    def write(text: str) -> None:
        try:
            config_files.write(path, text, overwrite=False)
            outcomes.append("wrote")
        except ConfigError as error:
            outcomes.append(error.code)

    async with anyio.create_task_group() as group:
        for text in texts:
            group.start_soon(anyio.to_thread.run_sync, write, text)
    assert sorted(outcomes) == ["config_exists"] * 7 + ["wrote"]
    assert path.read_text(encoding="utf-8") in texts

    def replace(text: str) -> None:
        config_files.write(path, text, overwrite=True)

    async with anyio.create_task_group() as group:
        for text in texts:
            group.start_soon(anyio.to_thread.run_sync, replace, text)
    assert path.read_text(encoding="utf-8") in texts
    assert path.with_name("c.yaml.bak").read_text(encoding="utf-8") in texts
    assert len(list(workspace.iterdir())) == 2


@pytest.mark.parametrize(
    "given",
    [
        {"base": None},
        {"plan": "plan-x"},
        {"run": "r"},
        {"alternative": "qlora"},
        {"path": "config.txt"},
        {"path": "."},
        {"overrides": {"a.b": float("nan")}},
        {"overrides": {"datasets.7.path": "x"}},
        {"overrides": {"method.x": 1}},
        {"overrides": {"training": {"x": "\ud800"}}},
        {"overrides": {"training": {"x": "\x1b[2J"}}},
    ],
    ids=str,
)
async def test_a_wrong_call_is_refused_with_the_right_one(
    ready: App, write_file: WriteFile, given: dict[str, Any]
) -> None:
    write_file(MINIMAL)
    with pytest.raises(ArgumentError) as refused:
        await rewrite(ready, **given)
    assert refused.value.code == "invalid_arguments"
    assert refused.value.next_step.startswith("Call")


async def test_nothing_is_written_into_the_state_folder(ready: App, write_file: WriteFile) -> None:
    write_file(MINIMAL)
    with pytest.raises(ArgumentError, match="state folder"):
        await rewrite(ready, path=str(ready.home.root / "c.yaml"))
    with pytest.raises(ArgumentError, match="state folder"):
        await rewrite(ready, path=str(ready.home.runs / "x" / ".." / "c.yaml"))


async def test_a_relative_path_needs_a_workspace(ready: App) -> None:
    alone = App(home=ready.home, settings=ready.settings, workspace=None)
    with pytest.raises(ArgumentError) as refused:
        await rewrite(alone)
    assert refused.value.code == "no_workspace"


async def test_data_that_are_not_there_are_named_before_anything_is_written(
    ready: App, write_file: WriteFile, workspace: Path
) -> None:
    write_file(MINIMAL)
    with pytest.raises(DataError) as refused:
        await rewrite(ready, {"datasets.0.path": "gone.jsonl"})
    assert refused.value.code == "file_not_found"
    assert not (workspace / "new.yaml").exists()


async def test_a_config_written_elsewhere_still_points_at_the_same_data(
    ready: App, write_file: WriteFile, workspace: Path
) -> None:
    write_file(MINIMAL)
    result = await rewrite(ready, path="sub/new.yaml")
    loaded = configs.load_config(Path(result.path))
    assert loaded.config.datasets[0].path == str(workspace / "data.jsonl")
    assert loaded.config.model.name == "org/model"
    assert "# small on purpose" in loaded.text
    assert loaded.digest == configs.load_config(workspace / "config.yaml").digest


async def test_a_former_runs_config_can_be_taken_up(ready: App, write_file: WriteFile) -> None:
    loaded = configs.load_config(write_file(MINIMAL))
    run = ready.home.new_run("20261123-000000-sft-abcde")
    run.root.mkdir(parents=True)
    records.write_json(run.run_json, {"id": run.id})
    run.config.write_text(
        configs.dump_config(configs.resolve_config(loaded.config, loaded.path.parent)), encoding="utf-8"
    )
    result = await rewrite(ready, {"training.num_train_epochs": 3}, base=None, run=run.id)
    text = Path(result.path).read_text(encoding="utf-8")
    assert text.startswith(f"# Model Trainer config, written by write_config from run {run.id}.\n")
    assert "num_train_epochs: 3" in result.diff
    with pytest.raises(RunError):
        await rewrite(ready, base=None, run="../../etc")


async def test_a_large_change_is_shown_within_bounds(ready: App, write_file: WriteFile) -> None:
    write_file(MINIMAL)
    many = [{"path": "data.jsonl", "columns": {"prompt": "p" * 50, "completion": f"c{n}"}} for n in range(60)]
    result = await rewrite(ready, {"datasets": many})
    assert len(result.diff.splitlines()) <= 40
    assert "more lines]" in result.diff
    assert len(result.text()) <= TEXT_LIMIT


async def test_the_server_reads_configs_without_training_packages() -> None:
    code = "import sys, model_trainer.services.configs; print(sorted({'torch','trl','yaml'} & set(sys.modules)))"
    done = await anyio.run_process([sys.executable, "-c", code])
    assert done.stdout.strip() == b"[]"


async def test_an_unreadable_cache_is_read_anew_and_not_an_error(ready: App) -> None:
    (path,) = ready.home.cache.glob("keys-*.json")
    path.write_text("{}", encoding="utf-8")
    keys = await installed_keys(ready, find_environment(ready))
    assert "learning_rate" in keys.training["trl.SFTConfig"]
    assert config_text.parse(config_emit.dump({"a": 1}), "c").data == {"a": 1}
