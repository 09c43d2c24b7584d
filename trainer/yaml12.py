"""The values of a config file, read by the YAML 1.2 core schema: `2e-4` is a number; `on`, `1:30` and dates are text.

Both sides read through `build`: the server gives it ruamel.yaml's events, the training environment PyYAML's (`load`),
which by itself would read `2e-4` as text and `on` as true. Only what a config needs is let through: one mapping with
text keys, no anchors, aliases, tags or merge keys, nothing deep or long. Standard library only at import.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from typing import Any, TypeAlias

#: Where a value stands: keys and list positions from the top.
Key: TypeAlias = "tuple[str | int, ...]"

MAX_DEPTH = 16
MAX_VALUES = 20_000

_NULL = frozenset(("", "~", "null", "Null", "NULL"))
_BOOLEAN = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INTEGER = re.compile(r"[-+]?[0-9]+\Z")
_PREFIXED = re.compile(r"(0o[0-7]+|0x[0-9a-fA-F]+)\Z")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?\Z")
_NOT_FINITE = re.compile(r"([-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN))\Z")
# C0 and C1 controls but tab and line feed, lone surrogates, and what no YAML file may hold.
_UNWRITABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufeff\ufffe\uffff]")


class Yaml12Error(ValueError):
    """The text isn't a config; `line` counts from 1."""

    def __init__(self, line: int, message: str) -> None:
        super().__init__(f"line {line}: {message}")
        self.line = line
        self.message = message


def load(text: str) -> dict[str, Any]:
    """The config that `text` is, by PyYAML's parser.

    Raises:
        Yaml12Error: it is none.
    """
    import yaml

    try:
        return build(yaml.parse(text, Loader=yaml.SafeLoader))[0]
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise Yaml12Error(mark.line + 1 if mark else 1, error.problem or "not YAML") from error
    except yaml.YAMLError as error:
        raise Yaml12Error(1, "the file holds characters that YAML does not allow") from error


def scalar(text: str) -> str | int | float | bool | None:
    """What a plain scalar means in the core schema.

    Raises:
        ValueError: it is infinite, not a number, or too big for one.
    """
    if text in _NULL:
        return None
    if text in _BOOLEAN:
        return _BOOLEAN[text]
    if _NOT_FINITE.match(text):
        raise ValueError(f"{text} is not a number to train with")
    if len(text) > 64 and _FLOAT.match(text):
        raise ValueError("a number of more than 64 digits")
    if _INTEGER.match(text):
        return int(text)
    if _PREFIXED.match(text):
        return int(text, 0)
    if _FLOAT.match(text):
        number = float(text)
        if not math.isfinite(number):
            raise ValueError(f"{text} is too big for a number")
        return number
    return text


def problem_of(value: object) -> str | None:
    """Why this text, number or null can't stand in a config; None where it can."""
    if isinstance(value, float) and not math.isfinite(value):
        return f"{value} is not a number to train with"
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= 2**63:
        return "an integer of more than 64 bits"
    if isinstance(value, str) and (found := _UNWRITABLE.search(value)):
        return f"the text holds a control character (U+{ord(found[0]):04X})"
    return None


def build(events: Iterable[Any]) -> tuple[dict[str, Any], dict[Key, int]]:
    """The mapping that YAML events describe, and the line of each of its values, by key.

    Raises:
        Yaml12Error: more or other than one plain mapping.
    """
    return _Builder(iter(events)).document()


class _Builder:
    def __init__(self, events: Iterator[Any]) -> None:
        self.events = events
        self.lines: dict[Key, int] = {}
        self.count = 0

    def document(self) -> tuple[dict[str, Any], dict[Key, int]]:
        self.take("StreamStart")
        start = self.next()
        if _kind(start) == "StreamEnd":
            raise Yaml12Error(1, "the file is empty")
        if getattr(start, "version", None) or getattr(start, "tags", None):
            raise Yaml12Error(1, "directives (%YAML, %TAG) are not used in a config")
        first = self.next()
        if _kind(first) != "MappingStart":
            raise Yaml12Error(_line(first), "a config is a mapping of keys to values")
        data = self.mapping(first, ())
        self.take("DocumentEnd")
        after = self.next()
        if _kind(after) != "StreamEnd":
            raise Yaml12Error(_line(after), "a second document begins; a config is one")
        return data, self.lines

    def next(self) -> Any:
        event = next(self.events)
        self.count += 1
        if self.count > MAX_VALUES:
            raise Yaml12Error(_line(event), f"more than {MAX_VALUES} values")
        if _kind(event) == "Alias":
            raise Yaml12Error(_line(event), "aliases (*name) are not used in a config; repeat the value")
        if getattr(event, "anchor", None) is not None:
            raise Yaml12Error(_line(event), "anchors (&name) are not used in a config")
        if _kind(event) in ("Scalar", "MappingStart", "SequenceStart") and event.tag is not None:
            raise Yaml12Error(_line(event), "tags (!name) are not used in a config")
        return event

    def take(self, kind: str) -> None:
        event = self.next()
        if _kind(event) != kind:
            raise Yaml12Error(_line(event), "not one mapping")

    def value(self, event: Any, key: Key) -> Any:
        self.lines.setdefault(key, _line(event))
        if len(key) > MAX_DEPTH:
            raise Yaml12Error(_line(event), f"nested deeper than {MAX_DEPTH}")
        if _kind(event) == "MappingStart":
            return self.mapping(event, key)
        if _kind(event) == "SequenceStart":
            items: list[Any] = []
            while _kind(entry := self.next()) != "SequenceEnd":
                items.append(self.value(entry, (*key, len(items))))
            return items
        try:
            value = event.value if event.style else scalar(event.value)
        except ValueError as error:
            raise Yaml12Error(_line(event), str(error)) from error
        if (problem := problem_of(value)) is not None:
            raise Yaml12Error(_line(event), problem)
        return value

    def mapping(self, start: Any, key: Key) -> dict[str, Any]:
        found: dict[str, Any] = {}
        while _kind(entry := self.next()) != "MappingEnd":
            if _kind(entry) != "Scalar":
                raise Yaml12Error(_line(entry), "a key is text, not a list or a mapping")
            if not entry.style and entry.value == "<<":
                raise Yaml12Error(_line(entry), "merge keys (<<) are not used in a config")
            name = self.value(entry, (*key, f"\0key {len(found)}"))
            self.lines.pop((*key, f"\0key {len(found)}"), None)
            if not isinstance(name, str):
                raise Yaml12Error(_line(entry), f"the key {entry.value!r:.60} is no text; put it in quotes")
            if name in found:
                raise Yaml12Error(_line(entry), f"the key {name!r:.60} stands here a second time")
            self.lines[(*key, name)] = _line(entry)
            found[name] = self.value(self.next(), (*key, name))
        self.lines.setdefault(key, _line(start))
        return found


def _kind(event: Any) -> str:
    return type(event).__name__.removesuffix("Event")


def _line(event: Any) -> int:
    return event.start_mark.line + 1
