"""What a dataset's columns hold, counted row by row."""

from __future__ import annotations

from collections import Counter
from typing import Any

from .contract import FOREIGN_ROLES, FORMATS, ROLES, find_format
from .scan_rows import BooleanCell, NumberCell

#: (index of the file, line in it)
Where = tuple[int, int]

PLACES = 10
_COLUMNS = 200
_SCHEMAS = 64
_VALUES = 6

#: Keys of a turn's role and text in the chats that are about, ours first.
TURN_KEYS = (
    ("role", "content"),
    ("from", "value"),
    ("role", "value"),
    ("role", "text"),
    ("from", "content"),
    ("speaker", "text"),
    ("author", "content"),
    ("sender", "text"),
)

_EITHER = frozenset({"text", "turns"})
_TEXT = frozenset({"text"})
#: What our columns may hold; `label` and `tools` may hold anything.
ACCEPTED: dict[str, frozenset[str]] = {
    "messages": frozenset({"turns"}),
    "prompt": _EITHER,
    "completion": _EITHER,
    "chosen": _EITHER,
    "rejected": _EITHER,
    "text": _TEXT,
    "text_pair": _TEXT,
    "source": _TEXT,
    "target": _TEXT,
}
_KINDS: dict[type, str] = {
    type(None): "null",
    str: "text",
    bool: "boolean",
    int: "integer",
    float: "number",
    dict: "object",
    NumberCell: "number",
    BooleanCell: "boolean",
}


class Column:
    """The counts of one column."""

    __slots__ = (
        "empties",
        "empty_places",
        "kinds",
        "longest",
        "name",
        "null_places",
        "places",
        "roles",
        "seen",
        "turn_keys",
        "values",
    )

    def __init__(self, name: str) -> None:
        self.name = name
        self.seen = 0
        self.kinds: Counter[str] = Counter()
        self.places: dict[str, list[Where]] = {}
        self.empties = 0
        self.null_places: list[Where] = []
        self.empty_places: list[Where] = []
        self.longest = 0
        self.turn_keys: Counter[tuple[str, str]] = Counter()
        self.roles: Counter[str] = Counter()
        self.values: Counter[str] = Counter()

    def add(self, value: Any, where: Where) -> str:
        """Count one value; returns its kind."""
        self.seen += 1
        kind = _KINDS.get(type(value)) or _kind_of_other(value)
        self.kinds[kind] += 1
        if kind == "text":
            length = len(value)
            self.longest = max(self.longest, length)
            if not length or (length < 64 and not value.strip()):
                self.empties += 1
                _keep(self.empty_places, where)
        elif kind == "null":
            _keep(self.null_places, where)
        elif kind == "empty list":
            self.empties += 1
            _keep(self.empty_places, where)
        if self.kinds[kind] <= PLACES:
            self.places.setdefault(kind, []).append(where)
        if kind in ("boolean", "integer", "number", "text") and len(self.values) <= _VALUES:
            self.values[str(value)[:40]] += 1
        return kind

    @property
    def nulls(self) -> int:
        return self.kinds["null"]

    def kind(self, *, loose: bool) -> str | None:
        """What the column holds, in most of its rows; None where it is always null.

        `loose`: CSV, whose columns have one type each: text, as soon as two kinds are in them.
        """
        held = [(count, name) for name, count in self.kinds.items() if name not in ("null", "empty list")]
        if not held:
            return "list" if self.kinds["empty list"] else None
        return "text" if loose and len(held) > 1 else max(held)[1]

    def keys(self) -> tuple[str, str] | None:
        """Keys of role and text in most of its turns."""
        return self.turn_keys.most_common(1)[0][0] if self.turn_keys else None

    def record(self, rows: int, *, loose: bool) -> dict[str, Any]:
        """The counts, as a part of the result."""
        kinds = {name: count for name, count in self.kinds.most_common() if name != "null"}
        return {
            "name": self.name,
            "kind": self.kind(loose=loose),
            "kinds": {"text": sum(kinds.values())} if loose and len(kinds) > 1 else kinds,
            "nulls": self.nulls,
            "missing": rows - self.seen,
            "empties": self.empties,
            "longest": self.longest,
            "turn_keys": list(self.keys() or ()) or None,
            "roles": dict(self.roles.most_common(12)),
            "values": list(self.values) if 0 < len(self.values) <= _VALUES else None,
        }


