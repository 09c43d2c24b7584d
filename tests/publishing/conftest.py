"""A finished training run to publish: really trained once, then laid into each test's own state folder."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from pushes import Trained, push
from training_runs import Train, result_of, train

from model_trainer.executors.paths import RunPaths
from model_trainer.services.app import App

__all__ = ["train"]


@pytest.fixture(scope="session")
def trained_before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where trained runs are kept for the tests to come."""
    return tmp_path_factory.mktemp("trained")


@pytest.fixture
def trained(app: App, train: Train, trained_before: Path) -> Trained:
    """A succeeded run that left an `adapter` or a `model`, in this test's state folder."""

    async def lay_down(kind: str) -> RunPaths:
        kept = trained_before / kind
        if not kept.exists():
            run = await train(**({} if kind == "adapter" else {"peft": None}))
            await result_of(app, run)
            # Its curve is drawn once for all tests.
            await push(app, run, "./bundle", dry_run=True)
            kept.mkdir()
            shutil.move(run.root, kept / run.id)
        [folder] = kept.iterdir()
        run = app.home.new_run(folder.name)
        shutil.copytree(folder, run.root)
        run.lock.touch()
        return run

    return lay_down
