"""Runs a program as a trainer whose run folder lies on a disk of 3 MB, and prints as JSON how that ends.

`full_disk_driver.py FOLDER PROGRAM`, in a mount namespace of its own: the disk is a tmpfs, and ends with the namespace.
After the run another one is tried.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import anyio

from model_trainer.executors import local
from model_trainer.executors.errors import ModelTrainerError
from model_trainer.executors.paths import Home
from model_trainer.executors.queueing import Pool
from model_trainer.services.app import App
from model_trainer.services.runs import life as runs
from model_trainer.services.runs import listing, logs, metrics, stopping
from model_trainer.services.runs import view as run_view
from model_trainer.services.settings import Settings
from model_trainer.trainer import records


async def main(folder: Path, program: Path) -> None:
    app = App(home=Home.open(folder), settings=Settings(), workspace=None)
    pool = Pool("cpu", ("cpu-0",), 1)
    launch = runs.Launch(kind="train", python=program, label="test", request={"method": "sft"}, pool=pool)
    run = await runs.start(app, launch)
    state = await runs.wait(app, run, seconds=60)
    told: dict[str, Any] = {"state": state.model_dump(), "record": records.read_json(run.exit_json)}
    told["free"] = os.statvfs(folder).f_bavail
    told["view"] = (await run_view.get(app, run.id)).text()
    told["log"] = (await logs.tail(app, run.id, cursor=None, lines=5, grep=None, attempt=None)).text()
    told["rows"] = (await metrics.tail(app, run.id, cursor=None)).rows
    told["stopped"] = (await stopping.stop(app, run.id, wait_seconds=0)).text()
    told["listed"] = [
        line.run_id for line in (await listing.list_runs(app, status="failed", kind="train", limit=5, cursor=None)).runs
    ]
    told["asked"] = local.request_stop(run)
    told["leased"] = records.is_locked(app.home.locks / "leases" / "cpu-0")
    try:
        await runs.start(app, launch)
        told["another"] = True
    except ModelTrainerError as error:
        told["refused"] = [error.code, error.message, error.next_step]
    told["hidden"] = [path.name for path in folder.glob(".*")]
    print(json.dumps(told))


if __name__ == "__main__":
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "none", sys.argv[1]], check=True)
    anyio.run(main, Path(sys.argv[1]), Path(sys.argv[2]))
