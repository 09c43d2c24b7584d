"""What inspect_dataset answers."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from ..configs.schema import Dataset
from ..result import Frozen, Result


class ColumnInfo(Frozen):
    name: str
    kind: Annotated[str | None, Field(description="text, turns (a chat), integer, boolean, …; None: always null")]
    nulls: int
    missing: Annotated[int, Field(description="Rows without the column")]
    empties: Annotated[int, Field(description="Empty texts and lists")]
    longest: Annotated[int, Field(description="Characters of the longest text")]
    roles: Annotated[dict[str, int], Field(description="Roles of its turns, counted")]


class MethodFit(Frozen):
    method: str
    ok: Annotated[bool, Field(description="The rows have what the method needs")]
    format: Annotated[str | None, Field(description="The TRL format that fits")]
    missing: Annotated[list[str], Field(description="Columns to add")]
    available: Annotated[bool, Field(description="This version trains the method")]


class Mapping(Frozen):
    """A way to read the rows that is proposed, and applied only where a config says so."""

    name: str
    reason: str
    format: str
    methods: Annotated[list[str], Field(description="Methods that can train on the mapped rows")]
    entry: Annotated[Dataset, Field(description="Entry for `datasets` of the config")]


class Problem(Frozen):
    code: str
    severity: str
    count: int
    message: str
    detail: str
    places: Annotated[list[str], Field(description="The first places, file:line (file:row in Parquet)")]
    advice: str


class TokenLengths(Frozen):
    """Lengths of rendered rows in tokens, over a sample."""

    sample: Annotated[int, Field(description="Rows measured, spread evenly over the data")]
    mean: float
    p50: int
    p95: int
    p99: int
    max: int


class Example(Frozen):
    text: Annotated[str, Field(description="As the model sees it; what is not trained on stands in [masked]…[/masked]")]
    tokens: int
    trained: Annotated[int, Field(description="Tokens with a label")]


class InspectResult(Result):
    path: str
    run_id: Annotated[str | None, Field(description="The inspection still runs under this id; what follows is empty")]
    rows: int | None = None
    size_bytes: int
    files: int = 1
    written: Annotated[str, Field(description="Kind of file, encoding, line ends")] = ""
    format: Annotated[str | None, Field(description="TRL format of the rows; None: no method can train on them as is")]
    conversational: Annotated[bool, Field(description="Chats with roles, not plain text")] = False
    revision: Annotated[str | None, Field(description="Commit of the Hub dataset that was read")] = None
    columns: list[ColumnInfo] = []
    methods: list[MethodFit] = []
    mappings: Annotated[list[Mapping], Field(description="Proposed, none is applied")] = []
    problems: list[Problem] = []
    tokens: TokenLengths | None = None
    examples: list[Example] = []
    notes: list[str] = []

    def body(self) -> str:
        if self.run_id is not None:
            return f"{self.path}: {_size(self.size_bytes)}; still being read, as run {self.run_id}."
        shape = "no trainable format as it is" if self.format is None else f"format {self.format}"
        if self.format is not None:
            shape += " (conversational)" if self.conversational else " (plain)"
        several = f" in {self.files:,} files" if self.files > 1 else ""
        lines = [f"{self.path}: {self.rows:,} rows{several}, {_size(self.size_bytes)}, {self.written}; {shape}"]
        lines.append("Columns: " + "; ".join(_column(column) for column in self.columns[:20]))
        if len(self.columns) > 20:
            lines[-1] += f"; showing 20 of {len(self.columns)}"
        lines += self._method_lines()
        lines += self._problem_lines()
        lines += self._mapping_lines()
        if self.tokens is not None:
            t = self.tokens
            spread = f"mean {t.mean:.0f}, p50 {t.p50}, p95 {t.p95}, p99 {t.p99}, max {t.max}"
            lines.append(f"Tokens per row ({t.sample:,} rows): {spread}")
        for number, example in enumerate(self.examples, 1):
            lines.append(f"Example {number} ({example.trained} of {example.tokens} tokens trained): {example.text}")
        return "\n".join([*lines, *(f"Note: {note}" for note in self.notes)])

    def _method_lines(self) -> list[str]:
        fits = [f"{fit.method} ({fit.format})" for fit in self.methods if fit.ok and fit.available]
        later = [fit.method for fit in self.methods if fit.ok and not fit.available]
        needs: dict[str, list[str]] = {}
        for fit in self.methods:
            if not fit.ok:
                needs.setdefault(", ".join(fit.missing), []).append(fit.method)
        lines = [f"Methods that fit: {', '.join(fits) or 'none'}"]
        if later:
            lines[0] += f"; fit too, but are not in this version: {', '.join(later)}"
        return [*lines, "Needed: " + "; ".join(f"{', '.join(who)}: {what}" for what, who in needs.items())]

    def _problem_lines(self) -> list[str]:
        if not self.problems:
            return ["Problems: none"]
        errors = sum(problem.severity == "error" for problem in self.problems)
        lines = [f"Problems: {errors} kinds of errors, {len(self.problems) - errors} of warnings"]
        for problem in self.problems[:12]:
            places = ", ".join(problem.places[:4])
            more = f" (showing {min(4, len(problem.places))} of {problem.count:,})" if problem.count > 4 else ""
            at = f" at {places}{more}" if places else ""
            detail = f" ({problem.detail})" if problem.detail else ""
            head = f"- {problem.severity} {problem.code}, {problem.count:,} times: {problem.message}{detail}{at}"
            lines.append(f"{head}. {problem.advice}")
        if len(self.problems) > 12:
            lines.append(f"- showing 12 of {len(self.problems)}")
        return lines

    def _mapping_lines(self) -> list[str]:
        if not self.mappings:
            return []
        lines = ["Mappings proposed (none is applied; put one under `datasets` of the config):"]
        for mapping in self.mappings:
            entry = mapping.entry.model_dump_json(exclude_defaults=True)
            lines.append(f"- {mapping.name} → {mapping.format} for {', '.join(mapping.methods)}: {entry}")
            lines.append(f"  {mapping.reason}")
        return lines


def _column(column: ColumnInfo) -> str:
    parts = [column.kind or "always null"]
    if column.longest:
        parts.append(f"≤ {column.longest:,} characters")
    parts += [
        f"{count:,} {word}"
        for count, word in ((column.nulls, "null"), (column.missing, "missing"), (column.empties, "empty"))
        if count
    ]
    if column.roles:
        parts.append("roles " + "/".join(list(column.roles)[:6]))
    return f"{column.name} ({', '.join(parts)})"


def _size(size: int) -> str:
    for limit, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if size >= limit:
            return f"{size / limit:.1f} {unit}"
    return f"{size} bytes"
