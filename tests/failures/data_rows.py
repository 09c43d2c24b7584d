"""What goes wrong with data: inspect_dataset, and what plan_training says of them."""

from __future__ import annotations

import os
import sys
from typing import Any

from stand_ins import LENGTHS, says

from model_trainer.services.data import inspection
from model_trainer.trainer import scan_files

from .place import Place
from .row import Row, SetUp

#: An inspection is a run, and its folder is kept.
INSPECTED = ("state/runs/*-inspect-*",)


def _several_formats(place: Place) -> None:
    place.write("mixed/a.csv", "text\na\n")
    place.write("mixed/b.jsonl", '{"text": "a"}\n')


def _broken_link(place: Place) -> None:
    place.write("shards/a.jsonl", '{"text": "a"}\n')
    (place.workspace / "shards" / "b.jsonl").symlink_to("gone.jsonl")


def _endless_link(place: Place) -> None:
    place.write("shards/a.jsonl", '{"text": "a"}\n')
    (place.workspace / "shards" / "b.jsonl").symlink_to("b.jsonl")


def _pipe(place: Place) -> None:
    place.write("shards/a.jsonl", '{"text": "a"}\n')
    os.mkfifo(place.workspace / "shards" / "b.jsonl")


def _latin_name(place: Place) -> None:
    place.write(os.fsdecode(b"latin/caf\xe9.jsonl"), '{"text": "a"}\n')


def _many(place: Place) -> None:
    place.patch.setattr(scan_files, "_MOST_NAMES", 3)
    for number in range(4):
        place.write(f"many/{number}.txt", "")


def _dies(place: Place) -> None:
    place.environment(inspect="exit 3")


def _without_pyarrow(place: Place) -> None:
    place.environment(inspect=f'exec "{sys.executable}" -S "$@"')
    place.write("a.parquet", b"PAR1 and what follows")


def _slow(place: Place) -> None:
    """Reading takes longer than an answer may."""
    place.environment(inspect="sleep 0.3; exit 3")
    place.patch.setattr(inspection, "SCAN_SECONDS", 0.05)


def _all_masked(place: Place) -> None:
    place.environment(preview=says({**LENGTHS, "masked_by_cut": 4, "masked_rows": 4}))


PREFERENCES = [{"prompt": f"p{n}", "chosen": "good", "rejected": "bad"} for n in range(60)]
QUESTIONS = [{"question": f"what is {n}?", "answer": f"it is {n}"} for n in range(60)]


def _writes(name: str, content: str | bytes) -> SetUp:
    return lambda place: place.write(name, content)


def _rows(name: str, rows: list[Any]) -> SetUp:
    return lambda place: place.rows(name, rows)


