"""What a preview shows is what would go out: files, sizes, target, card, and a digest that any change voids."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from pushes import Trained, published, push

from model_trainer.executors.errors import ArgumentError, PublishError, RunError
from model_trainer.services.app import App
from model_trainer.services.result import TEXT_LIMIT
from model_trainer.trainer import records

pytestmark = pytest.mark.anyio


async def test_a_preview_needs_no_token_and_no_network_and_lists_exactly_what_would_go_out(
    app: App, trained: Trained
) -> None:
    run = await trained("adapter")
    (run.output / "training_args.bin").write_bytes(b"a pickle")
    (run.output / "train.log").write_text("/home/ada/secret", encoding="utf-8")
    (run.output / "checkpoint-6").mkdir()
    (run.output / "model.safetensors").symlink_to("/etc/passwd")
    seen = await push(app, run, dry_run=True)
    assert [file.path for file in seen.files] == [
        *("README.md", "adapter_config.json", "adapter_model.safetensors", "chat_template.jinja", "curve.png"),
        *("tokenizer.json", "tokenizer_config.json"),
    ]
    assert seen.left_out == ["checkpoint-6", "model.safetensors", "train.log", "training_args.bin"]
    weights = run.output / "adapter_model.safetensors"
    shown = next(file for file in seen.files if file.path == weights.name)
    assert (shown.size, shown.sha256) == (weights.stat().st_size, hashlib.sha256(weights.read_bytes()).hexdigest())
    assert seen.total_bytes == sum(file.size for file in seen.files)
    assert (seen.status, seen.visibility, seen.destination, seen.kind) == ("preview", "private", "ada/tiny", "adapter")
    assert seen.card is not None
    assert "hf auth login" in seen.next_step
    assert seen.confirm in seen.next_step
    assert "nobody is logged in" in seen.notes[0]
    text = seen.text()
    assert len(text) <= TEXT_LIMIT
    assert all(file.path in text for file in seen.files)
    assert seen.card[:200] in text


async def test_the_digest_stays_while_nothing_changes_and_any_change_voids_it(app: App, trained: Trained) -> None:
    run = await trained("adapter")
    first = await push(app, run, dry_run=True)
    assert (await push(app, run, dry_run=True)).confirm == first.confirm
    digests = {first.confirm}

    async def differs(destination: str = "ada/tiny", **more: str) -> None:
        found = await push(app, run, destination, dry_run=True, **more)
        assert found.confirm not in digests
        digests.add(found.confirm)

    await differs(destination="ada/other")
    await differs(visibility="public")
    weights = run.output / "adapter_model.safetensors"
    data = weights.read_bytes()
    weights.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    await differs()
    (run.output / "added_tokens.json").write_text("{}", encoding="utf-8")
    await differs()
    result = run.attempt(1).result
    record = json.loads(result.read_text(encoding="utf-8"))
    record["metrics"]["eval_loss"] += 0.5
    result.write_text(json.dumps(record), encoding="utf-8")
    await differs()


async def test_paths_of_this_machine_are_taken_out_of_configs(app: App, trained: Trained, tiny_model: Path) -> None:
    run = await trained("adapter")
    before = json.loads((run.output / "adapter_config.json").read_text(encoding="utf-8"))
    assert before["base_model_name_or_path"] == str(tiny_model)
    seen = await push(app, run, "./bundle", dry_run=True)
    assert seen.card is not None
    assert str(tiny_model.parent) not in seen.card
    pushed = await published(app, run, "./bundle")
    assert app.workspace is not None
    after = json.loads((app.workspace / "bundle" / "adapter_config.json").read_text(encoding="utf-8"))
    # With `./`, so that it never means a model of the Hub that has the same name.
    assert after == {**before, "base_model_name_or_path": f"./{tiny_model.name}"}
    assert str(app.workspace / "bundle") in str(records.read_json(pushed.attempt(1).result))


KEY = "-----BEGIN OPENSSH " + "PRIVATE KEY-----\nb3BlbnNzaC1rZXk"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("chat_template.jinja", "{{ 'hf_abcdefghijklmnopqrstuv' }}"),
        ("tokenizer_config.json", '{"auth": "password=correct-horse-battery"}'),
        ("vocab.json", '{"the-canary-of-this-machine": 1}'),
        ("vocab.txt", "a\nhf_abcdefghijklmnopqrstuv\n"),
        ("merges.txt", KEY),
        ("chat_template.jinja", "{{ '%(state)s/x' }}"),
        ("tokenizer_config.json", '{"note": "trained from %(home)s/clients/bigco"}'),
        ("tokenizer_config.json", '{"pad": "' + "x" * 2_000_001 + '"}'),
        ("generation_config.json", "\udcff no JSON"),
    ],
    ids=[
        *("a token", "a password", "this machine's own secret", "another's token", "a private key", "a path"),
        *("a path in a sentence", "a config too big", "a config that is none"),
    ],
)
async def test_secrets_and_places_are_refused_and_never_repeated(
    app: App, trained: Trained, monkeypatch: pytest.MonkeyPatch, clean_machine: Path, name: str, content: str
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "the-canary-of-this-machine")
    run = await trained("adapter")
    text = content.replace("%(state)s", str(app.home.root)).replace("%(home)s", str(clean_machine))
    (run.output / name).write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(PublishError) as raised:
        await push(app, run, dry_run=True)
    error = raised.value
    assert error.code == "unsafe_files"
    assert name in error.message
    assert "push_adapter" in error.next_step
    for secret in ("hf_abcdefghijklmnopqrstuv", "correct-horse", "the-canary-of-this-machine", "b3BlbnNzaC1rZXk"):
        assert secret not in error.message + error.next_step


async def test_words_that_happen_to_be_somebodys_password_or_folder_block_nothing(
    app: App, trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = await trained("adapter")
    monkeypatch.setenv("POSTGRES_PASSWORD", "postgres")
    (run.output / "vocab.json").write_text('{"postgres": 1}', encoding="utf-8")
    for workspace in ("/", "/datasets"):
        elsewhere = App(app.home, app.settings, Path(workspace))
        assert (await push(elsewhere, run, dry_run=True)).status == "preview"


async def test_paths_in_any_part_of_the_config_stay_out_of_the_card(app: App, trained: Trained) -> None:
    run = await trained("adapter")
    text = run.config.read_text(encoding="utf-8")
    changed = text.replace("training:\n", "training:\n  accelerator_config: /home/ada/clients/bigco/ds.json\n")
    assert changed != text
    run.config.write_text(changed, encoding="utf-8")
    card = (await push(app, run, dry_run=True)).card
    assert card is not None
    assert "accelerator_config: ds.json" in card
    assert "bigco" not in card


async def test_what_is_too_much_for_an_answer_lies_in_a_folder_that_it_names(app: App, trained: Trained) -> None:
    run = await trained("model")
    for number in range(80):
        (run.output / f"model-{number:05d}-of-00080.safetensors").write_bytes(b"\0" * 16)
    seen = await push(app, run, dry_run=True)
    assert len(seen.files) == 60
    assert seen.file_count > 80
    assert f"and {seen.file_count - 60} more" in seen.text()
    assert len(seen.text()) <= TEXT_LIMIT
    assert seen.details is not None
    listed = json.loads((Path(seen.details) / "files.json").read_text(encoding="utf-8"))["files"]
    assert len(listed) == seen.file_count
    assert (Path(seen.details) / "README.md").read_text(encoding="utf-8").startswith((seen.card or "")[:3000])


@pytest.mark.parametrize("destination", ["tiny", "a/b/c", "ada/ti ny", "ada/..", "ada/a--b", "https://x.y/ada/tiny"])
async def test_what_is_no_destination_is_refused_with_both_forms(app: App, trained: Trained, destination: str) -> None:
    run = await trained("adapter")
    with pytest.raises(ArgumentError) as raised:
        await push(app, run, destination, dry_run=True)
    assert destination in raised.value.message
    assert "owner/name" in raised.value.next_step
    assert "./" in raised.value.next_step


async def test_a_run_without_a_model_has_nothing_to_publish(app: App, trained: Trained) -> None:
    run = await trained("adapter")
    run.exit_json.write_text('{"outcome": {"failed": "diverged"}, "seconds": 1.0}', encoding="utf-8")
    with pytest.raises(RunError) as raised:
        await push(app, run, dry_run=True)
    assert raised.value.code == "no_output"
    assert run.id in raised.value.next_step
