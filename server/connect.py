"""`model-trainer connect`: writes the server into a client's own configuration, after showing the change.

The file is replaced in one step and its former state kept beside it as `<name>.bak`. Tokens are never written; where
other entries of the file hold some, the shown change hides them.
"""

from __future__ import annotations

import contextlib
import difflib
import os
import re
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from ..executors.errors import ArgumentError, StateError
from ..services.environment.clients import NAME, TITLES, Client, Scope, Target, find_target

#: Where things lie, which a client's near-empty environment would otherwise make the server look for elsewhere.
_PLACES = (
    *("MODEL_TRAINER_STATE", "MODEL_TRAINER_PYTHON", "HF_HOME", "HF_HUB_CACHE"),
    *("XDG_STATE_HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME"),
)
_SECRET = re.compile(
    r"""(?i)(token|secret|password|api_?key|authorization|bearer)([^:=]*["'\s]*[:=]\s*["']?)([^"',}\]]+)"""
)

_AFTER: dict[Client, str] = {
    "claude": "start Claude Code in that folder and approve the server; /mcp shows it",
    "cursor": "restart Cursor, and switch the server on under MCP in its settings",
    "vscode": "open the folder in VS Code and start the server from mcp.json (or `MCP: List Servers`)",
    "codex": "start Codex anew; /mcp shows the server",
}


def connect(client: Client, scope: Scope | None, workspace: Path | None, *, yes: bool, only_print: bool) -> int:
    """Show the change, ask, write; 0 if the file has our entry in the end, or was only shown.

    Raises:
        ConfigError: the client's file can't be edited; the error has what to paste by hand.
        ArgumentError: nobody is there to say yes.
        StateError: the file can't be written.
    """
    project = workspace or Path.cwd()
    target = find_target(client, scope, project)
    # For all projects a fixed folder would be the wrong one in most; the client's root then is the workspace.
    entry = server_entry(workspace if target.scope == "user" else project)
    before = target.read()
    after = target.edited(before, entry)
    out = sys.stdout.write
    if target.entry_in(before) == target.entry_in(after) and before:
        out(f"{target.path} has the server already; nothing to do.\n")
        return 0
    out(f"{TITLES[client]}: {target.path}\n\n{show_change(target, before, after)}\n")
    if _is_fleeting(Path(entry["command"])):
        out(f"Note: {entry['command']} is temporary; better install it for good first: uv tool install {NAME}\n")
    if only_print:
        return 0
    if not yes and not _agreed(target):
        out("Nothing was written.\n")
        return 1
    backup = write(target.path, after)
    kept = f" (the former file is {backup})" if backup else ""
    out(f'Written{kept}.\nNext: {_AFTER[client]}. Then ask: "What can I fine-tune on this machine?"\n')
    return 0


def server_entry(workspace: Path | None) -> dict[str, Any]:
    """How a client starts this very installation."""
    command = executable()
    arguments = ["serve", *(["--workspace", str(workspace)] if workspace is not None else [])]
    entry: dict[str, Any] = {"type": "stdio", "command": command[0], "args": [*command[1:], *arguments]}
    environment = {name: os.environ[name] for name in _PLACES if os.environ.get(name)}
    return entry | ({"env": environment} if environment else {})


def executable() -> list[str]:
    """The absolute path of the running `model-trainer`; this Python and our module where it has no such script."""
    script = Path(sys.argv[0])
    for candidate in (script if script.name == NAME else None, Path(sys.executable).with_name(NAME)):
        if candidate is not None and candidate.is_file() and os.access(candidate, os.X_OK):
            return [str(candidate.absolute())]
    return [sys.executable, "-m", "model_trainer.server.cli"]


def show_change(target: Target, before: str, after: str) -> str:
    """The change as a unified diff, with the values of what looks like a secret hidden."""
    name = str(target.path)
    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), name, name, lineterm="", n=2)
    return "\n".join(_SECRET.sub(r"\1\2…", line) for line in lines) + "\n"


def write(path: Path, text: str) -> Path | None:
    """Replace the file in one step, through a link to where it really lies; returns the copy of the former one.

    Raises:
        StateError: it can't be written; the former file stands.
    """
    path = path.resolve()
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        backup = path.with_name(f"{path.name}.bak") if path.exists() else None
        mode = path.stat().st_mode & 0o777 if backup else 0o600
        if backup is not None:
            shutil.copy2(path, backup)
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        temporary = Path(name)
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(mode)
        os.replace(temporary, path)
    except OSError as error:
        if temporary is not None:
            with contextlib.suppress(OSError):
                temporary.unlink()
        raise StateError(
            "state_unwritable",
            f"{path} can't be written: {error.strerror}.",
            next_step="Mend that, or use --print and paste the entry by hand.",
        ) from error
    return backup


def _agreed(target: Target) -> bool:
    if not sys.stdin.isatty():
        raise ArgumentError(
            "invalid_arguments",
            "Nobody can be asked here (stdin is no terminal), so nothing was written.",
            next_step=f"model-trainer connect {target.client} --yes writes without asking; --print only shows.",
        )
    return input("Write this? [y/N] ").strip().lower() in ("y", "yes")


def _is_fleeting(command: Path) -> bool:
    """Whether it lies in an environment that uv made for one call (uvx)."""
    return "archive-v0" in command.parts or "builds-v0" in command.parts
