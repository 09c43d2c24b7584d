"""Arguments for a tool from its own published schema, with real names of the world mixed in; and plain rubbish."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from hypothesis import strategies as st
from hypothesis_jsonschema import from_schema

from model_trainer.server.schema import Schema, alternatives, properties, step

Pools = Mapping[str, Sequence[str]]

_WAITS = 0.01


def arguments_of(tool: str, schema: Schema, pools: Pools) -> st.SearchStrategy[dict[str, Any]]:
    """Arguments that fit the tool's schema; of the texts in them most are names that mean something."""
    drawn = _drawn(schema, schema)

    @st.composite
    def mixed(draw: Callable[[st.SearchStrategy[Any]], Any]) -> dict[str, Any]:
        def mix(value: Any, schemas: list[Schema], name: str) -> Any:
            if isinstance(value, str):
                names = _names(schema, schemas, pools, name)
                return draw(st.sampled_from(names)) if names and draw(st.integers(0, 3)) else value
            if isinstance(value, list):
                inner = step(schema, schemas, 0) or [{}]
                return [mix(one, inner, name) for one in value]
            if isinstance(value, dict):
                free = not any("properties" in one for each in schemas for one in alternatives(schema, each))
                return {
                    (mix(key, [{}], name) if free else key): mix(
                        one, step(schema, schemas, key) or [{}], name if free else f"{name}.{key}"
                    )
                    for key, one in value.items()
                }
            return value

        return impatient(mix(draw(drawn), [schema], tool))

    return mixed()


def _drawn(root: Schema, schema: Schema) -> st.SearchStrategy[Any]:
    """Values that fit the schema, by property: of a whole object the package would work it out anew for each draw."""

    def one(branch: Schema) -> st.SearchStrategy[Any]:
        if branch.get("additionalProperties") is not False:
            return from_schema(branch | {"$defs": root.get("$defs", {})})
        each = {name: _drawn(root, inner) for name, inner in properties(branch).items()}
        needed = {name: each.pop(name) for name in branch.get("required", ())}
        return st.fixed_dictionaries(needed, optional=each)

    return st.one_of([one(branch) for branch in alternatives(root, schema)])


def impatient(arguments: dict[str, Any]) -> dict[str, Any]:
    """The arguments with next to no waiting: how long one may wait is the schema's to bound."""
    waits = arguments.get("wait_seconds")
    return {**arguments, "wait_seconds": min(waits, _WAITS)} if isinstance(waits, int | float) else arguments


def _names(root: Schema, schemas: Sequence[Schema], pools: Pools, name: str) -> list[str]:
    """Real names that fit there: of the first pool whose key is in `tool.argument`, or in the argument; else any."""
    opened = [one for each in schemas for one in alternatives(root, each)]
    texts = [
        one for one in opened if one.get("type", "string") == "string" and not {"enum", "const", "pattern"} & one.keys()
    ]
    if not texts:
        return []
    argument = name.partition(".")[2]
    likely = next(names for part, names in pools.items() if part in (name if "." in part else argument))
    low, high = texts[0].get("minLength", 0), texts[0].get("maxLength", 10**9)
    return [text for text in likely if low <= len(text) <= high]


#: JSON that nobody means: text with half surrogate pairs and control characters, numbers that are none.
_TEXT = st.text(max_size=40) | st.sampled_from(["\ud800", "\0", "\x1b[2J", "\u202e", "{}", "[1, 2]", "null", "NaN"])
_BARE = st.none() | st.booleans() | st.integers() | st.floats() | _TEXT
_LARGE = st.sampled_from(["x" * 100_000, "[" * 10_000, '{"a":' * 10_000, "9" * 5000, 10**400, -(10**4000)])
_ANY = st.recursive(
    _BARE | _LARGE, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_TEXT, inner, max_size=4)
)


def rubbish(schema: Schema, pools: Pools) -> st.SearchStrategy[Any]:
    """Anything in place of a tool's arguments: no object, or one with its names and others, and any values."""
    names = st.sampled_from([*properties(schema), "ctx", "self", "__class__", "", "\ud800", "x" * 300])
    values = _ANY | st.sampled_from(pools[""]) | st.integers(1, 190).map(_deep)
    return _ANY | st.dictionaries(names, values, max_size=6).map(impatient)


def _deep(levels: int) -> Any:
    value: Any = 1
    for level in range(levels):
        value = [value] if level % 2 else {"a": value}
    return value
