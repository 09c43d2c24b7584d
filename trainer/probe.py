"""What the installed libraries accept: the keys of `training` per method and of `peft`, with type, default and help.

Read from the classes themselves, once per training environment: importing them takes seconds, and what a class accepts
changes with every release.
"""

from __future__ import annotations

import dataclasses
import enum
import math
import types
import typing
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from .answers import answer, read_request
from .contract import METHODS

#: `peft.type` to the class that takes its keys.
PEFT_CLASSES = {"lora": "peft.LoraConfig"}

_HELP_LIMIT = 240
_PACKAGES = ("torch", "transformers", "trl", "peft", "accelerate")
_NAMES = {int: "int", float: "float", bool: "bool", str: "str", list: "list", tuple: "list", dict: "dict"}


def main(_arguments: list[str]) -> int:
    """Answer `{"training": {class: keys}, "peft": {type: keys}, "versions": {…}}`.

    Classes that aren't installed are left out.
    """
    read_request()
    wanted = {m.config_class for m in METHODS.values() if m.module is not None}
    training = {name: keys for name in sorted(wanted) if (keys := keys_of(name)) is not None}
    adapters = {kind: keys for kind, name in PEFT_CLASSES.items() if (keys := keys_of(name)) is not None}
    answer({"training": training, "peft": adapters, "versions": _versions()})
    return 0


def keys_of(dotted: str) -> dict[str, dict[str, Any]] | None:
    """Each key of a dataclass: `types`, `default`, `choices` (None where any value goes), `help`.

    None where the class isn't installed. A key whose type no YAML value has is left out.
    """
    module, _, name = dotted.rpartition(".")
    try:
        cls = getattr(import_module(module), name)
    except (ImportError, AttributeError):
        return None
    hints = typing.get_type_hints(cls)
    found = {}
    for field in dataclasses.fields(cls):
        if not field.init:
            continue
        accepted, choices = _accepted(hints[field.name])
        if field.metadata.get("choices") is not None:
            choices = [str(choice) for choice in field.metadata["choices"]]
        default = _default(field)
        if default is None:
            accepted.add("none")
        if not accepted - {"none"}:
            continue
        found[field.name] = {
            "types": sorted(accepted),
            "default": default,
            "choices": choices,
            "help": _help(field.metadata.get("help")),
        }
    return found


def _accepted(hint: Any) -> tuple[set[str], list[str] | None]:
    """The YAML kinds that a type accepts, and the texts it is limited to."""
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        parts = [_accepted(part) for part in typing.get_args(hint)]
        kinds = set().union(*(part[0] for part in parts))
        # Text that isn't limited by an enum or Literal beside it stands for the same values (`SchedulerType | str`).
        limited = [choice for part in parts for choice in part[1] or ()]
        return kinds, limited or None
    if origin is typing.Literal:
        values = typing.get_args(hint)
        kinds = {"none" if value is None else _NAMES[type(value)] for value in values}
        return kinds, [value for value in values if isinstance(value, str)] or None
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return {"str"}, [str(member.value) for member in hint]
    if hint is type(None):
        return {"none"}, None
    if hint is typing.Any:
        return {"int", "float", "bool", "str", "list", "dict", "none"}, None
    kind = _NAMES.get(origin or hint)
    return ({kind} if kind else set()), None


def _default(field: dataclasses.Field[Any]) -> Any:
    if field.default is not dataclasses.MISSING:
        default = field.default
    elif field.default_factory is not dataclasses.MISSING:
        default = field.default_factory()
    else:
        return None
    if isinstance(default, enum.Enum):
        return default.value
    if isinstance(default, float) and not math.isfinite(default):
        return str(default)
    return default if isinstance(default, (bool, int, float, str, list, dict, type(None))) else str(default)


def _help(text: Any) -> str:
    """The help's first words; libraries write whole paragraphs."""
    words = " ".join(str(text).split()) if text else ""
    return words if len(words) <= _HELP_LIMIT else words[: _HELP_LIMIT - 1].rsplit(" ", 1)[0] + "…"


def _versions() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
