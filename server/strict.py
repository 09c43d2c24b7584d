"""Strict tools: unknown arguments refused at every level, no boolean or NaN as a number, schemas without titles.

The SDK ignores unknown arguments, reads `true` as 1 and "nan" as a float; an agent that misspells an argument would
train something else than it asked for. What is wrong is said all at once, in one typed error.
"""

from __future__ import annotations

import base64
import math
import re
from difflib import get_close_matches
from typing import Any, cast

from mcp.server.mcpserver.tools import Tool
from mcp.server.mcpserver.utilities.func_metadata import FuncMetadata
from mcp.types import CallToolResult, ContentBlock, ImageContent, InputRequiredResult, TextContent, ToolAnnotations
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from ..executors.errors import ArgumentError
from ..services.result import Result
from ..tools.spec import ToolSpec
from .schema import Schema, alternatives, names_at, properties, readable, step, without_titles

#: How many problems of one call are told, and how many are looked at.
_PROBLEMS = 5
_LOOKED_AT = 200


class StrictMetadata(FuncMetadata):
    """The SDK's view of a tool's arguments and result, with our rules."""

    tool: str
    schema_of_arguments: Schema

    def validate_arguments(self, arguments_to_validate: dict[str, Any]) -> dict[str, Any]:
        """The arguments as the function takes them.

        Raises:
            ArgumentError: some don't fit; names each, and the nearest valid name of an unknown one.
        """
        arguments = self.pre_parse_json(arguments_to_validate)
        problems = _wrong_numbers(self.schema_of_arguments, arguments)
        if problems:
            raise self._refusal(problems)
        try:
            return self.arg_model.model_validate(arguments).model_dump_one_level()
        except ValidationError as error:
            raise self._refusal(_describe(self.schema_of_arguments, error)) from error

    def pre_parse_json(self, data: dict[str, Any]) -> dict[str, Any]:
        """Objects and lists that a client sent as JSON text, parsed; text where text is wanted stays as it is."""
        known = properties(self.schema_of_arguments)
        structured = {
            name: value
            for name, value in data.items()
            if isinstance(value, str)
            and name in known
            and not _accepts(self.schema_of_arguments, known[name], "string")
        }
        return data | super().pre_parse_json(structured)

    def convert_result(self, result: Any) -> CallToolResult | InputRequiredResult:
        """Text that is complete by itself, and the structure; results are frozen models, valid since they were made."""
        if not isinstance(result, Result):
            return super().convert_result(result)
        content: list[ContentBlock] = [TextContent(type="text", text=result.text())]
        if (png := result.image()) is not None:
            content.append(ImageContent(type="image", data=base64.b64encode(png).decode(), mime_type="image/png"))
        return CallToolResult(
            content=content,
            structured_content=result.model_dump(mode="json", by_alias=True),
        )

    def _refusal(self, problems: list[str]) -> ArgumentError:
        many = "many" if len(problems) >= _LOOKED_AT else str(len(problems) - _PROBLEMS)
        more = f"; and {many} more" if len(problems) > _PROBLEMS else ""
        takes = ", ".join(properties(self.schema_of_arguments)) or "no arguments"
        return ArgumentError(
            "invalid_arguments",
            f"{self.tool}: {'; '.join(problems[:_PROBLEMS])}{more}.",
            next_step=f"Correct this and call {self.tool} again; it takes {takes}.",
        )


def strict_tool(spec: ToolSpec) -> Tool:
    """The SDK's tool of one row of the table."""
    tool = Tool.from_function(
        spec.function,
        title=spec.title,
        description=" ".join((spec.function.__doc__ or "").split()),
        annotations=ToolAnnotations(
            title=spec.title,
            read_only_hint=spec.read_only,
            destructive_hint=spec.destructive,
            idempotent_hint=spec.idempotent,
            open_world_hint=spec.open_world,
        ),
    )
    made = tool.fn_metadata
    made.arg_model.model_config["extra"] = "forbid"
    made.arg_model.model_config["allow_inf_nan"] = False
    made.arg_model.model_rebuild(force=True)
    tool.parameters = without_titles(made.arg_model.model_json_schema(by_alias=True))
    tool.fn_metadata = StrictMetadata(
        arg_model=made.arg_model,
        output_schema=None if made.output_schema is None else without_titles(made.output_schema),
        output_model=made.output_model,
        wrap_output=made.wrap_output,
        tool=tool.name,
        schema_of_arguments=tool.parameters,
    )
    return tool


def _accepts(root: Schema, schema: Schema, kind: str) -> bool:
    """Whether values of a JSON type fit here; a schema that names no type takes all."""
    for one in alternatives(root, schema):
        kinds = one.get("type")
        if kinds is None and not {"enum", "const"} & one.keys():
            return True
        if kinds == kind or (isinstance(kinds, list) and kind in kinds):
            return True
    return False


def _wrong_numbers(root: Schema, arguments: dict[str, Any]) -> list[str]:
    """Booleans where a number belongs, and NaN or infinity anywhere, by their path."""
    problems: list[str] = []

    def look(value: object, schemas: list[Schema], path: tuple[str | int, ...]) -> None:
        where = readable(path)
        wanted = {kind for kind in ("number", "integer") for one in schemas if _accepts(root, one, kind)}
        if isinstance(value, bool):
            if wanted and not any(_accepts(root, one, "boolean") for one in schemas):
                problems.append(f"{where} is a boolean where a number belongs")
        elif isinstance(value, float):
            if not math.isfinite(value):
                problems.append(f"{where} is no finite number")
        elif isinstance(value, str):
            if wanted and not any(_accepts(root, one, "string") for one in schemas) and _is_nonfinite(value):
                problems.append(f"{where} is no finite number")
        elif isinstance(value, dict):
            for key, item in cast("dict[str, object]", value).items():
                look(item, step(root, schemas, key) or [], (*path, key))
        elif isinstance(value, list):
            for index, item in enumerate(cast("list[object]", value)):
                look(item, step(root, schemas, index) or [], (*path, index))

    look(arguments, [root], ())
    return problems


def _is_nonfinite(text: str) -> bool:
    try:
        return not math.isfinite(float(text))
    except ValueError:
        return False


def _describe(root: Schema, error: ValidationError) -> list[str]:
    """One sentence per place that is wrong; the branches of a union become one."""
    by_place: dict[str, list[str]] = {}
    for detail in error.errors(include_url=False)[:_LOOKED_AT]:
        where, what = _sentence(root, detail)
        told = by_place.setdefault(where, [])
        if what not in told:
            told.append(what)
    return [f"{where} {', or '.join(told)}".strip() for where, told in by_place.items()]


def _sentence(root: Schema, detail: ErrorDetails) -> tuple[str, str]:
    loc = detail["loc"]
    unknown = detail["type"] == "extra_forbidden"
    path, valid = names_at(root, loc, names_key=unknown)
    where = readable(path)
    if unknown:
        near = get_close_matches(str(loc[-1]), valid, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else f"valid here: {', '.join(valid) or 'none'}"
        return where, f"is unknown ({hint})"
    if detail["type"] in ("missing", "missing_argument"):
        return where, "is required"
    message = detail["msg"].removeprefix("Value error, ")
    return where, f"is wrong: {message[:1].lower()}{message[1:300]} (given: {_shown(detail['input'])})"


def _shown(value: object) -> str:
    """The caller's value, short and without control characters."""
    text = re.sub(r"[\x00-\x1f\x7f-\x9f]", " ", repr(value))
    return text if len(text) <= 80 else f"{text[:77]}..."
