from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from data_toys import Scan, Write, problems
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from model_trainer.trainer.scan_files import DataFileError

PAIR = {"prompt": "a", "completion": "b"}


def pair(number: int) -> dict[str, str]:
    return {"prompt": f"p{number}", "completion": f"c{number}"}


def chat(*roles: str) -> dict[str, Any]:
    return {"messages": [{"role": role, "content": f"said by {role}"} for role in roles]}


def test_a_broken_line_is_named_with_its_number(write: Write, found: Scan) -> None:
    lines = [json.dumps(pair(number)) for number in range(1, 2001)]
    lines[1536] = '{"prompt": "p1537", "completion": }'
    result = found(write("train.jsonl", "\n".join(lines)))
    assert problems(result) == {"broken_json": (1, ["train.jsonl:1537"])}
    assert result["rows"] == 1999
    assert result["format"] == "prompt_completion"
    assert "Expecting value" in result["problems"][0]["detail"]


def test_clean_rows_have_no_problems(write: Write, found: Scan) -> None:
    result = found(write("train.jsonl", [pair(number) for number in range(20)]))
    assert result["problems"] == []
    assert (result["rows"], result["format"], result["conversational"]) == (20, "prompt_completion", False)


@pytest.mark.parametrize(
    ("row", "format_name", "conversational"),
    [
        ({"text": "a"}, "language_modeling", False),
        (PAIR, "prompt_completion", False),
        (chat("user", "assistant"), "messages", True),
        ({"prompt": [{"role": "user", "content": "a"}], "completion": [{"role": "assistant", "content": "b"}]},
         "prompt_completion", True),
        ({"prompt": "a", "chosen": "b", "rejected": "c"}, "preference", False),
        ({"chosen": "b", "rejected": "c"}, "implicit_preference", False),
        ({**PAIR, "label": True}, "unpaired_preference", False),
        ({**PAIR, "label": "geography"}, "prompt_completion", False),
        ({"text": "a", "label": 3}, "labeled_text", False),
        ({"prompt": "a"}, "prompt_only", False),
        ({"source": "a", "target": "b"}, "text_pair", False),
        ({"instruction": "a", "output": "b"}, None, False),
        ({"messages": "user: hello"}, None, False),
        ({"messages": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]}, None, False),
    ],
)  # fmt: skip
def test_the_format_is_found_by_columns_and_values(
    write: Write, found: Scan, row: dict[str, Any], format_name: str | None, conversational: bool
) -> None:
    result = found(write("a.jsonl", [row, row]))
    assert (result["format"], result["conversational"]) == (format_name, conversational)


@pytest.mark.parametrize(
    ("rows", "code", "count", "places"),
    [
        ([pair(1), {"prompt": None, "completion": "b"}], "null_fields", 1, ["a.jsonl:2"]),
        ([pair(1), {"prompt": "x", "completion": "  "}], "empty_fields", 1, ["a.jsonl:2"]),
        ([pair(1), pair(2), {"prompt": "a"}], "missing_fields", 1, ["a.jsonl:3"]),
        ([pair(1), {**pair(2), "id": 3}], "mixed_schemas", 1, ["a.jsonl:2"]),
        ([pair(1), pair(2), {"prompt": ["x"], "completion": "b"}], "mixed_types", 1, ["a.jsonl:3"]),
        ([pair(1), pair(2), pair(1), pair(1)], "duplicates", 2, ["a.jsonl:3", "a.jsonl:4"]),
        ([chat("user", "assistant"), {"messages": []}], "empty_chat", 1, ["a.jsonl:2"]),
        ([chat("user", "assistant"), chat("human", "gpt")], "unknown_roles", 1, ["a.jsonl:2"]),
        ([chat("user", "assistant"), chat("user")], "no_assistant_turn", 1, ["a.jsonl:2"]),
        ([chat("user", "assistant"), {"messages": [{"role": "user"}]}], "bad_turns", 1, ["a.jsonl:2"]),
        ([{"messages": [{"role": "assistant", "content": None}]}], "null_content", 1, ["a.jsonl:1"]),
        ([{"messages": [{"role": "assistant", "content": ""}]}], "empty_content", 1, ["a.jsonl:1"]),
        ([{"prompt": "a", "chosen": "b", "rejected": "b"}], "identical_pairs", 1, ["a.jsonl:1"]),
        ([{**PAIR, "label": 1}, {**PAIR, "label": 0}], "label_not_boolean", 2, []),
        ([{**PAIR, "label": True}], "one_class", 1, []),
        ([{"messages": "user: hi"}], "wrong_type", 1, []),
        ([{"data": [{"q": "a"}]}], "one_object", 1, ["a.jsonl:1"]),
        ([[1, 2], 3, "x", pair(1)], "row_not_object", 3, ["a.jsonl:1", "a.jsonl:2", "a.jsonl:3"]),
    ],
)  # fmt: skip
def test_what_is_wrong_is_counted_and_placed(
    write: Write, found: Scan, rows: list[Any], code: str, count: int, places: list[str]
) -> None:
    text = "".join(json.dumps(row) + "\n" for row in rows)
    if code == "row_not_object":
        text = '"x"\n3\n[1]\n' + json.dumps(pair(1))
    result = found(write("a.jsonl", text))
    assert problems(result)[code] == (count, places)
    assert next(one for one in result["problems"] if one["code"] == code)["advice"]


