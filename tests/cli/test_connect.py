"""`model-trainer connect`: the client's own file, changed only where it must be, and only after a yes."""

from __future__ import annotations

import json
import stat
import sys
import tomllib
from pathlib import Path

import pytest

from model_trainer.executors.errors import ArgumentError, ConfigError
from model_trainer.server.connect import connect, executable, server_entry
from model_trainer.services.environment.clients import Client, find_target

FILES: list[tuple[Client, str, str]] = [
    ("claude", ".mcp.json", "mcpServers"),
    ("cursor", ".cursor/mcp.json", "mcpServers"),
    ("vscode", ".vscode/mcp.json", "servers"),
]


def write_entry(client: Client, workspace: Path | None, scope: str | None = None) -> int:
    return connect(client, scope, workspace, yes=True, only_print=False)  # type: ignore[arg-type]


@pytest.mark.parametrize(("client", "file", "key"), FILES)
def test_a_new_project_gets_the_clients_own_file(client: Client, file: str, key: str, workspace: Path) -> None:
    assert write_entry(client, workspace) == 0
    entry = json.loads((workspace / file).read_text(encoding="utf-8"))[key]["model-trainer"]
    assert entry["type"] == "stdio"
    command = [entry["command"], *entry["args"]]
    assert command == [*executable(), "serve", "--workspace", str(workspace)]
    assert Path(entry["command"]).is_absolute()


def test_codex_gets_a_table_for_all_projects_and_so_no_fixed_workspace(clean_machine: Path, workspace: Path) -> None:
    assert write_entry("codex", None) == 0
    content = tomllib.loads((clean_machine / ".codex" / "config.toml").read_text(encoding="utf-8"))
    entry = content["mcp_servers"]["model-trainer"]
    assert [entry["command"], *entry["args"]] == [*executable(), "serve"]
    assert write_entry("codex", workspace) == 0
    content = tomllib.loads((clean_machine / ".codex" / "config.toml").read_text(encoding="utf-8"))
    assert content["mcp_servers"]["model-trainer"]["args"][-1] == str(workspace)


@pytest.mark.parametrize(
    ("client", "file"),
    [("claude", ".claude.json"), ("cursor", ".cursor/mcp.json"), ("vscode", "config/Code/User/mcp.json")],
)
def test_the_users_own_file_serves_all_projects(client: Client, file: str, clean_machine: Path) -> None:
    assert find_target(client, "user", Path("/nowhere")).path == clean_machine / file


