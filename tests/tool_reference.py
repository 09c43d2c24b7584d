"""docs/tools.md as the tools' own schemas make it: a table of parameters for each, one of what each may do."""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence
from typing import Any, cast

from mcp.types import Tool

from model_trainer.server.schema import Schema, alternatives, properties

#: Sections that are no tool's.
HINTS = "hints"


def hint_table(tools: Sequence[Tool]) -> str:
    """What clients are told of each tool, so that they know when to ask."""
    rows = ["| tool | changes something | may replace or end something | may use the network |", "|---|---|---|---|"]
    for tool in tools:
        hints = tool.annotations
        assert hints is not None
        told = (not hints.read_only_hint, hints.destructive_hint, hints.open_world_hint)
        rows.append(f"| `{tool.name}` | {' | '.join('yes' if hint else 'no' for hint in told)} |")
    return "\n".join(rows) + "\n"


def parameter_table(tool: Tool) -> str:
    """The tool's parameters: name, type, default, meaning."""
    rows = _rows(tool.input_schema, tool.input_schema, "")
    if not rows:
        return "No parameters.\n"
    return "\n".join(["| parameter | type | default | meaning |", "|---|---|---|---|", *rows]) + "\n"


def with_tables(page: str, tools: Sequence[Tool]) -> str:
    """The page with all tables anew; a tool that it lacks gets a section at its place, still without words."""
    page = _replaced(page, HINTS, hint_table(tools))
    for index, tool in enumerate(tools):
        if f"## {tool.name}\n" not in page:
            later = next((f"## {other.name}\n" for other in tools[index + 1 :] if f"## {other.name}\n" in page), None)
            head, mark, rest = page.partition(later) if later else (page.rstrip("\n") + "\n\n", "", "")
            empty = f"<!-- {tool.name} -->\n<!-- /{tool.name} -->"
            page = f"{head}## {tool.name}\n\n{empty}\n\n{mark}{rest}".rstrip("\n") + "\n"
        page = _replaced(page, tool.name, parameter_table(tool))
    return page


def sections(page: str) -> dict[str, str]:
    """Heading to text of the page's second-level sections, in their order."""
    parts = re.split(r"^## (.+)\n", page, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def words(section: str, name: str) -> str:
    """What a person wrote of the tool: the section without its table and its examples."""
    without = re.sub(rf"<!-- {name} -->.*?<!-- /{name} -->|```.*?```", "", section, flags=re.DOTALL)
    return without.strip()


def example_calls(section: str) -> list[tuple[str, dict[str, Any]]]:
    """Tool and arguments of each call in the section's examples; a call ends where its answer (` ← `) begins."""
    calls: list[tuple[str, dict[str, Any]]] = []
    for block in re.findall(r"```text\n(.*?)```", section, re.DOTALL):
        for text in re.findall(r"^(\w+\(.*?\))$", block, re.DOTALL | re.MULTILINE):
            call = cast("ast.Call", ast.parse(text, mode="eval").body)
            assert isinstance(call.func, ast.Name)
            assert not call.args, text
            arguments = {one.arg or "**": ast.literal_eval(one.value) for one in call.keywords}
            calls.append((call.func.id, arguments))
    return calls


def _replaced(page: str, mark: str, table: str) -> str:
    return re.sub(
        rf"(<!-- {mark} -->\n).*?(<!-- /{mark} -->)",
        lambda found: found[1] + table + found[2],
        page,
        flags=re.DOTALL,
    )


def _rows(root: Schema, schema: Schema, prefix: str) -> list[str]:
    rows: list[str] = []
    needed = schema.get("required", [])
    for name, one in properties(schema).items():
        kinds = [kind for kind in alternatives(root, one) if kind.get("type") != "null"]
        default = "required" if name in needed else f"`{_literal(one.get('default'))}`"
        told = " or ".join(dict.fromkeys(_kind(root, kind) for kind in kinds))
        rows.append(f"| `{prefix}{name}` | {told} | {default} | {one['description']} |")
        for kind in kinds:
            rows += _rows(root, kind, f"{prefix}{name}.")
    return rows


def _literal(value: object) -> str:
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _kind(root: Schema, schema: Schema) -> str:
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    match schema["type"]:
        case "string":
            return f"text{_most(schema, 'maxLength', ', at most', ' characters')}"
        case "integer":
            return f"whole number{_bounds(schema)}"
        case "number":
            return f"number{_bounds(schema)}"
        case "boolean":
            return "`true` or `false`"
        case "array":
            return f"list of{_most(schema, 'maxItems', ' at most', '')} {_several(root, schema['items'])}"
        case "object":
            values: Any = schema.get("additionalProperties")
            return f"object of {_several(root, values)}" if isinstance(values, dict) else "object"
        case other:
            raise AssertionError(f"no words for the type {other!r}")


def _several(root: Schema, schema: Any) -> str:
    """Values of that kind, in the plural."""
    kinds = [_kind(root, kind) for kind in alternatives(root, schema)]
    return " or ".join(re.sub(r"^(text|list)", r"\1s", kind).replace(", at most", " of at most", 1) for kind in kinds)


def _most(schema: Schema, limit: str, words: str, unit: str) -> str:
    return f"{words} {schema[limit]:,}{unit}" if limit in schema else ""


def _bounds(schema: Schema) -> str:
    low, above, high = (schema.get(name) for name in ("minimum", "exclusiveMinimum", "maximum"))
    if low is not None and high is not None:
        return f" from {low} to {high}"
    parts = [f" from {low}"] if low is not None else [f" above {above}"] if above is not None else []
    return "".join([*parts, *([f" to {high}"] if high is not None else [])])
