"""Lines of the wire as messages; a line that is none becomes a refusal that the client can understand.

A line is read up to a limit and no further, so that no client, whatever it sends, makes this process big. A refused
request is answered under its own id where that can be seen without reading the line as JSON: a client that waits for
an answer to its id would wait for ever otherwise.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, BinaryIO

from mcp.shared.message import SessionMessage
from mcp.types import INVALID_REQUEST, PARSE_ERROR, JSONRPCError, JSONRPCNotification, jsonrpc_message_adapter
from pydantic import ValidationError
from pydantic_core import from_json

from ..executors.errors import ArgumentError, LimitError, ModelTrainerError
from .boundary import protocol_error

#: Bytes of one message; the largest arguments that make sense are some kilobytes.
LINE_LIMIT = 1_000_000
_PIECE = 65_536

_ID = rb'"id"\s*:\s*(-?[0-9]{1,18}|"[^"\\\x00-\x1f]{0,200}")'
_VERSION = rb'"jsonrpc"\s*:\s*"[^"]{0,20}"'
#: A request by the two orders in which clients write one: the id before the method, or at the very end. A response must
#: not match: its id is one of ours.
_ID_FIRST = re.compile(rb"\s*\{\s*" + _VERSION + rb"\s*,\s*" + _ID + rb'\s*,\s*"method"')
_METHOD_FIRST = re.compile(rb'\s*\{\s*"method"')
_ID_LAST = re.compile(rb",\s*" + _ID + rb"\s*\}\s*\Z")


class RefusedLineError(Exception):
    """A line that is no message; `answer` is what the client is told."""

    def __init__(self, code: int, error: ModelTrainerError, request_id: str | int | None) -> None:
        super().__init__(error.message)
        told = protocol_error(error).error
        self.answer = JSONRPCError(jsonrpc="2.0", id=request_id, error=told.model_copy(update={"code": code}))


def read_messages(reader: BinaryIO) -> Iterator[SessionMessage | RefusedLineError]:
    """What each line of `reader` is, until its end."""
    while line := reader.readline(LINE_LIMIT + 1):
        if len(line) > LINE_LIMIT:
            yield _too_long(line, reader)
        elif line := line.strip():
            yield _parse(line)


def write_message(message: SessionMessage) -> bytes:
    """The message as a line."""
    try:
        text = message.message.model_dump_json(by_alias=True, exclude_unset=True)
    except ValueError:
        # A name on this disk that is not UTF-8: shown with a question mark rather than not at all.
        plain = message.message.model_dump(by_alias=True, exclude_unset=True)
        text = json.dumps(plain, ensure_ascii=False, separators=(",", ":"))
    return text.encode(errors="replace") + b"\n"


def _parse(line: bytes) -> SessionMessage | RefusedLineError:
    try:
        message = jsonrpc_message_adapter.validate_json(line, by_name=False)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        if first["type"] == "json_invalid":
            told = f"The line can't be read as JSON ({first['msg'].removeprefix('Invalid JSON: ')[:200]})."
            return _refusal(PARSE_ERROR, told, "Send one JSON-RPC message per line, as valid JSON in UTF-8.", line)
        batch = "; this protocol has no batches" if line.startswith(b"[") else ""
        told = f"The line is JSON, but no JSON-RPC 2.0 message{batch}."
        step = 'Send one object per line with "jsonrpc": "2.0", a method that is text, and params that are an object.'
        return _refusal(INVALID_REQUEST, told, step, line)
    if isinstance(message, JSONRPCNotification) and _has_id(line):
        # Taken as a notification it would never be answered.
        told = "The id of a request is text or a whole number."
        return _refusal(INVALID_REQUEST, told, "Send the request again with such an id.", line)
    return SessionMessage(message)


def _has_id(line: bytes) -> bool:
    return b'"id"' in line and "id" in from_json(line)


def _too_long(start: bytes, reader: BinaryIO) -> RefusedLineError:
    """Read the rest of a line that is too long, and keep nothing of it but its end."""
    length, end = len(start), start[-_PIECE:]
    while not end.endswith(b"\n") and (piece := reader.readline(_PIECE)):
        length, end = length + len(piece), (end + piece)[-_PIECE:]
    error = LimitError(
        "too_large",
        f"A message of {length:,} bytes: the most that one may have is {LINE_LIMIT:,}.",
        next_step="Put what is large into a file and pass its path, as inspect_dataset(path=…) takes one.",
    )
    return RefusedLineError(INVALID_REQUEST, error, _id_of(start, end))


def _refusal(code: int, message: str, next_step: str, line: bytes) -> RefusedLineError:
    return RefusedLineError(code, ArgumentError("invalid_arguments", message, next_step=next_step), _id_of(line, line))


def _id_of(start: bytes, end: bytes) -> str | int | None:
    """The id of the request that a line begins and ends as; None where it can't be told for sure."""
    found = _ID_FIRST.match(start)
    if found is None and _METHOD_FIRST.match(start):
        found = _ID_LAST.search(end[-1000:])
    if found is None:
        return None
    try:
        told: Any = from_json(found.group(1))
    except ValueError:
        # No UTF-8, or a number with a zero before it.
        return None
    return told
