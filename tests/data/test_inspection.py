"""The whole tool through its service: real runs, real children, the trainer that trains."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import anyio
import pytest
from data_toys import Write

from model_trainer.executors.errors import ArgumentError, ConfigError, DataError, EnvironmentFault
from model_trainer.executors.snapshot import snapshot
from model_trainer.services.app import App
from model_trainer.services.configs.schema import Turns
from model_trainer.services.data.inspection import InspectRequest, inspect
from model_trainer.services.data.results import InspectResult
from model_trainer.services.result import TEXT_LIMIT
from model_trainer.services.runs import life as runs

pytestmark = pytest.mark.anyio


@pytest.fixture
def forked(fork_python: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODEL_TRAINER_PYTHON", str(fork_python))


async def look(app: App, path: str, **asked: Any) -> InspectResult:
    return await inspect(app, InspectRequest(path=path, **asked))


CHATS = [
    {"messages": [{"role": "user", "content": f"question {n}"}, {"role": "assistant", "content": f"answer {n}"}]}
    for n in range(5)
]


@pytest.mark.usefixtures("forked")
async def test_pairs_are_shown_as_they_are_trained(app: App, write: Write, tiny_model: Path) -> None:
    write("pairs.jsonl", [{"prompt": f"def f{n}():", "completion": f" returns {n}"} for n in range(1000)])
    answer = await look(app, "pairs.jsonl", model=str(tiny_model))
    assert answer.text().startswith("pairs.jsonl: 1,000 rows, ")
    assert "JSONL, UTF-8; format prompt_completion (plain)" in answer.text().splitlines()[0]
    assert answer.tokens is not None
    assert answer.tokens.sample == 500
    assert answer.tokens.p50 <= answer.tokens.p95 <= answer.tokens.p99 <= answer.tokens.max
    assert [one.text for one in answer.examples] == [
        "[masked]def f0():[/masked] returns 0<|im_end|>",
        "[masked]def f500():[/masked] returns 500<|im_end|>",
    ]
    assert 0 < answer.examples[0].trained < answer.examples[0].tokens
    assert answer.problems == []
    assert "plan_training" in answer.next_step


@pytest.mark.usefixtures("forked")
async def test_rows_whose_every_label_is_masked_are_an_error(app: App, write: Write, tiny_model: Path) -> None:
    write("a.jsonl", [{"prompt": f"row {n} " + "word " * 3000, "completion": "end"} for n in range(4)])
    answer = await look(app, "a.jsonl", model=str(tiny_model))
    assert [(one.code, one.severity, one.count) for one in answer.problems] == [
        ("all_masked", "error", 4),
        ("cut_rows", "warning", 4),
    ]
    assert "Raise training.max_length" in answer.next_step
    assert all(len(one.text) <= 600 for one in answer.examples)


@pytest.mark.usefixtures("forked")
async def test_chats_for_a_model_without_template_are_an_error(
    app: App, write: Write, tiny_model: Path, tmp_path: Path
) -> None:
    base = tmp_path / "base"
    base.mkdir()
    for file in tiny_model.iterdir():
        if file.name != "chat_template.jinja":
            text = file.read_bytes()
            if file.name == "tokenizer_config.json":
                text = json.dumps({**json.loads(text), "chat_template": None}).encode()
            (base / file.name).write_bytes(text)
    write("chats.jsonl", CHATS)
    answer = await look(app, "chats.jsonl", model=str(base))
    assert [one.code for one in answer.problems] == ["no_chat_template"]
    assert "model.chat_template" in answer.next_step
    assert answer.rows == 5


@pytest.mark.usefixtures("forked")
async def test_a_model_that_cannot_be_read_leaves_the_structure_and_a_note(app: App, write: Write) -> None:
    write("chats.jsonl", CHATS)
    answer = await look(app, "chats.jsonl", model="/no/such/model")
    assert (answer.rows, answer.format, answer.conversational) == (5, "messages", True)
    assert answer.tokens is None
    assert any("no token lengths" in note for note in answer.notes)


async def test_the_same_data_again_answer_from_the_same_run(app: App, write: Write) -> None:
    path = write("a.jsonl", [{"text": "a"}])
    first = await look(app, "a.jsonl")
    assert await look(app, "a.jsonl") == first
    assert len(list(runs.all_runs(app))) == 1
    write("a.jsonl", [{"text": "a"}, {"text": "b"}])
    assert (await look(app, str(path))).rows == 2
    assert len(list(runs.all_runs(app))) == 2


async def test_a_scan_that_takes_longer_goes_on_as_a_run(
    app: App, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("model_trainer.services.data.inspection.SCAN_SECONDS", 0.0)
    write("a.jsonl", [{"text": "a"}])
    answer = await look(app, "a.jsonl")
    assert answer.run_id is not None
    assert answer.run_id in answer.next_step
    assert f"as run {answer.run_id}" in answer.text()
    await runs.wait(app, app.home.run(answer.run_id), seconds=60)
    assert (await look(app, "a.jsonl")).rows == 1


async def test_sharegpt_is_mapped_only_when_asked(app: App, write: Write) -> None:
    turns = [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]
    write("a.jsonl", [{"conversations": turns}])
    answer = await look(app, "a.jsonl", method="sft")
    assert answer.format is None
    assert answer.mappings[0].entry.path == "a.jsonl"
    assert "columns={'messages': 'conversations'}" in answer.next_step
    entry = answer.mappings[0].entry
    mapped = await look(app, "a.jsonl", method="sft", columns=entry.columns, turns=entry.turns)
    assert (mapped.format, mapped.conversational, mapped.problems) == ("messages", True, [])


async def test_a_utf_16_file_says_how_to_convert_it(app: App, write: Write) -> None:
    write("a.jsonl", '{"text": "a"}\n'.encode("utf-16"))
    answer = await look(app, "a.jsonl")
    assert answer.problems[0].code == "bad_encoding"
    assert "iconv -f UTF-16 -t UTF-8" in answer.next_step


@pytest.mark.parametrize(
    ("path", "asked", "family", "code", "says"),
    [
        ("tran.jsonl", {}, DataError, "file_not_found", "train.jsonl"),
        ("empty.jsonl", {}, DataError, "empty_dataset", "row"),
        ("blank.jsonl", {}, DataError, "empty_dataset", "row"),
        ("notes.txt", {}, DataError, "bad_format", "JSONL"),
        ("binary.jsonl", {}, DataError, "bad_format", "ZIP"),
        ("train.jsonl", {"columns": {"text": "txt"}}, DataError, "wrong_columns", "text"),
        ("train.jsonl", {"turns": Turns(role="from"), "columns": {"messages": "m"}}, DataError, "wrong_columns", "m"),
        ("train.jsonl", {"method": "sgd"}, ConfigError, "unknown_method", "sft"),
        ("acme/rows", {}, EnvironmentFault, "unreachable", "acme/rows"),
    ],
)
async def test_what_cannot_be_inspected_is_a_typed_error(
    app: App, write: Write, path: str, asked: dict[str, Any], family: type[Exception], code: str, says: str
) -> None:
    write("train.jsonl", [{"text": "a"}])
    write("empty.jsonl", "")
    write("blank.jsonl", "\n\n")
    write("notes.txt", "hello")
    write("binary.jsonl", b"PK\x03\x04\0\0\0\0")
    with pytest.raises(family) as raised:
        await look(app, path, **asked)
    assert getattr(raised.value, "code") == code  # noqa: B009  the families share it
    assert says in f"{raised.value} {getattr(raised.value, 'next_step')}"  # noqa: B009


async def test_a_relative_path_without_a_workspace_is_refused(app: App) -> None:
    with pytest.raises(ArgumentError) as raised:
        await look(dataclasses.replace(app, workspace=None), "data/train.jsonl")
    assert raised.value.code == "no_workspace"


async def test_an_answer_never_outgrows_its_ceiling(app: App, write: Write) -> None:
    rows = [{f"column {n} " + "x" * 200: "\x1b[31m" + "y" * 500 for n in range(m, m + 150)} for m in range(40)]
    write("wide.jsonl", [*rows, *rows])
    answer = await look(app, "wide.jsonl")
    assert len(answer.text()) <= TEXT_LIMIT
    assert len(answer.columns) <= 40
    assert "\x1b" not in answer.text()
    write("text.jsonl", [{"text": f"line {n}"} for n in range(5)])
    mapped = await look(app, "text.jsonl", columns={"text": "text", "x" * 9000: "text"})
    assert len(mapped.text()) <= TEXT_LIMIT
    assert "columns=…" in mapped.next_step


async def test_without_a_training_environment_structure_is_still_told(
    app: App, write: Write, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # An interpreter without packages stands for an environment that lacks them.
    bare = tmp_path / "python"
    bare.write_text(f'#!/bin/sh\nexec {sys.executable} -S "$@"\n', encoding="utf-8")
    bare.chmod(0o755)
    monkeypatch.setenv("MODEL_TRAINER_PYTHON", str(bare))
    write("a.jsonl", CHATS)
    answer = await look(app, "a.jsonl", model="some/model")
    assert answer.rows == 5
    assert any("lacks" in note for note in answer.notes)


async def test_the_scan_needs_nothing_but_python_and_says_what_parquet_takes(app: App, write: Write) -> None:
    write("a.parquet", b"PAR1" + bytes(20))
    program = (
        "import sys; from trainer_snapshot.trainer import scan\n"
        "try: scan.inspect({'path': sys.argv[1]}, lambda *_: None)\n"
        "except scan.DataFileError as error: print(error.code, error.next_step)"
    )
    done = await anyio.run_process(
        [sys.executable, "-S", "-c", program, f"{app.workspace}/a.parquet"],
        env={"PYTHONPATH": str(snapshot(app.home))},
    )
    assert done.stdout.decode().startswith("environment_missing Run `model-trainer setup`")
