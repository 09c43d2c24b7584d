"""A workspace with something to train on, and a training environment whose keys were really read once."""

from __future__ import annotations

import shutil
from pathlib import Path

import anyio
import pytest
from config_samples import WriteFile

from model_trainer.executors.paths import Home
from model_trainer.services.app import App
from model_trainer.services.configs.keys import InstalledKeys, installed_keys
from model_trainer.services.environment.environments import find_environment
from model_trainer.services.settings import Settings


@pytest.fixture
def write_file(workspace: Path) -> WriteFile:
    """Writes a config into the workspace, beside a data file that it may name."""
    (workspace / "data.jsonl").write_text('{"question": "1+1?", "answer": "2"}\n', encoding="utf-8")

    def write(text: str) -> Path:
        path = workspace / "config.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


@pytest.fixture(scope="session")
def probed(fork_python: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, InstalledKeys]:
    """The cache folder after a real probe of the training environment, and what it answered."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MODEL_TRAINER_PYTHON", str(fork_python))
        patch.setenv("MODEL_TRAINER_STATE", str(tmp_path_factory.mktemp("probe") / "state"))
        app = App(home=Home.open(), settings=Settings(), workspace=None)
        keys = anyio.run(installed_keys, app, find_environment(app))
    return app.home.cache, keys


@pytest.fixture
def ready(
    app: App,
    probed: tuple[Path, InstalledKeys],
    fork_python: Path,
    monkeypatch: pytest.MonkeyPatch,
    write_file: WriteFile,
) -> App:
    """An app whose training environment is known."""
    monkeypatch.setenv("MODEL_TRAINER_PYTHON", str(fork_python))
    for path in probed[0].glob("keys-*.json"):
        shutil.copy(path, app.home.cache)
    return app
