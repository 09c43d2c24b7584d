"""The model card says what the records say, and what nobody knows it says too."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hub.fixtures import TOKEN
from hub.state import Hub
from publishing_card import lines_that_load
from pushes import Trained, published, push

from model_trainer.executors.paths import RunPaths
from model_trainer.services.app import App
from model_trainer.trainer import records

pytestmark = pytest.mark.anyio


def front_matter(card: str) -> dict[str, Any]:
    """The metadata as the Hub reads it."""
    from huggingface_hub import ModelCard

    return ModelCard(card).data.to_dict()


async def card_of(app: App, run: RunPaths, destination: str = "ada/tiny") -> str:
    card = (await push(app, run, destination, dry_run=True)).card
    assert card is not None
    return card


def change(path: Path, **changed: Any) -> dict[str, Any]:
    """A record of the run with some of its fields changed."""
    record = records.read_json(path)
    assert record is not None
    record |= changed
    records.write_json(path, record)
    return record


def trained_from(run: RunPaths, tiny_model: Path, base: str, commit: str | None) -> None:
    """Make the run's records those of a training that began from this model of the Hub."""
    text = run.config.read_text(encoding="utf-8")
    assert str(tiny_model) in text
    run.config.write_text(text.replace(str(tiny_model), base), encoding="utf-8")
    change(run.attempt(1).result, base_commit=commit)


async def test_numbers_data_and_versions_are_those_of_the_records(app: App, trained: Trained, pairs: Path) -> None:
    run = await trained("adapter")
    card = await card_of(app, run)
    result = records.read_json(run.attempt(1).result)
    assert result is not None
    measured = result["metrics"]
    assert f"| loss | {measured['eval_loss_before']:.4g} | {measured['eval_loss']:.4g} |" in card
    [data] = result["data"]
    assert f"| {pairs.name} (local) | {data['rows']:,} | prompt_completion | `{data['sha256']}` |" in card
    for name in ("torch", "trl", "peft", "transformers"):
        assert f"{name} {result['versions'][name]}" in card
    assert f"{result['hardware']['count']} cores" in card
    assert run.id in card
    assert f"{result['steps']} steps" in card
    assert "10 % of the rows" in card
    assert "![Loss by step](curve.png)" in card
    assert "learning_rate: 0.01" in card
    assert "LoRA adapter" in card
    assert "## Not checked" in card
    assert "None" not in card
    assert str(pairs.parent) not in card
    assert front_matter(card) == {
        "library_name": "peft",
        "pipeline_tag": "text-generation",
        "tags": ["model-trainer", "trl", "sft", "lora"],
    }


async def test_a_hub_base_is_named_with_its_commit_and_its_licence_is_inherited(
    app: App, hub: Hub, online: str, trained: Trained, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    run = await trained("adapter")
    about = b"---\nlicense: other\nlicense_name: tiny-licence\nlicense_link: https://example.org/l\n---\n# Tiny\n"
    commit = hub.add_repo("model", "acme/tiny", {"README.md": about, "config.json": b"{}"}).head.oid
    trained_from(run, tiny_model, "acme/tiny", commit)
    card = await card_of(app, run)
    data = front_matter(card)
    assert (data["base_model"], data["base_model_relation"]) == ("acme/tiny", "adapter")
    assert (data["license"], data["license_name"]) == ("other", "tiny-licence")
    assert f"[acme/tiny](https://huggingface.co/acme/tiny) at commit `{commit}`" in card
    assert "tiny-licence (https://example.org/l), inherited from the base model" in card
    assert "from_pretrained('ada/tiny')" in card
    await published(app, run)
    config = json.loads(hub.repo("model", "ada/tiny").files["adapter_config.json"])
    assert (config["base_model_name_or_path"], config["revision"]) == ("acme/tiny", commit)


async def test_what_is_not_known_is_said(app: App, trained: Trained, tiny_model: Path) -> None:
    run = await trained("model")
    trained_from(run, tiny_model, "acme/tiny", None)
    result = change(run.attempt(1).result, hardware=None)
    change(run.attempt(1).result, metrics={"train_loss": result["metrics"]["train_loss"]})
    card = await card_of(app, run)
    assert "its commit was not recorded" in card
    assert "The base model's licence is not known here" in card
    assert "license" not in front_matter(card)
    assert "whether the model got better is not known" in card
    assert "hardware: not recorded" in card
    assert front_matter(card)["base_model_relation"] == "finetune"
    assert "None" not in card


async def test_names_from_data_and_models_mean_nothing_to_markdown_or_yaml(app: App, trained: Trained) -> None:
    run = await trained("model")
    evil = '/data/x|<img src=x>](http://evil)\n---\nlicense: mit `code` "quoted" \x1b[31m.jsonl'
    result = records.read_json(run.attempt(1).result)
    assert result is not None
    change(run.attempt(1).result, data=[{**result["data"][0], "path": evil}])
    card = await card_of(app, run, "./it's")
    assert "<img" not in card.replace("\\<img", "")
    assert "\x1b" not in card
    assert "license" not in front_matter(card)
    [row] = [line for line in card.splitlines() if "prompt_completion" in line and line.startswith("|")]
    assert row.count("|") - row.count("\\|") == 5
    for line in lines_that_load(card):
        compile(line, "card", "exec")


async def test_a_licence_that_would_write_into_the_card_is_left_out(
    app: App, trained: Trained, tiny_model: Path, tmp_path: Path
) -> None:
    run = await trained("adapter")
    (tmp_path / "base").mkdir()
    about = {
        "license": "other",
        "license_name": "x\n\n# Pwned",
        "license_link": "https://x)\n\n![t](http://evil/p.png)",
    }
    (tmp_path / "base" / "README.md").write_text(f"---\n{json.dumps(about)}\n---\n", encoding="utf-8")
    trained_from(run, tiny_model, str(tmp_path / "base"), None)
    card = await card_of(app, run)
    assert "evil" not in card
    assert "\n# Pwned" not in card
    assert front_matter(card)["license"] == "other"


async def test_the_folder_of_a_local_base_tells_its_licence(
    app: App, trained: Trained, tiny_model: Path, tmp_path: Path
) -> None:
    run = await trained("adapter")
    base = tmp_path / "base"
    base.mkdir()
    (base / "README.md").write_text("---\nlicense: apache-2.0\n---\n", encoding="utf-8")
    trained_from(run, tiny_model, str(base), None)
    card = await card_of(app, run)
    assert front_matter(card)["license"] == "apache-2.0"
    assert "apache-2.0, inherited from the base model, according to the base model's card" in card
