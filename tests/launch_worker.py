"""Plays another server process: launches runs as one does, and prints a line for each.

`many PROGRAM COUNT`: COUNT runs of PROGRAM on two CPU slots. `config PATH [KEY]`: launch_run of a config; prints the
run's id and `new` or `already`, or the error's code. `warned PATH`: as `config`, and prints the warnings instead.
`keys PROGRAM COUNT`: one run for each of COUNT keys, as fast as possible. `doomed PROGRAM COUNT SEED`: fork COUNT
launchers of which each is killed at a random moment. `config`, `warned` and `keys` begin when their stdin ends, so that
several begin together.
"""

from __future__ import annotations

import os
import random
import select
import signal
import sys
import time
from pathlib import Path

import anyio

from model_trainer.executors.errors import ModelTrainerError
from model_trainer.executors.paths import Home, RunPaths
from model_trainer.executors.queueing import Pool
from model_trainer.services.app import App
from model_trainer.services.runs import launching
from model_trainer.services.runs import life as runs
from model_trainer.services.settings import Settings

TWO_SLOTS = Pool("cpu", ("cpu-0", "cpu-1"), 1)


def say(line: str) -> None:
    os.write(1, line.encode() + b"\n")


async def many(app: App, program: str, count: int) -> None:
    for _ in range(count):
        launch = runs.Launch(kind="train", python=Path(program), label="test", request={}, pool=TWO_SLOTS)
        run = await runs.start(app, launch)
        say(run.id)


async def config(app: App, path: str, key: str | None, warned: bool = False) -> None:
    sys.stdin.read()
    try:
        result = await launching.launch(app, path, again=False, key=key)
    except ModelTrainerError as error:
        say(f"error {error.code}")
    else:
        told = "already" if result.already_running else "new"
        say(" ".join([result.run_id, *(result.warnings if warned else [told])]))


async def keys(app: App, program: str, count: int) -> None:
    sys.stdin.read()
    for number in range(count):
        key = f"key-{number}"
        launch = runs.Launch(kind="train", python=Path(program), label="test", request={}, key=key)

        def former(key: str = key) -> RunPaths | None:
            return runs.find_by_key(app, key, "train")

        started = await runs.start_once(app, launch, former)
        say(f"{key} {started.run.id}")


def doomed(app: App, program: str, count: int, seed: int) -> None:
    chance = random.Random(seed)
    # The first may live: what it takes on this machine is what the others' moments are drawn from.
    limit, longest = 60.0, 0.0
    for number in range(count + 1):
        began = time.monotonic()
        child = os.fork()
        if child == 0:
            anyio.run(many, app, program, 1)
            os._exit(0)
        ended = os.pidfd_open(child)
        select.select([ended], [], [], limit)
        if number == 0:
            longest = 1.5 * (time.monotonic() - began)
        signal.pidfd_send_signal(ended, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(ended)
        limit = chance.uniform(0.0, longest)


def main(arguments: list[str]) -> None:
    app = App(home=Home.open(), settings=Settings(), workspace=None)
    match arguments:
        case ["many", program, count]:
            anyio.run(many, app, program, int(count))
        case ["config", path, *key]:
            anyio.run(config, app, path, key[0] if key else None)
        case ["warned", path]:
            anyio.run(config, app, path, None, True)
        case ["keys", program, count]:
            anyio.run(keys, app, program, int(count))
        case ["doomed", program, count, seed]:
            doomed(app, program, int(count), int(seed))
        case _:
            raise SystemExit(2)


if __name__ == "__main__":
    main(sys.argv[1:])
