"""The command `model-trainer`: usage, exit codes, and that it starts fast."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from model_trainer.executors.errors import all_codes
from model_trainer.server import cli

COMMANDS = ("serve", "setup", "doctor", "demo", "connect", "call", "config")


def run(*arguments: str, stdin: str = "", cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "model_trainer.server.cli", *arguments]
    return subprocess.run(command, input=stdin, capture_output=True, text=True, check=False, cwd=cwd)


def test_windows_is_refused_with_a_pointer_to_wsl2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    assert cli.main(["serve"]) == 1
    said = capsys.readouterr().err
    assert "WSL2" in said
    assert len(said.splitlines()) == 3


def test_the_version_is_the_distributions() -> None:
    done = run("--version")
    assert (done.returncode, done.stdout) == (0, f"model-trainer {version('model-trainer')}\n")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str) -> None:
    done = run(command, "--help")
    assert done.returncode == 0
    assert f"model-trainer {command}" in done.stdout
    assert command in run("--help").stdout


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["train"],
        ["serve", "--workspace", "/nowhere/at/all"],
        ["serve", "--port", "80"],
        ["connect"],
        ["connect", "emacs"],
        ["call"],
        ["config"],
    ],
)
def test_wrong_usage_is_told_on_stderr_with_code_2(arguments: list[str]) -> None:
    done = run(*arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert "usage: model-trainer" in done.stderr


def test_an_error_is_three_lines_on_stderr_and_code_1() -> None:
    done = run("setup", "--profile", "vllm")
    assert done.returncode == 1
    assert done.stdout == ""
    error, code, following = done.stderr.splitlines()
    assert error.startswith("error: There is no profile 'vllm'")
    assert code.removeprefix("code:").strip() in all_codes()
    assert following.startswith("next:")


def test_an_interruption_ends_with_130(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupt(_: str) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr("builtins.input", interrupt)
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
    assert cli.main(["connect", "codex"]) == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_the_schema_of_the_config_is_json_that_describes_it() -> None:
    done = run("config", "--schema")
    schema = json.loads(done.stdout)
    assert done.returncode == 0
    assert schema["required"] == ["model", "datasets"]
    assert schema["additionalProperties"] is False


def test_a_reader_that_goes_away_is_no_traceback() -> None:
    command = [sys.executable, "-m", "model_trainer.server.cli", "config", "--schema"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert "Traceback" not in process.stderr.read()


@pytest.mark.parametrize("arguments", [["--version"], ["config", "--help"], ["setup", "--profile", "none"]])
def test_a_command_imports_only_what_it_needs(arguments: list[str]) -> None:
    """The server's SDK takes half a second to import; nothing but serve and call may pay that."""
    code = (
        "import sys\nfrom model_trainer.server.cli import main\n"
        "try:\n    main(sys.argv[1:])\nexcept SystemExit:\n    pass\n"
        "sys.stderr.write('imported ' + ' '.join(sorted(sys.modules)) + '\\n')\n"
    )
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
    imported = set(done.stderr.splitlines()[-1].split())
    assert not imported & {"mcp", "torch", "transformers", "trl", "peft", "datasets", "huggingface_hub"}


def test_the_commands_module_is_also_the_installed_script() -> None:
    script = Path(sys.executable).with_name("model-trainer")
    if not script.exists():
        pytest.skip("the package is not installed in this environment")
    done = subprocess.run([script, "--version"], capture_output=True, text=True, check=True, env={**os.environ})
    assert done.stdout == run("--version").stdout
