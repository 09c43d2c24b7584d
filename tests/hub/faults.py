"""Faults on order: refusals instead of answers, and connections that are really cut, before, in the middle or after.

    hub.faults.add("POST", r"/commit/main$", status=503, times=2)
    hub.faults.add("PUT", r"^/lfs/", cut="upload", after_bytes=1_000_000)

A cut closes the socket. A client that was still sending sees a reset, one that was waiting or reading sees the end.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .errors import HubError

#: before: nothing is read, done or answered. upload: after so many bytes of the request's body. answer: everything was
#: done and nothing is answered. download: after so many bytes of the answer's body.
Cut = Literal["before", "upload", "answer", "download"]

#: Words of the real Hub where the client or a person goes by them.
_MESSAGES = {
    401: "Invalid credentials in Authorization header",
    403: "Forbidden",
    409: "You already created this model repo",
    429: "Too many requests",
    500: "Internal Error - We're working hard to fix this as soon as possible!",
    503: "Service Unavailable",
}


@dataclass
class Fault:
    method: str
    path: re.Pattern[str]
    times: int
    """How often it still happens."""
    status: int
    message: str
    headers: Mapping[str, str]
    body: Mapping[str, object]
    cut: Cut | None
    after_bytes: int


class Faults:
    """Those to come; the first that fits a request happens to it."""

    def __init__(self) -> None:
        self._all: list[Fault] = []

    def add(
        self,
        method: str,
        path: str,
        *,
        times: int = 1,
        status: int = 500,
        message: str | None = None,
        headers: Mapping[str, str] | None = None,
        body: Mapping[str, object] | None = None,
        cut: Cut | None = None,
        after_bytes: int = 0,
    ) -> None:
        """The next `times` requests with this method whose path has a match for `path` fail: by a cut where given,
        else by `status`. `body` is added to the answer's JSON (the client wants `url` in a 409 on create)."""
        words = message or _MESSAGES.get(status, f"Error {status}")
        pattern = re.compile(path)
        self._all.append(Fault(method, pattern, times, status, words, headers or {}, body or {}, cut, after_bytes))

    @property
    def pending(self) -> list[Fault]:
        """Those that have not happened as often as ordered."""
        return [fault for fault in self._all if fault.times]

    def clear(self) -> None:
        self._all.clear()

    def take(self, method: str, path: str) -> Fault | None:
        for fault in self.pending:
            if fault.method == method and fault.path.search(path):
                fault.times -= 1
                return fault
        return None


class FaultInjection:
    """Middleware that lets the ordered faults happen."""

    def __init__(self, app: ASGIApp, faults: Faults) -> None:
        self.app = app
        self.faults = faults

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        fault = self.faults.take(scope["method"], scope["path"])
        if fault is None:
            await self.app(scope, receive, send)
        elif fault.cut is not None:
            await _Cutting(fault, scope, receive, send).run(self.app)
        else:
            # Read the body first: else the client may still be sending, and see a reset in place of the answer.
            while (await receive()).get("more_body"):
                pass
            refusal = HubError(fault.status, fault.message, headers=dict(fault.headers), body=dict(fault.body))
            await refusal.response()(scope, receive, send)


class _Cutting:
    """One request whose connection is cut."""

    def __init__(self, fault: Fault, scope: Scope, receive: Receive, send: Send) -> None:
        self.fault = fault
        self.scope = scope
        self._receive = receive
        self._send = send
        self._left = fault.after_bytes
        self._is_cut = False

    async def run(self, app: ASGIApp) -> None:
        if self.fault.cut != "before":
            await app(self.scope, self.receive, self.send)
        await self.cut()

    async def cut(self) -> None:
        """Close the socket, once what was written is sent, and wait until it is closed."""
        if self._is_cut:
            return
        self._is_cut = True
        self.scope["state"]["transport"].close()
        while (await self._receive())["type"] != "http.disconnect":
            pass

    async def receive(self) -> Message:
        if self._is_cut:
            return {"type": "http.disconnect"}
        message = await self._receive()
        if self.fault.cut == "upload":
            self._left -= len(message.get("body", b""))
            if self._left <= 0 or not message.get("more_body"):
                await self.cut()
                return {"type": "http.disconnect"}
        return message

    async def send(self, message: Message) -> None:
        if self._is_cut or self.fault.cut in ("answer", "upload"):
            return
        body = message.get("body", b"")
        if message["type"] == "http.response.start" or (len(body) < self._left and message.get("more_body")):
            self._left -= len(body)
            await self._send(message)
            return
        # At least one byte is held back: an answer that is whole would not look cut.
        part = body[: min(self._left, len(body) - 1)] if body else b""
        await self._send({"type": "http.response.body", "body": part, "more_body": True})
        await self.cut()
