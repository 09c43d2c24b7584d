"""`model-trainer call`: tools from a script, through the same path as an agent's calls."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from model_trainer.services.settings import settings_path


def call(*arguments: str, stdin: str = "", cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "model_trainer.server.cli", "call", *arguments]
    return subprocess.run(command, input=stdin, capture_output=True, text=True, check=False, cwd=cwd)


def test_a_result_is_json_on_stdout_and_nothing_else() -> None:
    done = call("list_runs", "--json", '{"limit": 3}')
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["runs"] == []
    assert done.stderr == ""


def test_the_text_form_is_for_people() -> None:
    done = call("list_runs", "--text")
    assert done.returncode == 0
    assert "\nNext: " in done.stdout


def test_arguments_can_come_from_stdin() -> None:
    done = call("list_runs", "--json", "-", stdin='{"limit": 2}')
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("tool", "arguments", "code"),
    [
        ("list_run", "{}", "unknown_tool"),
        ("list_runs", '{"limt": 3}', "invalid_arguments"),
        ("list_runs", '{"limit": true}', "invalid_arguments"),
        ("list_runs", '{"limit": ', "invalid_arguments"),
        ("list_runs", "[1]", "invalid_arguments"),
        ("get_run", '{"run_id": "../../etc"}', "run_not_found"),
    ],
)
def test_an_error_is_json_with_its_three_parts_and_a_code_above_0(tool: str, arguments: str, code: str) -> None:
    done = call(tool, "--json", arguments)
    error = json.loads(done.stdout)
    assert done.returncode == 1
    assert error["code"] == code
    assert set(error) == {"code", "message", "next_step"}


def test_relative_paths_resolve_against_the_current_folder(workspace: Path) -> None:
    done = call("launch_run", "--json", '{"config": "none.yaml"}', cwd=workspace)
    error = json.loads(done.stdout)
    assert done.returncode == 1
    assert error["code"] == "config_not_found"
    assert str(workspace / "none.yaml") in error["message"]


def test_broken_settings_are_an_answer_of_every_tool() -> None:
    settings_path().parent.mkdir(parents=True)
    settings_path().write_text("run_dir = '/x'\n", encoding="utf-8")
    done = call("list_runs")
    assert done.returncode == 1
    assert json.loads(done.stdout)["code"] == "invalid_settings"
