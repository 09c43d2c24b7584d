"""Files that survive a crash."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from counts import times
from doomed_writer import writers

from model_trainer.executors import host, leftovers
from model_trainer.executors.errors import all_codes
from model_trainer.executors.states import Succeeded
from model_trainer.services.app import App
from model_trainer.services.runs import life as runs
from model_trainer.services.runs import listing, metrics, view
from model_trainer.trainer import records
from model_trainer.trainer.records import Cursor


def test_a_record_is_replaced_whole_and_never_holds_nan(workspace: Path):
    path = workspace / "record.json"
    records.write_json(path, {"a": 1})
    with pytest.raises(ValueError, match="JSON compliant"):
        records.write_json(path, {"a": float("nan")})
    assert records.read_json(path) == {"a": 1}
    assert [entry.name for entry in workspace.iterdir()] == ["record.json"]


def test_a_writer_closes_the_torn_line_of_a_killed_one(tmp_path: Path):
    path = tmp_path / "lines.jsonl"
    path.write_bytes(b'{"a": 1}\n{"a": 2, "b')
    records.append_line(path, {"a": 3})
    rows, cursor = records.read_lines(path)
    assert rows == [{"a": 1}, {"a": 3}]
    assert cursor.offset == path.stat().st_size


@pytest.mark.soak
def test_a_record_of_a_killed_writer_is_the_old_or_the_new_one_and_its_rest_is_tidied_away(workspace: Path):
    path = workspace / "record.json"
    with writers(seed=20261125) as doomed:
        for kill in range(times(15, 60)):
            first = kill * 1000 + 1
            before = records.read_json(path) or {"number": None}
            last = doomed.kill_one("record", path, first, most=6)
            record = records.read_json(path) or {"number": None}
            if last >= first or record != before:
                assert record["number"] in (last, last + 1)
                assert record["number"] == record["end"]
                assert record["filler"] == "x" * len(record["filler"])
    left = sorted(workspace.iterdir())
    rest = [entry for entry in left if entry != path]
    assert all(entry.name.startswith(".record.json.") for entry in rest)
    assert len(rest) <= times(15, 60)
    # A run's are found when the run is tidied; those of the state folder by the next server, once they are old enough.
    assert leftovers.of_a_run(workspace) == rest
    for entry in rest:
        written = entry.stat().st_mtime
        os.utime(entry, (written - 61, written - 61))
    assert sorted(leftovers.tidy([workspace], shared=False)) == rest
    assert list(workspace.iterdir()) == [path]


def test_a_cursor_survives_its_text_form():
    cursor = Cursor(inode=123456789, offset=42)
    assert Cursor.decode(cursor.encode()) == cursor


def test_a_lock_is_seen_without_being_taken_and_let_go_by_a_killed_holder(tmp_path: Path):
    lock = tmp_path / "run.lock"
    assert not records.is_locked(lock)
    code = (
        "import os,sys,time\n"
        "from model_trainer.trainer import records\n"
        "fd = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)\n"
        "assert records.try_lock(fd); print('held', flush=True); time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(lock)], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        assert all(records.is_locked(lock) for _ in range(100))
        descriptor = os.open(lock, os.O_RDWR)
        assert not records.try_lock(descriptor)
        holder.kill()
        holder.wait()
        assert not records.is_locked(lock)
        assert records.try_lock(descriptor)
        os.close(descriptor)


def test_a_process_is_known_by_more_than_its_pid():
    me = host.current()
    assert host.is_alive(me)
    assert not host.is_alive(host.ProcessIdentity(pid=me.pid, start_ticks=me.start_ticks - 1, boot=me.boot))
    assert not host.is_alive(host.ProcessIdentity(pid=me.pid, start_ticks=me.start_ticks, boot="another boot"))


def test_a_zombie_is_dead():
    with subprocess.Popen([sys.executable, "-c", ""]) as child:
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert host.identify(child.pid) is None


def test_every_code_of_the_error_tree_stands_in_its_drawing():
    drawing = sys.modules["model_trainer.executors.errors"].__doc__ or ""
    assert {code for code in all_codes() if code not in drawing} == set()


OLD_RUNS = Path(__file__).parent / "old_runs"


@pytest.mark.anyio
@pytest.mark.parametrize("version", sorted(folder.name for folder in OLD_RUNS.iterdir()))
async def test_run_folders_of_former_versions_still_read(app: App, version: str):
    shutil.copytree(OLD_RUNS / version, app.home.runs, dirs_exist_ok=True)
    [run] = runs.all_runs(app)
    shown = await view.get(app, run.id)
    assert shown.state == Succeeded(ended_by="planned_end")
    assert shown.metrics["eval_loss"] < shown.metrics["eval_loss_before"]
    assert shown.resumed_from_step == 49
    told = await metrics.tail(app, run.id, cursor=None)
    assert told.last_step == 167
    assert told.verdict == "falling"
    listed = await listing.list_runs(app, status="succeeded", kind="train", method=None, limit=5, cursor=None)
    assert [line.run_id for line in listed.runs] == [run.id]
