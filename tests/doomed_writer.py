"""Writers that are killed at random moments, and what each said it had written: that must be there afterwards.

As a program it forks a writer for each line `WHAT PATH FIRST` on stdin and prints `pid PID`; the writer prints a number
for each write that has returned, counting up from FIRST, until somebody kills it; then `gone` follows. WHAT is
`metrics` (rows of `MetricsWriter`) or `record` (`write_json`).
"""

from __future__ import annotations

import itertools
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from model_trainer.trainer import records
from model_trainer.trainer.pyramid import MetricsWriter


class Writers:
    """Starts writers, and kills them."""

    def __init__(self, program: subprocess.Popen[bytes], chance: random.Random) -> None:
        self._program = program
        self._chance = chance

    def kill_one(self, what: str, path: Path, first: int, most: int) -> int:
        """Kill a writer after at most `most` writes or in the midst of the next one; the last number that it said.

        That is `first - 1` if it said none.
        """
        program, chance = self._program, self._chance
        assert program.stdin is not None
        assert program.stdout is not None
        program.stdin.write(f"{what} {path} {first}\n".encode())
        program.stdin.flush()
        said = first - 1
        pid = 0
        kill_at = first - 1 + chance.randrange(most + 1)
        while (line := program.stdout.readline().split()) != [b"gone"]:
            if line[0] == b"pid":
                pid = int(line[1])
            else:
                said = int(line[0])
            if pid and said >= kill_at:
                # Somewhere in a write of some tenths of a millisecond, wherever the machine lets it be.
                time.sleep(chance.uniform(0, 0.001))
                os.kill(pid, signal.SIGKILL)
                pid = 0
        return said


@contextmanager
def writers(seed: int) -> Generator[Writers]:
    command = [sys.executable, __file__]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as program:
        yield Writers(program, random.Random(seed))
        assert program.stdin is not None
        program.stdin.close()


def main() -> None:
    for line in sys.stdin:
        what, path, first = line.split()
        child = os.fork()
        if child == 0:
            write(what, Path(path), int(first))
        os.write(1, f"pid {child}\n".encode())
        os.waitpid(child, 0)
        os.write(1, b"gone\n")


def write(what: str, path: Path, first: int) -> None:
    chance = random.Random(first)
    writer = MetricsWriter(path)
    for number in itertools.count(first):
        # Up to some dozens of pages: the kernel cuts a killed write at their edges.
        filler = "x" * chance.choice([0, 30, 20_000, 200_000])
        if what == "metrics":
            writer.append({"step": number, "at": "2026-01-01T00:00:00Z", "loss": number / 7, "filler": filler})
        else:
            records.write_json(path, {"number": number, "filler": filler, "end": number})
        os.write(1, f"{number}\n".encode())


if __name__ == "__main__":
    main()
