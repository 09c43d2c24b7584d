"""Configs: load, check, resolve, write out.

A config is looked at in three steps, each of which may refuse it: what stands in the file alone (`load_config`), what
the training environment accepts (`check_keys`), and what it points at on this machine (`resolve_config`).
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from pydantic import BaseModel

from ...executors.errors import DataError, ModelError
from ..app import App, is_folder
from . import emit as config_emit
from . import text as config_text
from .checks import validate
from .keys import check_installed
from .schema import Config
from .text import Document

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9_][\w.-]{0,95}\Z")
_FILE_SUFFIXES = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet", ".txt", ".gz", ".zst", ".bz2", ".xz")
_GLOB = re.compile(r"[*?\[]")


@dataclass(frozen=True)
class LoadedConfig:
    """A config as it stands in a file. `config` keeps the paths as written; `digest` is of the resolved one."""

    path: Path
    document: Document
    config: Config
    warnings: tuple[str, ...]

    @property
    def text(self) -> str:
        """The file's text."""
        return self.document.text

    @property
    def digest(self) -> str:
        """What the config means: comments, form, key order and the file's own name don't count."""
        return digest(absolute_config(self.config, self.path.parent))


def load_config(path: Path, *, run: str | None = None) -> LoadedConfig:
    """The config in a file, checked as far as the file alone goes; `run` is the one whose own config it is.

    Raises:
        ConfigError: `config_not_found`, `invalid_config`, `unknown_key`, `stale_key`, `unknown_method`,
            `method_unavailable`.
    """
    document = replace(config_text.read(path), run=run)
    config, warnings = validate(document)
    return LoadedConfig(path, document, config, tuple(warnings))


def dump_config(config: Config) -> str:
    """The config as YAML that `load_config` and the trainer read back to the same values."""
    return config_emit.dump(plain(config))


def plain(config: Config) -> dict[str, Any]:
    """The config as plain values in the file's order; inside sections, what is null by default is left out."""
    return {name: _plain_value(cast("object", getattr(config, name))) for name in Config.model_fields}


def digest(config: Config) -> str:
    """16 hexadecimal digits of what a resolved config means."""
    meaning = json.dumps(_canonical(config.model_dump(mode="json")), sort_keys=True, allow_nan=False)
    return hashlib.sha256(meaning.encode()).hexdigest()[:16]


async def check_keys(app: App, config: Config, document: Document | None = None) -> list[str]:
    """Check `training` and `peft` against what is installed; what could not be checked comes back as warnings.

    `document` lets errors name the line.

    Raises:
        ConfigError: `unknown_key`, or `invalid_config` for a value of the wrong kind.
        EnvironmentFault: a package that the config needs is missing.
    """
    return await check_installed(app, document or Document("the config", "", {}, {}, on_disk=False), config)


def resolve_config(config: Config, folder: Path) -> Config:
    """The config with every path absolute, from `folder` where it is relative; Hub ids stay.

    Raises:
        DataError: a data file or the chat template isn't there (`file_not_found`).
        ModelError: the model folder isn't there (`model_not_found`).
    """
    resolved = absolute_config(config, folder)
    model = resolved.model
    if not is_hub_id(model.name) and not is_folder(Path(model.name)):
        raise ModelError(
            "model_not_found",
            f"model.name: there is no folder {model.name}.",
            next_step="Give the model's folder, or a Hub id like Qwen/Qwen3-0.6B; plan_training names models that fit.",
        )
    _need(model.chat_template, "model.chat_template")
    for index, dataset in enumerate(resolved.datasets):
        _need(None if is_hub_id(dataset.path) else dataset.path, f"datasets.{index}.path")
    if resolved.eval_dataset is not None and resolved.eval_dataset.path is not None:
        path = resolved.eval_dataset.path
        _need(None if is_hub_id(path) else path, "eval_dataset.path")
    return resolved


def is_hub_id(name: str) -> bool:
    """Whether a resolved name is a Hub repository's (`org/name`): resolved paths are absolute."""
    return _HUB_ID.match(name) is not None


def absolute_config(config: Config, folder: Path) -> Config:
    """Every path absolute, whether or not something lies there."""
    model, held_out = config.model, config.eval_dataset
    template = None if model.chat_template is None else _path(model.chat_template, folder)
    changed: dict[str, object] = {
        "model": model.model_copy(update={"name": _name(model.name, folder, ()), "chat_template": template}),
        "datasets": [
            entry.model_copy(update={"path": _name(entry.path, folder, _FILE_SUFFIXES)}) for entry in config.datasets
        ],
    }
    if held_out is not None and held_out.path is not None:
        path = _name(held_out.path, folder, _FILE_SUFFIXES)
        changed["eval_dataset"] = held_out.model_copy(update={"path": path})
    return config.model_copy(update=changed)


def _name(name: str, folder: Path, suffixes: tuple[str, ...]) -> str:
    """A Hub id as it is, unless something lies there; anything else as an absolute path."""
    path = _path(name, folder)
    if not is_hub_id(name) or name.lower().endswith(suffixes):
        return path
    return path if _exists(path) else name


def _path(name: str, folder: Path) -> str:
    given = Path(name)
    if name.startswith("~"):
        try:
            given = given.expanduser()
        except RuntimeError:
            # No such user: the path is taken as it stands, and is then not found.
            given = Path(name)
    # Not resolve(): links stay what they are, and `..` is only a matter of text.
    return str((folder / given).absolute()) if ".." not in given.parts else str((folder / given).resolve())


def _need(path: str | None, key: str) -> None:
    if path is None or _exists(path):
        return
    raise DataError(
        "file_not_found",
        f"{key}: there is nothing at {path}.",
        next_step=f"Put it there, or name another: write_config(…, overrides={{'{key}': '…'}}). Relative paths count "
        "from the config's folder; inspect_dataset(path=…) looks at data.",
    )


def _exists(path: str) -> bool:
    try:
        if Path(path).exists():
            return True
        if not _GLOB.search(path):
            return False
        parts = Path(path).parts
        fixed = next(number for number, part in enumerate(parts) if _GLOB.search(part))
        folder, pattern = Path(*parts[:fixed]), parts[fixed:]
        # A search through all folders below may take minutes: then it is enough that there is something to search.
        return folder.is_dir() and ("**" in pattern or next(folder.glob("/".join(pattern)), None) is not None)
    except (OSError, ValueError, NotImplementedError):
        return False


def _without_nulls(model: BaseModel) -> dict[str, object]:
    found: dict[str, object] = {}
    for name, info in type(model).model_fields.items():
        value = cast("object", getattr(model, name))
        if value is None and info.default is None:
            continue
        found[name] = _plain_value(value)
    return found


def _plain_value(value: object) -> object:
    if isinstance(value, BaseModel):
        return _without_nulls(value)
    if isinstance(value, list):
        return [_plain_value(entry) for entry in cast("list[object]", value)]
    return value


def _canonical(value: object) -> object:
    """1.0 and 1 mean the same; so do a key that is absent and its default, which `model_dump` fills in."""
    if isinstance(value, dict):
        return {name: _canonical(entry) for name, entry in cast("dict[str, object]", value).items()}
    if isinstance(value, list):
        return [_canonical(entry) for entry in cast("list[object]", value)]
    return int(value) if isinstance(value, float) and value.is_integer() else value
