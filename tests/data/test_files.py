from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from data_toys import Write

from model_trainer.trainer.scan_files import DataFileError, Layout, list_files, load_arguments, look

ROW = '{"text": "a"}\n'


def names(path: Path, split: str | None = None) -> list[str]:
    return [file.path.name for file in list_files(path, split)]


def test_a_folder_gives_its_data_files_in_order_and_nothing_else(write: Write, workspace: Path) -> None:
    for name in ("b.jsonl", "a.jsonl", "deep/c.jsonl", "README.md", ".hidden.jsonl", "dataset_infos.json"):
        write(name, ROW)
    assert names(workspace) == ["a.jsonl", "b.jsonl", "c.jsonl"]


def test_held_out_files_of_a_folder_are_no_training_rows(write: Write, workspace: Path) -> None:
    for name in ("train-00000.jsonl", "train-00001.jsonl", "validation.jsonl", "test.jsonl"):
        write(name, ROW)
    assert names(workspace) == ["train-00000.jsonl", "train-00001.jsonl"]
    assert names(workspace, "test") == ["test.jsonl"]
    assert names(workspace, "val") == ["validation.jsonl"]


def test_a_split_that_is_not_there_names_those_that_are(write: Write, workspace: Path) -> None:
    write("train.jsonl", ROW)
    with pytest.raises(DataFileError) as raised:
        list_files(workspace, "dev")
    assert raised.value.code == "file_not_found"
    assert "train" in raised.value.message
    assert "split='train'" in raised.value.next_step


def test_a_glob_gives_its_files(write: Write, workspace: Path) -> None:
    for name in ("a1.jsonl", "a2.jsonl", "b.jsonl"):
        write(name, ROW)
    assert names(workspace / "a*.jsonl") == ["a1.jsonl", "a2.jsonl"]


@pytest.mark.parametrize(
    ("name", "content", "path", "code", "says"),
    [
        ("train.jsonl", ROW, "trian.jsonl", "file_not_found", "train.jsonl"),
        ("notes.txt", "hello", "notes.txt", "bad_format", "Parquet (.parquet)"),
        ("empty.jsonl", "", "empty.jsonl", "empty_dataset", "at least one row"),
        ("data/readme.md", "hello", "data", "file_not_found", "no data files"),
        ("a.jsonl", ROW, "none/*.jsonl", "file_not_found", "no data files"),
    ],
)
def test_what_is_no_data_is_refused_with_what_would_be(
    write: Write, workspace: Path, name: str, content: str, path: str, code: str, says: str
) -> None:
    write(name, content)
    with pytest.raises(DataFileError) as raised:
        list_files(workspace / path)
    assert raised.value.code == code
    assert says in raised.value.message + raised.value.next_step


def test_a_folder_of_two_formats_is_refused(write: Write, workspace: Path) -> None:
    write("a.jsonl", ROW)
    write("b.csv", "text\na\n")
    with pytest.raises(DataFileError, match="several formats"):
        list_files(workspace)


@pytest.mark.parametrize(
    ("name", "content", "layout"),
    [
        ("a.jsonl", ROW.encode(), Layout("jsonl")),
        ("a.jsonl", b"\xef\xbb\xbf" + ROW.encode(), Layout("jsonl", "UTF-8 with BOM")),
        ("a.jsonl", ROW.encode("utf-16"), Layout("jsonl", "UTF-16")),
        ("a.jsonl", ROW.encode("utf-16-le"), Layout("jsonl", "UTF-16LE")),
        ("a.jsonl", b'{"a":1}\r\n{"a":2}\r\n', Layout("jsonl", line_ends="CRLF")),
        ("a.jsonl", b'{"a":1}\r{"a":2}\r', Layout("jsonl", line_ends="CR")),
        ("a.json", b' [{"a":1}]', Layout("array")),
        ("a.json", b'{\n "a": 1\n}', Layout("objects")),
        ("a.csv", b"q,a\nx,y\n", Layout("csv", delimiter=",")),
        ("a.csv", b"q;a\nx,1;y\nz;w\n", Layout("csv", delimiter=";")),
        ("a.csv", b'q|a\n"x,\n1,2"|y\n', Layout("csv", delimiter="|")),
        ("a.csv", b"q\nx\n", Layout("csv", delimiter=",")),
        ("a.tsv", b"q\ta\nx,y\tz\n", Layout("csv", delimiter="\t")),
        ("a.jsonl.gz", gzip.compress(ROW.encode()), Layout("jsonl")),
    ],
)
def test_encoding_line_ends_and_delimiter_are_told(write: Write, name: str, content: bytes, layout: Layout) -> None:
    assert look(list_files(write(name, content))[0]) == layout


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.jsonl", b"PAR1\x00\x00\x15\x04", "a Parquet file"),
        ("a.jsonl", b"PK\x03\x04\x14\x00\x00\x00", "a ZIP archive"),
        ("a.csv", bytes(range(256)), "binary"),
        ("a.parquet", ROW.encode(), "no Parquet file"),
        ("a.jsonl.gz", ROW.encode(), "can't be read"),
    ],
)
def test_a_file_that_is_not_what_it_says_is_refused(write: Write, name: str, content: bytes, says: str) -> None:
    with pytest.raises(DataFileError) as raised:
        look(list_files(write(name, content))[0])
    assert raised.value.code == "bad_format"
    assert says in raised.value.message


def test_training_reads_a_csv_with_the_delimiter_that_was_found(write: Write) -> None:
    kind, options = load_arguments(list_files(write("a.csv", "q;a\nx;NA\n")))
    assert (kind, options["sep"]) == ("csv", ";")
    assert options["na_values"] == [""]
