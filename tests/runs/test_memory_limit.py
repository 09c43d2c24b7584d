"""A trainer that may not have the memory it asks for."""

from __future__ import annotations

from pathlib import Path

import pytest
from training_runs import Train, failure_of, injected

from model_trainer.services.app import App
from model_trainer.services.runs import view as run_view

pytestmark = pytest.mark.anyio

#: As `ulimit -v`, set once the libraries are loaded: what they take is not the training's.
LIMIT = """import os, resource, sys
if "train" in sys.argv:
    pages = int(open("/proc/self/statm", encoding="ascii").read().split()[0])
    most = pages * resource.getpagesize() + 400_000_000
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
"""


async def test_a_training_that_gets_no_more_memory_says_oom_host_and_is_not_tried_again(
    app: App, train: Train, workspace: Path, fork_python: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("MODEL_TRAINER_PYTHON", str(injected(workspace, fork_python, LIMIT)))
    run = await train(training={"per_device_train_batch_size": 512, "max_length": 1024})
    state = await failure_of(app, run)
    assert state.reason == "oom_host"
    assert "can't allocate memory" in state.detail
    assert run.latest_attempt().number == 1
    assert "oom_host" in (await run_view.get(app, run.id)).text()
