"""What is wrong with rows: each row's chats and pairs as it passes, the columns once all have."""

from __future__ import annotations

from typing import Any

from .contract import FOREIGN_ROLES, FORMATS, METHODS
from .scan_columns import Column, Table, Where, known_role, turn_keys_of
from .scan_problems import Problems

_CHATS = frozenset({"messages", "conversations", "conversation", "dialog", "dialogue", "chat", "turns"})
_ANSWERS = _CHATS | {"completion", "chosen", "rejected"}
_OURS = frozenset({"messages", "prompt", "completion", "chosen", "rejected"})
#: Columns whose lists must be chats.
_NAMED = _CHATS | _OURS


def check_row(
    row: dict[str, Any], chats: list[tuple[str, Any]], table: Table, problems: Problems, where: Where
) -> None:
    """Look at one row's chats and at its pair."""
    for name, turns in chats:
        if not turns:
            if name in _NAMED:
                problems.add("empty_chat", where, name)
        elif name in _NAMED or turn_keys_of(turns[0]) is not None:
            _check_chat(table.columns[name], turns, problems, where)
    chosen = row.get("chosen")
    if chosen is not None and chosen == row.get("rejected"):
        problems.add("identical_pairs", where)


def _check_chat(column: Column, turns: list[dict[str, Any]], problems: Problems, where: Where) -> None:
    """Look at one chat; each problem counts once for it."""
    name = column.name
    keys = turn_keys_of(turns[0])
    if keys is None:
        problems.add("bad_turns", where, name)
        return
    column.turn_keys[keys] += 1
    role_key, content_key = keys
    answered = foreign = False
    found: set[str] = set()
    for turn in turns:
        role = turn.get(role_key)
        if role_key not in turn or (content_key not in turn and "tool_calls" not in turn):
            found.add("bad_turns")
            continue
        if not isinstance(role, str):
            found.add("bad_turns")
            continue
        if role in column.roles or len(column.roles) < 32:
            column.roles[role[:40]] += 1
        if not known_role(role, keys):
            foreign = True
        elif role == "assistant" or FOREIGN_ROLES.get(role) == "assistant":
            answered = True
        content = turn.get(content_key)
        if not content and not turn.get("tool_calls"):
            found.add("null_content" if content is None else "empty_content")
    if foreign:
        found.add("unknown_roles")
    elif not answered and name in _ANSWERS:
        found.add("no_assistant_turn")
    for code in found:
        problems.add(code, where, name)


def check_columns(table: Table, problems: Problems, method: str | None) -> str | None:
    """Look at the columns once every row was counted; returns the rows' TRL format."""
    wanted = METHODS[method].formats if method is not None else None
    found = table.find_format(wanted)
    _check_types(table, problems)
    required = FORMATS[found].required if found is not None else ()
    for name in required:
        column = table.columns[name]
        problems.put("null_fields", column.nulls, column.null_places, name)
        lists = column.kinds["empty list"]
        if column.empties > lists:
            problems.put("empty_fields", column.empties - lists, column.empty_places, name)
    _check_schemas(table, required, problems)
    if found == "unpaired_preference":
        _check_labels(table, problems)
    if wanted is not None and found is None:
        shown = " or ".join(" + ".join(FORMATS[name].required) for name in wanted)
        problems.put("wrong_columns", table.rows, [], f"{method} needs the columns {shown}")
    for problem in problems.found.values():
        if problem.code == "unknown_roles":
            roles = table.columns[problem.subject].roles if problem.subject in table.columns else {}
            keys = (table.columns[problem.subject].keys() or ("role", "content")) if roles else ("role", "content")
            problem.detail = ", ".join(
                f"{role} {count:,}" for role, count in roles.items() if not known_role(role, keys)
            )
        elif problem.code == "no_assistant_turn" and problem.count == table.rows:
            problem.severity = "error"
    return found


def _check_types(table: Table, problems: Problems) -> None:
    for column in table.columns.values():
        kinds = {kind: count for kind, count in column.kinds.most_common() if kind not in ("null", "empty list")}
        if {"integer", "number"} <= set(kinds):
            kinds["number"] += kinds.pop("integer")
        if not kinds:
            continue
        if table.loose:
            kinds = {column.kind(loose=True) or "null": 1}
        if len(kinds) > 1:
            main = next(iter(kinds))
            others = [place for kind in kinds if kind != main for place in column.places.get(kind, [])]
            detail = ", ".join(f"{kind} {count:,}" for kind, count in kinds.items())
            problems.put("mixed_types", sum(kinds.values()) - kinds[main], sorted(others), column.name, detail)
        kind = next(iter(kinds))
        if column.name in _OURS and kind not in ("text", "turns", "null", "objects"):
            problems.put("wrong_type", column.kinds[kind] or table.rows, [], f"{column.name} holds {_plural(kind)}")
        elif column.name == "messages" and kind == "text":
            problems.put("wrong_type", column.kinds[kind], [], "messages holds text, where a list of turns is needed")


def _plural(kind: str) -> str:
    return kind if kind.endswith("s") else f"{kind}s"


def _check_schemas(table: Table, required: tuple[str, ...], problems: Problems) -> None:
    for name in required:
        column = table.columns[name]
        if missing := table.rows - column.seen:
            places = [place for keys, at in table.schemas.items() if name not in keys for place in at]
            problems.put("missing_fields", missing, sorted(places), name)
    if len(table.schema_counts) > 1:
        usual, count = table.schema_counts.most_common(1)[0]
        places = [place for keys, at in table.schemas.items() if keys != usual for place in at]
        others = next(keys for keys, _ in table.schema_counts.most_common(2) if keys != usual)
        differing = sorted(set(others) ^ set(usual))[:4]
        detail = f"they differ in {', '.join(name[:40] for name in differing)}"
        problems.put("mixed_schemas", table.rows - count, sorted(places), detail=detail)


def _check_labels(table: Table, problems: Problems) -> None:
    label = table.columns["label"]
    kind = label.kind(loose=table.loose)
    if kind != "boolean":
        problems.put("label_not_boolean", table.rows - label.nulls, [], f"{kind} ({', '.join(label.values)})")
    if len(label.values) == 1:
        problems.put("one_class", table.rows - label.nulls, [], next(iter(label.values)))
