"""`model-trainer doctor`: finds what is broken, and says what to do about it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from environments_made import make_environment

from model_trainer.server.connect import connect
from model_trainer.services.environment.doctor import examine
from model_trainer.services.environment.environments import REQUIRED
from model_trainer.services.settings import settings_path


@pytest.fixture
def trainable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A training environment with a torch that imports, and is no more than that."""
    python = make_environment(tmp_path / "env", dict.fromkeys(REQUIRED, "1.0"))
    site = next((tmp_path / "env" / "lib").glob("python*")) / "site-packages"
    (site / "torch.py").write_text(
        "class version: cuda = None\nclass cuda: is_available = staticmethod(lambda: False)\n__version__ = '1.0'\n",
        encoding="utf-8",
    )
    monkeypatch.setenv("MODEL_TRAINER_PYTHON", str(python))
    return python


def test_a_working_machine_is_healthy_and_the_connection_is_what_is_left(trainable: Path, workspace: Path) -> None:
    found = examine(workspace)
    assert found.healthy, found.text()
    assert str(trainable) in found.text()
    assert str(settings_path()) in found.text()
    assert found.to_do == ["run: model-trainer connect claude (or cursor, vscode, codex)"]


def test_a_connected_client_is_found(trainable: Path, workspace: Path) -> None:
    connect("claude", None, workspace, yes=True, only_print=False)
    found = examine(workspace)
    assert "Claude Code starts it" in found.text()
    assert found.to_do == []


def test_a_client_whose_command_is_gone_is_broken(trainable: Path, workspace: Path) -> None:
    entry = {"mcpServers": {"model-trainer": {"command": "/gone/model-trainer", "args": ["serve"]}}}
    (workspace / ".mcp.json").write_text(json.dumps(entry), encoding="utf-8")
    found = examine(workspace)
    assert not found.healthy
    assert "run: model-trainer connect claude --scope project" in found.to_do


def test_a_python_that_is_not_there_is_broken(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODEL_TRAINER_PYTHON", "/nowhere/python")
    found = examine(workspace)
    assert not found.healthy
    assert "/nowhere/python" in found.text()
    assert "run: model-trainer setup" in found.to_do


def test_a_torch_that_does_not_import_is_broken(trainable: Path, workspace: Path) -> None:
    site = next((trainable.parents[1] / "lib").glob("python*")) / "site-packages"
    (site / "torch.py").write_text("raise ImportError('libcudart')\n", encoding="utf-8")
    found = examine(workspace)
    assert not found.healthy
    assert "torch can't be imported" in found.text()


def test_broken_settings_are_named_and_the_rest_is_still_checked(trainable: Path, workspace: Path) -> None:
    settings_path().parent.mkdir(parents=True)
    settings_path().write_text("run_dir = '/x'\n", encoding="utf-8")
    found = examine(workspace)
    assert not found.healthy
    assert "did you mean 'runs_dir'" in found.text()
    assert "torch 1.0 loads" in found.text()


def test_a_state_folder_that_cannot_be_used_ends_with_code_1(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("MODEL_TRAINER_STATE", str(tmp_path / "file"))
    command = [sys.executable, "-m", "model_trainer.server.cli", "doctor"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "Something is broken." in done.stdout
    assert "MODEL_TRAINER_STATE" in done.stdout


def test_a_state_folder_that_others_could_enter_is_closed_and_noted(
    trainable: Path, workspace: Path, clean_machine: Path
) -> None:
    state = clean_machine / "state" / "model-trainer"
    state.mkdir(parents=True)
    state.chmod(0o755)
    found = examine(workspace)
    assert found.healthy
    assert f"{state} could be entered by other users; it is closed to them now" in found.text()
