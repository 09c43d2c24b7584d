"""What a run was trained on, compared by hash."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from model_trainer.trainer import records
from model_trainer.trainer.data_record import DataRecord, changes
from model_trainer.trainer.failures import Failure


def entry(total: str, **files: str) -> dict[str, Any]:
    return {
        "path": "/rows",
        "rows": 1,
        "sha256": total,
        "files": [{"path": name, "size": 1, "sha256": digest} for name, digest in files.items()],
    }


@pytest.mark.parametrize(
    ("before", "now", "said"),
    [
        (entry("1", a="x"), entry("1", a="x"), []),
        (entry("1", a="x"), entry("2", a="y"), ["a has other bytes"]),
        (entry("1", a="x"), entry("2", a="x", b="y"), ["b is new"]),
        (entry("1", a="x", b="y"), entry("2", a="x"), ["b is gone"]),
        (entry("1", a="x", b="y"), entry("2", b="y", a="x"), ["the files of /rows come in another order"]),
    ],
)
def test_each_change_of_the_files_is_named(before: dict[str, Any], now: dict[str, Any], said: list[str]):
    assert changes([before], [now]) == said


def test_many_changes_are_counted():
    before, now = (entry(digest, **{f"f{i}": digest for i in range(9)}) for digest in "xy")
    assert changes([before], [now])[-1] == "and 4 more"


def test_another_number_of_datasets_is_a_change():
    one = entry("1", a="x")
    assert changes([one, one], [one]) == ["1 datasets instead of 2"]


def test_what_was_read_stands_on_disk_also_where_it_is_refused(tmp_path: Path):
    path = tmp_path / "data.json"
    now = entry("2", a="y")
    with pytest.raises(Failure) as caught:
        DataRecord(path, [entry("1", a="x")], allow_changes=False).note([now])
    assert caught.value.reason == "bad_data"
    assert records.read_json(path) == {"datasets": [now]}
