"""The config as text: reading it into plain values that know their lines."""

from __future__ import annotations

import json
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, cast

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from ...executors.errors import ConfigError
from ...trainer.yaml12 import MAX_DEPTH, Key, Yaml12Error, build, problem_of
from ..untrusted import clean

#: No config is longer; a data file given by mistake is.
MAX_BYTES = 1_000_000


@dataclass(frozen=True)
class Document:
    """A config's text and plain values, before anything is said about what they mean."""

    name: str
    """The path, as errors call it."""
    text: str
    data: dict[str, Any]
    lines: Mapping[Key, int]
    on_disk: bool = True
    run: str | None = None
    """The run whose own config it is: that file stays as it is."""

    def refuse(self, code: str, key: Key, message: str, next_step: str | None = None) -> NoReturn:
        """Raise the ConfigError `code` about `key`, with its line and what to write next.

        Raises:
            ConfigError: always.
        """
        raise ConfigError(code, f"{self.place(key)}: {message}", next_step=next_step or self.correct(key))

    def place(self, key: Key) -> str:
        """`training.learning_rate (line 12 of config.yaml)`."""
        name = dotted(key) or "The config"
        return f"{name} (line {self.line(key)} of {self.name})" if self.on_disk else name

    def line(self, key: Key) -> int:
        """The line of `key`, or of what it would stand in."""
        while key and key not in self.lines:
            key = key[:-1]
        return self.lines.get(key, 1)

    def correct(self, key: Key, value: object = ..., *, instead_of: Key | None = None) -> str:
        """The call that corrects `key`, with `value` where one is known; `instead_of` is the key that must go."""
        shown = "…" if value is ... else json.dumps(value, ensure_ascii=False)[:200]
        gone = f", {json.dumps(dotted(instead_of), ensure_ascii=False)}: null" if instead_of else ""
        override = f"overrides={{{json.dumps(dotted(key) or 'KEY', ensure_ascii=False)}: {shown}{gone}}}"
        if not self.on_disk:
            return f"Call write_config again with {override}."
        if self.run is not None:
            return f"write_config(run={self.run!r}, path=…, {override}) makes a config for launch_run, from the start."
        return (
            f"Correct line {self.line(instead_of or key)} of {self.name}, or "
            f"write_config(path={self.name!r}, base={self.name!r}, overwrite=true, {override})."
        )


def dotted(key: Key) -> str:
    """`training.learning_rate`, `datasets.0.path`: as overrides are written."""
    return ".".join(clean(str(part), 80) for part in key)


def read(path: Path) -> Document:
    """The document in a file.

    Raises:
        ConfigError: there is no such file (`config_not_found`), or it holds no config (`invalid_config`).
    """
    try:
        # Before opening: a named pipe would wait for its writer.
        if not stat.S_ISREG(path.stat().st_mode):
            _not_a_config(path, "it is no regular file")
        with open(path, "rb") as file:
            data = file.read(MAX_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError):
        raise ConfigError(
            "config_not_found",
            f"There is no config file {path}.",
            next_step="write_config makes one from a plan; plan_training makes the plan.",
        ) from None
    except (OSError, ValueError) as error:
        _not_a_config(path, f"it can't be read ({getattr(error, 'strerror', None) or 'no valid path'})")
    if len(data) > MAX_BYTES:
        _not_a_config(path, f"it is longer than {MAX_BYTES:,} bytes; is it a data file?")
    try:
        return parse(data.decode("utf-8-sig"), str(path))
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        _not_a_config(path, f"line {line} is not UTF-8; save the file as UTF-8")


def _not_a_config(path: Path, why: str) -> NoReturn:
    raise ConfigError(
        "invalid_config",
        f"{path} is not a config: {why}.",
        next_step="Give the path of a file that write_config wrote.",
    )


def parse(text: str, name: str, *, on_disk: bool = True) -> Document:
    """The document that `text` is.

    Raises:
        ConfigError: it isn't one plain YAML mapping; the line is named.
    """
    try:
        parser: Any = YAML(typ="safe", pure=True)
        data, lines = build(parser.parse(text))
    except Yaml12Error as error:
        line, problem = error.line, error.message
    except MarkedYAMLError as error:
        mark, said = cast("Any", error.problem_mark or error.context_mark), cast("Any", error.problem)
        line, problem = (mark.line + 1 if mark else 1), str(said or "not YAML")
    except (YAMLError, ValueError, TypeError, IndexError, AttributeError, NotImplementedError):
        # Besides its own errors, ruamel's scanner lets some of Python's escape on malformed directives and escapes.
        line, problem = 1, "the text is not YAML"
    else:
        return Document(name, text, data, lines, on_disk)
    raise ConfigError(
        "invalid_config",
        f"{name}, line {line}: {problem[:300]}.",
        next_step=f"Correct line {line} of {name}, or write_config a new one from the plan.",
    )


def check_plain(value: object, key: Key = ()) -> str | None:
    """Why `value` can't stand in a config: what YAML files refuse, for values that came another way. None if it can."""
    if len(key) > MAX_DEPTH:
        return f"{dotted(key[:4])}…: nested deeper than {MAX_DEPTH}"
    problem = problem_of(value)
    if problem is not None:
        return f"{dotted(key)}: {problem}"
    if isinstance(value, Mapping):
        for name, entry in cast("Mapping[object, object]", value).items():
            if not isinstance(name, str) or (found := problem_of(name)) is not None:
                return f"{dotted(key) or 'the config'}: a key is no plain text"
            if (found := check_plain(entry, (*key, name))) is not None:
                return found
        return None
    if isinstance(value, list | tuple):
        entries = enumerate(cast("Sequence[object]", value))
        return next((found for i, entry in entries if (found := check_plain(entry, (*key, i))) is not None), None)
    if value is None or isinstance(value, str | int | float):
        return None
    return f"{dotted(key)}: {type(value).__name__} is no value for a config"
