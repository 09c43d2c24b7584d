"""What is read as a config, and how what is not is refused."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model_trainer.executors.errors import ConfigError
from model_trainer.services.configs import emit as config_emit
from model_trainer.services.configs import text as config_text
from model_trainer.trainer import yaml12

# Text as people and agents write it, and as YAML readers misread it.
TRICKY = (
    *("2e-4", "on", "off", "yes", "no", "y", "N", "null", "~", "", "true", "False", "1:30", "1:30:45", "190:20:30"),
    *("2024-01-01", "2001-12-14t21:59:43.10-05:00", "0o14", "0123456", "0x1F", "1_000", ".5", "5.", "+1", "-", "- a"),
    *(" leading", "trailing ", "tab\there", "two\nlines", "ends in\n", "\n\n", "# no comment", "a # b", "a: b", "a:"),
    *("[x]", "{x}", "*x", "&x", "!x", "%x", "@x", "`x", "|", ">", "'x'", '"x"', "\\", "\\n", "<<", "=", "?", "---"),
    *(
        "...",
        ".inf",
        "-.INF",
        ".nan",
        "é",
        "日本語",
        "😀",
        "\u2028",
        "\u00a0",
        "e\u0301",
        "\ud7ff",
        "\uffee",
        "\U0010fffd",
    ),
)
TEXT = st.one_of(
    st.sampled_from(TRICKY),
    st.text(st.characters(exclude_categories=("Cc", "Cs")) | st.sampled_from("\n\t"), max_size=40).filter(
        lambda text: yaml12.problem_of(text) is None
    ),
)
SCALAR = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63) + 1, 2**63 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    TEXT,
)
VALUE = st.recursive(
    SCALAR,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)
MAPPING = st.dictionaries(TEXT, VALUE, max_size=6)


@given(MAPPING)
@settings(max_examples=150, deadline=None)
def test_what_is_written_reads_back_the_same_on_both_sides(data: dict[str, object]) -> None:
    text = config_emit.dump(data)
    expected = json.dumps(data)
    assert json.dumps(config_text.parse(text, "c").data) == expected
    assert json.dumps(yaml12.load(text)) == expected


@pytest.mark.parametrize("text", TRICKY)
def test_tricky_text_stays_text_as_value_as_key_and_in_a_list(text: str) -> None:
    data = {"value": text, "list": [text, 1], "map": {text: text}}
    written = config_emit.dump(data)
    assert config_text.parse(written, "c").data == data
    assert yaml12.load(written) == data


@given(MAPPING, MAPPING)
@settings(max_examples=150, deadline=None)
def test_an_edited_text_holds_exactly_what_was_asked(before: dict[str, object], after: dict[str, object]) -> None:
    document = config_text.parse(config_emit.dump(before) if before else "{}", "c")
    edited = config_emit.edit(document, after)
    assert json.dumps(config_text.parse(edited, "c").data, sort_keys=True) == json.dumps(after, sort_keys=True)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2e-4", 2e-4),
        ("1E3", 1000.0),
        ("on", "on"),
        ("yes", "yes"),
        ("1:30", "1:30"),
        ("2024-01-01", "2024-01-01"),
        ("2001-12-14t21:59:43.10-05:00", "2001-12-14t21:59:43.10-05:00"),
        ("0o14", 12),
        ("0123", 123),
        ("0x1F", 31),
        ("1_000", "1_000"),
        ("+7", 7),
        (".5", 0.5),
        ("", None),
        ("~", None),
        ("TRUE", True),
        ("'2e-4'", "2e-4"),
        ("|\n  two\n  lines\n", "two\nlines\n"),
    ],
)
def test_scalars_mean_what_the_core_schema_says_on_both_sides(text: str, value: object) -> None:
    source = f"key: {text}"
    assert json.dumps(config_text.parse(source, "c").data["key"]) == json.dumps(value)
    assert json.dumps(yaml12.load(source)["key"]) == json.dumps(value)


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("", 1, "empty"),
        ("# only a comment\n", 1, "empty"),
        ("- a\n- b\n", 1, "mapping"),
        ("just text", 1, "mapping"),
        ("a: 1\nb: 2\na: 3\n", 3, "second time"),
        ("a: 1\nb:\n  c: 1\n  c: 2\n", 4, "second time"),
        ("a: &x 1\nb: 2\n", 1, "anchors"),
        ("a: 1\nb: *x\n", 2, "aliases"),
        ("a: 1\nb: !!python/object:os.system 2\n", 2, "tags"),
        ("a: 1\nb: !x 2\n", 2, "tags"),
        ("a: 1\n<<: {b: 1}\n", 2, "merge"),
        ("a: 1\n---\nb: 2\n", 2, "second document"),
        ("%YAML 1.1\n---\na: on\n", 1, "directives"),
        ("a: 1\nb: .nan\n", 2, "not a number"),
        ("a: 1\n\nb: -.inf\n", 3, "not a number"),
        ("a: 1e999\n", 1, "too big"),
        ("a: 99999999999999999999\n", 1, "64 bits"),
        ("a: " + "9" * 5000 + "\n", 1, "digits"),
        ("a: 1\n1: b\n", 2, "quotes"),
        ("a: 1\n? [b]\n: c\n", 2, "key"),
        ('a: "x\\x07"\n', 1, "control character"),
        ('a: "\\ud800"\n', 1, "control character"),
        ("a: [1, 2\nb: 3\n", 2, ""),
        ("a: 1\n\tb: 2\n", 2, ""),
        ("a: " + "[" * 1000, 1, "deeper"),
        ("a:\n" + "- 1\n" * 30_000, 20_000, "more than"),
    ],
)
def test_what_is_no_config_is_refused_with_its_line_on_both_sides(text: str, line: int, says: str) -> None:
    with pytest.raises(ConfigError) as refused:
        config_text.parse(text, "c.yaml")
    assert refused.value.code == "invalid_config"
    assert says in refused.value.message
    assert f"line {line}:" in refused.value.message or says == "more than"
    assert "c.yaml" in refused.value.next_step
    with pytest.raises(yaml12.Yaml12Error):
        yaml12.load(text)


@given(st.text(max_size=200) | st.binary(max_size=200).map(lambda data: data.decode("latin-1")))
@settings(max_examples=250, deadline=None)
def test_any_text_is_read_or_refused_and_nothing_else(text: str) -> None:
    try:
        ours = config_text.parse(text, "c").data
    except ConfigError:
        return
    assert json.dumps(yaml12.load(text)) == json.dumps(ours)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        config_text.read(tmp_path / "none.yaml")
    assert refused.value.code == "config_not_found"
    assert "plan_training" in refused.value.next_step


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ("a: 1\nb: ä\n".encode("latin-1"), "line 2 is not UTF-8"),
        ("a: 1\n".encode("utf-16"), "not UTF-8"),
        (b"a: " + b"x" * 1_000_001, "longer than 1,000,000 bytes"),
    ],
)
def test_a_file_that_is_no_text_or_too_long_is_refused(tmp_path: Path, data: bytes, says: str) -> None:
    path = tmp_path / "c.yaml"
    path.write_bytes(data)
    with pytest.raises(ConfigError) as refused:
        config_text.read(path)
    assert refused.value.code == "invalid_config"
    assert says in refused.value.message


def test_a_byte_order_mark_and_windows_line_ends_are_read(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_bytes(b"\xef\xbb\xbfa: 1\r\nb: on\r\n")
    assert config_text.read(path).data == {"a": 1, "b": "on"}


def test_a_folder_and_a_fifo_are_no_config(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.yaml"
    os.mkfifo(pipe)
    for path in (tmp_path, pipe):
        with pytest.raises(ConfigError, match="not a config"):
            config_text.read(path)


def test_comments_stay_when_values_change() -> None:
    source = "# top\na: 1  # one\nb:\n  # inner\n  c: on  # two\n  d: 2e-4\n# end\n"
    document = config_text.parse(source, "c")
    edited = config_emit.edit(document, {"a": 2, "b": {"c": "on", "d": 1e-4, "e": "1:30"}})
    for part in ("# top", "a: 2", "# one", "# inner", "c: on", "# two", "d: 1e-4", 'e: "1:30"'):
        assert part in edited
    assert config_emit.edit(document, dict(document.data)) == source


@pytest.mark.parametrize(
    ("value", "text"), [(2e-4, "2e-4"), (2e-5, "2e-5"), (0.1, "0.1"), (1.0, "1.0"), (1e22, "1e22")]
)
def test_numbers_are_written_as_people_write_them(value: float, text: str) -> None:
    assert config_emit.float_text(value) == text
