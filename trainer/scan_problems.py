"""The problems of a dataset: what each is, how bad, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from .scan_columns import PLACES, Where

#: Code to (severity, what is wrong, what to do). `{subject}` is a column or what else it is about.
PROBLEMS: dict[str, tuple[str, str, str]] = {
    "broken_json": ("error", "not valid JSON", "Correct or delete these lines; training stops at the first."),
    "broken_csv": ("error", "not valid CSV", "Close the quote, or double the quotes inside the field."),
    "bad_encoding": (
        "error",
        "not UTF-8",
        "Write the file again as UTF-8, for one: iconv -f {subject} -t UTF-8 FILE > NEW.",
    ),
    "row_not_object": ("error", "not an object", "Write each row as an object with named columns."),
    "row_too_long": ("error", "row too long to be read", "Split or delete it."),
    "ragged_rows": ("error", "rows with more or fewer fields than the header", "Quote fields that hold the separator."),
    "lone_surrogate": ("error", "half a surrogate pair, which is no text", "Replace it by the character it was."),
    "one_object": ("error", "one object whose {subject} holds the rows", "Write the list under {subject} by itself."),
    "mapping_failed": (
        "error",
        "rows that the mapping doesn't fit: {subject}",
        "Correct columns or turns, or the rows.",
    ),
    "wrong_columns": ("error", "{subject}", "Pass one of the mappings, or rename the columns."),
    "wrong_type": ("error", "{subject}", "Write the column as text, or as a list of role and content."),
    "mixed_types": ("error", "{subject} holds several types", "Give the column one type in every row."),
    "missing_fields": ("error", "{subject} is missing", "Add it to these rows, or delete them."),
    "null_fields": ("error", "{subject} is null", "Fill these rows or delete them."),
    "empty_fields": ("warning", "{subject} is empty", "Fill these rows or delete them."),
    "empty_chat": ("error", "{subject} is an empty list", "Delete these rows: nothing in them trains."),
    "bad_turns": ("error", "turns in {subject} without role and content", "Give each turn a role and a content."),
    "null_content": ("error", "turns in {subject} whose content is null", "Fill or delete them."),
    "empty_content": ("warning", "turns in {subject} whose content is empty", "Fill or delete them."),
    "unknown_roles": (
        "error",
        "roles in {subject} that are none of system, user, assistant, tool; they would train silently, as text",
        "Map them with turns.roles.",
    ),
    "no_assistant_turn": ("warning", "{subject} without an assistant turn", "Delete these rows: no answer to learn."),
    "identical_pairs": ("error", "chosen equals rejected", "Delete these rows: they teach nothing."),
    "label_not_boolean": ("error", "label holds {subject}, not true and false", "Write true for good, false for bad."),
    "one_class": ("error", "every label is {subject}", "Add rows of the other kind: KTO needs both."),
    "mixed_schemas": ("warning", "rows with other columns than most", "Make the rows alike, or split the file."),
    "duplicates": ("warning", "exact repeats of an earlier row", "Delete them, unless they are meant to weigh more."),
}


@dataclass
class Problem:
    """One kind of problem, with how often and where first."""

    code: str
    subject: str = ""
    count: int = 0
    places: list[Where] = field(default_factory=list[Where])
    detail: str = ""
    severity: str | None = None


class Problems:
    """All problems, each kind counted; the first places kept."""

    def __init__(self) -> None:
        self.found: dict[tuple[str, str], Problem] = {}

    def add(self, code: str, where: Where | None, subject: str = "", detail: str = "") -> None:
        """Count one more."""
        problem = self.found.get((code, subject))
        if problem is None:
            if len(self.found) >= 200:
                return
            problem = self.found[code, subject] = Problem(code, subject, detail=detail)
        problem.count += 1
        if where is not None and len(problem.places) < PLACES:
            problem.places.append(where)

    def put(self, code: str, count: int, places: list[Where], subject: str = "", detail: str = "") -> None:
        """Add a problem that was counted elsewhere."""
        if count:
            self.found[code, subject] = Problem(code, subject, count, places[:PLACES], detail)

    def records(self, names: list[str]) -> list[dict[str, Any]]:
        """The problems as a part of the result, errors first, the most frequent first; `names` are the files'."""
        records = [_record(problem, names) for problem in self.found.values()]
        return sorted(records, key=lambda record: (record["severity"] != "error", -record["count"]))


def _record(problem: Problem, names: list[str]) -> dict[str, Any]:
    severity, message, advice = PROBLEMS[problem.code]
    return {
        "code": problem.code,
        "severity": problem.severity or severity,
        "count": problem.count,
        "message": message.replace("{subject}", problem.subject),
        "detail": problem.detail,
        "places": [f"{names[file]}:{line}" if line else names[file] for file, line in problem.places],
        "advice": advice.replace("{subject}", problem.subject),
    }
