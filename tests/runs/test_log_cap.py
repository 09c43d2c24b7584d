"""A log that never ends: its disk space is bounded, every cursor stays valid, and nobody sees half a line."""

from __future__ import annotations

import os
import random
import re
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import anyio
import pytest
from counts import FULL, times
from programs import edit_snapshot, events, program, start, until

from model_trainer.executors import logcap
from model_trainer.executors.logcap import LogCap
from model_trainer.services.app import App
from model_trainer.services.result import TEXT_LIMIT
from model_trainer.services.runs import life as runs
from model_trainer.services.runs import logs
from model_trainer.trainer.records import Cursor

pytestmark = pytest.mark.anyio

#: Writes numbered lines of 101 bytes, that many MB of them, as fast as it can, after it has said that it begins.
WRITES = """import os, sys
text, count, sent = b" " + b"x" * 90 + b"\\n", int(sys.argv[1]) * 1_000_000 // 101, 0
while sent < count:
    block = b"".join(b"%09d" % n + text for n in range(sent, min(count, sent + 5000)))
    while block:
        block = block[os.write(1, block):]
    sent += 5000
"""
LINE = re.compile(r"^(\d{9}) x{90}$")


def allocated(path: Path) -> int:
    return path.stat().st_blocks * 512


def numbers(lines: list[str]) -> list[int]:
    """The lines' numbers; every line must be whole."""
    matches = [LINE.match(line) for line in lines]
    assert None not in matches, lines
    return [int(match[1]) for match in matches if match is not None]


@contextmanager
def folder_on(where: str, tmp_path: Path) -> Generator[Path]:
    """A folder on the disk, or in memory."""
    if where == "disk":
        yield tmp_path
        return
    if not os.access("/dev/shm", os.W_OK):
        pytest.skip("no tmpfs at /dev/shm")
    with TemporaryDirectory(dir="/dev/shm") as folder:
        yield Path(folder)