class Table:
    """All columns, and which rows have which."""

    def __init__(self, *, loose: bool) -> None:
        self.loose = loose
        self.rows = 0
        self.columns: dict[str, Column] = {}
        self.schemas: dict[tuple[str, ...], list[Where]] = {}
        self.schema_counts: Counter[tuple[str, ...]] = Counter()
        self.too_many = False
        self._sorted: dict[tuple[str, ...], tuple[str, ...]] = {}

    def add(self, row: dict[str, Any], where: Where) -> list[tuple[str, Any]]:
        """Count one row; returns the lists of objects, or of nothing, in it, by column."""
        self.rows += 1
        order = tuple(row)
        keys = self._sorted.get(order)
        if keys is None:
            keys = tuple(sorted(row))
            if len(self._sorted) < 16 * _SCHEMAS:
                self._sorted[order] = keys
        if keys in self.schemas or len(self.schemas) < _SCHEMAS:
            self.schema_counts[keys] += 1
            _keep(self.schemas.setdefault(keys, []), where)
        chats: list[tuple[str, Any]] = []
        for name, value in row.items():
            column = self.columns.get(name)
            if column is None:
                if len(self.columns) >= _COLUMNS:
                    self.too_many = True
                    continue
                column = self.columns[name] = Column(name)
            if column.add(value, where) in ("turns", "objects", "empty list"):
                chats.append((name, value))
        return chats

    def usable(self) -> list[str]:
        """Columns that at least half of the rows have, and that hold what their name promises."""
        found: list[str] = []
        for column in self.columns.values():
            kind = column.kind(loose=self.loose)
            if kind is None or (column.seen - column.nulls) * 2 < self.rows:
                continue
            accepted = ACCEPTED.get(column.name)
            if accepted is not None and kind not in accepted:
                continue
            if kind == "turns" and accepted is not None and column.keys() != ("role", "content"):
                continue
            found.append(column.name)
        return found

    def find_format(self, wanted: tuple[str, ...] | None) -> str | None:
        """The TRL format of the rows: the first of `wanted` that fits, else the most specific one.

        Prompts and completions with a label are for KTO only where the label can mean good and bad.
        """
        usable = self.usable()
        if wanted is not None:
            return next((name for name in wanted if FORMATS[name].fits(usable)), None)
        found = find_format(usable)
        if found == "unpaired_preference" and not self.label_is_verdict():
            found = "prompt_completion"
        return found

    def label_is_verdict(self) -> bool:
        """Whether `label` has the look of good and bad."""
        column = self.columns.get("label")
        values = {value.lower() for value in column.values} if column is not None else set[str]()
        return 0 < len(values) <= 2 and values <= _VERDICTS


_VERDICTS = frozenset(
    {"true", "false", "0", "1", "-1", "0.0", "1.0", "-1.0", "good", "bad", "yes", "no", "chosen", "rejected"}
)


def turn_keys_of(turn: dict[str, Any]) -> tuple[str, str] | None:
    """The keys of a turn's role and text; None for an object that is no turn."""
    return next((keys for keys in TURN_KEYS if keys[0] in turn and keys[1] in turn), None)


def known_role(role: object, keys: tuple[str, str]) -> bool:
    """Whether a chat template, or the mapping that is proposed for these keys, knows the role."""
    return role in ROLES or (keys != ("role", "content") and role in FOREIGN_ROLES)


def _kind_of_other(value: object) -> str:
    if isinstance(value, list):
        if not value:
            return "empty list"
        if all(isinstance(part, dict) for part in value):
            return "turns" if turn_keys_of(value[0]) else "objects"
        return "list"
    return type(value).__name__


def _keep(places: list[Where], where: Where) -> None:
    if len(places) < PLACES:
        places.append(where)