def test_sharegpt_roles_under_our_keys_are_called_out_by_name(write: Write, found: Scan) -> None:
    result = found(write("a.jsonl", [chat("human", "gpt"), chat("human", "gpt", "bot")]))
    problem = next(one for one in result["problems"] if one["code"] == "unknown_roles")
    assert problem["severity"] == "error"
    assert problem["detail"] == "human 2, gpt 2, bot 1"
    assert "silently" in problem["message"]


def test_tool_calls_need_no_content(write: Write, found: Scan) -> None:
    turns = [
        {"role": "user", "content": "time?"},
        {"role": "assistant", "content": None, "tool_calls": [{"type": "function", "function": {"name": "now"}}]},
        {"role": "tool", "content": "noon"},
        {"role": "assistant", "content": "It is noon."},
    ]
    result = found(write("a.jsonl", [{"messages": turns, "tools": [{"type": "function"}]}]))
    assert result["problems"] == []
    assert result["format"] == "messages"


def test_places_are_capped_at_ten_and_the_count_is_whole(write: Write, found: Scan) -> None:
    result = found(write("a.jsonl", "{\n" * 3 + "{broken\n" * 40 + '{"text": "a"}\n'))
    count, places = problems(result)["broken_json"]
    assert count >= 1
    assert len(places) <= 10
    result = found(write("b.jsonl", '{"text": "a"}\n' + "{broken\n" * 40))
    assert problems(result)["broken_json"] == (40, [f"b.jsonl:{line}" for line in range(2, 12)])


def test_a_utf_16_file_is_read_and_told_how_to_convert(write: Write, found: Scan) -> None:
    text = "".join(json.dumps(pair(number)) + "\n" for number in range(3))
    result = found(write("a.jsonl", text.encode("utf-16")))
    assert (result["rows"], result["encodings"], result["format"]) == (3, ["UTF-16"], "prompt_completion")
    assert problems(result)["bad_encoding"] == (1, ["a.jsonl"])
    assert "iconv -f UTF-16 -t UTF-8" in result["problems"][0]["advice"]


def test_a_byte_order_mark_is_told_and_does_no_harm(write: Write, found: Scan) -> None:
    result = found(write("a.jsonl", b"\xef\xbb\xbf" + json.dumps(PAIR).encode()))
    assert (result["encodings"], result["problems"], result["usable"]) == (
        ["UTF-8 with BOM"],
        [],
        ["prompt", "completion"],
    )


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv"])
def test_a_latin_1_byte_is_placed_by_line_and_offset(write: Write, found: Scan, name: str) -> None:
    content = {
        "a.jsonl": b'{"text": "plain"}\n{"text": "caf\xe9"}\n',
        "a.json": b'[{"text": "ab"},\n {"text": "caf\xe9"}]\n',
        "a.csv": b"id,text\n1,plaaaaain\n2,longer caf\xe9\n",
    }[name]
    result = found(write(name, content))
    line = 3 if name == "a.csv" else 2
    assert problems(result) == {"bad_encoding": (1, [f"{name}:{line}"])}
    assert result["problems"][0]["detail"] == f"byte 0xe9 at offset {content.index(0xE9)}"
    assert result["rows"] == 2


def test_crlf_is_told_and_read(write: Write, found: Scan) -> None:
    result = found(write("a.csv", 'prompt,completion\r\na,"b\r\nb"\r\nc,d\r\n'))
    assert (result["rows"], result["line_ends"], result["problems"]) == (2, ["CRLF"], [])


@pytest.mark.parametrize(
    ("text", "rows", "expected"),
    [
        ('[{"text": "a"}, {"text": "b"}]', 2, {}),
        ('[\n  {"text": "a"},\n  {"text": "b",}\n]', 1, {"broken_json": (1, ["a.json:3"])}),
        ('[{"text": "a"}', 1, {"broken_json": (1, ["a.json:1"])}),
        ('{\n  "text": "a"\n}\n{\n  "text": "b"\n}\n', 2, {}),
        ('{"text": "a"}\n{"text": "b"}', 2, {}),
    ],
)
def test_json_lists_and_spread_objects_are_read(
    write: Write, found: Scan, text: str, rows: int, expected: dict[str, Any]
) -> None:
    result = found(write("a.json", text))
    assert (result["rows"], problems(result)) == (rows, expected)


def test_a_json_list_larger_than_the_window_is_read_to_its_end(write: Write, found: Scan) -> None:
    rows = [{"text": f"{number} " + "é" * 3000} for number in range(300)]
    result = found(write("a.json", json.dumps(rows, ensure_ascii=False, indent=1)))
    assert (result["rows"], result["problems"]) == (300, [])


def test_csv_rows_are_named_by_the_line_they_begin_on(write: Write, found: Scan) -> None:
    text = 'prompt,completion\na,"b\nb"\nc\nd,e,f\ng,h\n'
    result = found(write("a.csv", text))
    assert problems(result)["ragged_rows"] == (2, ["a.csv:4", "a.csv:5"])
    assert result["rows"] == 4


