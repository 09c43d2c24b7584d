from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

_SCAN = """
import re, sys
from model_trainer.trainer import scan
result, sample = scan.inspect({"path": sys.argv[1]}, lambda *_: None)
peak = re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status", encoding="ascii").read())
print(result["rows"], len(sample), int(peak[1]) // 1024)
"""


@pytest.mark.parametrize("name", ["big.jsonl", "big.json", "big.csv"])
def test_a_file_of_64_mb_is_read_in_the_memory_of_its_rows(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    rows = 0
    with open(path, "w", encoding="utf-8") as file:
        if name == "big.json":
            file.write("[")
        if name == "big.csv":
            file.write("prompt,completion\n")
        while file.tell() < 64_000_000:
            prompt, completion = f"number {rows}", "a word of it " * 40
            row = (
                f"{prompt},{completion}"
                if name == "big.csv"
                else json.dumps({"prompt": prompt, "completion": completion})
            )
            file.write((",\n" if rows and name == "big.json" else "") + row + ("" if name == "big.json" else "\n"))
            rows += 1
        if name == "big.json":
            file.write("]")
    done = subprocess.run([sys.executable, "-c", _SCAN, str(path)], capture_output=True, text=True, check=True)
    found, sampled, megabytes = map(int, done.stdout.split())
    assert found == rows
    assert sampled == 500
    # An idle Python with these imports has 20 MB; the hashes of 120,000 rows and the sample add a few.
    assert megabytes < 48