@pytest.mark.soak
async def test_a_log_without_end_is_capped_and_every_cursor_stays_valid(app: App, workspace: Path):
    size, cap, head = times(100, 1000), logcap.CAP_BYTES, logcap.HEAD_BYTES
    if not FULL:
        # As full as the real cap by a thousand MB, and looked at as often for each MB.
        cap, head = 6 << 20, 1 << 18
        edit_snapshot(app, "executors/logcap.py", "CAP_BYTES = 64 << 20", "CAP_BYTES = 6 << 20")
        edit_snapshot(app, "executors/logcap.py", "HEAD_BYTES = 1 << 20", "HEAD_BYTES = 1 << 18")
        edit_snapshot(app, "executors/watching.py", "LOOK_SECONDS = 1.0", "LOOK_SECONDS = 0.1")
    (workspace / "writes.py").write_text(WRITES, encoding="utf-8")
    run = await start(app, program(workspace, f'exec {sys.executable} -S "{workspace}/writes.py" {size}'))
    await until(run, "running")
    log = run.attempt(1).log
    cursors: list[str] = []
    seen: list[int] = []
    while not run.exit_json.exists():
        newest = await logs.tail(app, run.id, cursor=None, lines=20, grep=None, attempt=None)
        numbers(newest.lines[:-1])  # the last may be half written
        cursors.append(newest.cursor)
        page = await logs.tail(app, run.id, cursor=cursors[len(cursors) // 2], lines=100, grep=None, attempt=None)
        assert len(page.text()) < TEXT_LIMIT
        seen += numbers(page.lines)
        await anyio.sleep(0.02)
    assert seen
    await runs.wait(app, run, seconds=60)
    count = size * 1_000_000 // 101
    assert log.stat().st_size == count * 101
    assert allocated(log) <= cap
    (told,) = [row["why"] for row in events(run) if row["event"] == "log_cap"]
    assert f"capped at {cap / 1e6:.0f} MB: its first {head / 1e6:.1f} MB and its newest part are kept" in told
    inode = log.stat().st_ino
    for cursor in [*cursors, Cursor(inode, 0).encode()]:
        place = Cursor.decode(cursor)
        assert place is not None
        found = logs.read(log, place, 10, None)
        assert all(number * 101 >= place.offset for number in numbers(found.lines))
        assert found.lines or place.offset == log.stat().st_size
    newest = await logs.tail(app, run.id, cursor=None, lines=20, grep=None, attempt=None)
    assert numbers(newest.lines) == list(range(count - 20, count))
    assert "dropped by the log's cap" in newest.note
    # From the end of the head one answer gets to the lines behind the hole, however wide that is.
    behind = logs.read(log, Cursor(inode, head // 101 * 101), 10, None)
    first, *rest = numbers(behind.lines)
    assert first * 101 > count * 101 - cap
    assert [first, *rest] == list(range(first, first + 10))
    assert "before them were dropped by the log's cap" in behind.note


@pytest.mark.soak
@pytest.mark.parametrize("where", ["disk", "memory"])
def test_whatever_was_dropped_every_whole_line_that_is_left_is_shown_once(tmp_path: Path, where: str):
    with folder_on(where, tmp_path) as folder:
        for seed in range(times(20, 500)):
            check_with_random_holes(folder / "log", random.Random(seed))


def check_with_random_holes(log: Path, chance: random.Random) -> None:
    block = log.parent.stat().st_blksize
    texts = [f"{n:05d}{'y' * chance.choice([0, 3, 100, 3000, 9000])}" for n in range(chance.randrange(1, 120))]
    log.write_text("".join(text + "\n" for text in texts), encoding="ascii")
    size = log.stat().st_size
    holes: list[tuple[int, int]] = []
    with open(log, "r+b") as file:
        for _ in range(chance.randrange(1, 4)):
            begin = chance.randrange(size // block + 1) * block
            length = chance.randrange(1, 6) * block
            logcap._punch_call()(file.fileno(), begin, length)
            holes.append((begin, min(size, begin + length)))
    starts, at = list[int](), 0
    for text in texts:
        starts.append(at)
        at += len(text) + 1
    # A line that begins just behind a hole can't be told from the end of one that began in it.
    left = [
        n
        for n, begin in enumerate(starts)
        if all(begin + len(texts[n]) + 1 <= hole or begin > end for hole, end in holes if end > hole)
    ]
    cursor = Cursor(log.stat().st_ino, chance.choice(starts))
    expected = [n for n in left if starts[n] >= cursor.offset]
    shown: list[str] = []
    for _ in range(len(texts) + 10):
        page = logs.read(log, cursor, 7, None)
        shown += page.lines
        assert page.cursor != cursor or not page.more
        cursor = page.cursor
        if not page.more:
            break
    else:
        pytest.fail("the cursor never came to the end")
    assert [int(text[:5]) for text in shown] == expected
    assert all(texts[int(text[:5])].startswith(text.rstrip("…")) for text in shown)
    newest = logs.read(log, None, 7, None)
    last = max(end for _, end in holes)
    behind = [n for n in left if starts[n] >= last]
    assert [int(text[:5]) for text in newest.lines] == behind[-7:]


def test_half_of_a_secret_at_the_edge_of_a_hole_is_not_shown(tmp_path: Path):
    log = tmp_path / "train.log"
    block = tmp_path.stat().st_blksize
    secret = "hf_" + "a1B2c3" * 6
    filler = "z" * 99 + "\n"
    # The secret's first half lies just before the hole, another one's second half just behind it.
    text = (filler * 200)[: 2 * block - len("token is hf_") - 1] + "\ntoken is " + secret + "\n" + filler * 1000
    text = text[: 4 * block - 12 - 1] + "\nis " + secret + "\nafter\n"
    log.write_text(text, encoding="ascii")
    with open(log, "r+b") as file:
        logcap._punch_call()(file.fileno(), 2 * block, 2 * block)
    inode = log.stat().st_ino
    cursor, shown = Cursor(inode, 0), list[str]()
    while True:
        page = logs.read(log, cursor, 1000, None)
        shown += page.lines
        cursor = page.cursor
        if not page.more:
            break
    shown += logs.read(log, None, 1000, None).lines
    assert shown[-1] == "after"
    assert not [line for line in shown if "hf_" in line or "B2" in line or "\0" in line]


def test_what_was_dropped_and_reads_as_zeros_is_not_shown(tmp_path: Path):
    log = tmp_path / "train.log"
    log.write_bytes(b"before\nhalf" + bytes(5000) + b" a line\nafter\n")
    assert logs.read(log, None, 10, None).lines == ["before", "after"]
    inode = log.stat().st_ino
    assert logs.read(log, Cursor(inode, 0), 10, None).lines == ["before", "after"]
    assert logs.read(log, Cursor(inode, 5000), 10, None).lines == ["after"]


def test_a_line_that_began_in_the_hole_waits_until_it_ends(tmp_path: Path):
    log = tmp_path / "train.log"
    block = tmp_path.stat().st_blksize
    log.write_text("first\n" + "x" * 5 * block, encoding="ascii")
    cursor = logs.read(log, None, 10, None).cursor
    with open(log, "r+b") as file:
        logcap._punch_call()(file.fileno(), block, 2 * block)
    waits = logs.read(log, cursor, 10, None)
    assert (waits.lines, waits.more) == ([], False)
    with open(log, "ab") as file:
        file.write(b"x\nnext\n")
    assert logs.read(log, waits.cursor, 10, None).lines == ["next"]


def test_a_log_below_the_cap_a_link_and_a_file_with_a_second_name_are_left_alone(tmp_path: Path):
    log = tmp_path / "train.log"
    for made in ("missing", "small", "link", "second name", "pipe"):
        other = tmp_path / "other"
        other.unlink(missing_ok=True)
        log.unlink(missing_ok=True)
        other.write_bytes(b"x" * 1_000_000)
        match made:
            case "small":
                log.write_bytes(b"x" * 8192)
            case "link":
                log.symlink_to(other)
            case "second name":
                log.hardlink_to(other)
            case "pipe":
                os.mkfifo(log)
            case _:
                pass
        assert LogCap(log, cap=100_000, head=4096).look() is None
        assert other.read_bytes() == b"x" * 1_000_000
        assert allocated(other) >= 1_000_000


#: Caps a log on a file system in memory that can't punch holes; prints what two looks say.
LOOKS = """import sys
from pathlib import Path
from model_trainer.executors.logcap import LogCap
log = Path(sys.argv[1]) / "train.log"
log.write_bytes(b"x" * 1_000_000)
cap = LogCap(log, cap=100_000, head=4096)
print([cap.look(), cap.look()], log.read_bytes() == b"x" * 1_000_000)
"""


def test_a_file_system_that_cannot_do_it_is_said_once(tmp_path: Path):
    script = f'mount -t ramfs none "{tmp_path}" && exec "{sys.executable}" -c "$0" "{tmp_path}"'
    command = ["unshare", "-m" if os.getuid() == 0 else "-Urm", "sh", "-c", script, LOOKS]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if not done.stdout:
        pytest.skip(f"no mount here: {done.stderr.strip()}")
    said = "the log grows without a limit: no part of it can be dropped here (Operation not supported)"
    assert done.stdout.strip() == f"{[said, None]} True"