def test_everything_else_in_a_json_file_stays(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    others = {
        "inputs": [{"id": "ключ"}],
        "servers": {"other": {"command": "x", "env": {"API_KEY": "sk-notARealKey123"}}},
        "more": None,
    }
    path = workspace / ".vscode" / "mcp.json"
    path.parent.mkdir()
    path.write_text(json.dumps(others, indent="\t", ensure_ascii=False), encoding="utf-8")
    path.chmod(0o640)
    assert write_entry("vscode", workspace) == 0
    after = path.read_text(encoding="utf-8")
    content = json.loads(after)
    assert content["servers"].pop("model-trainer")
    assert content == others
    assert '\n\t"servers"' in after
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert json.loads(path.with_name("mcp.json.bak").read_text(encoding="utf-8")) == others
    assert "sk-notARealKey123" not in capsys.readouterr().out


def test_everything_else_in_a_toml_file_stays_to_the_letter(clean_machine: Path, workspace: Path) -> None:
    before = (
        '# mine\nmodel = "gpt"\n\n[mcp_servers.model-trainer]\ncommand = "/old/model-trainer"\nargs = ["serve"]\n'
        "startup_timeout_sec = 99  # slow disk\n\n[mcp_servers.other]\ncommand = 'x'\n\n[tui]\ntheme=\"dark\"\n"
    )
    path = clean_machine / ".codex" / "config.toml"
    path.parent.mkdir()
    path.write_text(before, encoding="utf-8")
    assert write_entry("codex", workspace) == 0
    after = path.read_text(encoding="utf-8")
    assert tomllib.loads(after)["mcp_servers"]["model-trainer"]["command"] == executable()[0]
    changed = set(before.splitlines()) - set(after.splitlines())
    assert changed == {'command = "/old/model-trainer"', 'args = ["serve"]'}


def test_keys_that_the_user_added_to_our_entry_stay(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODEL_TRAINER_STATE", "/data/state")
    mine = {"command": "/old", "args": ["x"], "timeout": 5, "env": {"HF_TOKEN": "${HF_TOKEN}"}}
    (workspace / ".mcp.json").write_text(json.dumps({"mcpServers": {"model-trainer": mine}}), encoding="utf-8")
    assert write_entry("claude", workspace) == 0
    entry = json.loads((workspace / ".mcp.json").read_text(encoding="utf-8"))["mcpServers"]["model-trainer"]
    assert entry["timeout"] == 5
    assert entry["env"]["HF_TOKEN"] == "${HF_TOKEN}"
    assert entry["env"]["MODEL_TRAINER_STATE"] == "/data/state"
    assert entry["command"] == executable()[0]


def test_the_second_time_there_is_nothing_to_do(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_entry("cursor", workspace)
    before = (workspace / ".cursor" / "mcp.json").stat().st_mtime_ns
    assert write_entry("cursor", workspace) == 0
    assert "nothing to do" in capsys.readouterr().out
    assert (workspace / ".cursor" / "mcp.json").stat().st_mtime_ns == before


def test_tokens_of_the_shell_are_not_written(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_notARealToken")
    monkeypatch.setenv("WANDB_API_KEY", "notARealKey")
    assert "notAReal" not in json.dumps(server_entry(workspace))


def test_the_change_is_shown_and_a_no_writes_nothing(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
    monkeypatch.setattr("builtins.input", lambda _: "n")
    assert connect("claude", None, workspace, yes=False, only_print=False) == 1
    said = capsys.readouterr().out
    assert '+    "model-trainer": {' in said
    assert "Nothing was written" in said
    assert list(workspace.iterdir()) == []


def test_a_yes_writes(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
    monkeypatch.setattr("builtins.input", lambda _: "y")
    assert connect("claude", None, workspace, yes=False, only_print=False) == 0
    assert (workspace / ".mcp.json").is_file()


def test_print_only_shows(workspace: Path) -> None:
    assert connect("claude", None, workspace, yes=True, only_print=True) == 0
    assert list(workspace.iterdir()) == []


def test_where_nobody_can_be_asked_nothing_is_written(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdin, "isatty", lambda: False)
    with pytest.raises(ArgumentError, match="Nobody can be asked") as caught:
        connect("claude", None, workspace, yes=False, only_print=False)
    assert "connect claude --yes" in caught.value.next_step
    assert list(workspace.iterdir()) == []


@pytest.mark.parametrize(
    ("client", "file", "text"),
    [
        ("vscode", ".vscode/mcp.json", '{\n  // my servers\n  "servers": {}\n}\n'),
        ("claude", ".mcp.json", "[]"),
        ("claude", ".mcp.json", '{"mcpServers": []}'),
        ("codex", ".codex/config.toml", "mcp_servers = 5\n"),
        ("codex", ".codex/config.toml", '[mcp_servers]\nmodel-trainer = { command = "x" }\n'),
        ("codex", ".codex/config.toml", '[mcp_servers.model-trainer]\nargs = [\n  "serve",\n]\n'),
        ("codex", ".codex/config.toml", "not toml"),
    ],
)
def test_a_file_that_cannot_be_edited_safely_is_left_and_the_entry_given(
    client: Client, file: str, text: str, workspace: Path
) -> None:
    path = workspace / file
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        write_entry(client, workspace, "project")
    assert caught.value.code == "invalid_config"
    assert str(path) in caught.value.message
    assert executable()[0] in caught.value.next_step
    assert path.read_text(encoding="utf-8") == text
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_a_link_to_the_users_dotfiles_stays_a_link(clean_machine: Path, tmp_path: Path) -> None:
    real = tmp_path / "dotfiles.toml"
    real.write_text("model = 'x'\n", encoding="utf-8")
    (clean_machine / ".codex").mkdir()
    link = clean_machine / ".codex" / "config.toml"
    link.symlink_to(real)
    assert write_entry("codex", None) == 0
    assert link.is_symlink()
    assert "mcp_servers" in tomllib.loads(real.read_text(encoding="utf-8"))


def test_a_temporary_environment_is_pointed_out(
    workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    script = tmp_path / "archive-v0" / "abc" / "bin" / "model-trainer"
    script.parent.mkdir(parents=True)
    script.touch()
    script.chmod(0o700)
    monkeypatch.setattr(sys, "argv", [str(script)])
    assert connect("claude", None, workspace, yes=False, only_print=True) == 0
    assert "uv tool install model-trainer" in capsys.readouterr().out
