from __future__ import annotations

from typing import Any

import pytest
from data_toys import Scan, Write

from model_trainer.services.data.report import report

SHAREGPT = [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]
ROLES = {"human": "user", "gpt": "assistant"}


def proposed(found: Scan, path: Any) -> list[tuple[str, dict[str, Any]]]:
    """(format, the entry without its path) of each mapping proposed."""
    answer = report("p", None, None, found(path))
    return [
        (one.format, one.entry.model_dump(exclude_defaults=True, exclude={"path"}))
        for one in answer.mappings
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (
            {"conversations": SHAREGPT},
            ("messages", {"columns": {"messages": "conversations"},
                          "turns": {"role": "from", "content": "value", "roles": ROLES}}),
        ),
        ({"messages": SHAREGPT}, ("messages", {"turns": {"role": "from", "content": "value", "roles": ROLES}})),
        (
            {"conversation": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]},
            ("messages", {"columns": {"messages": "conversation"}}),
        ),
        (
            {"instruction": "a", "input": "", "output": "b"},
            ("prompt_completion", {"columns": {"prompt": ["instruction", "input"], "completion": "output"}}),
        ),
        (
            {"instruction": "a", "output": "b"},
            ("prompt_completion", {"columns": {"prompt": "instruction", "completion": "output"}}),
        ),
        (
            {"Question": "a", "Answer": "b", "id": 3},
            ("prompt_completion", {"columns": {"prompt": "Question", "completion": "Answer"}}),
        ),
        (
            {"context": "c", "question": "a", "answer": "b"},
            ("prompt_completion", {"columns": {"prompt": ["context", "question"], "completion": "answer"}}),
        ),
        (
            {"query": "a", "response": "b"},
            ("prompt_completion", {"columns": {"prompt": "query", "completion": "response"}}),
        ),
        ({"input": "a", "output": "b"},
         ("prompt_completion", {"columns": {"prompt": "input", "completion": "output"}})),
        ({"source": "a", "target": "b"},
         ("prompt_completion", {"columns": {"prompt": "source", "completion": "target"}})),
        (
            {"question": "a", "response_j": "b", "response_k": "c"},
            ("preference", {"columns": {"prompt": "question", "chosen": "response_j", "rejected": "response_k"}}),
        ),
        (
            {"question": "a", "answer": "b", "liked": True},
            ("unpaired_preference", {"columns": {"prompt": "question", "completion": "answer", "label": "liked"}}),
        ),
        ({"review": "a", "sentiment": "good"},
         ("labeled_text", {"columns": {"text": "review", "label": "sentiment"}})),
        ({"content": "a long text"}, ("language_modeling", {"columns": {"text": "content"}})),
    ],
)  # fmt: skip
def test_the_usual_foreign_rows_have_a_mapping(
    write: Write, found: Scan, row: dict[str, Any], expected: tuple[str, dict[str, Any]]
) -> None:
    assert proposed(found, write("a.jsonl", [row]))[0] == expected


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "a", "completion": "b"},
        {"text": "a"},
        {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]},
        {"x": 1, "y": 2},
    ],
)
def test_nothing_is_proposed_to_be_what_it_is(write: Write, found: Scan, row: dict[str, Any]) -> None:
    assert proposed(found, write("a.jsonl", [row])) == []


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", [{"conversations": SHAREGPT}]),
        ("a.jsonl", [{"instruction": "a", "input": "c", "output": "b"}]),
        ("a.csv", "question;answer\nwhy?;42\nhow?;so\n"),
    ],
)
def test_a_proposed_mapping_makes_rows_that_train(write: Write, found: Scan, name: str, content: Any) -> None:
    path = write(name, content)
    entry = report("p", None, None, found(path)).mappings[0]
    given = entry.entry.model_dump(include={"columns", "turns"})
    result = found(path, **given)
    assert result["format"] == entry.format
    assert [one for one in result["problems"] if one["severity"] == "error"] == []


def test_what_each_method_lacks_is_said(write: Write, found: Scan) -> None:
    answer = report("p", None, None, found(write("a.jsonl", [{"prompt": "a", "completion": "b"}])))
    fits = {fit.method: (fit.ok, fit.format, fit.missing) for fit in answer.methods}
    assert fits["sft"] == (True, "prompt_completion", [])
    assert fits["grpo"] == (True, "prompt_only", [])
    assert fits["dpo"] == (False, None, ["chosen", "rejected"])
    assert fits["kto"] == (False, None, ["label"])
    assert fits["seq2seq"] == (False, None, ["source", "target"])