def test_a_quote_that_never_closes_is_named_where_it_opens(write: Write, found: Scan) -> None:
    result = found(write("a.csv", 'prompt,completion\na,b\nc,"d\ne,f\ng,h\n'))
    assert problems(result)["broken_csv"] == (1, ["a.csv:3"])


def test_csv_columns_have_one_type_and_the_word_na_is_an_answer(write: Write, found: Scan) -> None:
    result = found(write("a.csv", "prompt,completion,score,good\na,NA,1,true\nb,42,2.5,false\nc,,3,true\n"))
    kinds = {column["name"]: (column["kind"], column["nulls"]) for column in result["columns"]}
    assert kinds == {"prompt": ("text", 0), "completion": ("text", 1), "score": ("number", 0), "good": ("boolean", 0)}
    assert problems(result) == {"null_fields": (1, ["a.csv:4"])}


@pytest.mark.parametrize("text", ["\n\n", "[]", " [ ] ", "prompt,completion\n"])
def test_a_file_without_rows_is_an_empty_dataset(write: Write, found: Scan, text: str) -> None:
    path = write("a.csv" if "," in text else "a.json", text)
    with pytest.raises(DataFileError) as raised:
        found(path)
    assert raised.value.code == "empty_dataset"


def test_parquet_rows_are_read_by_number(workspace: Path, found: Scan) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [pair(number) for number in range(1500)]
    rows[1300]["completion"] = ""
    pq.write_table(pa.Table.from_pylist(rows), workspace / "a.parquet", row_group_size=400)
    result = found(workspace / "a.parquet")
    assert (result["rows"], result["format"]) == (1500, "prompt_completion")
    assert problems(result) == {"empty_fields": (1, ["a.parquet:1301"])}


def test_a_mapping_is_applied_before_the_rows_are_judged(write: Write, found: Scan) -> None:
    rows = [{"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]}] * 2
    rows.append({"conversations": [{"from": "narrator", "value": "a"}, {"from": "gpt", "value": "b"}]})
    turns = {"role": "from", "content": "value", "roles": {"human": "user", "gpt": "assistant"}}
    result = found(write("a.jsonl", rows), columns={"messages": "conversations"}, turns=turns)
    assert (result["format"], result["conversational"]) == ("messages", True)
    assert problems(result)["unknown_roles"] == (1, ["a.jsonl:3"])


def test_a_mapping_to_columns_that_are_not_there_says_what_is(write: Write, found: Scan) -> None:
    path = write("a.jsonl", [{"question": "a", "answer": "b"}])
    with pytest.raises(DataFileError) as raised:
        found(path, columns={"prompt": "qestion", "completion": "answer"})
    assert raised.value.code == "wrong_columns"
    assert "question, answer" in raised.value.message


def test_what_a_method_lacks_is_a_problem(write: Write, found: Scan) -> None:
    result = found(write("a.jsonl", [PAIR]), method="dpo")
    problem = result["problems"][0]
    assert problem["code"] == "wrong_columns"
    assert "prompt + chosen + rejected or chosen + rejected" in problem["message"]


def test_several_files_are_one_dataset_with_places_in_each(write: Write, found: Scan, workspace: Path) -> None:
    write("data/x/a.jsonl", [pair(1)])
    write("data/y/b.jsonl", [pair(2), pair(1)])
    result = found(workspace / "data")
    assert (result["rows"], result["files"]) == (3, 2)
    assert problems(result) == {"duplicates": (1, ["y/b.jsonl:2"])}


_pieces = st.sampled_from(
    ['{"text": "a"}', "{", "[", "]", "}", '"', ",", ":", "\n", "\r\n", "\\ud800", "é", "\0", "1e999", "NaN"]
)
_contents = st.binary(max_size=200) | st.lists(_pieces, max_size=30).flatmap(
    lambda parts: st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "latin-1"]).map("".join(parts).encode)
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=_contents, name=st.sampled_from(["a.jsonl", "a.json", "a.csv", "a.tsv", "a.parquet"]))
def test_no_bytes_break_the_scan(write: Write, found: Scan, content: bytes, name: str) -> None:
    try:
        result = found(write(name, content))
    except DataFileError as error:
        assert error.next_step  # noqa: PT017  either outcome is right
    else:
        assert result["rows"] > 0 or result["problems"]


_keys = st.sampled_from(["role", "content", "from", "value", "text", "messages", "x"])
_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["role", "content", "from", "value", "text", "messages", "x"]), inner, max_size=3
        )
    ),
    max_leaves=12,
)
_names = st.sampled_from(["messages", "prompt", "completion", "chosen", "rejected", "text", "label", "conversations"])


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(st.dictionaries(_names, _json, max_size=4), min_size=1, max_size=6))
def test_no_values_break_the_scan(write: Write, found: Scan, rows: list[dict[str, Any]]) -> None:
    result = found(write("a.jsonl", "".join(json.dumps(row) + "\n" for row in rows)))
    assert result["rows"] == len(rows)