# A table is read row by row.
# fmt: off
DATA_ROWS = (
    Row("inspect_dataset", "no such file", {"path": "pair.jsonl"},
        "file_not_found", "no file $workspace/pair.jsonl",
        "Did you mean inspect_dataset(path='$workspace/pairs.jsonl')?"),
    Row("inspect_dataset", "nothing of that name or like it", {"path": "other.csv"},
        "file_not_found", "no file $workspace/other.csv",
        "In $workspace are: model, pairs.jsonl; inspect_dataset(path='$workspace/model')"),
    Row("inspect_dataset", "a glob of nothing", {"path": "*.csv"},
        "file_not_found", "$workspace/*.csv holds no data files",
        "In place of '$workspace/*.csv' inspect_dataset(path=…) takes a file, folder or glob of JSONL"),
    Row("inspect_dataset", "no such split", {"path": "parts/*", "split": "dev"},
        "file_not_found", "has no split 'dev'", "inspect_dataset(path='$workspace/parts/*', split='train')",
        _writes("parts/train.csv", "text\na\n")),
    Row("inspect_dataset", "a link to nothing among the files", {"path": "shards"},
        "file_not_found", "$workspace/shards/b.jsonl can't be looked at: No such file",
        "inspect_dataset(path='$workspace/shards') again; or give a glob", _broken_link),
    Row("inspect_dataset", "an endless link among the files", {"path": "shards"},
        "file_not_found", "$workspace/shards/b.jsonl can't be looked at: Too many levels",
        "inspect_dataset(path='$workspace/shards') again; or give a glob", _endless_link),
    Row("inspect_dataset", "a user that is not there", {"path": "~no-such-user/x.jsonl"},
        "invalid_arguments", "'~no-such-user/x.jsonl' can't be used as a path: there is no such user",
        "with another path than '~no-such-user/x.jsonl'"),
    Row("inspect_dataset", "a name that is too long", {"path": "x" * 300 + ".jsonl"},
        "invalid_arguments", "can't be used as a path: File name too long", "with another path than 'xxx"),
    Row("inspect_dataset", "a character that no path has", {"path": "a\0.jsonl"},
        "invalid_arguments", "it holds a character that no path can have", r"with another path than 'a\x00.jsonl'"),
    Row("inspect_dataset", "an empty file", {"path": "empty.jsonl"},
        "empty_dataset", "$workspace/empty.jsonl is empty", "inspect_dataset(path='$workspace/empty.jsonl') again",
        _writes("empty.jsonl", "")),
    Row("inspect_dataset", "blank lines alone", {"path": "blank.jsonl"},
        "empty_dataset", "$workspace/blank.jsonl has no rows", "inspect_dataset(path='$workspace/blank.jsonl') again",
        _writes("blank.jsonl", "\n\n"), makes=INSPECTED),
    Row("inspect_dataset", "a file that is no data", {"path": "notes.txt"},
        "bad_format", "$workspace/notes.txt is no data file by its name",
        "rename it to what it is; then, for one, inspect_dataset(path='$workspace/notes.jsonl')",
        _writes("notes.txt", "notes")),
    Row("inspect_dataset", "a file that is not what its name says", {"path": "zip.jsonl"},
        "bad_format", "is a ZIP archive, though its name says jsonl",
        "Rename the file to what it is, or write it again in a supported format; then inspect_dataset(path=",
        _writes("zip.jsonl", b"PK\x03\x04" + bytes(range(256)) * 9), makes=INSPECTED),
    Row("inspect_dataset", "a compressed file that breaks off", {"path": "cut.jsonl.gz"},
        "bad_format", "$workspace/cut.jsonl.gz can't be read: Compressed file ended",
        "inspect_dataset(path='$workspace/cut.jsonl.gz') again", _writes("cut.jsonl.gz", b"\x1f\x8b\x08\0cut"),
        makes=INSPECTED),
    Row("inspect_dataset", "several formats", {"path": "mixed"},
        "bad_format", "holds files of several formats (1 csv, 1 jsonl)",
        "inspect_dataset(path='$workspace/mixed/*.csv')", _several_formats),
    Row("inspect_dataset", "a named pipe among the files", {"path": "shards"},
        "bad_format", "$workspace/shards/b.jsonl is no regular file",
        "Write its rows into a file, for one $workspace/shards/b.jsonl.jsonl, and call inspect_dataset", _pipe),
    Row("inspect_dataset", "a name that is not UTF-8", {"path": "latin"},
        "bad_encoding", r"latin/caf\xe9.jsonl", "Rename it", _latin_name),
    Row("inspect_dataset", "a folder that is no data set's", {"path": "many"},
        "too_large", "$workspace/many holds more than 3 files and folders",
        "inspect_dataset(path='$workspace/many/data/*.jsonl')", _many),
    Row("inspect_dataset", "a mapping that fits no row", {"path": "pairs.jsonl", "columns": {"prompt": "question"}},
        "wrong_columns", "The columns are: prompt, completion",
        "inspect_dataset(path='$workspace/pairs.jsonl') proposes mappings", makes=INSPECTED),
    Row("inspect_dataset", "a method that is not there", {"path": "pairs.jsonl", "method": "sfft"},
        "invalid_arguments", "'method' is wrong: input should be 'sft', 'dpo'", "call inspect_dataset again"),
    Row("inspect_dataset", "an inspection that dies", {"path": "pairs.jsonl"},
        "environment_incomplete", "The inspection of pairs.jsonl ended without a result", "get_run(run_id='", _dies,
        makes=INSPECTED),
    Row("inspect_dataset", "no pyarrow to read Parquet with", {"path": "a.parquet"},
        "environment_missing", "$workspace/a.parquet is Parquet, which takes pyarrow to read", "`model-trainer setup`",
        _without_pyarrow, makes=INSPECTED),
    Row("inspect_dataset", "a relative path without a workspace", {"path": "pairs.jsonl"},
        "no_workspace", "'pairs.jsonl' is a relative path",
        "Give an absolute path, or start the server with `model-trainer serve --workspace", server="homeless"),
    Row("plan_training", "a relative path without a workspace", {"dataset": "pairs.jsonl"},
        "no_workspace", "'pairs.jsonl' is a relative path", "Give an absolute path", server="homeless"),
    Row("plan_training", "no such file", {"dataset": "pair.jsonl"},
        "file_not_found", "no file $workspace/pair.jsonl",
        "Did you mean inspect_dataset(path='$workspace/pairs.jsonl')?"),
    Row("plan_training", "no rows", {"dataset": "blank.jsonl"},
        "empty_dataset", "$workspace/blank.jsonl has no rows", "inspect_dataset(path='$workspace/blank.jsonl') again",
        _writes("blank.jsonl", "\n\n"), makes=INSPECTED),
    Row("plan_training", "a broken line", {"dataset": "broken.jsonl"},
        "bad_format", "broken.jsonl: not valid JSON, 1 times, first at broken.jsonl:2",
        "inspect_dataset(path='broken.jsonl') lists the places",
        _writes("broken.jsonl", '{"text": "a"}\n{"text": \n'), makes=INSPECTED),
    Row("plan_training", "columns of somebody else", {"dataset": "qa.jsonl"},
        "wrong_columns", "qa.jsonl has the columns question, answer",
        """plan_training(dataset='qa.jsonl', columns={"prompt": "question", "completion": "answer"}""",
        _rows("qa.jsonl", QUESTIONS), makes=INSPECTED),
    Row("plan_training", "nothing to learn", {"dataset": "pairs.jsonl", "model": "model"},
        "all_masked", "pairs.jsonl: in every row of the sample no token is trained",
        "Give each row an answer to learn, not only a prompt. Then plan_training(dataset='pairs.jsonl') again",
        _all_masked, makes=INSPECTED),
    Row("plan_training", "data for a method of a later version", {"dataset": "pref.jsonl"},
        "method_unavailable", "pref.jsonl holds preference rows, which are for dpo", '"completion": "chosen"',
        _rows("pref.jsonl", PREFERENCES), makes=INSPECTED),
    Row("plan_training", "data that are still being read", {"dataset": "pairs.jsonl"},
        "timed_out", "pairs.jsonl is large and still being read, as run ",
        "wait_seconds=45) waits; then the same plan_training again", _slow, makes=INSPECTED),
)
