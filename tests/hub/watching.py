"""What the Hub was asked: every request in order, and every byte that came, for tests that look for what must not."""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from pathlib import Path

from starlette.types import ASGIApp, Message, Receive, Scope, Send

#: File contents come as base64 in commits, and their first bytes in preuploads.
_ENCODED = re.compile(rb'"(?:content|sample)": ?"([A-Za-z0-9+/=]*)"')


@dataclass
class Watching:
    """One request; `status` is None where no answer was begun."""

    method: str
    path: str
    query: str
    authorization: str | None
    status: int | None = None
    bytes_received: int = 0
    crash: Exception | None = None


class Watched(list[Watching]):
    """The requests, oldest first."""

    def __init__(self, log: Path) -> None:
        super().__init__()
        self.log = log
        log.parent.mkdir(parents=True, exist_ok=True)
        log.touch()

    def matching(self, method: str, path: str) -> list[Watching]:
        """Those with this method whose path has a match for the pattern `path`."""
        return [one for one in self if one.method == method and re.search(path, one.path)]

    def received(self, needle: str | bytes) -> bool:
        wanted = needle.encode() if isinstance(needle, str) else needle
        sent = self.log.read_bytes()
        return wanted in sent or any(wanted in base64.b64decode(found) for found in _ENCODED.findall(sent))

    def note(self, data: bytes) -> None:
        with open(self.log, "ab") as file:
            file.write(data)


class Watch:
    """Middleware: notes each request as it begins, and what came and went as it goes on."""

    def __init__(self, app: ASGIApp, watched: Watched) -> None:
        self.app = app
        self.watched = watched

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        query = scope["query_string"].decode("latin-1")
        one = Watching(scope["method"], scope["path"], query, headers.get("authorization"))
        self.watched.append(one)
        self.watched.note(f"\n{one.method} {one.path}?{query}\n".encode())

        async def watched_receive() -> Message:
            message = await receive()
            if data := message.get("body"):
                one.bytes_received += len(data)
                self.watched.note(data)
            return message

        async def watched_send(message: Message) -> None:
            if message["type"] == "http.response.start":
                one.status = message["status"]
            await send(message)

        try:
            await self.app(scope, watched_receive, watched_send)
        except Exception as error:
            one.crash = error
            raise
