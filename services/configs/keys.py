"""The keys of `training` and `peft` against what is installed in the training environment.

The classes are read in a child (importing them takes seconds) and kept in the cache folder under a digest of the
interpreter and its versions: a new environment is read anew, an old one never again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Annotated, Any

import anyio.to_thread
from pydantic import BaseModel, ValidationError

from ...executors.errors import EnvironmentFault, LimitError
from ...trainer import records
from ...trainer.contract import METHODS
from ...trainer.yaml12 import Key
from ..app import App
from ..environment.children import call_trainer
from ..environment.environments import TrainingEnvironment, find_environment
from ..result import Frozen
from .checks import nearest
from .schema import Config
from .text import Document

#: Goes into the cache's name: raise it when the probe answers otherwise.
_PROBE_VERSION = 1
_PROBE_SECONDS = 40.0

#: YAML's kinds in words.
_WORDS = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "str": "text",
    "list": "a list",
    "dict": "a mapping",
    "none": "null",
}


class KeyInfo(Frozen):
    """What one key accepts."""

    types: tuple[str, ...]
    default: Annotated[Any, "as YAML would write it"] = None
    choices: tuple[str, ...] | None = None
    help: str = ""


class InstalledKeys(BaseModel, frozen=True):
    """What an environment's libraries accept: by config class for `training`, by type for `peft`."""

    training: dict[str, dict[str, KeyInfo]]
    peft: dict[str, dict[str, KeyInfo]]
    versions: dict[str, str]


async def installed_keys(app: App, environment: TrainingEnvironment) -> InstalledKeys:
    """The keys that an environment accepts, from the cache where it was read before.

    Raises:
        EnvironmentFault: its libraries don't import.
        LimitError: they take too long to.
    """
    path = app.home.cache / f"keys-{_environment_digest(environment)}.json"
    if (known := await anyio.to_thread.run_sync(_read, path)) is not None:
        return known
    answer = await call_trainer(app, environment.python, ["probe"], {}, seconds=_PROBE_SECONDS)
    keys = InstalledKeys.model_validate(answer)
    await anyio.to_thread.run_sync(records.write_json, path, answer)
    return keys


async def check_installed(app: App, document: Document, config: Config) -> list[str]:
    """Warnings about what could not be checked; the keys, values and packages of the config are right otherwise.

    Without a working training environment nothing can be said about keys; that is a warning here, and an error when a
    run is launched.

    Raises:
        ConfigError: `unknown_key` with the nearest valid one, or `invalid_config` for a value of the wrong kind.
        EnvironmentFault: `package_missing`: quantization or a tracker that isn't installed.
    """
    try:
        environment = await anyio.to_thread.run_sync(find_environment, app, config.environment)
        keys = await installed_keys(app, environment)
    except (EnvironmentFault, LimitError) as error:
        return [f"training and peft keys are unchecked: {error.message} {error.next_step}"]
    _check_packages(environment, config)
    method = METHODS[config.method]
    if method.config_class not in keys.training:
        versions = ", ".join(f"{name} {number}" for name, number in sorted(keys.versions.items()))
        raise EnvironmentFault(
            "environment_incomplete",
            f"{environment.python} has no {method.config_class} ({versions}).",
            next_step="`model-trainer setup` installs an environment that has it.",
        )
    _check_section(document, "training", config.training, keys.training[method.config_class], keys.peft)
    if config.peft is not None:
        kind = str(config.peft.get("type"))
        named = {name: value for name, value in config.peft.items() if name != "type"}
        _check_section(document, "peft", named, keys.peft.get(kind, {}), keys.training)
    return []


def _check_section(
    document: Document,
    section: str,
    values: Mapping[str, Any],
    valid: Mapping[str, KeyInfo],
    elsewhere: Mapping[str, Mapping[str, KeyInfo]],
) -> None:
    other = "peft" if section == "training" else "training"
    for name, value in values.items():
        key: Key = (section, name)
        if name in valid:
            _check_value(document, key, value, valid[name])
            continue
        if any(name in names for names in elsewhere.values()):
            fix = document.correct((other, name), value, instead_of=key)
            document.refuse("unknown_key", key, f"unknown here; it belongs under {other}", fix)
        close = nearest(name, valid)
        hint = f"nearest: {close}" if close else f"`model-trainer config --schema` lists all {len(valid)}"
        fix = document.correct((section, close), value, instead_of=key) if close else document.correct(key, None)
        document.refuse("unknown_key", key, f"unknown key; {hint}", fix)


def _check_value(document: Document, key: Key, value: object, info: KeyInfo) -> None:
    kind = _kind(value)
    accepted = {*info.types, "int"} if "float" in info.types else set(info.types)
    if kind not in accepted:
        wanted = " or ".join(_WORDS[name] for name in _WORDS if name in info.types)
        right = _meant(value, accepted)
        shown = json.dumps(value, ensure_ascii=False)[:60]
        hint = "" if right is None else f"; write {json.dumps(right)}"
        fix = None if right is None else document.correct(key, right)
        document.refuse("invalid_config", key, f"{shown} is not {wanted}{hint}", fix)
    if isinstance(value, str) and info.choices is not None and not any(_fits(value, c) for c in info.choices):
        close = nearest(value, info.choices)
        hint = f"; nearest: {close}" if close else ""
        message = (
            f"{value!r:.60} is none of {', '.join(info.choices[:12])}{'…' if len(info.choices) > 12 else ''}{hint}"
        )
        document.refuse("invalid_config", key, message, document.correct(key, close) if close else None)


def _kind(value: object) -> str:
    if value is None:
        return "none"
    return type(value).__name__


def _meant(value: object, accepted: set[str]) -> object:
    """The value of the right kind that this one looks like; None where none does."""
    if isinstance(value, float) and "int" in accepted and value.is_integer():
        return int(value)
    if not isinstance(value, str):
        return None
    if "bool" in accepted and value.lower() in ("true", "yes", "on", "false", "no", "off"):
        return value.lower() in ("true", "yes", "on")
    for kind, convert in (("int", int), ("float", float)):
        if kind in accepted:
            try:
                return convert(value)
            except ValueError:
                continue
    return None


def _fits(value: str, choice: str) -> bool:
    """Whether a text is one of the choices; `name_[number]` stands for any ending."""
    stem, placeholder, _ = choice.partition("[")
    return value.startswith(stem) if placeholder else value == choice


def _check_packages(environment: TrainingEnvironment, config: Config) -> None:
    tracker = config.tracking.report_to
    for package, key, wanted in (
        ("bitsandbytes", "quantization", config.quantization is not None),
        (tracker, "tracking.report_to", tracker != "none"),
    ):
        if wanted and package not in environment.versions:
            raise EnvironmentFault(
                "package_missing",
                f"{key} needs {package}, which {environment.python} doesn't have.",
                next_step=f"Run `uv pip install --python {environment.python} {package}`, or take {key} out "
                "with write_config.",
            )


def _environment_digest(environment: TrainingEnvironment) -> str:
    parts = [_PROBE_VERSION, str(environment.python), environment.versions]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def _read(path: Any) -> InstalledKeys | None:
    """The cached keys; None where there are none that read (a newer or older version of us wrote them)."""
    try:
        record = records.read_json(path)
        return None if record is None else InstalledKeys.model_validate(record)
    except (ValidationError, ValueError):
        return None
