"""The config described: as JSON Schema for editors, and as tables for the documentation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast, get_args

import anyio
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from ...executors.errors import EnvironmentFault, LimitError
from ...trainer.contract import METHODS, OWNED_ARGUMENTS, STALE_ARGUMENTS
from ..app import App
from ..environment.environments import find_environment
from .checks import OWNED_PEFT
from .keys import InstalledKeys, KeyInfo, installed_keys
from .schema import Config

_JSON_TYPES = {
    "int": "integer",
    "float": "number",
    "bool": "boolean",
    "str": "string",
    "list": "array",
    "dict": "object",
    "none": "null",
}


def config_schema(app: App) -> dict[str, object]:
    """The JSON Schema of the config; with the keys of `training` and `peft` where a training environment tells them.

    For the command line: it starts an event loop of its own.
    """
    schema: dict[str, object] = Config.model_json_schema()
    try:
        environment = find_environment(app)
        keys = anyio.run(installed_keys, app, environment)
    except (EnvironmentFault, LimitError) as error:
        return schema | {"$comment": f"The keys of training and peft are not listed: {error.message} {error.next_step}"}
    return _with_keys(schema, keys)


def _with_keys(schema: dict[str, object], keys: InstalledKeys) -> dict[str, object]:
    """The schema with every method's `training` keys together: which class has which is checked when it is used."""
    training = {name: info for names in keys.training.values() for name, info in names.items()}
    training = {k: v for k, v in training.items() if k not in OWNED_ARGUMENTS and k not in STALE_ARGUMENTS}
    adapter = {k: v for k, v in keys.peft.get("lora", {}).items() if k not in OWNED_PEFT}
    properties = cast("dict[str, Any]", schema["properties"])
    properties["training"] |= {"properties": _properties(training), "additionalProperties": False}
    mapping = next(branch for branch in properties["peft"]["anyOf"] if branch.get("type") == "object")
    mapping |= {
        "properties": {"type": {"const": "lora"}, **_properties(adapter)},
        "required": ["type"],
        "additionalProperties": False,
    }
    versions = ", ".join(f"{name} {number}" for name, number in sorted(keys.versions.items()))
    return schema | {"$comment": f"The keys of training and peft are those of {versions}."}


def _properties(keys: Mapping[str, KeyInfo]) -> dict[str, object]:
    found: dict[str, object] = {}
    for name, info in keys.items():
        entry: dict[str, object] = {"type": [_JSON_TYPES[kind] for kind in info.types], "default": info.default}
        if info.help:
            entry["description"] = info.help
        if info.choices is not None and set(info.types) == {"str"}:
            entry["enum"] = list(info.choices)
        found[name] = entry
    return found


def key_table() -> str:
    """Every key of our own as a Markdown table: key, default, meaning."""
    rows = [f"| `{name}` | {default} | {meaning} |" for name, default, meaning in _rows(Config, "")]
    return "\n".join(["| key | default | meaning |", "|---|---|---|", *rows])


def stale_table() -> str:
    """The names that are refused as outdated, and what to write now."""
    rows = [
        f"| `{name}` | {f'`{now}` ({why})' if now else why} |" for name, (now, why) in sorted(STALE_ARGUMENTS.items())
    ]
    return "\n".join(["| written from memory | write now |", "|---|---|", *rows])


def owned_table() -> str:
    """The keys of `training` that a config may not set, and why."""
    rows = [f"| `{name}` | {why} |" for name, why in sorted(OWNED_ARGUMENTS.items())]
    return "\n".join(["| key of `training` | why it is not set there |", "|---|---|", *rows])


def method_table() -> str:
    """The methods, and whether this version trains them."""
    rows = [
        f"| `{m.name}` | {m.title} | `{m.config_class}` | {'yes' if m.module else 'not yet'} |"
        for m in METHODS.values()
    ]
    return "\n".join(["| method | what it is | keys of `training` | in this version |", "|---|---|---|---|", *rows])


def _rows(model: type[BaseModel], prefix: str) -> list[tuple[str, str, str]]:
    rows: list[tuple[str, str, str]] = []
    for name, info in model.model_fields.items():
        key = f"{prefix}{name}"
        rows.append((key, _default(info), info.description or ""))
        section = _section(info.annotation)
        if section is not None:
            rows += _rows(section, f"{key}[]." if str(info.annotation).startswith("list") else f"{key}.")
    return rows


def _default(info: FieldInfo) -> str:
    if info.is_required():
        return "required"
    value = cast("object", info.default)
    if isinstance(value, BaseModel):
        given = value.model_dump(exclude_unset=True)
        return " ".join(f"`{name}: {entry}`" for name, entry in given.items()) or "see below"
    if value is None:
        return "`null`"
    return (
        f"`{', '.join(map(str, cast('list[object]', value)))}`" if value and isinstance(value, list) else f"`{value}`"
    )


def _section(annotation: object) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in get_args(annotation) if (found := _section(part)) is not None), None)
