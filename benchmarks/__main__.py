"""Run all benchmarks, or those that are named, and record what they found.

`python -m benchmarks [NAME…] [--minutes N] [--record]`. `soak` takes half an hour, so it runs only where it is named; a
shorter one is only shown, or recorded as what it is. Each module with `run() -> dict[str, Any]` is a benchmark; its
result goes to `benchmarks/results/<name>.json` with the machine and the versions it was measured on.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from datetime import UTC, datetime
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
#: What isn't a benchmark, or takes too long to be run unasked.
NOT_BY_ITSELF = ("__init__", "__main__", "soak")
#: What is promised, and recorded; a shorter soak is a trial.
SOAK_MINUTES = 30.0
PACKAGES = ("mcp", "pydantic", "anyio", "torch", "transformers", "trl", "peft", "datasets")


def main(arguments: list[str]) -> int:
    """Run them; 0 unless one missed its goal."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks")
    parser.add_argument("names", nargs="*", help="which ones (default: all but soak)")
    parser.add_argument("--minutes", type=float, default=SOAK_MINUTES, help="how long soak loads its servers")
    parser.add_argument("--record", action="store_true", help="record a shorter soak too; it says how short it was")
    given = parser.parse_args(arguments)
    names: list[str] = given.names or sorted(path.stem for path in HERE.glob("*.py") if path.stem not in NOT_BY_ITSELF)
    missed = False
    for name in names:
        module = import_module(f"benchmarks.{name}")
        if not hasattr(module, "run"):
            continue
        measured: dict[str, Any] = module.run(given.minutes) if name == "soak" else module.run()
        record = {"name": name, "measured": datetime.now(UTC).date().isoformat(), **machine(), "result": measured}
        if name != "soak" or given.record or given.minutes >= SOAK_MINUTES:
            results = HERE / "results"
            results.mkdir(exist_ok=True)
            (results / f"{name}.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
        print(f"\n{name}")
        for key, value in measured.items():
            print(f"  {key:<40} {value}")
        missed = missed or measured.get("goal_met") is False
    return 1 if missed else 0


def machine() -> dict[str, Any]:
    """What the numbers depend on."""
    versions = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return {
        "machine": {"system": platform.platform(), "processor": processor(), "cores": os.cpu_count()},
        "versions": versions,
    }


def processor() -> str:
    """The processor's name as the kernel tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
