"""A disk that is full, for real: a tmpfs of 3 MB that holds the run's folder, and a program that fills it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from programs import program

#: What fills the disk; all but the first leave the supervisor no room for a line of its history either.
FILLS = {
    "a file of the attempt": 'cat /dev/zero > "$4/fill"; exit 3',
    "the log": "yes 'a line of the log'; exit 3",
    "a file, and the trainer takes it back": 'cat /dev/zero > "$4/fill"; rm "$4/fill"; echo "$0: No space '
    'left on device" >&2; exit 3',
    "a file, and the trainer is killed": 'cat /dev/zero > "$4/fill"; kill -9 $$',
}


@pytest.mark.parametrize("fill", FILLS)
def test_a_run_that_fills_the_disk_has_its_end_recorded_and_is_told_by_every_tool(workspace: Path, fill: str):
    disk = workspace / "disk"
    disk.mkdir()
    driver = Path(__file__).parent.parent / "full_disk_driver.py"
    unshare = ["unshare", "-m" if os.getuid() == 0 else "-Urm"]
    allowed = subprocess.run([*unshare, "mount", "-t", "tmpfs", "none", disk], capture_output=True, check=False)
    if allowed.returncode != 0:
        pytest.skip(f"no mount here: {allowed.stderr.decode().strip()}")
    done = subprocess.run(
        [*unshare, sys.executable, str(driver), str(disk), str(program(workspace, FILLS[fill]))],
        capture_output=True,
        text=True,
        check=True,
    )
    told = json.loads(done.stdout)
    record = told["record"]
    assert record["exit_code"] == (-9 if "killed" in fill else 3)
    assert record["outcome"]["failed"] == "disk_full"
    assert told["state"] == {"status": "failed", "reason": "disk_full", "detail": record["outcome"]["detail"]}
    assert (told["free"] == 0) == ("back" not in fill)
    assert "disk_full" in told["view"]
    assert "Free disk space" in told["view"]
    assert ("a line of the log" in told["log"]) == (fill == "the log")
    assert told["rows"] == 0
    assert "had already ended: failed" in told["stopped"]
    assert len(told["listed"]) == 1
    assert not told["asked"]
    assert not told["leased"]
    # Another launch finds no room, says so, and leaves nothing.
    assert ("another" in told) == ("back" in fill)
    if "another" not in told:
        code, message, next_step = told["refused"]
        assert code == "launch_failed"
        assert "No space left on device" in message
        assert "runs prune" in next_step
    assert told["hidden"] == []
