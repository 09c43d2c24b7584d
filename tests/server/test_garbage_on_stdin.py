"""Whatever arrives on stdin, the real server answers it, stays small, and serves the next request; in both eras."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from server_processes import ENVELOPE, Child

from model_trainer.server.lines import LINE_LIMIT
from model_trainer.tools import TOOLS

REAL_SERVER = "from model_trainer.server.stdio import serve\nraise SystemExit(serve(None))\n"
#: MiB that a server may ever have resident, whatever it was sent; it begins with about 80.
CEILING = 160
FIFTY = 50_000_000
ERAS = pytest.mark.parametrize("modern", [False, True], ids=["handshake", "modern"])


def call(arguments: bytes, number: int = 900) -> bytes:
    """A tool call as text, the id first."""
    params = b'{"name": "write_config", "arguments": ' + arguments + b"}"
    return b'{"jsonrpc": "2.0", "id": %d, "method": "tools/call", "params": %s}' % (number, params)


def last(arguments: bytes, number: int = 900) -> bytes:
    """The same as other clients write it, the id last."""
    params = b'{"name": "write_config", "arguments": ' + arguments + b"}"
    return b'{"method": "tools/call", "params": %s, "jsonrpc": "2.0", "id": %d}' % (params, number)


def deep(levels: int) -> bytes:
    return b'{"overrides": ' + b'{"a":' * levels + b"1" + b"}" * levels + b"}"


#: Lines with the JSON-RPC code and the id that they are answered with.
REFUSED: dict[str, tuple[bytes, int, object]] = {
    "half a request": (b'{"jsonrpc": "2.0", "id": 900, "method": "tools/ca', -32700, 900),
    "half of less": (b'{"jsonrpc": "2.0", "id": 900, "meth', -32700, None),
    "no JSON": (b"this is no JSON", -32700, None),
    "a byte order mark": (b'\xef\xbb\xbf{"jsonrpc": "2.0", "id": 900, "method": "ping"}', -32700, None),
    "two on a line": (
        b'{"jsonrpc":"2.0","id":900,"method":"ping"}{"jsonrpc":"2.0","id":901,"method":"ping"}',
        -32700,
        900,
    ),
    "no UTF-8": (b"\xff\xfe\xfd", -32700, None),
    "no UTF-8 in a text": (call(b'{"path": "\xff"}'), -32700, 900),
    "no UTF-8 in an id": (b'{"jsonrpc": "2.0", "id": "\xff", "method": "ping"}', -32700, None),
    "half a surrogate pair": (call(b'{"path": "\\ud800"}'), -32700, 900),
    "null bytes": (b"\0\0\0\0", -32700, None),
    "a null byte in a text": (call(b'{"path": "\0"}'), -32700, 900),
    "nested 100,000 deep": (call(deep(100_000)), -32700, 900),
    "nested 100,000 deep, the id last": (last(deep(100_000)), -32700, 900),
    "brackets alone": (b"[" * 100_000 + b"]" * 100_000, -32700, None),
    "a number of 5,000 digits": (call(b'{"alternative": ' + b"9" * 5000 + b"}"), -32700, 900),
    "an empty batch": (b"[]", -32600, None),
    "a batch": (b'[{"jsonrpc": "2.0", "id": 900, "method": "ping"}]', -32600, None),
    "a number": (b"5", -32600, None),
    "a text": (b'"ping"', -32600, None),
    "null": (b"null", -32600, None),
    "nothing in it": (b"{}", -32600, None),
    "another version": (b'{"jsonrpc": "1.0", "id": 900, "method": "ping"}', -32600, 900),
    "no version": (b'{"id": 900, "method": "ping"}', -32600, None),
    "a method that is a number": (b'{"jsonrpc": "2.0", "id": 900, "method": 5}', -32600, 900),
    "params that are a list": (b'{"jsonrpc": "2.0", "id": 900, "method": "tools/list", "params": []}', -32600, 900),
    "a notification with a list": (
        b'{"jsonrpc": "2.0", "method": "notifications/cancelled", "params": [1]}',
        -32600,
        None,
    ),
    "a response that is none": (b'{"jsonrpc": "2.0", "id": 900, "result": 5}', -32600, None),
    "an error that is none": (b'{"jsonrpc": "2.0", "id": 900, "error": {"code": "x"}}', -32600, None),
    **{
        f"an id that is {what}": (b'{"jsonrpc": "2.0", "id": %s, "method": "ping"}' % text, -32600, None)
        for what, text in {
            "null": b"null",
            "true": b"true",
            "a fraction": b"1.5",
            "a whole number with a point": b"1.0",
            "a list": b"[1]",
            "an object": b'{"id": 1}',
        }.items()
    },
}
#: Lines that are not answered at all.
SILENT: dict[str, bytes] = {
    "an empty line": b"",
    "a carriage return": b"\r",
    "blanks": b"  \t ",
    "an unknown notification": b'{"jsonrpc": "2.0", "method": "notifications/none", "params": {"id": [1, {}]}}',
    "a cancellation of nothing": b'{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":77}}',
    "a cancellation with rubbish": b'{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":[{}]}}',
    "progress of nothing": b'{"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progress": "x"}}',
    "a notification with wrong meta": b'{"jsonrpc":"2.0","method":"notifications/initialized","params":{"_meta":1}}',
    "a request without an id": b'{"jsonrpc": "2.0", "method": "tools/call", "params": {"name": "list_runs"}}',
    "a response to nothing": b'{"jsonrpc": "2.0", "id": 77, "result": {}}',
    "an error about nothing": b'{"jsonrpc": "2.0", "id": 77, "error": {"code": 1, "message": "x"}}',
}


@pytest.fixture(scope="module")
def children(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[bool, Child]]:
    """One server for each era, for all that follows: garbage adds up."""
    folder = tmp_path_factory.mktemp("state")
    places: dict[str, str] = dict.fromkeys(
        ("HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "MODEL_TRAINER_STATE"), str(folder)
    )
    with Child(REAL_SERVER, environment=places) as handshake, Child(REAL_SERVER, environment=places) as modern:
        handshake.handshake()
        yield {False: handshake, True: modern}


@pytest.fixture
def child(children: dict[bool, Child], modern: bool) -> Child:
    return children[modern]


def most_memory(child: Child) -> int:
    """MiB that the server had resident at its peak."""
    with open(f"/proc/{child.process.pid}/status", encoding="ascii") as file:
        return next(int(line.split()[1]) // 1024 for line in file if line.startswith("VmHWM"))


def still_serves(child: Child, *, modern: bool) -> None:
    if not modern:
        assert child.ask("ping")["result"] == {}
    answer = child.ask("tools/list", modern=modern)
    assert [tool["name"] for tool in answer["result"]["tools"]] == [spec.name for spec in TOOLS]


def told(answer: dict[str, Any]) -> dict[str, str]:
    """What an error says, which stands in text and structure."""
    data = answer["error"]["data"]
    assert set(data) == {"code", "message", "next_step"}
    assert all(text and text in answer["error"]["message"] for text in data.values())
    return data


@ERAS
def test_a_line_that_is_no_message_is_refused_under_its_id_where_that_can_be_seen(child: Child, modern: bool) -> None:
    for name, (line, code, number) in REFUSED.items():
        child.write(line + b"\n")
        answer = child.receive()
        assert answer["error"]["code"] == code, (name, answer)
        assert answer["id"] == number, (name, answer)
        assert told(answer)["code"] == "invalid_arguments"
        assert len(json.dumps(answer)) < 1000, name
        still_serves(child, modern=modern)
    assert most_memory(child) < CEILING
    assert b"Traceback" not in child.errors


@ERAS
def test_what_asks_for_no_answer_gets_none_and_harms_nothing(child: Child, modern: bool) -> None:
    for line in SILENT.values():
        child.write(line + b"\n")
        # The next message that arrives is the answer to what is asked here.
        still_serves(child, modern=modern)
    assert b"Traceback" not in child.errors


@ERAS
def test_odd_requests_are_answered_as_requests(child: Child, modern: bool) -> None:
    for text in (b'"a"', b'""', b"-1", b"9" * 400, b'"%s"' % (b"x" * 100_000), b'"\\u0000"'):
        child.write(b'{"jsonrpc": "2.0", "id": %s, "method": "no/such"}\n' % text)
        answer = child.receive()
        assert answer["id"] == json.loads(text)
        assert answer["error"]["code"] == (-32601 if not modern else answer["error"]["code"])
    for method, params in (("no/such", {}), ("tools/call", {"_meta": 5}), ("", {}), ("tools/call", {"name": [1]})):
        answer = child.ask(method, params, modern=modern)
        assert "error" in answer or answer["result"]["isError"]
    still_serves(child, modern=modern)


@ERAS
def test_two_requests_under_one_id_are_both_answered(child: Child, modern: bool) -> None:
    request = child.request("tools/list", modern=modern)
    child._id -= 1
    assert child.request("tools/list", modern=modern) == request
    assert [child.receive()["id"], child.receive()["id"]] == [request, request]
    still_serves(child, modern=modern)


@ERAS
def test_numbers_beyond_any_are_refused_by_the_tool(child: Child, modern: bool) -> None:
    for number in (b"1e999", b"-1e999", b"NaN", b"Infinity"):
        arguments = b'{"path": "a.yaml", "overrides": {"training.learning_rate": %s}}' % number
        text = call(arguments)
        if modern:
            meta = json.dumps({"_meta": ENVELOPE}).encode()[1:-1]
            text = text.replace(b'{"name"', b"{%s, " % meta + b'"name"')
        child.write(text + b"\n")
        structure = child.receive()["result"]["structuredContent"]
        assert structure["code"] == "invalid_arguments"
        assert "no finite number" in structure["message"]
    still_serves(child, modern=modern)


@ERAS
@pytest.mark.parametrize("first", [True, False], ids=["id first", "id last"])
def test_a_request_of_50_mb_is_refused_under_its_id_and_never_kept(child: Child, modern: bool, first: bool) -> None:
    arguments = b'{"path": "' + b"x" * FIFTY + b'"}'
    child.write((call(arguments) if first else last(arguments)) + b"\n")
    answer = child.receive()
    assert answer["id"] == 900
    assert answer["error"]["code"] == -32600
    assert told(answer)["code"] == "too_large"
    assert f"{LINE_LIMIT:,}" in told(answer)["message"]
    assert "path" in told(answer)["next_step"]
    still_serves(child, modern=modern)
    assert most_memory(child) < CEILING


@ERAS
def test_50_mb_that_are_no_request_are_refused_and_never_kept(child: Child, modern: bool) -> None:
    for line in (b"x" * FIFTY, b"[" * FIFTY, b"\0" * FIFTY, b'{"jsonrpc": "2.0", "id": 5, "result": "' + b"x" * FIFTY):
        child.write(line + b"\n")
        answer = child.receive()
        assert answer["id"] is None
        assert told(answer)["code"] == "too_large"
        still_serves(child, modern=modern)
    assert most_memory(child) < CEILING


@ERAS
def test_a_message_just_within_the_limit_is_read(child: Child, modern: bool) -> None:
    request = {"name": "list_runs", "arguments": {"cursor": "x" * (LINE_LIMIT - 1000)}}
    structure = child.ask("tools/call", request, modern=modern)["result"]["structuredContent"]
    assert structure["code"] == "invalid_arguments"
    assert len(structure["message"]) < 500
    objects = {"path": "a.yaml", "overrides": {"a": [{}] * (LINE_LIMIT // 5)}}
    answer = child.ask("tools/call", {"name": "write_config", "arguments": objects}, modern=modern)
    assert answer["result"]["isError"]
    still_serves(child, modern=modern)
    assert most_memory(child) < CEILING


@ERAS
def test_folders_with_names_that_are_not_utf8_are_refused_or_shown_as_far_as_that_goes(
    tmp_path: Path, modern: bool
) -> None:
    workspace = tmp_path / os.fsdecode(b"caf\xe9")
    (workspace / "folder").mkdir(parents=True)
    code = f"from pathlib import Path\n{REAL_SERVER.replace('None', f'Path({str(workspace)!r})')}"
    with Child(code, environment={"MODEL_TRAINER_STATE": str(workspace / "state")}) as child:
        if not modern:
            child.handshake()
        for path in ("nothing.jsonl", "folder"):
            call = {"name": "inspect_dataset", "arguments": {"path": path}}
            structure = child.ask("tools/call", call, modern=modern)["result"]["structuredContent"]
            assert structure["code"] == "invalid_arguments"
            assert "name is not UTF-8" in structure["message"]
        seen = child.ask("tools/call", {"name": "check_environment"}, modern=modern)["result"]["structuredContent"]
        assert seen["state_folder"].endswith("/caf?/state")
        still_serves(child, modern=modern)


@ERAS
def test_50_mb_without_a_line_end_and_then_the_end_let_the_server_leave_in_time(modern: bool) -> None:
    with Child(REAL_SERVER) as child:
        if not modern:
            child.handshake()
        child.write(call(b'{"path": "' + b"x" * FIFTY))
        child.end_of_input()
        assert child.exits() == 0
