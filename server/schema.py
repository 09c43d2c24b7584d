"""Walking JSON schemas as pydantic writes them: references, unions, properties."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from ..services.configs.schema import BOUNDS

Schema = dict[str, Any]

#: Keywords whose value is a map of names to schemas: a *property* called "title" is no title.
_NAMED = ("properties", "$defs", "patternProperties")


def without_titles(schema: Schema) -> Schema:
    """A copy without pydantic's titles, which repeat the names and are a fifth of the bytes; with standard bounds."""
    return cast("Schema", _strip(schema))


def _strip(node: object) -> object:
    if isinstance(node, list):
        return [_strip(item) for item in cast("list[object]", node)]
    if not isinstance(node, dict):
        return node
    stripped: dict[str, object] = {}
    for key, value in cast("dict[str, object]", node).items():
        if key in _NAMED and isinstance(value, dict):
            stripped[key] = {name: _strip(item) for name, item in cast("dict[str, object]", value).items()}
        elif key in ("default", "const", "enum", "examples"):
            stripped[key] = value
        elif key != "title":
            stripped[BOUNDS.get(key, key)] = _strip(value)
    return stripped


def alternatives(root: Schema, schema: Schema) -> list[Schema]:
    """The schemas one of which a value must fit: unions opened, references followed."""
    if "$ref" in schema:
        return alternatives(root, root["$defs"][schema["$ref"].rpartition("/")[2]])
    branches = cast("list[Schema]", schema.get("anyOf") or schema.get("oneOf") or [])
    if not branches:
        return [schema]
    return [one for branch in branches for one in alternatives(root, branch)]


def properties(schema: Schema) -> dict[str, Schema]:
    """Name to schema of an object's own fields."""
    return cast("dict[str, Schema]", schema.get("properties", {}))


def step(root: Schema, schemas: Sequence[Schema], part: str | int) -> list[Schema] | None:
    """The schemas of what stands under `part` of a value that fits one of `schemas`; None where nothing is known."""
    found: list[Schema] = []
    for schema in (one for each in schemas for one in alternatives(root, each)):
        if isinstance(part, int):
            inner = schema.get("items")
        else:
            inner = properties(schema).get(part, schema.get("additionalProperties"))
        if isinstance(inner, dict):
            found.append(cast("Schema", inner))
        elif inner is True:
            found.append({})
    return found or None


def names_at(root: Schema, loc: Sequence[str | int], *, names_key: bool) -> tuple[tuple[str | int, ...], list[str]]:
    """The path that a validation error's location means, and the valid names beside its last part.

    Locations hold the tags of unions too (`('value', 'int')`), which are no part of the caller's path. `names_key`
    says that the last part is a key, although the schema doesn't have it.
    """
    here: list[Schema] = [root]
    path: list[str | int] = []
    valid: list[str] = []
    for index, part in enumerate(loc):
        opened = [one for each in here for one in alternatives(root, each)]
        valid = list(dict.fromkeys(name for one in opened for name in properties(one)))
        below = step(root, opened, part)
        if below is not None:
            here = below
            path.append(part)
        elif names_key and index == len(loc) - 1:
            path.append(part)
    return tuple(path), valid


def readable(path: Sequence[str | int]) -> str:
    """`'datasets[0].path'` of its parts; `the arguments` of none."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return f"{text!r}" if text else "the arguments"
