"""Overrides of a config: nested objects or dotted keys, laid over plain values.

Null takes a key out, except where null has a meaning of its own: `peft`, `quantization`, `eval_dataset`, and keys like
`training.max_length`, which mean "no limit" by it.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, cast

from ...executors.errors import ArgumentError
from .bounds import PEFT, TRAINING
from .schema import Config
from .text import check_plain

#: Sections that an override changes key by key; everything else it replaces whole, so that
#: `{"eval_dataset": {"path": …}}` doesn't keep the fraction it stands against.
_MERGED = frozenset(("model", "peft", "training", "resources", "guards", "recovery", "evaluation", "tracking"))

#: Keys of `training` and `peft` whose null differs from their default.
_NULLABLE = frozenset(name for name, bound in (TRAINING | PEFT).items() if bound.nullable) | {"pad_to_multiple_of"}

_SHOWN = 'write {"training.learning_rate": 1e-4} or {"training": {"learning_rate": 1e-4}}'


def apply(data: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """The plain values with the overrides laid over them.

    Raises:
        ArgumentError: an override that is no plain value, or a path through something that has no keys.
    """
    if (problem := check_plain(overrides)) is not None:
        raise _refusal(problem)
    changed = copy.deepcopy(dict(data))
    for name, value in overrides.items():
        if "." in name:
            _set(changed, name, value)
        elif name in _MERGED and isinstance(value, dict) and isinstance(changed.get(name), dict):
            for inner, entry in cast("dict[str, Any]", value).items():
                _set(changed[name], inner, entry)
        elif value is None and name not in Config.model_fields:
            changed.pop(name, None)
        else:
            changed[name] = copy.deepcopy(cast("object", value))
    return changed


def _set(target: dict[str, Any], path: str, value: object) -> None:
    *parents, last = path.split(".")
    place: object = target
    for part in parents:
        place = _enter(place, part, path)
    if isinstance(place, list):
        items = cast("list[object]", place)
        items[_index(items, last, path)] = copy.deepcopy(value)
    elif isinstance(place, dict):
        entries = cast("dict[str, object]", place)
        if value is None and last not in _NULLABLE:
            entries.pop(last, None)
        else:
            entries[last] = copy.deepcopy(value)
    else:
        raise _refusal(f"{path[:120]}: there are no keys to change in {type(place).__name__}")


def _enter(place: object, part: str, path: str) -> object:
    if isinstance(place, list):
        items = cast("list[object]", place)
        return items[_index(items, part, path)]
    if isinstance(place, dict):
        entries = cast("dict[str, object]", place)
        if entries.get(part) is None:
            entries[part] = {}
        return entries[part]
    raise _refusal(f"{path[:120]}: {part!r:.60} can't be a key there")


def _index(items: list[object], part: str, path: str) -> int:
    if part.isascii() and part.isdigit() and len(part) < 6 and int(part) < len(items):
        return int(part)
    raise _refusal(f"{path[:120]}: {part!r:.60} is no position in a list of {len(items)} (the first is 0)")


def _refusal(problem: str) -> ArgumentError:
    return ArgumentError("invalid_arguments", f"overrides: {problem}.", next_step=f"Call write_config again; {_SHOWN}.")
