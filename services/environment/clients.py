"""The configuration files of the clients that can start us, and how an entry is put into each.

Formats and places as the clients' own documentation gives them (November 2026): Claude Code `.mcp.json` and
`~/.claude.json`, Cursor `mcp.json`, VS Code `mcp.json` with `servers`, Codex `config.toml` with `mcp_servers`.
"""

from __future__ import annotations

import json
import os
import re
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

from ...executors.errors import ConfigError

Client = Literal["claude", "cursor", "vscode", "codex"]
Scope = Literal["project", "user"]

NAME = "model-trainer"
TITLES: dict[Client, str] = {"claude": "Claude Code", "cursor": "Cursor", "vscode": "VS Code", "codex": "Codex"}


@dataclass(frozen=True)
class Target:
    """One client's configuration file."""

    client: Client
    scope: Scope
    path: Path

    @property
    def key(self) -> str:
        """The table that holds the servers."""
        return {"vscode": "servers", "codex": "mcp_servers"}.get(self.client, "mcpServers")

    def read(self) -> str:
        """The file's text, empty where there is none.

        Raises:
            ConfigError: it can't be read.
        """
        try:
            return self.path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return ""
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(
                "invalid_config", f"{self.path} can't be read: {error}.", next_step=f"Correct {self.path}."
            ) from error

    def snippet(self, entry: dict[str, Any]) -> str:
        """What to paste by hand."""
        return self.edited("", entry)

    def edited(self, text: str, entry: dict[str, Any]) -> str:
        """The file's text with our entry in it; all else stays, and so do further keys of our entry.

        Raises:
            ConfigError: the file is not one that can be edited without losing something; the error has the snippet.
        """
        return self._edited_toml(text, entry) if self.client == "codex" else self._edited_json(text, entry)

    def entry_in(self, text: str) -> dict[str, Any] | None:
        """Our entry as it stands in the file; None where there is none or the file can't be read."""
        try:
            content: Any = tomllib.loads(text) if self.client == "codex" else json.loads(text or "{}")
        except ValueError:
            return None
        found: Any = content
        for key in (self.key, NAME):
            found = cast("dict[str, Any]", found).get(key) if isinstance(found, dict) else None
        return cast("dict[str, Any]", found) if isinstance(found, dict) else None

    def _edited_json(self, text: str, entry: dict[str, Any]) -> str:
        try:
            content: Any = json.loads(text) if text.strip() else {}
        except ValueError as error:
            raise self._refusal(f"it isn't plain JSON ({error}; comments perhaps)", entry) from error
        found: object = cast("dict[str, Any]", content).setdefault(self.key, {}) if isinstance(content, dict) else None
        if not isinstance(found, dict):
            raise self._refusal(f"{self.key!r} is not an object in it", entry)
        servers = cast("dict[str, Any]", found)
        former = servers.get(NAME)
        servers[NAME] = _merged(cast("dict[str, Any]", former) if isinstance(former, dict) else {}, entry)
        indent = re.search(r"^[ \t]+(?=\S)", text, re.MULTILINE)
        return json.dumps(content, indent=indent.group() if indent else 2, ensure_ascii=False) + "\n"

    def _edited_toml(self, text: str, entry: dict[str, Any]) -> str:
        """Only our own table's lines change; the parser then proves that nothing else did."""
        entry = {name: value for name, value in entry.items() if name != "type"}
        try:
            expected = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise self._refusal(f"it isn't valid TOML ({error})", entry) from error
        header = f"[{self.key}.{NAME}]"
        lines = text.splitlines()
        if header in (line.strip() for line in lines):
            start = next(number for number, line in enumerate(lines) if line.strip() == header) + 1
            stop = next((n for n in range(start, len(lines)) if lines[n].lstrip().startswith("[")), len(lines))
            kept = [line for line in lines[start:stop] if not re.match(r"\s*(command|args|env)\s*=", line)]
            former: dict[str, Any] = expected[self.key][NAME]
            lines[start:stop] = [*_toml_lines(_merged(former, entry), only=entry), *kept]
        else:
            former = {}
            lines += [*([""] if lines else []), header, *_toml_lines(entry, only=entry)]
        edited = "\n".join(lines) + "\n"
        servers = expected.setdefault(self.key, {})
        try:
            servers[NAME] = _merged(former, entry)
            same = tomllib.loads(edited) == expected
        except (tomllib.TOMLDecodeError, TypeError):
            same = False
        if not same:
            raise self._refusal("its way to write this table is too special to be edited safely", entry)
        return edited

    def _refusal(self, why: str, entry: dict[str, Any]) -> ConfigError:
        snippet = Target(self.client, self.scope, self.path).snippet(entry)
        return ConfigError(
            "invalid_config",
            f"{self.path} was left as it is: {why}.",
            next_step=f"put this into it by hand:\n{snippet}",
        )


def _merged(former: dict[str, Any], entry: dict[str, Any]) -> dict[str, Any]:
    merged = former | entry
    if "env" in former and "env" in entry:
        merged["env"] = former["env"] | entry["env"]
    return merged


def _toml_lines(entry: dict[str, Any], only: dict[str, Any]) -> list[str]:
    return [f"{name} = {_toml(value)}" for name, value in entry.items() if name in only]


def _toml(value: Any) -> str:
    """Strings, lists and small tables; JSON's strings are TOML's."""
    if isinstance(value, dict):
        pairs = cast("dict[str, Any]", value).items()
        return "{ " + ", ".join(f"{name} = {_toml(inner)}" for name, inner in pairs) + " }"
    return json.dumps(value, ensure_ascii=False)


def find_target(client: Client, scope: Scope | None, project: Path) -> Target:
    """The file that the client reads for this project, or for all (Codex's default)."""
    scope = scope or ("user" if client == "codex" else "project")
    home = Path.home()
    config = home / "Library/Application Support" if sys.platform == "darwin" else _folder("XDG_CONFIG_HOME", ".config")
    places: dict[tuple[Client, Scope], Path] = {
        ("claude", "project"): project / ".mcp.json",
        ("claude", "user"): _folder("CLAUDE_CONFIG_DIR", ".") / ".claude.json",
        ("cursor", "project"): project / ".cursor" / "mcp.json",
        ("cursor", "user"): home / ".cursor" / "mcp.json",
        ("vscode", "project"): project / ".vscode" / "mcp.json",
        ("vscode", "user"): config / "Code" / "User" / "mcp.json",
        ("codex", "project"): project / ".codex" / "config.toml",
        ("codex", "user"): _folder("CODEX_HOME", ".codex") / "config.toml",
    }
    return Target(client, scope, places[client, scope])


def _folder(variable: str, default: str) -> Path:
    given = os.environ.get(variable)
    return Path(given).expanduser() if given else Path.home() / default
